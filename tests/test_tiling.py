"""Tiles cover the picture, overlap, and become one map without a seam."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import SIDE as TOY
from toy import toy_pair

from edge.backends import open_backend
from edge.cameras.parts import render_part
from edge.demo.show import ENGINE
from edge.picture.tiling import MOST_TILES, OVERLAP, Tiling, canvas_for
from edge.picture.view import View
from edge.recipe import load_pair, load_recipe, recipe_path

CANVASES = [(64, 64), (64, 65), (100, 550), (193, 255), (64, 800), (256, 300)]


@pytest.mark.parametrize("canvas", CANVASES)
def test_every_pixel_is_in_a_tile_and_neighbours_overlap(canvas: tuple[int, int]) -> None:
    tiling = Tiling(canvas, (64, 64))
    seen = np.zeros(canvas, int)
    for y, x in tiling.corners:
        assert 0 <= y <= canvas[0] - 64 and 0 <= x <= canvas[1] - 64
        seen[y : y + 64, x : x + 64] += 1
    assert seen.min() == 1
    for axis in range(2):
        starts = sorted({corner[axis] for corner in tiling.corners})
        assert all(start - before <= 64 * (1 - OVERLAP) for before, start in pairwise(starts))


@pytest.mark.parametrize("canvas", CANVASES)
def test_cut_and_joined_again_is_the_same_map(canvas: tuple[int, int]) -> None:
    tiling = Tiling(canvas, (64, 64))
    whole = np.random.default_rng(0).random(canvas, np.float32)
    assert np.abs(tiling.join(tiling.cut(whole)) - whole).max() < 1e-5


def test_tiles_that_disagree_leave_no_step() -> None:
    """Neighbours say 0 and 1 all over: a hard border would be a step of 1, here it is a slope."""
    tiling = Tiling((128, 400), (64, 64))
    says = [(y // 40 + x // 50) % 2 for y, x in tiling.corners]
    assert set(says) == {0, 1}
    joined = tiling.join(np.stack([np.full((64, 64), value, np.float32) for value in says]))
    steps = max(np.abs(np.diff(joined, axis=axis)).max() for axis in range(2))
    assert joined.min() < 0.01 and joined.max() > 0.99
    assert steps < 3 / (64 * OVERLAP)  # twice the slope of a smooth step over the overlap, and a margin


def test_no_tile_border_shows_in_the_map_of_a_real_engine() -> None:
    """On a smooth picture every change in the map is slow; where tiles begin and end it is no faster."""
    view = View((256, 256), canvas=(448, 640))
    recipe = load_recipe(recipe_path(ENGINE))
    tiled = open_backend(ENGINE, replace(recipe, view=view.to_json()))
    anomaly_map, _ = tiled.infer(cv2.resize(render_part(3, 0), (640, 448)))
    assert view.tiling is not None
    borders = {x for _, x in view.tiling.corners if x} | {
        x + 256 for _, x in view.tiling.corners if x + 256 < 640
    }
    steps = np.abs(np.diff(anomaly_map, axis=1)).mean(axis=0)
    at_borders = [steps[x - 1] for x in borders]
    elsewhere = np.delete(steps, [x - 1 for x in borders])
    assert max(at_borders) < 0.5 * max(elsewhere)  # a hard edge would be the largest step of all


@pytest.mark.parametrize("x", [56, 60, 64, 100, 113, 120])
def test_a_defect_on_a_border_is_found_once_and_where_it_is(tmp_path: Path, x: int) -> None:
    """Tiles of 64 begin at 0, 56, 112 ...; the spot lies on their borders, in one tile or in two."""
    engine, recipe, _ = load_pair(toy_pair(tmp_path, view=View((TOY, TOY), canvas=(120, 232)).to_json()))
    backend = open_backend(engine, recipe)
    picture = np.full((*backend.input_size, 3), 50, np.uint8)
    cv2.circle(picture, (x, 60), 5, (250, 250, 250), -1)
    anomaly_map, score = backend.infer(picture)
    assert anomaly_map.shape == (120, 232)
    assert np.abs(anomaly_map - picture[..., 0] / 100).max() < 1e-4
    count, _, _, centres = cv2.connectedComponentsWithStats((anomaly_map > 1.5).astype(np.uint8))
    assert count == 2 and np.abs(centres[1] - (x, 60)).max() < 0.5
    assert score == pytest.approx(max(tile.mean() / 100 for tile in _tiles(picture)), rel=1e-5)


def _tiles(picture: np.ndarray) -> np.ndarray:
    return Tiling((picture.shape[0], picture.shape[1]), (TOY, TOY)).cut(picture)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_batch_says_what_its_pictures_say_alone(tmp_path: Path, backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    engine, recipe, _ = load_pair(toy_pair(tmp_path))
    opened = open_backend(engine, recipe, backend)
    pictures = np.random.default_rng(0).integers(0, 256, (7, TOY, TOY, 3), dtype=np.uint8)
    maps, scores = opened.infer_batch(pictures)
    assert maps.shape == (7, TOY, TOY) and scores.shape == (7,)
    for picture, anomaly_map, score in zip(pictures, maps, scores, strict=True):
        alone_map, alone = opened.infer(picture)
        assert np.abs(alone_map - anomaly_map).max() < 1e-5 and alone == pytest.approx(float(score), rel=1e-5)


@pytest.mark.parametrize("picture", [(1536, 2048), (1944, 2592), (3000, 4000), (200, 1100), (5000, 300)])
@pytest.mark.parametrize("side", [64, 256, 512])
def test_the_canvas_bounds_time_and_memory(picture: tuple[int, int], side: int) -> None:
    canvas = canvas_for(picture, (side, side))
    assert 1 <= len(Tiling(canvas, (side, side)).corners) <= MOST_TILES
    assert min(canvas) >= side
    assert len(Tiling((canvas[0] * 2, canvas[1] * 2), (side, side)).corners) > MOST_TILES or canvas >= picture
