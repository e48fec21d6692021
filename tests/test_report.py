"""The report is one well-formed page that needs nothing else, and says what the figures say."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.charts import errors_chart, histogram_chart, nice_ticks, roc_chart, score_range
from calibration.figures import Evaluation, Judged
from calibration.report import percent, render_report, summary, write_report
from calibration.tradeoff import at_the_review_limit, errors_at, errors_table
from edge.recipe import Recipe
from edge.verdict import Outcome

VOID = {"meta", "img", "br"}
RECIPE = Recipe(
    "Gehäuse <links>", (16, 16), 0.5, 0.8, expected_false_rejects={"rate": 0.003, "low": 0.0005, "high": 0.01}
)


def judged(path: Path, kind: str, score: float) -> Judged:
    outcome = Outcome.PASS if score < 0.5 else Outcome.REVIEW if score < 0.8 else Outcome.FAIL
    return Judged(path, kind, score, score, outcome, 12.5)


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Ten good parts of which one is rejected, six anomalous ones of two types of which one is missed."""
    rng = np.random.default_rng(0)
    images = []
    scores = {"good": [0.1] * 9 + [0.6], "bent & broken": [0.9, 0.7, 0.95], "scratch": [0.3, 0.85, math.inf]}
    for kind, values in scores.items():
        for i, score in enumerate(values):
            path = tmp_path / f"{kind} {i}.png"
            pixels = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            images.append(judged(path, kind, score))
    maps = {image.path: rng.random((16, 16)).astype(np.float32) for image in images}
    return Evaluation(
        dataset="parts",
        recipe=RECIPE,
        backend="ONNX Runtime 1.0 CPU",
        images=images,
        image_auroc=0.9567,
        image_auroc_interval=(0.91, 0.9999),
        image_auroc_of_map_maximum=0.9,
        pixel_auroc=0.876,
        au_pro=0.765,
        au_spro=math.nan,
        au_spro_per_type={},
        per_type={"bent & broken": 1.0, "scratch": 0.913},
        map_limit=0.5,
        maps=maps,
        notes=["1 pictures <strange>."],
    )


