"""One page that says how good a model is: a single file without scripts, links or anything to load.

Written for the person at the line: first in words, then in figures, then in pictures of the worst mistakes.
"""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from calibration.charts import histogram_chart, roc_chart
from calibration.figures import Evaluation, Judged, worst_false_rejects, worst_misses
from calibration.gallery import gallery
from calibration.metrics import roc_curve
from calibration.style import page
from calibration.thresholds import describe_rate
from calibration.tradeoff import tradeoff_section
from edge.atomic import write_atomically
from edge.verdict import Outcome

OUTCOMES = (Outcome.PASS, Outcome.REVIEW, Outcome.FAIL)
MISSES = (
    "Hardest anomalies",
    "Of each type those with the lowest scores; what passed was missed.",
)
FALSE_REJECTS = (
    "Good parts that look worst",
    "Good parts with the highest scores; what did not pass is a false reject.",
)


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the page to `path`, whole or not at all. Raises DataError when a picture shown is gone."""
    write_atomically(path, render_report(evaluation).encode())


def render_report(evaluation: Evaluation) -> str:
    """The page's HTML."""
    sections = [
        _header(evaluation),
        _headline(evaluation),
        _notes(evaluation),
        _answers(evaluation),
        _distributions(evaluation),
        tradeoff_section(evaluation),
        _types(evaluation),
        gallery(evaluation, worst_misses(evaluation.images), *MISSES),
        gallery(evaluation, worst_false_rejects(evaluation.images), *FALSE_REJECTS),
    ]
    return page(f"{evaluation.recipe.name} on {evaluation.dataset}", sections)


def _header(e: Evaluation) -> str:
    facts = f"{len(e.good)} good and {e.n_anomalous} anomalous test pictures"
    return (
        f"<header><p class='kicker'>Inspection report</p><h1>{escape(e.recipe.name)} "
        f"<span>on {escape(e.dataset)}</span></h1><p class='facts'>{facts} · {escape(e.backend)} · "
        f"recipe <code>{escape(e.recipe.identity)}</code></p><p class='lead'>{summary(e)}</p></header>"
    )


def summary(e: Evaluation) -> str:
    """What happens at the recipe's limits, in one or two sentences."""
    sentences = []
    if e.n_anomalous:
        caught = sum(not i.is_good and i.outcome is not Outcome.PASS for i in e.images)
        missed = e.n_anomalous - caught
        through = "none gets through" if not missed else f"<b>{missed} would get through</b>"
        sentences.append(f"Of {e.n_anomalous} anomalous parts {caught} are stopped; {through}.")
    if e.good:
        rejected = sum(i.outcome is not Outcome.PASS for i in e.good)
        stopped = "none is stopped" if not rejected else f"<b>{rejected} would be stopped</b> without need"
        sentences.append(f"Of {len(e.good)} good parts {stopped}.")
    return " ".join(sentences)


def _headline(e: Evaluation) -> str:
    low, high = e.image_auroc_interval
    apart = (
        "how often an anomalous part scores above a good one "
        f"(image AUROC; 95 % interval {percent(low)} to {percent(high)})"
    )
    within = f"median of the model alone on this machine; 99 of 100 parts within {_ms(e.latency_ms(0.99))}"
    cards = [
        _card("Told apart", percent(e.image_auroc), apart),
        _card("False rejects", percent(e.false_reject_rate), _expected(e)),
        _place(e),
        _card("Time", _ms(e.latency_ms(0.5)), within),
    ]
    return f"<section class='cards'>{''.join(cards)}</section>"


def _place(e: Evaluation) -> str:
    is_loco = not math.isnan(e.au_spro)
    value, name = (e.au_spro, "AU-sPRO") if is_loco else (e.au_pro, "AU-PRO")
    text = (
        "how much of each anomaly is marked before good surface is "
        f"({name}; pixel AUROC {percent(e.pixel_auroc)})"
    )
    return _card("Place found", percent(value), "no masks to compare with" if math.isnan(value) else text)


def _expected(e: Evaluation) -> str:
    fields = e.recipe.expected_false_rejects
    text = f"of {len(e.good)} good test parts are not passed"
    if {"rate", "low", "high"} <= fields.keys():
        text += f"; the limits were set for {describe_rate(fields['rate'], fields['low'], fields['high'])}"
    return text


def _card(name: str, value: str, text: str) -> str:
    return f"<div class='card'><h2>{name}</h2><p class='value'>{value}</p><p>{text}</p></div>"


