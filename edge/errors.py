"""Errors that speak to a line engineer: what is wrong, where, what to do next.

Exit codes (documented in docs/errors.md): 0 ended as asked, 1 check-data or doctor found something, bench
missed the deadline or plc-sim found the station at fault, 2 wrong use or bad input data, 3 recipe or engine
refused, 4 camera, 5 output, 130 stopped with Ctrl-C.
"""


class InspectError(Exception):
    """A fault with its three answers; printed as one line, never as a traceback."""

    exit_code = 2

    def __init__(self, what: str, where: str, next_step: str) -> None:
        self.what, self.where, self.next_step = what, where, next_step
        super().__init__(f"{what} ({where}). {next_step}")


class DataError(InspectError):
    """Images or folders that cannot be used."""


class PartNotFound(DataError):
    """The part is not where the camera looks: its reference patch is not there, or it lies too far off."""


class RecipeError(InspectError):
    """A recipe or engine that is missing, does not belong together or was changed."""

    exit_code = 3


class BackendFault(InspectError):
    """The inference backend could not be opened, or failed on a frame."""

    exit_code = 3


class CameraLost(InspectError):
    """The camera is gone (unplugged, stream ended by the other side); opening again may help."""

    exit_code = 4


class CameraTimeout(InspectError):
    """No picture within the time given; the camera may still be there."""

    exit_code = 4


class FrameIncomplete(InspectError):
    """A picture came with holes (lost packets, a buffer overrun): it is counted and never judged."""

    exit_code = 4


class EndOfStream(Exception):
    """A finite source (folder, video file, simulation with a count) has given its last picture."""


class OutputLost(InspectError):
    """The other side of an output (PLC, serial line) is not reachable."""

    exit_code = 5


class NobodyListens(OutputLost):
    """The output is open, but nobody is connected to it: what is sent now is lost."""

    exit_code = 5
