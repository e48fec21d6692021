"""Good parts stopped and bad parts let through, against the limit: counts, and a section of the report."""

import math
from collections import Counter
from dataclasses import dataclass
from html import escape

import numpy as np

from calibration.charts import errors_chart
from calibration.figures import Evaluation, Judged
from calibration.metrics import Scores

NEARBY = 0.1  # share of the review limit: how far the table looks to both sides of it


@dataclass(frozen=True, slots=True)
class Errors:
    """What happens where scores below `limit` pass; `through` counts bad parts let through, by type."""

    name: str
    limit: float
    stopped: int
    through: Counter[str]


def errors_at(e: Evaluation, limit: float, name: str = "") -> Errors:
    """Count both errors at one limit, on the scale of the scores."""
    stopped = sum(_score(image) >= limit for image in e.good)
    through = Counter(i.kind for i in e.images if not i.is_good and _score(i) < limit)
    return Errors(name, limit, stopped, through)


def errors_table(e: Evaluation) -> list[Errors]:
    """Both errors at the recipe's limits, near them, and where one of them ends; lowest limit first."""
    good, bad = scores_of(e)
    limits = {
        "review limit": e.recipe.review,
        "fail limit": e.recipe.fail,
        f"review limit, {NEARBY:.0%} lower": e.recipe.review - NEARBY * abs(e.recipe.review),
        f"review limit, {NEARBY:.0%} higher": e.recipe.review + NEARBY * abs(e.recipe.review),
        "no bad part gets through": float(bad.min(initial=math.inf)),
        "no good part is stopped": float(np.nextafter(good.max(), math.inf)) if good.size else math.inf,
    }
    rows = [errors_at(e, limit, name) for name, limit in limits.items() if math.isfinite(limit)]
    return sorted(rows, key=lambda row: row.limit)


def scores_of(e: Evaluation) -> tuple[Scores, Scores]:
    """(good, bad): what is compared with a limit; infinite where the model gave no usable answer."""
    good = np.array([_score(image) for image in e.good])
    return good, np.array([_score(image) for image in e.images if not image.is_good])


def tradeoff_section(e: Evaluation) -> str:
    """Both errors against the limit, drawn and counted; only where there are bad parts."""
    if not e.n_anomalous:
        return ""
    chart = errors_chart(*scores_of(e), e.recipe.review, e.recipe.fail)
    rows = "".join(_tradeoff_row(e, errors) for errors in errors_table(e))
    return (
        "<section><h2>If the limit were another</h2><p class='hint'>Parts with a score below the limit pass. "
        "<span class='key good'>Good parts stopped</span> and <span class='key bad'>bad parts let through"
        f"</span>, in per cent of their kind.</p>{chart}<table><thead><tr><th>limit</th><th></th>"
        f"<th>good stopped</th><th>bad let through</th></tr></thead><tbody>{rows}</tbody></table>"
        "<p class='hint'>These are the parts of this test; on others the best limit lies elsewhere. "
        "<code>edge-inspect recipe</code> moves the limits.</p></section>"
    )


def at_the_review_limit(e: Evaluation) -> str:
    """One line for the terminal; says only what the set can tell."""
    now, parts = errors_at(e, e.recipe.review), []
    if e.n_anomalous:
        missed = now.through.total()
        parts.append(f"of {e.n_anomalous} bad parts, {missed} would get through{by_type(now.through)}")
    if e.good:
        parts.append(f"of {len(e.good)} good parts, {now.stopped} would be stopped")
    return f"at the review limit {e.recipe.review:.3g}: {'; '.join(parts)}"


def by_type(through: Counter[str]) -> str:
    """` (3 crack, 1 fray)`, most first; empty where there is nothing."""
    listed = ", ".join(f"{count} {kind}" for kind, count in through.most_common())
    return f" ({listed})" if listed else ""


def _tradeoff_row(e: Evaluation, errors: Errors) -> str:
    missed = errors.through.total()
    return (
        f"<tr><th>{escape(errors.name)}</th><td>{errors.limit:.4g}</td>"
        f"<td>{errors.stopped} of {len(e.good)}</td>"
        f"<td>{missed} of {e.n_anomalous}{escape(by_type(errors.through))}</td></tr>"
    )


def _score(image: Judged) -> float:
    return image.score if math.isfinite(image.peak) else math.inf