def _notes(e: Evaluation) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in e.notes)
    return f"<section class='notes'><ul>{items}</ul></section>" if items else ""


def _answers(e: Evaluation) -> str:
    """Both errors as counts."""
    rows = "".join(
        f"<tr><th>{name}</th>{''.join(_answer(images, outcome, wrong) for outcome in OUTCOMES)}"
        f"<td>{len(images)}</td></tr>"
        for name, images, wrong in (
            ("good parts", e.good, {Outcome.REVIEW, Outcome.FAIL}),
            ("anomalous parts", [i for i in e.images if not i.is_good], {Outcome.PASS}),
        )
        if images
    )
    return (
        "<section><h2>What the station would answer</h2><table><thead><tr><th></th><th>pass</th>"
        f"<th>review</th><th>fail</th><th>all</th></tr></thead><tbody>{rows}</tbody></table>"
        "<p class='hint'>Errors are marked. Review means: a person looks at the part.</p></section>"
    )


def _answer(images: list[Judged], outcome: Outcome, wrong: set[Outcome]) -> str:
    count = sum(image.outcome is outcome for image in images)
    return f"<td class='{'error' if count and outcome in wrong else ''}'>{count}</td>"


def _distributions(e: Evaluation) -> str:
    kinds = (["good"] if e.good else []) + sorted(e.per_type)
    groups = {kind: np.array([image.score for image in e.of_type(kind)]) for kind in kinds}
    chart = histogram_chart(groups, e.recipe.review, e.recipe.fail)
    parts = ["<section><h2>Scores</h2><p class='hint'>Each row has its own height; a good model keeps the "
             f"first row left of the limits and all others right of them.</p>{chart}</section>"]  # fmt: skip
    if e.good and e.n_anomalous:
        parts.append(_roc(e))
    return "".join(parts)


def _roc(e: Evaluation) -> str:
    scores = np.array([image.score for image in e.images])
    labels = np.array([not image.is_good for image in e.images])
    at_limit = (e.false_reject_rate, _stopped(e))
    chart = roc_chart(*roc_curve(labels, scores), at_limit)
    return (
        "<section class='roc'><div><h2>If the limit were moved</h2><p>The curve shows which share of the "
        "anomalous parts is caught for each share of good parts rejected. The dot is the review limit of "
        f"this recipe: <b>{percent(at_limit[1])}</b> caught, <b>{percent(at_limit[0])}</b> of the good parts "
        "rejected.</p><p class='hint'>Limits are set from good parts alone. Choosing them on these pictures "
        f"would make the figures above worthless.</p></div>{chart}</section>"
    )


def _stopped(e: Evaluation) -> float:
    return sum(not i.is_good and i.outcome is not Outcome.PASS for i in e.images) / e.n_anomalous


def _types(e: Evaluation) -> str:
    if not e.per_type:
        return ""
    place = "<th>AU-sPRO</th>" if e.au_spro_per_type else ""
    rows = "".join(_type_row(e, kind, e.au_spro_per_type) for kind in sorted(e.per_type))
    return (
        "<section><h2>By type of anomaly</h2><table><thead><tr><th>type</th><th>parts</th><th>caught</th>"
        f"<th>missed</th><th>AUROC against good</th>{place}</tr></thead><tbody>{rows}</tbody></table>"
        "</section>"
    )


def _type_row(e: Evaluation, kind: str, spro: Mapping[str, float]) -> str:
    count, rate = len(e.of_type(kind)), e.detection_rate(kind)
    missed = count - round(rate * count)
    bar = f"<span class='bar'><i style='width:{rate:.1%}'></i></span>"
    place = f"<td>{percent(spro[kind])}</td>" if spro else ""
    return (
        f"<tr><th>{escape(kind)}</th><td>{count}</td><td>{bar}{percent(rate)}</td>"
        f"<td class='{'error' if missed else ''}'>{missed}</td><td>{percent(e.per_type[kind])}</td>"
        f"{place}</tr>"
    )


def percent(share: float) -> str:
    """0.98765 -> "98.8 %" (its space does not break); NaN -> a dash. Never rounds up to 100."""
    if math.isnan(share):
        return "–"
    tenths = round(share * 1000)
    if tenths == 1000 and share < 1:
        tenths = 999
    return f"{tenths / 10:.1f}\N{NO-BREAK SPACE}%"


def _ms(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}\N{NO-BREAK SPACE}ms" if value >= 1 else f"{value:.2f}\N{NO-BREAK SPACE}ms"
