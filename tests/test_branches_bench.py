"""Other maps of a trained model: what they are made of, in the unit that the score's parts have."""

import copy

import numpy as np
import pytest
import torch
from affinity_cases import fitted_detector
from branches import LARGEST, MEAN, TRUSTED, WAYS, deviations, tops
from parts import scores_of
from plans import good_pictures

from distillation.detector import Detector
from edge.frame import Pixels

SIZE = (64, 64)


@pytest.fixture(scope="module")
def detector() -> Detector:
    detector = fitted_detector("efficientnet-lite0", input_size=SIZE)
    return detector.requires_grad_(False)  # as one that was loaded


def small(count: int, seed: int) -> Pixels:
    return good_pictures(count, seed)[:, ::4, ::4].copy()


def own_map(detector: Detector, pictures: Pixels) -> np.ndarray:
    """The part of its score that its map makes."""
    seen = list[torch.Tensor]()
    hook = detector.score.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    detector(torch.from_numpy(pictures))
    hook.remove()
    return torch.cat(seen)[:, detector.score.names.index("map")].numpy()


def test_the_map_of_all_is_the_detectors_own(detector: Detector) -> None:
    pictures = small(3, 1)
    found, own = tops(detector, pictures, torch.ones(3)), own_map(detector, pictures)
    assert np.allclose(found["map of all"], own, rtol=1e-5)
    assert np.allclose(found[TRUSTED], own, rtol=1e-5), "as loud as each other"
    largest = np.stack([found[name] for name in LARGEST])
    assert (largest.max(axis=0) <= found["map of all"] + 1e-5).all() and (found[MEAN] < own).all()


def test_as_loud_as_they_are_worth_is_the_map_of_a_detector_that_trusts(detector: Detector) -> None:
    pictures, trusting = small(3, 1), copy.deepcopy(detector)
    trusting.fusion.trust([0.1, 0.4, 0.2])
    found = tops(detector, pictures, torch.tensor([0.25, 1.0, 0.5]))[TRUSTED]
    assert np.allclose(found, own_map(trusting, pictures), rtol=1e-4)
    assert not np.allclose(found, own_map(detector, pictures), rtol=1e-2)


def test_held_out_pictures_are_typical_and_every_way_can_be_scored(detector: Detector) -> None:
    held = small(4, 2)
    found = deviations(detector, held, small(6, 3), {"good": held, "bad": 255 - held})
    for name, values in found["good"].items():
        assert np.mean(values) == pytest.approx(0, abs=1e-4), name
        assert len(found["bad"][name]) == 4
    beside = dict.fromkeys(("local", "words", "deep", "pooled"), np.zeros(4))
    for way, shares in WAYS.items():
        good, bad = (
            scores_of(beside | {m: np.array(x) for m, x in found[kind].items()}, shares)
            for kind in ("good", "bad")
        )
        assert good.shape == bad.shape == (4,), way
