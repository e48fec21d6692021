"""What lies under the pieces of the simulated product: the belt, the plate and the bare circuit board."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.pieces import BOARD, CANVAS, PLACES, PLATE, Float

BELT = 512  # pixels of the belt's pattern, square; it repeats without a seam
_FOOT = {"chip": (62, 62), "driver": (36, 32), "connector": (86, 30), "label": (84, 26)}  # half width, height

_RESISTORS = ((236, 222), (236, 244), (392, 206), (244, 388), (244, 408), (360, 400), (412, 436), (412, 456))


@cache
def belt() -> npt.NDArray[np.float32]:
    """(BELT, BELT, 3): dark rubber with a woven pattern and some wear, 0..255."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:BELT, 0:BELT].astype(np.float32)
    weave = np.sin(2 * np.pi * (x + y) / 8) * np.sin(2 * np.pi * (x - y) / 8)  # 8 divides BELT
    grain = _periodic_noise(rng, 1.2) * 3.0 + _periodic_noise(rng, 24) * 4.0
    tone = 52 + 4.5 * weave + grain
    return np.asarray(tone[..., None] * np.array([1.02, 1.0, 0.94]), np.float32)


@cache
def bare_plate() -> npt.NDArray[np.uint8]:
    """(CANVAS, CANVAS, 4): BGR premultiplied by alpha, then alpha; soft shadow included; no pieces."""
    solid = np.zeros((CANVAS, CANVAS), np.uint8)
    _round_box(solid, PLATE, 26, 255)
    alpha = cv2.GaussianBlur(solid, (0, 0), 0.8).astype(np.float32) / 255
    shadow = cv2.GaussianBlur(np.roll(alpha, (12, 9), (0, 1)), (0, 0), 9) * 0.6
    bgr = _board(_aluminium(solid))
    cover = alpha + (1 - alpha) * shadow
    out = np.dstack([bgr * alpha[..., None], cover * 255])
    return np.asarray(np.clip(out + 0.5, 0, 255), np.uint8)


def _periodic_noise(rng: np.random.Generator, sigma: float) -> Float:
    noise = rng.standard_normal((BELT, BELT)).astype(np.float32)
    wide = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), sigma)[BELT : 2 * BELT, BELT : 2 * BELT]
    return np.asarray(wide / wide.std(), np.float32)


def _aluminium(solid: npt.NDArray[np.uint8]) -> Float:
    """Brushed metal with a bright edge towards the light."""
    rng = np.random.default_rng(2)
    streaks = cv2.GaussianBlur(
        rng.standard_normal((CANVAS, CANVAS)).astype(np.float32), (0, 0), 18, sigmaY=0.8
    )
    tone = 172 + streaks / streaks.std() * 4.0
    height = cv2.GaussianBlur(solid, (0, 0), 3).astype(np.float32)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) + cv2.Sobel(height, cv2.CV_32F, 0, 1)
    tone = tone + np.clip(slope * 0.25, -45, 45)
    return np.asarray(tone[..., None] * np.array([1.03, 1.0, 0.98]), np.float32)


def _board(ground: Float) -> Float:
    """The green board with traces, pads and the printed outline of each piece."""
    out = np.ascontiguousarray(ground)
    edge = np.zeros((CANVAS, CANVAS), np.uint8)
    _round_box(edge, BOARD, 14, 255)
    fallen = cv2.GaussianBlur(np.roll(edge, (4, 3), (0, 1)), (0, 0), 3).astype(np.float32) / 255
    out *= (1 - 0.45 * fallen)[..., None]
    _round_box(out, BOARD, 14, (62.0, 112.0, 42.0))
    x0, y0, x1, y1 = (BOARD[0] + 3, BOARD[1] + 3, BOARD[2] - 3, BOARD[3] - 3)
    _round_box(out, (x0, y0, x1, y1), 12, (54.0, 98.0, 30.0))
    _traces(out)
    for place in PLACES:
        _seat(out, place.piece, place.x, place.y)
    _resistors(out)
    return out


def _traces(out: Float) -> None:
    copper = (70.0, 128.0, 52.0)
    runs = (
        [(372, 250), (400, 250), (412, 262)], [(372, 272), (404, 272), (420, 256)],
        [(372, 308), (396, 308), (424, 336), (424, 360)], [(268, 264), (236, 264), (224, 252), (210, 252)],
        [(268, 310), (240, 310), (222, 340), (206, 348)], [(300, 338), (300, 400), (262, 420), (262, 440)],
        [(330, 338), (330, 440)], [(350, 338), (350, 384), (384, 418), (384, 444)],
        [(132, 200), (132, 440)], [(508, 200), (508, 440)], [(148, 232), (148, 400), (200, 452), (214, 452)],
        [(290, 234), (290, 214), (410, 214), (440, 232)],
    )  # fmt: skip
    for run in runs:
        cv2.polylines(out, [np.array(run, np.int32)], False, copper, 4, cv2.LINE_AA)
        for x, y in (run[0], run[-1]):
            cv2.circle(out, (x, y), 6, copper, -1, cv2.LINE_AA)
            cv2.circle(out, (x, y), 2, (28.0, 50.0, 18.0), -1, cv2.LINE_AA)


def _seat(out: Float, piece: str, x: int, y: int) -> None:
    """What is seen where the piece is missing: hole, pads, printed outline."""
    ink, pad, hole = (196.0, 214.0, 200.0), (110.0, 178.0, 204.0), (26.0, 30.0, 26.0)
    if piece == "screw":
        cv2.circle(out, (x, y), 19, pad, -1, cv2.LINE_AA)
        cv2.circle(out, (x, y), 10, hole, -1, cv2.LINE_AA)
    elif piece in _FOOT:
        w, h = _FOOT[piece]
        cv2.rectangle(out, (x - w, y - h), (x + w, y + h), ink, 2, cv2.LINE_AA)
        for dx in range(-w + 12, w - 8, 14):
            for dy in (-h + 9, h - 9):
                cv2.rectangle(out, (x + dx - 3, y + dy - 4), (x + dx + 3, y + dy + 4), pad, -1, cv2.LINE_AA)
    else:
        cv2.circle(out, (x, y), 38 if piece != "coil" else 46, ink, 2, cv2.LINE_AA)
        for dx in (-14, 14):
            cv2.circle(out, (x + dx, y), 8, pad, -1, cv2.LINE_AA)
            cv2.circle(out, (x + dx, y), 3, hole, -1, cv2.LINE_AA)


def _resistors(out: Float) -> None:
    """Small parts soldered by the supplier; they never change."""
    for x, y in _RESISTORS:
        cv2.rectangle(out, (x - 11, y - 6), (x + 11, y + 6), (196.0, 204.0, 208.0), -1, cv2.LINE_AA)
        cv2.rectangle(out, (x - 6, y - 6), (x + 6, y + 6), (40.0, 40.0, 44.0), -1, cv2.LINE_AA)


def _round_box(
    plane: npt.NDArray[Any], box: tuple[int, int, int, int], corner: int, value: Sequence[float] | float
) -> None:
    x0, y0, x1, y1 = box
    cv2.rectangle(plane, (x0 + corner, y0), (x1 - corner, y1), value, -1)
    cv2.rectangle(plane, (x0, y0 + corner), (x1, y1 - corner), value, -1)
    for x in (x0 + corner, x1 - corner):
        for y in (y0 + corner, y1 - corner):
            cv2.circle(plane, (x, y), corner, value, -1, cv2.LINE_AA)
