"""Asking a plan itself: where the machine that builds has the GPU that the plan is for."""

from pathlib import Path
from typing import Protocol

from edge.backends import Backend, open_backend
from edge.gpu import describe_mismatch
from edge.recipe import Artefact, Recipe


class PlanRunner(Protocol):
    """What can run plans."""

    def fits(self, artefact: Artefact) -> bool:
        """Whether it can run this one."""

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        """The engine behind its view. Raises BackendFault."""


class OwnGpu:
    """This machine's own GPU and TensorRT."""

    def fits(self, artefact: Artefact) -> bool:
        """See `PlanRunner`."""
        return not describe_mismatch(artefact)

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        """See `PlanRunner`."""
        return open_backend(plan, recipe)
