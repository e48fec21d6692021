"""The preprocess kernel: its own source on the CPU against what OpenCV makes of the same picture."""

import re
import shutil
from functools import cache

import numpy as np
import pytest

from edge.cameras.parts import render_part
from edge.errors import BackendFault
from edge.frame import Pixels
from edge.kernels import resize as numbers
from edge.kernels.compile import RESIZE, SOURCES, host_library
from edge.kernels.launch import SharedLibrary
from edge.kernels.resize import Resize, ResizePlan
from edge.picture.preprocess import Size, crop, resize

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


@cache
def kernel(*flags: str) -> SharedLibrary:
    return SharedLibrary(host_library(*flags, name=RESIZE), RESIZE, Resize)


def resized(pixels: Pixels, size: Size, *flags: str) -> Pixels:
    """The kernel's picture; around it a rim that it must not touch."""
    plan = ResizePlan(pixels.shape[:2], size)
    rim = np.full(3 * size[0] * size[1] + 64, 99, np.uint8)
    assert pixels.strides[1:] == (3, 1)
    addresses = pixels.ctypes.data, pixels.strides[0], rim.ctypes.data + 32, plan.tables.ctypes.data
    kernel(*flags).run(plan.problem(*addresses))
    assert (rim[:32] == 99).all() and (rim[-32:] == 99).all()
    return rim[32:-32].reshape(*size, 3)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def worst(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


# As cameras give them, odd everywhere, thin, tiny, smaller than what the engine takes.
CAMERAS = [(480, 640), (1024, 1280), (1536, 2048), (2160, 3840), (300, 2000)]
ODD = [(257, 513), (1025, 1281), (511, 1023), (1361, 1019), (1, 1), (3, 5), (1000, 3), (2, 900), (5, 700)]
ENGINES = [(256, 256), (64, 96), (37, 51)]


@needs_compiler
@pytest.mark.parametrize("size", ENGINES)
@pytest.mark.parametrize("picture", [*CAMERAS, *ODD, *ENGINES])
def test_it_makes_what_opencv_makes(picture: Size, size: Size) -> None:
    """To the digit where the picture shrinks: limits set on one path hold on the other."""
    pixels = noise(*picture)
    allowed = 0 if all(have >= wanted for have, wanted in zip(picture, size, strict=True)) else 1
    assert worst(resized(pixels, size), resize(pixels, size)) <= allowed


@needs_compiler
@pytest.mark.parametrize("seed", range(30))
def test_any_size_is_within_one_grey_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture, size = (tuple(int(side) for side in rng.integers(1, most, 2)) for most in (900, 200))
    pixels = noise(*picture)
    assert worst(resized(pixels, size), resize(pixels, size)) <= 1, f"{picture} to {size}"


@needs_compiler
@pytest.mark.parametrize(
    "roi", [(0, 0, 320, 320), (37, 21, 273, 283), (309, 309, 11, 11), (100, 0, 220, 319)]
)
def test_a_region_is_read_where_it_lies(roi: tuple[int, int, int, int]) -> None:
    region = crop(render_part(3, 1), roi)
    assert region.flags.c_contiguous == (roi[2] == 320)
    assert worst(resized(region, (256, 192)), resize(region, (256, 192))) <= 1


@needs_compiler
@pytest.mark.parametrize("picture", [(480, 640), (1025, 1281), (100, 300)])
def test_the_order_of_threads_and_tiles_changes_not_a_grey_level(picture: Size) -> None:
    pixels = noise(*picture)
    assert np.array_equal(resized(pixels, (64, 96)), resized(pixels, (64, 96), "-DLAST_FIRST"))


def test_the_memory_of_a_tile_is_bounded() -> None:
    for picture in [*CAMERAS, *ODD, (5000, 8000)]:
        plan = ResizePlan(picture, (256, 256))
        made = plan.problem(0, 0, 0, 0)
        assert made.shared_bytes <= numbers.SHARED_BYTES and made.even_bytes % numbers.ALIGNMENT == 0
        assert plan.grid[0] * plan.tile[1] >= 256 and plan.grid[1] * plan.tile[0] >= 256
    with pytest.raises(BackendFault, match="40000x40000 to 64x64"):
        ResizePlan((40000, 40000), (64, 64))


def test_weights_are_shares_of_one() -> None:
    for have, step in [((300, 280), (256, 256)), ((500, 8000), (256, 4000)), ((37, 51), (64, 20))]:
        plan = ResizePlan(have, step)
        for side in (side for of in plan._sides for side in of):
            whole = numbers.WHOLE if side.table["weights"].max() > 1 else 1
            np.testing.assert_allclose(side.table["weights"].sum(axis=1), whole, atol=whole * 1e-6)


def test_python_and_c_have_the_same_numbers() -> None:
    text = (SOURCES / "resize.cuh").read_text("utf-8")
    for name in ("Steps", "Taps", "Channels", "Threads"):
        assert re.search(rf"\bk{name} = {getattr(numbers, name.upper())}\b", text), name
