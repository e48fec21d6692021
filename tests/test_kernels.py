"""The affinity kernel's arithmetic: its own source on the CPU against float64, and against the detector."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from affinity_reference import Networks, default_shapes, random_case, reference
from affinity_torch import AfterNetworks, student_maps
from test_train import SMALL, Quiet, parts  # noqa: F401  (a fixture)

from build_engines.kernel import kernel_constants
from distillation.detector import Detector, DetectorConfig
from distillation.learn import learn
from distillation.model import load_model
from distillation.train import TrainConfig
from distillation.weights import new_teacher
from edge.errors import BackendFault
from edge.kernels.compile import host_library
from edge.kernels.constants import Constants
from edge.kernels.launch import run_on_host

TOLERANCE = 1e-3  # of the map's unit and, where it is larger, of the value
FP16 = 5e-3  # what rounding the maps to FP16 changes, in the same unit

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


def assert_agrees(constants: Constants, networks: Networks) -> None:
    anomaly_map, scores = run_on_host(constants, *networks)
    wanted_map, wanted_scores = reference(constants, *networks)
    np.testing.assert_allclose(anomaly_map, wanted_map, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(scores, wanted_scores, rtol=TOLERANCE, atol=TOLERANCE)


def zeroed(networks: Networks, places: Any) -> Networks:
    """The same with zero vectors at some places of all maps, as where a padded picture shows nothing."""
    for maps in networks:
        for m in maps:
            if m is not None:
                m[(slice(None), slice(None), *places)] = 0
    return networks


MEASURES = pytest.mark.parametrize("cosine", [True, False], ids=["both", "squared"])
SHAPES: dict[str, dict[str, Any]] = {
    "the default's": default_shapes(),
    "four pictures": {"pictures": 4},
    "odd sides, odd channels": {"sizes": ((13, 17), (7, 9), (5, 3)), "channels": (5, 19, 33), "pictures": 2},
    "one place": {"sizes": ((1, 1), (1, 1), (1, 1)), "top": 1},
    "wide": {"sizes": ((8, 40), (4, 20), (2, 10)), "zoom": 3, "pictures": 2},
    "coarse raster": {"grid": 2},
    "256 context places, local student everywhere": {"grid": 16, "sizes": ((32, 40), (16, 20), (8, 10)),
                                                     "local": (True, True, True)},
    "raster that does not divide": {"grid": 5, "sizes": ((23, 18), (12, 9), (6, 5)), "pictures": 2},
    "wide teacher": {"channels": (256, 512, 1024), "sizes": ((16, 16), (8, 8), (4, 4))},
    "wide blur": {"sigma": 3.0},
    "every place counts": {"top": 256},
}  # fmt: skip


@MEASURES
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_kernel_agrees_with_float64(shape: dict[str, Any], cosine: bool) -> None:
    for seed in (0, 1):
        assert_agrees(*random_case(seed, **shape | {"cosine": cosine}))


@pytest.mark.parametrize("name", ["odd sides, odd channels", "raster that does not divide", "wide teacher"])
def test_the_order_of_threads_and_blocks_changes_not_a_bit(name: str) -> None:
    """A thread that relies on another one of the same phase, a block that waits for none: seen here."""
    constants, networks = random_case(7, **SHAPES[name])
    turned = run_on_host(constants, *networks, library=host_library("-DLAST_FIRST"))
    for one, other in zip(run_on_host(constants, *networks), turned, strict=True):
        assert one.tobytes() == other.tobytes()


@MEASURES
def test_zero_vectors_have_no_direction(cosine: bool) -> None:
    constants, networks = random_case(2, pictures=2, cosine=cosine)
    assert_agrees(constants, zeroed(networks, np.s_[:2, :]))
    assert_agrees(constants, zeroed(networks, np.s_[:, :]))  # nothing at all: every place has the same value


def raw(seed: int, apart: float = 0.3) -> tuple[Constants, Networks]:
    """Of 1024 channels the students' errors alone, as they are: no gain, no range, no blur."""
    constants, networks = random_case(
        seed, sizes=((8, 8),) * 3, channels=(8, 8, 1024), local=(True,) * 3, grid=1, apart=apart
    )
    gains = [np.zeros_like(table) for table in constants.gains]
    gains[2][:2] = 1  # local and global
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    nothing = [np.zeros_like(table) for table in gains]
    return replace(constants, gains=gains, offsets=nothing, low=zero, span=one, blur=one[:1]), networks


@pytest.mark.parametrize("which", [0, 1, 2], ids=["teacher", "global", "local"])
@pytest.mark.parametrize(("length", "lost"), [(0, 0), (1e-3, 1e-3), (0.1, 1e-5), (30, 0)])
def test_of_a_short_and_a_long_vector_the_cosine_loses_few_digits(
    which: int, length: float, lost: float
) -> None:
    constants, networks = raw(8)
    networks[which][2] *= np.float16(length)
    found, wanted = run_on_host(constants, *networks)[0], reference(constants, *networks)[0]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=lost)


@pytest.mark.parametrize("length", [1, 1e-5])
def test_of_short_vectors_it_loses_none(length: float) -> None:
    """So short that the product of their norms is kept from 0: hardly any cosine is left."""
    constants, networks = raw(8)
    for maps in networks:
        maps[2] *= np.float16(length)
    found, wanted = run_on_host(constants, *networks)[0], reference(constants, *networks)[0]
    assert (wanted.max() < 0.2) == (length == 1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_of_nearly_equal_vectors_the_cosine_keeps_its_digits() -> None:
    """Where good parts lie, 1 - cosine is small. A product with sums of its own would be 1e-6 off."""
    constants, networks = raw(9, apart=0.02)
    found, wanted = run_on_host(constants, *networks)[0], reference(constants, *networks)[0]
    assert 4e-4 < wanted.min() < wanted.max() < 1e-3
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-7)


