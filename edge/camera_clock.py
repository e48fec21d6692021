"""When was a picture taken, on our clock? Told from the camera's own clock, which has another zero.

A picture that waited in a driver's queue looks new to whoever reads it. But it comes late by its camera's
clock, later than the quickest picture of the last minute, and by so much it is older.

    lag = our time of arrival - the camera's time        smallest lag = clock difference + quickest way
    taken = the camera's time + smallest lag

Not told: a delay that all pictures of a minute share. A clock that goes back was set: all is learnt anew.
"""

WINDOW_NS = 30_000_000_000  # one to two windows are remembered: quartz drifts 100 ppm, 6 ms in a minute


class CameraClock:
    """One for each opening of a camera."""

    def __init__(self) -> None:
        self._best: list[int] = []  # smallest lag of the window before, if any, and of this one
        self._until_ns = self._before_ns = 0

    def taken_ns(self, device_ns: int, now_ns: int) -> int:
        """Nanoseconds on our clock, never later than `now_ns`, of a picture that arrives now."""
        lag = now_ns - device_ns
        if device_ns < self._before_ns:
            self._best, self._until_ns = [], 0
        self._before_ns = device_ns
        if now_ns >= self._until_ns:
            self._best = [*self._best[-1:], lag]
            self._until_ns = now_ns + WINDOW_NS
        self._best[-1] = min(self._best[-1], lag)
        return device_ns + min(self._best)