class Page(HTMLParser):
    """Collects text and addresses, and fails on a tag that is not closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "data", "srcset"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_page_is_well_formed_and_needs_nothing_else(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert len(page.sources) == 2 * (6 + 8)
    assert not re.search(r"https?:|@import|url\(|<script|<link", html)
    assert str(tmp_path) not in html  # a report may be sent to a customer


def test_page_says_what_the_figures_say(evaluation: Evaluation) -> None:
    words = Page(render_report(evaluation)).words
    for text in (
        "Gehäuse <links>", "10 good and 6 anomalous", "95.7 %", "91.0 % to 99.9 %", "76.5 %", "87.6 %",
        "about 24 of 8,000 good parts per shift (4 to 80)", "12.5 ms", "1 pictures <strange>.",
        "83.3 % caught", "10.0 % of the good parts rejected", "bent & broken", RECIPE.identity,
        "Of 6 anomalous parts 5 are stopped; 1 would get through . Of 10 good parts 1 would be stopped",
    ):  # fmt: skip
        assert text in words


def test_both_errors_are_counted_and_marked(evaluation: Evaluation) -> None:
    html = render_report(evaluation)
    assert "<th>good parts</th><td class=''>9</td><td class='error'>1</td><td class=''>0</td>" in html
    assert "<th>anomalous parts</th><td class='error'>1</td><td class=''>1</td><td class=''>4</td>" in html
    assert html.count("<figure class='wrong'>") == 2


def test_worst_pictures_come_first(evaluation: Evaluation) -> None:
    words = Page(render_report(evaluation)).words
    hardest = words.index("Hardest anomalies")
    worst_good = words.index("Good parts that look worst")
    assert words.index("scratch 0.png", hardest) < words.index("bent & broken 1.png", hardest) < worst_good
    assert words.index("good 9.png") > worst_good


def test_partial_figures_give_a_page_too(evaluation: Evaluation) -> None:
    only_good = replace(
        evaluation, images=evaluation.good, per_type={}, au_pro=math.nan, image_auroc=math.nan,
        image_auroc_interval=(math.nan, math.nan), recipe=replace(RECIPE, expected_false_rejects={}),
    )  # fmt: skip
    words = Page(render_report(only_good)).words
    assert "no masks to compare with" in words
    assert "Hardest anomalies" not in words
    only_bad = replace(evaluation, images=[i for i in evaluation.images if not i.is_good])
    assert "Of 6 anomalous parts" in Page(render_report(only_bad)).words
    assert "good parts" not in summary(only_bad)


def test_loco_pages_show_the_place_by_kind(evaluation: Evaluation) -> None:
    loco = replace(evaluation, au_spro=0.61, au_spro_per_type={"bent & broken": 0.5, "scratch": 0.72})
    words = Page(render_report(loco)).words
    assert "AU-sPRO" in words
    assert "61.0 %" in words
    assert "72.0 %" in words


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100.0"), (0.99999, "99.9"), (0.98765, "98.8"), (0.0, "0.0")]
)
def test_only_a_perfect_share_is_called_100(share: float, text: str) -> None:
    assert percent(share) == f"{text}\N{NO-BREAK SPACE}%"
    assert percent(math.nan) == "–"


def test_histogram_holds_every_part_and_the_limits() -> None:
    groups = {"good": np.array([0.1, 0.2, 0.2]), "dent": np.array([0.9, 50.0, math.inf])}
    chart = histogram_chart(groups, review=0.5, fail=0.8)
    counts = re.findall(r"<title>(\d+) (good|dent) from", chart)
    assert sum(int(count) for count, kind in counts if kind == "good") == 3
    assert sum(int(count) for count, kind in counts if kind == "dent") == 3
    assert "review 0.5" in chart
    assert "fail 0.8" in chart
    assert "nan" not in chart
    assert "inf" not in chart


def test_score_axis_ignores_what_is_far_beyond_the_limit_and_survives_equal_scores() -> None:
    low, high = score_range(np.array([0.0, 1000.0]), review=1, fail=2)
    assert (low, high) == pytest.approx((-0.24, 8.24))
    low, high = score_range(np.array([0.0, 0.0]), review=0, fail=0)
    assert low < 0 < high


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (0.9, 0.98), (-2e6, 5e6), (1e-7, 3e-7)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert low <= ticks[0]
    assert ticks[-1] <= high


def test_roc_chart_is_well_formed() -> None:
    chart = roc_chart(np.array([0, 0.0, 1]), np.array([0, 0.9, 1]), (0.1, 0.9))
    page = Page(chart)
    assert {"polyline", "circle"} <= set(page.tags)
    assert "10.0% false rejects, 90.0% caught" in chart


def test_both_errors_against_the_limit_are_counted(evaluation: Evaluation) -> None:
    rows = {row.name: (row.limit, row.stopped, dict(row.through)) for row in errors_table(evaluation)}
    assert rows["review limit"] == (0.5, 1, {"scratch": 1})
    assert rows["fail limit"] == (0.8, 0, {"scratch": 1, "bent & broken": 1})
    assert rows["no bad part gets through"] == (0.3, 1, {})
    assert rows["no good part is stopped"] == (pytest.approx(0.6), 0, {"scratch": 1})
    assert [row.limit for row in errors_table(evaluation)] == sorted(limit for limit, _, _ in rows.values())
    bad = replace(evaluation, images=[image for image in evaluation.images if not image.is_good])
    assert "no good part is stopped" not in {row.name for row in errors_table(bad)}
    words = Page(render_report(evaluation)).words
    assert "review limit 0.5 1 of 10 1 of 6 (1 scratch)" in words
    assert "fail limit 0.8 0 of 10 2 of 6 (1 bent & broken, 1 scratch)" in words


def test_a_score_at_the_limit_is_stopped_and_a_broken_answer_never_passes(evaluation: Evaluation) -> None:
    """As the station judges: counts at the review limit are those of the verdicts."""
    at = errors_at(evaluation, 0.6)
    assert (at.stopped, at.through.total()) == (1, 1)
    broken = [replace(image, peak=math.inf) for image in evaluation.images]
    at = errors_at(replace(evaluation, images=broken), 0.6)
    assert (at.stopped, at.through.total()) == (10, 0)


def test_the_terminal_line_says_only_what_the_set_can_tell(evaluation: Evaluation) -> None:
    both = "of 6 bad parts, 1 would get through (1 scratch); of 10 good parts, 1 would be stopped"
    assert at_the_review_limit(evaluation) == f"at the review limit 0.5: {both}"
    only_good = replace(evaluation, images=evaluation.good, per_type={})
    assert at_the_review_limit(only_good) == "at the review limit 0.5: of 10 good parts, 1 would be stopped"
    assert "If the limit were another" not in render_report(only_good)
    only_bad = replace(evaluation, images=[i for i in evaluation.images if not i.is_good])
    assert at_the_review_limit(only_bad).endswith("1 would get through (1 scratch)")
    assert "1 of 6" in Page(render_report(only_bad)).words


def heights(chart: str, kind: str) -> list[float]:
    """The curve's shares, 0..1, from left to right."""
    points = re.search(rf'<polyline class="curve {kind}-curve" points="([^"]+)"', chart)
    assert points is not None
    xs, ys = zip(*(map(float, point.split(",")) for point in points.group(1).split()), strict=True)
    assert list(xs) == sorted(xs)
    return [round((216 - y) / 160, 3) for y in ys]


def test_error_curves_step_at_every_score() -> None:
    chart = errors_chart(np.array([0.1, 0.2, 0.2, 0.6]), np.array([0.3, 0.9, math.inf, 0.7]), 0.5, 0.8)
    assert heights(chart, "good") == [1, 1, 0.75, 0.75, 0.25, 0.25, 0, 0]
    assert heights(chart, "bad") == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert "review 0.5" in chart and "fail 0.8" in chart
    assert "nan" not in chart and "inf" not in chart
    Page(chart)
    assert "good-curve" not in errors_chart(np.empty(0), np.array([1.0]), 0.5, 0.8)


def test_page_renders_in_a_real_browser(evaluation: Evaluation, tmp_path: Path) -> None:
    """The browser's own parser and style engine: the page has its height and its charts their colours."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    write_report(evaluation, page)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1100,1400", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pixels = cv2.imread(str(shot))
    assert pixels is not None
    for name, bgr in {"good bars": (0xB5, 0x6F, 0x2F), "bad bars": (0x1A, 0x57, 0xC2)}.items():
        assert (np.abs(pixels.astype(int) - bgr).max(axis=2) < 4).sum() > 100, name
