"""Cameras behind one Protocol. To add one: a file here, one `case` below, one line in the contract test."""

from typing import Protocol

from edge.frame import Shot


class Camera(Protocol):
    """A source of pictures. Used by one thread at a time; an object that exists is open."""

    @property
    def uri(self) -> str:
        """What the user typed, without password."""

    @property
    def live(self) -> bool:
        """True where parts go by whether we look or not; False for folders and files, which wait for us."""

    def read(self, timeout_s: float) -> Shot:
        """The next picture. Raises CameraTimeout, CameraLost or EndOfStream."""

    def close(self) -> None:
        """Release the device; may be called twice."""
