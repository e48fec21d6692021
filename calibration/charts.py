"""Small charts as inline SVG: no library, no script, colours from the page's style sheet."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from calibration.metrics import Scores

BINS = 56
ROW = 46  # height of one histogram in units of the drawing
LEFT, WIDTH, TOP = 190, 760, 56  # histogram: room for names, whole width, room for the limits' names
SIDE, MARGIN = 320, 46  # ROC

# Scores further above the fail limit than this many times its distance from the lowest score share the last
# bin: one wild part must not press all others into a corner.
FARTHEST = 3.0

Axis = Callable[[float], float]  # score -> place in the drawing


def histogram_chart(groups: Mapping[str, Scores], review: float, fail: float) -> str:
    """One histogram under the other on a common axis, "good" first, with the limits drawn through all."""
    low, high = score_range(np.concatenate(list(groups.values())), review, fail)
    height = TOP + ROW * len(groups) + 30

    def x(score: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * (min(max(score, low), high) - low) / (high - low)

    bottom = TOP + ROW * len(groups)
    parts = [_zones(x(low), x(review), x(fail), x(high), bottom)]
    for row, (name, scores) in enumerate(groups.items()):
        parts.append(_row(name, scores, np.linspace(low, high, BINS + 1), TOP + ROW * (row + 1), x))
    parts += [
        _limit(x(review), bottom, review, "review", TOP - 16),
        _limit(x(fail), bottom, fail, "fail", TOP - 34),
    ]
    parts += [_text(x(tick), bottom + 20, f"{tick:g}", "tick") for tick in nice_ticks(low, high)]
    return _svg(WIDTH, height, "Scores of good and anomalous parts, with the limits", parts)


def roc_chart(false_rejects: Scores, caught: Scores, at_limit: tuple[float, float]) -> str:
    """Detection rate against false reject rate, 0..1; a dot marks the recipe's review limit."""
    size = SIDE + 2 * MARGIN

    def place(rate: float, share: float) -> str:
        return f"{MARGIN + SIDE * rate:.1f},{MARGIN / 2 + SIDE * (1 - share):.1f}"

    parts = [f'<rect class="frame" x="{MARGIN}" y="{MARGIN / 2}" width="{SIDE}" height="{SIDE}"/>']
    for t in (0.25, 0.5, 0.75):
        parts.append(f'<path class="grid" d="M{place(0, t)} L{place(1, t)} M{place(t, 0)} L{place(t, 1)}"/>')
    parts.append(f'<path class="chance" d="M{place(0, 0)} L{place(1, 1)}"/>')
    points = " ".join(place(x, y) for x, y in zip(false_rejects, caught, strict=True))
    parts.append(f'<polyline class="curve" points="{points}"/>')
    cx, cy = place(*at_limit).split(",")
    title = f"<title>review limit: {at_limit[0]:.1%} false rejects, {at_limit[1]:.1%} caught</title>"
    parts.append(f'<circle class="dot" cx="{cx}" cy="{cy}" r="7">{title}</circle>')
    return _svg(
        size, SIDE + 2 * MARGIN - 22, "Detection rate against false reject rate", [*parts, *_roc_labels(size)]
    )


def errors_chart(good: Scores, bad: Scores, review: float, fail: float) -> str:
    """Good parts stopped and bad parts let through, in per cent, against the limit below which parts pass.

    Either may be empty; then its curve is left out.
    """
    low, high = score_range(np.concatenate([good, bad]), review, fail)
    bottom = TOP + SIDE / 2

    def x(limit: float) -> float:
        return LEFT / 2 + (WIDTH - LEFT / 2 - 16) * (min(max(limit, low), high) - low) / (high - low)

    parts = [_per_cent_line(TOP + SIDE / 2 * (1 - share), share) for share in (0, 0.25, 0.5, 0.75, 1)]
    for scores, kind, sign in ((bad, "bad", 1), (good, "good", -1)):
        if scores.size:
            parts.append(_error_curve(scores, kind, sign, (low, high), x))
    parts += [
        _limit(x(review), bottom, review, "review", TOP - 16),
        _limit(x(fail), bottom, fail, "fail", TOP - 34),
    ]
    parts += [_text(x(tick), bottom + 20, f"{tick:g}", "tick") for tick in nice_ticks(low, high)]
    return _svg(WIDTH, int(bottom) + 30, "Both errors against the limit", parts)


