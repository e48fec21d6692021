"""Asking a plan itself: where the machine that builds has the GPU that the plan is for."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from edge.backends import Backend, open_backend
from edge.errors import BackendFault
from edge.gpu import describe_mismatch
from edge.kernels.cuda import pycuda_driver
from edge.recipe import Artefact, Recipe


class PlanRunner(Protocol):
    """What can run plans."""

    def fits(self, artefact: Artefact) -> bool:
        """Whether it can run this one."""

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        """The engine behind its view. Raises BackendFault."""


class OwnGpu:
    """This machine's own GPU and TensorRT. `note` is told, once, why it is not asked."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def fits(self, artefact: Artefact) -> bool:
        """See `PlanRunner`."""
        return not describe_mismatch(artefact) and self._opens

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        """See `PlanRunner`."""
        return open_backend(plan, recipe)

    @cached_property
    def _opens(self) -> bool:
        """Building takes no pycuda, so a machine with a GPU may be without; that is no fault of the plan."""
        try:
            pycuda_driver()
        except BackendFault as error:
            self._note(f"this machine's own GPU is not asked; its plan is judged by its graph alone: {error}")
            return False
        return True
