"""A camera whose wire is a Python queue: pictures, errors and actions come out in the order they went in.

    camera = ScriptedCamera([shot, CameraLost("gone", "here", "Plug it in.")])
    capture = Capture(lambda: camera, camera.uri)

For trying and testing what stands behind a camera, exactly and without waiting.
"""

import queue
from collections.abc import Callable, Iterable

from edge.errors import CameraLost, CameraTimeout
from edge.frame import Shot

Item = Shot | Exception | Callable[[], Shot]


class ScriptedCamera:
    """Gives what it was told to. `close` only counts: the same object may be "opened" again."""

    def __init__(self, items: Iterable[Item] = (), live: bool = True, uri: str = "scripted:") -> None:
        self.uri, self.live = uri, live
        self.closed = 0
        self._items: queue.Queue[Item] = queue.Queue()
        self._given = False
        for item in items:
            self.put(item)

    def put(self, item: Item) -> None:
        """Add a picture, an error to raise, or a function that gives the picture (and may block)."""
        self._items.put(item)

    def join(self) -> None:
        """Wait until the reader has dealt with everything and asks for more."""
        self._items.join()

    def read(self, timeout_s: float) -> Shot:
        """The next item; CameraTimeout when there is none in time."""
        if self._given:
            self._items.task_done()
        self._given = False
        try:
            item = self._items.get(timeout=timeout_s)
        except queue.Empty:
            raise CameraTimeout(f"nothing within {timeout_s:g} s", self.uri, "Put something in.") from None
        self._given = True
        if isinstance(item, Exception):
            raise item
        return item if isinstance(item, Shot) else item()

    def close(self) -> None:
        """Count."""
        self.closed += 1


def unplugged(uri: str = "scripted:") -> CameraLost:
    """What a camera raises when its cable is pulled."""
    return CameraLost("the camera is unplugged", uri, "Plug it in.")
