"""What systemd is told: ready, still alive, stopping. One datagram each, as sd_notify(3) describes it.

A watchdog that is fed by a thread of its own watches that thread. So it is fed only while the station's loop
turns and the camera's driver comes back: what is wrong with those, a new process mends. A camera that is
unplugged or an engine that is being started again is not, and does not stop it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

FEEDS = 3  # times within the watchdog's limit: one that comes late does not end the station
JOIN_S = 1.0


class Notifier:
    """The way to systemd; without one (started by hand) it says nothing to nobody."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)  # 0.0: none

    def say(self, *lines: str) -> None:
        """Send; a manager that is not there is no fault of the station's."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
            wire.connect(address)
            wire.send("\n".join(lines).encode())


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Seconds after which systemd ends the process; 0.0 where it does not, or means another process."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return 0.0
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return max(0, microseconds) / 1e6 if meant else 0.0


@contextmanager
def told(turns: Callable[[int], bool], status: str, notifier: Notifier | None = None) -> Iterator[None]:
    """Say READY now, feed the watchdog while `turns(now_ns)`, say STOPPING at the end."""
    notifier = notifier or Notifier()
    stop = threading.Event()
    notifier.say("READY=1", f"STATUS={status}")
    feeder = threading.Thread(target=_feed, args=(notifier, turns, stop), name="watchdog", daemon=True)
    if notifier.watchdog_s:
        feeder.start()
    try:
        yield
    finally:
        notifier.say("STOPPING=1")
        stop.set()
        if notifier.watchdog_s:
            feeder.join(JOIN_S)


def _feed(notifier: Notifier, turns: Callable[[int], bool], stop: threading.Event) -> None:
    while True:
        if turns(time.monotonic_ns()):
            notifier.say("WATCHDOG=1")
        if stop.wait(notifier.watchdog_s / FEEDS):
            return
