"""Curves as a picture file: SVG without a library, readable on light and dark pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 170, 20, 48  # room for numbers, names, titles
COLOURS = ("#2f6fb5", "#c2571a", "#1f7a46", "#8a4fbf", "#b3261e", "#9a6b00", "#00838f", "#5b6773")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#17202a}.soft{fill:#5b6773}.grid{stroke:#d9dee3;fill:none}"
    "polyline{fill:none;stroke-width:2.5}"
)

Curve = Mapping[int, Sequence[float]]  # x -> the values of each draw
Place = Callable[[float, float], tuple[float, float]]  # (x, y) of the data -> place in the drawing


def log_curves(curves: Mapping[str, Curve], x_title: str, y_title: str) -> str:
    """One line through the means of each curve, a dot for each draw; x is logarithmic, y ends at 1."""
    xs = sorted({x for curve in curves.values() for x in curve})
    lowest = min((v for curve in curves.values() for values in curve.values() for v in values), default=0.9)
    bottom = math.floor(lowest * 20 - 1e-9) / 20  # the next twentieth below

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / xs[0]) / max(math.log(xs[-1] / xs[0]), 1e-9)
        up = (y - bottom) / (1 - bottom)
        return LEFT + (WIDTH - LEFT - RIGHT) * across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up

    parts = _axes(xs, bottom, place)
    for number, (name, curve) in enumerate(curves.items()):
        parts += _curve(name, curve, COLOURS[number % len(COLOURS)], TOP + 14 + 22 * number, place)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    turned = f'transform="rotate(-90 16 {HEIGHT / 2})" text-anchor="middle"'
    parts.append(f'<text x="16" y="{HEIGHT / 2}" {turned}>{escape(y_title)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    page = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return f"{head}<title>{escape(y_title)}</title><style>{STYLE}</style>{page}{''.join(parts)}</svg>\n"


def _axes(xs: Sequence[int], bottom: float, place: Place) -> list[str]:
    parts = []
    for tick in np.linspace(bottom, 1, 6) if xs else ():
        (left, y), (right, _) = place(xs[0], tick), place(xs[-1], tick)
        parts.append(f'<path class="grid" d="M{left:.1f},{y:.1f} H{right:.1f}"/>')
        parts.append(_soft(left - 8, y + 4, "end", f"{tick:.2f}"))
    for x in xs:
        at, y = place(x, bottom)
        parts.append(_soft(at, y + 18, "middle", str(x)))
    return parts


def _soft(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="soft" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _curve(name: str, curve: Curve, colour: str, row: float, place: Place) -> list[str]:
    """Line, dots, and the name with a sample of the line at height `row` on the right."""
    means = [place(x, float(np.mean(curve[x]))) for x in sorted(curve)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in means)
    parts = [f'<polyline stroke="{colour}" points="{line}"/>']
    for x, values in curve.items():
        spots = (place(x, value) for value in values)
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in spots]
    left = WIDTH - RIGHT + 18
    parts.append(f'<rect x="{left}" y="{row - 5}" width="16" height="4" fill="{colour}"/>')
    return [*parts, f'<text x="{left + 22}" y="{row + 2}">{escape(name)}</text>']
