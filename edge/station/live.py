"""What the operator sees: a live table while the station runs, a summary at its end."""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.engines.engine import pace
from edge.errors import FrameIncomplete
from edge.frame import Frame, Inspection
from edge.station.compose import station_of
from edge.station.running import Running, RunOptions
from edge.station.signals import stop_on_signals
from edge.trigger import FreeRun
from edge.verdict import Outcome, Reason, Verdict

ROWS = 12
WAITING_LINES = 1000
JOIN_S = 1.0
LOOK_S = 0.2  # how soon a fault is told
ONE_PICTURE = ""  # a fault that the next picture need not have: that it is over is not told
TRIES_AGAIN = "The station goes on and tries again by itself."
COLOURS = {Outcome.PASS: "green", Outcome.REVIEW: "yellow", Outcome.FAIL: "bold red"}


class LiveView:
    """An observer of the station that keeps the last verdicts for the screen."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self._last: deque[Verdict] = deque(maxlen=ROWS)

    def __call__(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        """Take one verdict; cheap, as drawing happens in the screen's own thread."""
        self._last.append(verdict)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._verdicts()]
        if self.running is not None:
            parts.append(_state(self.running))
        return Group(*parts)

    def _verdicts(self) -> Table:
        table = Table(expand=False, border_style="dim")
        for name in ("picture", "part", "verdict", "score", "", "why", "ms", "source says"):
            table.add_column(name, justify="right" if name in ("picture", "part", "score", "ms") else "left")
        for verdict in list(self._last):
            table.add_row(*_row(verdict))
        return table


