"""Run by test_kernels_sanitized.py in a process of its own: one case on the library given, compared."""

import sys
from pathlib import Path

import numpy as np
from affinity_reference import random_case, reference

from edge.kernels.compile import RESIZE
from edge.kernels.launch import SharedLibrary, run_on_host
from edge.kernels.resize import Resize, ResizePlan
from edge.picture.preprocess import resize


def affinity(library: Path) -> None:
    """Odd everywhere; 120 context places, so that launch 2 walks twice; two strips."""
    constants, networks = random_case(
        0, sizes=((10, 12), (5, 7), (3, 3)), channels=(5, 40, 33), grid=9, top=3, zoom=2
    )
    found = run_on_host(constants, *networks, library=library)
    for ours, wanted in zip(found, reference(constants, *networks), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3)


def shrink(library: Path) -> None:
    """A picture over four steps, bilinear and by area; its last row ends with the memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (75, 301, 3), dtype=np.uint8)
    plan, found = ResizePlan((75, 301), (13, 19)), np.zeros((13, 19, 3), np.uint8)
    problem = plan.problem(pixels.ctypes.data, pixels.strides[0], found.ctypes.data, plan.tables.ctypes.data)
    SharedLibrary(library, RESIZE, Resize).run(problem)
    np.testing.assert_array_equal(found, resize(pixels, (13, 19)))


(shrink if sys.argv[2] == RESIZE else affinity)(Path(sys.argv[1]))
print("agrees")
