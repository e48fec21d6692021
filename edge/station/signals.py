"""Ctrl-C and SIGTERM: the verdict in hand is still given."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAME_WISH_S = 1.0  # a second signal so soon after the first


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the verdict in hand; a later one ends it the hard way.

    One that comes within SAME_WISH_S is the same wish: a key that bounces, an impatient finger, a shell and
    its script that both pass it on. It must not cost the summary, so once asked they are looked after to the
    program's end.
    """
    first_s = math.inf

    def handle(number: int, frame: object) -> None:
        nonlocal first_s
        first_s = min(first_s, time.monotonic())
        if time.monotonic() - first_s > SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop()

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            if first_s == math.inf:
                signal.signal(number, handler)