class PlainLines:
    """Lines that stay: what is wrong as soon as it is, and when it works again; for a log every part that did
    not pass.

    Printed by a thread of its own: a terminal or a pipe that nobody reads must not stop the line. That thread
    looks for faults by itself, since an output may be down while no part comes.
    """

    def __init__(self, console: Console, verdicts: bool = True) -> None:
        self.running: Running | None = None
        self._console, self._verdicts = console, verdicts
        self._told: dict[str, str] = {}  # faults, and what does not work by them
        self._items: queue.Queue[tuple[dict[str, str], str] | None] = queue.Queue(WAITING_LINES)
        self._thread = threading.Thread(target=self._run, name="log lines", daemon=True)
        self._thread.start()

    def __call__(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        """Take one verdict; print what is wrong with it, once, and the verdict unless it is a pass."""
        line = _line(verdict) if self._verdicts and verdict.outcome is not Outcome.PASS else ""
        if line or verdict.reason.is_fault:
            self._put((self._faults(), line))

    def say(self, line: str) -> None:
        """Print one line, with rich's markup; returns at once."""
        self._put((self._faults(), line))

    def close(self) -> None:
        """Print what waits and what is wrong in the end, for JOIN_S at most; may be called twice."""
        self._put(None)
        self._thread.join(JOIN_S)

    def _put(self, item: tuple[dict[str, str], str] | None) -> None:
        with suppress(queue.Full):  # nobody reads; the verdicts themselves go to the outputs
            self._items.put_nowait(item)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._print(*item)
        self._print(self._faults(), "")

    def _next(self) -> tuple[dict[str, str], str] | None:
        try:
            return self._items.get(timeout=LOOK_S)
        except queue.Empty:
            return self._faults(), ""

    def _faults(self) -> dict[str, str]:
        return _faults(self.running) if self.running is not None else {}

    def _print(self, faults: dict[str, str], line: str) -> None:
        told, self._told = self._told, faults
        new = [f"[bold red]fault[/] {escape(fault)}" for fault in faults if fault not in told]
        well = dict.fromkeys(what for what in told.values() if what not in (ONE_PICTURE, *faults.values()))
        good = [f"[bold green]works again[/] {escape(what)}" for what in well]
        for text in [*new, *good, *([line] if line else [])]:
            self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def watched(options: RunOptions, console: Console, quiet: bool, transient: bool = True) -> Iterator[Running]:
    """A station that is shown while it runs: a live table on a terminal, lines in a log, faults in any case.

    SIGINT and SIGTERM stop it. `transient` takes the table away at the end; `quiet` shows no verdicts. Raises
    as `station_of`.
    """
    table = LiveView() if console.is_terminal and not quiet else None
    with closing(PlainLines(console, verdicts=not quiet and table is None)) as lines:
        shown = [view for view in (lines, table) if view is not None]
        told = partial(_tell, lines)
        with station_of(options, shown, told) as running, stop_on_signals(running.station.stop):
            for view in shown:
                view.running = running
            if not quiet:
                lines.say(escape(pace(running.picture_ms, running.recipe, options.line.pictures)))
            screen = Live(table, console=console, refresh_per_second=5, transient=transient)
            with screen if table is not None else nullcontext():
                yield running


def _tell(lines: PlainLines, text: str) -> None:
    lines.say(f"[bold yellow]note[/] {escape(text)}")


def _faults(running: Running) -> dict[str, str]:
    """Everything that is wrong now, in its own words -> what does not work."""
    found: dict[str, str] = {}
    for station in (running.station, *running.station.views):
        error, worker = station.capture.error, station.worker
        if error is not None:
            momentary = isinstance(error, FrameIncomplete)
            found[str(error)] = ONE_PICTURE if momentary else f"camera {station.capture.source}"
        if worker.last_error:
            found[worker.last_error] = ONE_PICTURE if worker.ready else f"engine {worker.engine}"
    for uri, box in running.outboxes.items():
        if box.alarm:
            found[f"{box.last_error} {TRIES_AGAIN}"] = f"output {uri}"
    return found


def _line(verdict: Verdict) -> str:
    score = "-" if verdict.score is None else f"{verdict.score:.3f}"
    part = [] if verdict.part_id is None else ["part", str(verdict.part_id)]
    words = (verdict.outcome.name, verdict.reason.name, score, verdict.label or "")
    return escape(" ".join([str(verdict.frame_id), *part, *words]).rstrip())


def _row(verdict: Verdict) -> tuple[RenderableType, ...]:
    score = "-" if verdict.score is None else f"{verdict.score:.2f}"
    colour = COLOURS[verdict.outcome]
    return (
        str(verdict.frame_id),
        "" if verdict.part_id is None else str(verdict.part_id),
        Text(verdict.outcome.name, style=colour),
        score,
        Text(_bar(verdict), style=colour),
        "" if verdict.reason is Reason.WITHIN_LIMITS else verdict.reason.name,
        f"{verdict.total_ms:.1f}",
        Text(verdict.label or "", style="dim"),
    )


def _bar(verdict: Verdict, width: int = 16) -> str:
    """The score as a bar; the mark is the pass limit, at half of the width."""
    if verdict.score is None or verdict.threshold <= 0:
        return "?" * 3
    filled = min(width, round(verdict.score / verdict.threshold * width / 2))
    bar = "█" * filled + " " * (width - filled)
    return bar[: width // 2] + "│" + bar[width // 2 :]


def _state(running: Running) -> Panel:
    counters, capture = running.station.counters, running.station.capture
    outcomes = counters.outcomes
    line = Text(f"{counters.total} parts   ")
    for outcome in Outcome:
        line.append(f"{outcomes[outcome.value]} {outcome.value}   ", style=COLOURS[outcome])
    lines: list[RenderableType] = [line, _camera_line(capture.source, capture.error)]
    for uri, outbox in running.outboxes.items():
        text = Text(f"output {uri}: {outbox.counters.sent} sent  ")
        if outbox.alarm:
            text.append(outbox.last_error, style="bold red")
        lines.append(text)
    if running.station.worker.last_error:
        lines.append(Text(running.station.worker.last_error, style="bold red"))
    return Panel(Group(*lines), title=running.recipe.identity, border_style="dim", expand=False)


def _camera_line(source: str, error: Exception | None) -> Text:
    text = Text(f"camera {source}  ")
    return text.append(str(error), style="bold red") if error else text


def summary(running: Running) -> dict[str, object]:
    """The run in figures, for `--json` and for the table; times in milliseconds."""
    counters, capture = running.station.counters, running.station.capture.counters
    result: dict[str, object] = {
        "recipe": running.recipe.identity,
        "backend": running.station.worker.engine,
        "parts": counters.total,
        "outcomes": {outcome.value: counters.outcomes[outcome.value] for outcome in Outcome},
        "reasons": dict(counters.reasons),
        "blind": counters.blind,
        "late_answers": running.station.worker.late,
        "engine_restarts": running.station.worker.restarts,
        "total_ms": _quantiles(counters.total_ms),
        "infer_ms": _quantiles(counters.infer_ms),
        "camera": {name: getattr(capture, name) for name in capture.__slots__},
        "outputs": {
            uri: {name: getattr(box.counters, name) for name in box.counters.__slots__}
            for uri, box in running.outboxes.items()
        },
    }
    if counters.by_label and len({label for label, _ in counters.by_label}) < ROWS:
        labels = sorted({label for label, _ in counters.by_label})
        result["by_label"] = {
            label: {o.value: counters.by_label[label, o.value] for o in Outcome} for label in labels
        }
    if running.evidence is not None:
        evidence = running.evidence
        result["pictures"] = {
            "saved": evidence.saved,
            "dropped": evidence.dropped,
            "folder": str(evidence.folder),
        }
    return result


def summary_table(running: Running) -> Table:
    """The summary for a person."""
    table = Table(title="summary", show_header=False, border_style="dim")
    for name, value in summary(running).items():
        told = _unused(value) if name == "camera" and _is_asked(running) else value
        table.add_row(name.replace("_", " "), _readable(told))
    return table


def _is_asked(running: Running) -> bool:
    """Whether a trigger asks for the pictures; the others are nobody's."""
    return not isinstance(running.station.trigger, FreeRun)


def _unused(camera: Any) -> dict[str, object]:
    """With a trigger a picture that was not judged is no loss: `dropped` would sound like one."""
    return {"not asked for" if name == "dropped" else name: count for name, count in camera.items()}


def _readable(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    if all(isinstance(inner, dict) for inner in value.values()):
        return "\n".join(f"{name}: {_readable(inner)}" for name, inner in value.items())
    return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner not in (0, None)) or "-"


def _quantiles(values: deque[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "p99": None, "max": None}
    median, p99, largest = np.quantile(list(values), [0.5, 0.99, 1.0])
    return {"median": round(float(median), 2), "p99": round(float(p99), 2), "max": round(float(largest), 2)}
