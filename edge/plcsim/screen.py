"""What the integrator sees: signals over time as in a logic analyser, last results, mistakes in red."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample, chart
from edge.plcsim import Peer
from edge.plcsim.stops import stop_words
from edge.plcsim.tally import Tally

LABELS = 16  # characters left of the chart, and of the frame
STEP = 7  # characters a sample: a part's number has room
RESULTS, COMPLAINTS = 8, 5
SELDOM = ("REJECT", "LET_THROUGH", "LINE_STOP", "ERROR_CODE")  # most stations have no gate, and no error
COLOURS = {VerdictCode.PASS: "green", VerdictCode.FAIL: "bold red"}


class Screen:
    """Drawn from a tally by rich, as wide as the terminal."""

    def __init__(self, peer: Peer, tally: Tally) -> None:
        self._peer, self._tally = peer, tally

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        steps = max(2, (options.max_width - LABELS - 4) // STEP)
        samples = _used(list(self._tally.chart)[-steps:])
        drawn = Text(chart(samples, STEP) if samples else "no signals yet", no_wrap=True, overflow="crop")
        yield Panel(drawn, title=self._title(), title_align="left", border_style="dim")
        yield self._counts()
        if self._tally.stopped:
            yield Text(stop_words(self._tally.stopped), style="bold red")
        for ended in self._tally.commands:
            yield Text(f"command {ended}", style="" if ended.ok else "bold red")
        yield self._results()
        if self._tally.mistakes:
            yield self._mistakes()

    def _title(self) -> Text:
        if self._tally.connected:
            return Text("PLC, one step a change", style="bold")
        return Text(f"no station yet; start it with --plc '{self._peer.station}'", style="bold yellow")

    def _counts(self) -> Text:
        tally = self._tally
        text = Text(f"{tally.triggers} triggers   ")
        for code, count in sorted(tally.verdicts.items()):
            text.append(f"{count} {code.name}   ", style=COLOURS.get(code, "yellow"))
        return text.append(f"{tally.missed} without a result", style="bold red" if tally.missed else "dim")

    def _results(self) -> RenderableType:
        table = Table(border_style="dim")
        for name in ("part", "verdict", "ms", "as the station said it"):
            table.add_column(name)
        for taken, ms in list(self._tally.results)[-RESULTS:]:
            verdict = Text(taken.verdict.name, style=COLOURS.get(taken.verdict, "yellow"))
            time = "" if ms is None else f"{ms:.0f}"
            table.add_row(str(taken.part_id), verdict, time, Text(taken.detail, no_wrap=True))
        return table

    def _mistakes(self) -> RenderableType:
        lines = [
            Text(f"{count} x {what.value}", style="bold") for what, count in self._tally.mistakes.items()
        ]
        last = [
            Text(f"{each.what.value}: {each.detail}") for each in list(self._tally.complaints)[-COMPLAINTS:]
        ]
        return Panel(Group(*lines, Text(""), *last), title="the station's mistakes", border_style="red")


def _used(samples: Sequence[Sample]) -> list[Sample]:
    """Without the rows of `SELDOM` in which nothing ever was."""
    quiet = {name for name in SELDOM if all(each.get(name) in (None, False, "0") for each in samples)}
    return [{name: value for name, value in each.items() if name not in quiet} for each in samples]