def test_rounding_never_makes_up_for_the_squared_error() -> None:
    """A student that says next to nothing: its cosine is lost in rounding, and a fault must stay one."""
    constants, networks = raw(10)
    for student in networks[1:]:
        student[2] = np.sign(student[2]) * np.float16(6e-8)
    squared, _ = run_on_host(replace(constants, cosine=False), *networks)
    both, _ = run_on_host(constants, *networks)
    assert (both >= squared).all()


def test_negative_and_equal_values_are_sorted_too() -> None:
    constants, networks = random_case(3, top=5)
    low = replace(constants, low=np.full(3, 50, np.float32))  # every place far below
    assert reference(low, *networks)[1].max() < 0
    assert_agrees(low, networks)


@MEASURES
@pytest.mark.parametrize("which", ["teacher", "global", "local"])
@pytest.mark.parametrize(("scale", "place"), [(1, (0, 0)), (2, (3, 3)), (2, (1, 2))])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_broken_value_makes_the_score_nan(
    which: str, scale: int, place: Any, sign: int, cosine: bool
) -> None:
    """fmaxf would have dropped it, and a radix sort puts a negative NaN below everything."""
    constants, networks = random_case(4, pictures=2, cosine=cosine)
    broken = networks[["teacher", "global", "local"].index(which)][scale]
    broken[1, 5, *place] = np.copysign(np.float16("nan"), sign)
    _, scores = run_on_host(constants, *networks)
    assert np.isfinite(scores[0]).all()
    assert np.isnan(scores[1, 0])
    assert np.isnan(scores[1, 1]) == (which != "global")


@MEASURES
def test_a_value_that_overflowed_is_no_good_part(cosine: bool) -> None:
    constants, networks = random_case(5, cosine=cosine)
    networks[1][0][0, 0, 3, 3] = np.inf
    _, scores = run_on_host(constants, *networks)
    assert not np.isfinite(scores[0, 0])


# --- against the detector


@pytest.fixture(scope="module")
def trained(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    folder = tmp_path_factory.mktemp("kernels")
    learn(parts, folder, Quiet(), SMALL, TrainConfig(steps=30))
    return load_model(folder)


@torch.inference_mode()
def test_on_real_features_it_says_what_the_detector_says(trained: Any) -> None:
    detector, _, pictures = trained
    pixels = torch.from_numpy(pictures[:3].copy())
    pixels[1, 20:30, 10:40] = 255  # a bad part too
    teacher, globl, local = student_maps(detector, pixels)
    by_scale = dict(zip(detector.local.targets, local, strict=True))
    of_local = [by_scale[k].numpy() if k in by_scale else None for k in range(3)]
    networks = (halves(teacher), halves(globl), of_local)
    assert_agrees(kernel_constants(detector), networks)
    found = run_on_host(kernel_constants(detector), *networks)
    for ours, theirs in zip(found, AfterNetworks(detector)(teacher, globl, local), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=TOLERANCE, atol=TOLERANCE)


@torch.inference_mode()
def test_what_it_is_compared_with_is_the_detector(trained: Any) -> None:
    """The FP16 of the maps that the kernel reads is all that stands between the two."""
    detector, _, pictures = trained
    pixels = torch.from_numpy(pictures[:3])
    anomaly_map, scores = AfterNetworks(detector)(*student_maps(detector, pixels))
    sheets = detector.errors(detector.standardise(detector.teacher(pixels)))
    parts_of_score = detector.map_parts(*detector.fusion(sheets))
    torch.testing.assert_close(anomaly_map, detector(pixels)[0], rtol=FP16, atol=FP16)
    for i, name in enumerate(("map", "local")):
        torch.testing.assert_close(scores[:, i], parts_of_score[name], rtol=FP16, atol=FP16)


def halves(maps: Any) -> list[npt.NDArray[np.float16]]:
    return [m.numpy() for m in maps]


# --- what it refuses


@pytest.mark.parametrize("change", [{"measure": "cosine"}, {"fusion": "sum"}, {"branches": ("local",)}])
def test_a_detector_that_computes_something_else_is_refused(change: dict[str, Any]) -> None:
    config = DetectorConfig(**change)
    with pytest.raises(BackendFault, match=next(iter(change))):
        kernel_constants(Detector(new_teacher(config.teacher), config))


def test_what_does_not_fit_is_refused() -> None:
    constants, networks = random_case(6)
    with pytest.raises(BackendFault, match="shared memory"):
        replace(constants, grid=16, channels=(1024, 40, 112))
    with pytest.raises(BackendFault, match="blur"):
        replace(constants, blur=np.full(19, 1 / 19, np.float32))
    with pytest.raises(BackendFault, match="picture"):
        replace(constants, input_size=(65, 64))
    for name in ("gains", "offsets"):
        tables = list(getattr(constants, name))
        with pytest.raises(BackendFault, match=f"{name} of"):
            replace(constants, **{name: tables[:2]})
        with pytest.raises(BackendFault, match=f"{name} of"):
            replace(constants, **{name: [tables[0][:, :3], *tables[1:]]})
    for name in ("low", "span"):
        for wrong in (np.ones(2, np.float32), np.ones(3), np.ones((3, 1), np.float32)):
            with pytest.raises(BackendFault, match=f"{name} of"):
                replace(constants, **{name: wrong})
    networks[0][1] = networks[0][1][:, :, :4]
    with pytest.raises(BackendFault, match="scale 1"):
        run_on_host(constants, *networks)
