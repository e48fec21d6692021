"""Run by test_kernels_sanitized.py in a process of its own: one case on the library given, compared."""

import sys
from pathlib import Path

import numpy as np
from affinity_reference import random_case, reference

from edge.kernels.launch import run_on_host

# Odd everywhere; 120 context places, so that launch 2 walks twice; two strips.
constants, networks = random_case(
    0, sizes=((10, 12), (5, 7), (3, 3)), channels=(5, 40, 33), grid=9, top=3, zoom=2
)
found = run_on_host(constants, *networks, library=Path(sys.argv[1]))
for ours, wanted in zip(found, reference(constants, *networks), strict=True):
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3)
print("agrees")