def _error_curve(scores: Scores, kind: str, sign: int, ends: tuple[float, float], x: Axis) -> str:
    """A step at each score: at a limit equal to a score, its part is still stopped."""
    inside = np.unique(scores[(scores > ends[0]) & (scores < ends[1])])
    places = np.concatenate([[ends[0]], np.repeat(inside, 2), [ends[1]]])
    before = np.searchsorted(np.sort(scores), places, side="left")
    before[2:-1:2] = np.searchsorted(np.sort(scores), inside, side="right")
    shares = before / scores.size if sign > 0 else 1 - before / scores.size
    points = " ".join(
        f"{x(place):.1f},{TOP + SIDE / 2 * (1 - share):.1f}"
        for place, share in zip(places, shares, strict=True)
    )
    return f'<polyline class="curve {kind}-curve" points="{points}"/>'


def _per_cent_line(y: float, share: float) -> str:
    line = f'<path class="grid" d="M{LEFT / 2:.1f},{y:.1f} H{WIDTH - 16}"/>'
    return line + _text(LEFT / 2 - 12, y + 5, f"{share:.0%}", "name")


def score_range(scores: Scores, review: float, fail: float) -> tuple[float, float]:
    """Left and right end of the score axis: all scores and both limits, but no further than FARTHEST."""
    finite = np.append(scores[np.isfinite(scores)], [review, fail])
    low, high = float(finite.min()), float(finite.max())
    high = max(min(high, fail + FARTHEST * (fail - low)), fail)
    room = 0.03 * (high - low) or max(abs(high), 1.0)
    return low - room, high + room


def nice_ticks(low: float, high: float) -> list[float]:
    """About six round numbers between `low` and `high`."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1, 2, 5, 10) if s * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _row(name: str, scores: Scores, edges: Scores, base: float, x: Axis) -> str:
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    scale = (ROW - 12) / max(int(counts.max()), 1)
    kind = "good" if name == "good" else "bad"
    bars = []
    for left, right, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        if count:
            tall, wide = max(count * scale, 2.0), x(right) - x(left) - 1
            title = f"<title>{count} {escape(name)} from {left:.3g} to {right:.3g}</title>"
            bars.append(
                f'<rect class="{kind}" x="{x(left):.1f}" y="{base - tall:.1f}" width="{wide:.1f}" '
                f'height="{tall:.1f}">{title}</rect>'
            )
    line = f'<path class="base" d="M{LEFT},{base} H{WIDTH - 16}"/>'
    label = name if len(name) <= 20 else name[:19] + "…"
    return "".join([line, *bars, _text(LEFT - 12, base - 6, f"{label} ({scores.size})", "name")])


def _zones(low: float, review: float, fail: float, high: float, bottom: float) -> str:
    """Faint bands behind the histograms: what the station answers there."""
    ends = {"pass": (low, review), "review": (review, fail), "fail": (fail, high)}
    return "".join(
        f'<rect class="zone {name}" x="{a:.1f}" y="{TOP - 8}" width="{max(b - a, 0):.1f}" '
        f'height="{bottom - TOP + 8}"/>'
        for name, (a, b) in ends.items()
    )


def _limit(x: float, bottom: float, limit: float, kind: str, y: float) -> str:
    """A line through all rows; the name stands left of it, where there is room on the right, right of it."""
    shift, anchor = (6, "start") if x < WIDTH - 120 else (-6, "end")
    name = f'<text class="limit-name {kind}" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">'
    return f'<path class="limit {kind}" d="M{x:.1f},{y - 12} V{bottom}"/>{name}{kind} {limit:.3g}</text>'


def _roc_labels(size: int) -> list[str]:
    ends = [(MARGIN, "0 %"), (MARGIN + SIDE, "100 %")]
    labels = [_text(x, SIDE + MARGIN / 2 + 18, text, "tick") for x, text in ends]
    labels.append(_text(size / 2, SIDE + MARGIN / 2 + 36, "good parts rejected", "tick"))
    labels.append(_text(MARGIN - 8, MARGIN / 2 + 5, "100 %", "name"))
    turned = f'transform="rotate(-90 {MARGIN - 22} {SIDE / 2 + MARGIN / 2})"'
    y = SIDE / 2 + MARGIN / 2
    labels.append(f'<text class="tick" x="{MARGIN - 22}" y="{y}" {turned}>anomalous parts caught</text>')
    return labels


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    # No namespace: inside HTML none is needed, and the page keeps free of addresses.
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
