"""Error maps become one: every place is measured by its own habits, and the loudest branch is heard."""

import pytest
import torch
from torch import Tensor

from distillation.detector import DetectorConfig
from distillation.mapfusion import FUSIONS, NORMALISATIONS, MapFusion

BRANCHES = ("local", "local", "global")
SIZES = ((16, 16), (8, 8), (16, 16))


def good_sheets(pictures: int, seed: int) -> list[Tensor]:
    """Errors of good pictures; the upper left quarter always errs ten times as much as the rest."""
    rng = torch.Generator().manual_seed(seed)
    sheets = []
    for height, width in SIZES:
        sheet = torch.rand(pictures, height, width, generator=rng)
        sheet[:, : height // 2, : width // 2] *= 10
        sheets.append(sheet)
    return sheets


def fitted(**changes: str) -> MapFusion:
    fusion = MapFusion(BRANCHES, SIZES, DetectorConfig(**changes))  # type: ignore[arg-type]
    fusion.fit(good_sheets(40, 0), good_sheets(40, 1))
    return fusion


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_good_pictures_stay_near_one_and_a_bad_place_stands_out(normalisation: str, fusion: str) -> None:
    module = fitted(normalisation=normalisation, fusion=fusion)
    good, bad = good_sheets(1, 2), good_sheets(1, 2)
    for sheet in bad:
        step = sheet.shape[1] // 8
        sheet[:, 6 * step : 7 * step, 6 * step : 7 * step] = 40.0
    before, after = module(good)[0][0], module(bad)[0][0]
    assert before.shape == (16, 16)
    assert before.max() < 6
    row, column = divmod(int(after.argmax()), 16)
    assert 11 <= row <= 14 and 11 <= column <= 14
    assert after.max() > before.max() + 1


def test_only_by_its_own_habit_is_a_quiet_place_heard() -> None:
    """An error of 5 is daily business in the restless quarter and never seen elsewhere."""
    sheets = good_sheets(1, 2)
    for sheet in sheets:
        step = sheet.shape[1] // 8
        sheet[:, 6 * step : 7 * step, 6 * step : 7 * step] = 5.0
    by_place, by_all = (fitted(normalisation=n)(sheets)[0][0] for n in ("place", "quantile"))
    quarter = slice(0, 8)
    assert by_place[12:14, 12:14].mean() > by_place[quarter, quarter].max()
    assert by_all[12:14, 12:14].mean() < by_all[quarter, quarter].max()


def test_the_maximum_hears_one_branch_alone() -> None:
    loudest, mean = (fitted(fusion=f) for f in ("max", "sum"))
    sheets = good_sheets(1, 2)
    sheets[2][:, 12:14, 12:14] = 40.0  # the global one only
    places = (0, slice(12, 14), slice(12, 14))
    assert loudest(sheets)[0][places].mean() > 1.5 * mean(sheets)[0][places].mean()


def test_a_branch_counts_by_what_it_is_worth() -> None:
    sheets = good_sheets(1, 2)
    sheets[2][:, 12:14, 12:14] = 40.0  # the global one only
    places = (0, slice(12, 14), slice(12, 14))
    trusted, loudest = (fitted(fusion=f) for f in ("trusted", "max"))
    assert torch.equal(trusted(sheets)[0], loudest(sheets)[0])  # until it is known
    trusted.trust([0.4 if name == "local" else 0.2 for name in trusted.names])
    ratio = float(trusted(sheets)[0][places].mean() / loudest(sheets)[0][places].mean())
    assert 0.45 < ratio < 0.55
    nothing = fitted(fusion="trusted")
    nothing.trust([0.0] * len(nothing.names))  # none is worth anything: none is worth less
    assert torch.equal(nothing(sheets)[0], loudest(sheets)[0])


def test_places_that_never_err_give_finite_maps() -> None:
    fusion = MapFusion(BRANCHES, SIZES, DetectorConfig())
    still = [torch.zeros(4, *size) for size in SIZES]
    fusion.fit(still, still)
    assert torch.isfinite(fusion(good_sheets(2, 0))[0]).all()
