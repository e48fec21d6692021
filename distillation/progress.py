"""Progress of a training run: loss, pictures a second, time left. Bars in a terminal, lines in a log."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from distillation.train import Step

EVERY_S = 30.0  # between two lines of a log


class ProgressBars:
    """A `distillation.learn.Watcher` that draws two bars, or writes lines; use with `with`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        """clock: seconds."""
        columns = (TextColumn("{task.description:16}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        quiet = not console.is_terminal
        self._bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)
        self._features: TaskID | None = None
        self._steps: TaskID | None = None
        self._download: TaskID | None = None
        self._clock, self._told = clock, clock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(text, highlight=False)

    def download(self, done: int, total: int) -> None:
        """The bar of the teacher's weights, where they come over the network."""
        if self._download is None:
            self._download = self._bars.add_task("teacher weights", total=total or None, figures="")
        self._bars.update(self._download, completed=done, figures=f"{done / 1e6:.0f} MB")
        self._tell(f"teacher weights: {done / 1e6:.0f} MB")

    def features(self, done: int, total: int) -> None:
        """The teacher's bar."""
        if self._features is None:
            self._features = self._bars.add_task("teacher features", total=total, figures="")
        self._bars.update(self._features, completed=done, figures=f"{done} of {total} pictures")
        self._tell(f"teacher features: {done} of {total} pictures")

    def step(self, step: Step) -> None:
        """The students' bar."""
        if self._steps is None:
            self._steps = self._bars.add_task("students", total=step.total, figures="")
        held = "-" if math.isnan(step.held_out_loss) else f"{step.held_out_loss:.3f}"
        figures = f"loss {step.loss:.3f}  held out {held}  {step.images_per_s:.0f} images/s"
        self._bars.update(self._steps, completed=step.number, figures=figures)
        self._tell(f"students: step {step.number} of {step.total}  {figures}")

    def _tell(self, text: str) -> None:
        """Now and then a line, where there are no bars."""
        now = self._clock()
        if self._bars.disable and now - self._told >= EVERY_S:
            self.say(text)
            self._told = now
