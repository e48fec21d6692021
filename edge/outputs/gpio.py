"""Lines of this machine, through the kernel's GPIO device (extra `gpio`). The only file that knows gpiod.

gpio:///dev/gpiochip0?ready=17&ok=27&ng=22&fault=23&trigger=24
"""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import gpiod
from gpiod.line import Direction, Edge, Value

from edge.errors import InspectError, OutputLost
from edge.outputs import settings_of, whole_number
from edge.outputs.discrete_io import KNOWN, Wiring, wiring_of
from edge.plc.discrete import Levels

OWNER = "edge-inspect"  # what `gpioinfo` shows beside each line


@dataclass(frozen=True, slots=True)
class GpioSettings:
    """Which lines of which chip."""

    uri: str
    chip: str
    wiring: Wiring
    active_low: bool  # relay boards that switch on 0 V; of the outputs alone
    debounce_ms: int  # of the trigger


def gpio_settings(uri: str) -> GpioSettings:
    """Raises InspectError."""
    known = settings_of(uri, (*KNOWN, "active_low", "debounce_ms"))
    wiring = wiring_of(uri, known, range(1024))
    if wiring.trigger in wiring.lines.values():
        raise InspectError("the trigger is on the line of an output", uri, "Give it a number of its own.")
    chip = urlsplit(uri).path
    if not chip:
        raise InspectError("no chip given", uri, "Write for example gpio:///dev/gpiochip0?ok=27&fault=23")
    return GpioSettings(
        uri, chip, wiring, bool(whole_number(known, "active_low", 0, range(2), uri)),
        whole_number(known, "debounce_ms", 1, range(1001), uri),
    )  # fmt: skip


class GpioLines:
    """Lines that nobody else can use meanwhile. Raises OutputLost."""

    def __init__(self, settings: GpioSettings) -> None:
        self._settings = settings
        self._trigger: gpiod.LineRequest | None = None
        self._outputs = self._request(
            tuple(settings.wiring.lines.values()),
            gpiod.LineSettings(
                direction=Direction.OUTPUT, output_value=Value.INACTIVE, active_low=settings.active_low
            ),
        )
        if settings.wiring.trigger is not None:
            rising = gpiod.LineSettings(
                direction=Direction.INPUT, edge_detection=Edge.RISING,
                debounce_period=timedelta(milliseconds=settings.debounce_ms),
            )  # fmt: skip
            try:
                self._trigger = self._request((settings.wiring.trigger,), rising)
            except OutputLost:
                self.close()
                raise

    def write(self, levels: Levels) -> None:
        """One after the other, as given."""
        try:
            for line, on in levels.items():
                value = Value.ACTIVE if on else Value.INACTIVE
                self._outputs.set_value(self._settings.wiring.lines[line], value)
        except (OSError, gpiod.RequestReleasedError) as error:
            raise self._lost(f"cannot be switched: {error}") from error

    def rises(self, within_s: float) -> list[int]:
        """The kernel's own times: no edge is missed, however short, and however late we look."""
        if self._trigger is None:
            return []
        try:
            if not self._trigger.wait_edge_events(timedelta(seconds=within_s)):
                return []
            return [event.timestamp_ns for event in self._trigger.read_edge_events()]
        except (OSError, gpiod.RequestReleasedError) as error:
            raise self._lost(f"cannot be read: {error}") from error

    def close(self) -> None:
        """The kernel has them back."""
        self._outputs.release()
        if self._trigger is not None:
            self._trigger.release()

    def _request(self, lines: tuple[int, ...], settings: gpiod.LineSettings) -> gpiod.LineRequest:
        try:
            return gpiod.request_lines(self._settings.chip, {lines: settings}, consumer=OWNER)
        except (OSError, ValueError) as error:
            raise self._lost(f"cannot be had: {error}") from error

    def _lost(self, what: str) -> OutputLost:
        hint = f"Look with `gpioinfo -c {self._settings.chip}` who has them; check rights (group gpio)."
        return OutputLost(f"the lines {what}", self._settings.uri, hint)
