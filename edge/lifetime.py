"""A process that must not outlive the one that started it. Standard library alone: readers need it, too."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """SIGKILL when the parent (its process id) ends, even while a driver hangs: no thread of ours has to run.

    Linux ends us with the parent's *thread* that started us. A parent may be process 1, as in a container.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        sys.exit(1)
