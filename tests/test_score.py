"""Several figures of one picture as one score: typical is 1, each part counts by its share."""

import pytest
import torch

from distillation.score import ALIKE, LENGTH, SCORE_FUSIONS, SHARES, SUM, ScoreFusion

NAMES = list(SHARES)


def fitted(kind: str, names: list[str] = NAMES) -> ScoreFusion:
    fusion = ScoreFusion(names, kind)
    fusion.fit([10.0 * (i + 1) for i in range(len(names))], [1.0 * (i + 1) for i in range(len(names))])
    return fusion


def parts(deviations: dict[str, float], names: list[str] = NAMES) -> torch.Tensor:
    """One picture, so many standard deviations above typical."""
    return torch.tensor([[(10 + deviations.get(name, 0)) * (i + 1) for i, name in enumerate(names)]])


@pytest.mark.parametrize("names", [NAMES, ["map"], ["map", "words"]])
@pytest.mark.parametrize("kind", SCORE_FUSIONS)
def test_a_typical_part_has_1(kind: str, names: list[str]) -> None:
    assert float(fitted(kind, names)(parts({}, names))) == pytest.approx(1.0)


def test_what_lies_as_far_off_counts_by_its_share() -> None:
    at = {name: float(fitted(LENGTH)(parts({name: 4.0}))) for name in NAMES}
    # (1 + 4 / 2)^2 for this one, 1 for the others
    assert at == {
        name: pytest.approx((1 + 8 * share / sum(SHARES.values())) ** 0.5) for name, share in SHARES.items()
    }
    alike = {round(float(fitted(ALIKE)(parts({name: 4.0}))), 4) for name in NAMES}
    assert alike == {round((1 + 8 / len(NAMES)) ** 0.5, 4)}


def test_one_far_part_is_heard_better_than_in_the_sum() -> None:
    spread, alone = {"map": 2.0, "local": 2.0}, {"map": 4.0}
    assert float(fitted(SUM)(parts(spread))) == pytest.approx(float(fitted(SUM)(parts(alone))))
    assert float(fitted(LENGTH)(parts(alone))) > float(fitted(LENGTH)(parts(spread)))


@pytest.mark.parametrize("kind", SCORE_FUSIONS)
def test_a_part_that_is_no_number_makes_a_score_that_is_none(kind: str) -> None:
    assert torch.isnan(fitted(kind)(parts({"pooled": float("nan")})))


def test_a_model_of_before_takes_the_shares_of_today() -> None:
    """They are no weights that were learnt: what was saved with others is opened as ever."""
    opened = ScoreFusion(NAMES, LENGTH)
    opened.load_state_dict(fitted(ALIKE).state_dict())
    far = parts({"words": 4.0})
    assert torch.equal(opened(far), fitted(LENGTH)(far)) and not torch.equal(opened(far), fitted(ALIKE)(far))
