"""What do `--tile`, `--mask` and `--align` cost, and what do they gain where they matter?

    python benchmarks/views.py --work DIR [--only tile,mask,align] [--steps 250] [--frames 200] [--save]

For each a made set of simulated parts, trained, built and evaluated twice as the commands do, with the option
and without, all else the same:

    tile   2048x1536 trays of 24 parts, one part of a bad tray has a defect
    mask   parts before a background that is another one in every picture
    align  parts that lie up to 5 % of the picture and 5 degrees off, with the tight region of interest
           that only aligned parts can have

Cost is picture to score, both ways in turn on every frame in the same run; besides, what the view alone takes
on larger pictures. Writes views.json to DIR, with `--save` to benchmarks/results; an option that was measured
is not measured again. Fewer steps than a user trains: the two are to be compared with each other only.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jobs import JUDGING_CODE, SCORE_CODE, TRAINING_CODE, Jobs, code_digest
from record import add_save, quantiles_ms, save_result, target_of
from rich.console import Console
from rich.table import Table

from build_engines.build import build_engines
from build_engines.listener import Listener
from calibration.dataset import open_dataset
from calibration.evaluate import evaluate
from calibration.thresholds import FALSE_REJECT_RATE
from calibration.views import ViewOptions, make_view
from distillation.detector import DetectorConfig
from distillation.learn import learn
from distillation.progress import ProgressBars
from distillation.train import TrainConfig
from edge.backends import Backend, open_backend
from edge.cameras.parts import DEFECTS, SIDE, render_part
from edge.frame import Pixels
from edge.picture.images import read_image
from edge.picture.view import View, view_of
from edge.recipe import load_pair, recipe_path

CODE = (*TRAINING_CODE, *SCORE_CODE, *JUDGING_CODE, "benchmarks/views.py", "edge/picture/*.py")
SEED = 7
WARM_UP = 5  # frames
MARGIN = 40  # pixels round a part that moves
LABEL = (100, 60, 133, 47)  # x, y, width, height in the part's picture: the printed label
ROI = (60, 76, 280, 248)  # in the picture of a part that moves: the part; it would leave it unaligned
ROWS, COLUMNS, TRAY = 4, 6, (1536, 2048)
COUNTS = {"tile": (32, 16), "mask": (80, 30), "align": (80, 30)}  # learnt from; good and bad ones to judge
LARGER = ((960, 1280), (1536, 2048))  # (height, width)
console = Console(stderr=True)

Picture = Callable[[int, str | None], Pixels]  # number of the part, its defect


def tray(index: int, defect: str | None) -> Pixels:
    """24 parts; the defect is on one of them."""
    chance = np.random.default_rng((SEED, index, 5))
    bad = int(chance.integers(ROWS * COLUMNS))
    parts = [
        render_part(SEED, index * ROWS * COLUMNS + k, defect if k == bad else None)
        for k in range(ROWS * COLUMNS)
    ]
    rows = [np.hstack(parts[r * COLUMNS : (r + 1) * COLUMNS]) for r in range(ROWS)]
    below, right = TRAY[0] - ROWS * SIDE, TRAY[1] - COLUMNS * SIDE
    return cv2.copyMakeBorder(np.vstack(rows), 0, below, 0, right, cv2.BORDER_REFLECT_101)


def before_clutter(index: int, defect: str | None) -> Pixels:
    """A part, and round its plate whatever happens to lie there."""
    chance = np.random.default_rng((SEED, index, 6))
    picture = np.full((SIDE, SIDE, 3), chance.integers(0, 256, 3), np.uint8)
    for _ in range(60):
        corner, size = chance.integers(0, SIDE, 2), chance.integers(5, 70, 2)
        colour = tuple(int(c) for c in chance.integers(0, 256, 3))
        if chance.random() < 0.5:
            cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), colour, -1)
        else:
            cv2.circle(picture, corner.tolist(), int(size[0]) // 2, colour, -1, cv2.LINE_AA)
    return np.where(plate_mask()[..., None] > 0, render_part(SEED, index, defect), picture)


def plate_mask() -> Pixels:
    """(SIDE, SIDE): the plate with room for its play, corners rounded; a free shape."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.rectangle(mask, (30, 46), (290, 274), 255, -1)
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17)))


def loose(index: int, defect: str | None) -> Pixels:
    """A part that was put down carelessly; part 0 lies straight, since the patch is taken there."""
    chance = np.random.default_rng((SEED, index, 7))
    wide = cv2.copyMakeBorder(render_part(SEED, index, defect), *[MARGIN] * 4, cv2.BORDER_REFLECT_101)
    side = len(wide)
    degrees, move = float(chance.uniform(-5, 5)), chance.uniform(-0.05, 0.05, 2) * side
    pose = cv2.getRotationMatrix2D((side / 2, side / 2), degrees if index else 0.0, 1.0)
    pose[:, 2] += move if index else 0
    return cv2.warpAffine(wide, pose, (side, side), borderMode=cv2.BORDER_REFLECT_101)


TASKS: dict[str, Picture] = {"tile": tray, "mask": before_clutter, "align": loose}


def variants_of(task: str, work: Path) -> dict[str, ViewOptions]:
    """Without the option, and with it as a user would give it for this set."""
    if task == "tile":
        return {"plain": ViewOptions(), "tile": ViewOptions(tile=True)}
    if task == "mask":
        path = work / "mask.png"
        cv2.imwrite(str(path), plate_mask())
        return {"plain": ViewOptions(), "mask": ViewOptions(mask=path)}
    x, y, width, height = LABEL
    box = (x + MARGIN, y + MARGIN, width, height)
    return {
        "plain": ViewOptions(), "align_roi": ViewOptions(ROI, align=box)
    }  # fmt: skip


def write_set(root: Path, picture: Picture, learnt: int, judged: int) -> None:
    """MVTec layout; parts are numbered through, so that no test part was learnt."""
    folders = {"train/good": (0, learnt), "test/good": (1000, judged), "test/bad": (2000, judged)}
    for folder, (first, count) in folders.items():
        bad = folder.endswith("bad")
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = picture(first + i, DEFECTS[i % len(DEFECTS)] if bad else None)
            cv2.imwrite(str(root / folder / f"{i:03}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def train_and_judge(data: Path, folder: Path, options: ViewOptions, steps: int) -> dict[str, Any]:
    """Train, build, evaluate; figures."""
    with ProgressBars(console) as bars:
        learn(data, folder, bars, DetectorConfig(), TrainConfig(steps=steps, seed=SEED), options=options)
    list(build_engines(folder, FALSE_REJECT_RATE, int8=False, listener=Listener()))
    engine, recipe, _ = load_pair(folder)
    result = evaluate(open_backend(engine, recipe), recipe, open_dataset(data))
    return {
        "image_auroc": round(result.image_auroc, 5),
        "interval": [round(end, 4) for end in result.image_auroc_interval],
        "false_rejects": result.false_reject_rate, "detected": result.detection_rate("bad"),
        "recipe_bytes": recipe_path(engine).stat().st_size,
    }  # fmt: skip


def times_of(folders: dict[str, Path], pictures: list[Pixels], frames: int) -> dict[str, list[float]]:
    """Seconds from picture to score through each model, in turn on every frame."""
    seconds: dict[str, list[float]] = {name: [] for name in folders}
    opened = {name: _open(folder) for name, folder in folders.items()}
    for i, pixels in enumerate(islice(cycle(pictures), frames + WARM_UP)):
        for name in sorted(opened, key=lambda name: (list(opened).index(name) + i) % len(opened)):
            view, backend = opened[name]
            begun = time.perf_counter()
            backend.infer(view.see(pixels))
            seconds[name].append(time.perf_counter() - begun)
    return {name: values[WARM_UP:] for name, values in seconds.items()}


def _open(folder: Path) -> tuple[View, Backend]:
    engine, recipe, _ = load_pair(folder)
    return view_of(recipe), open_backend(engine, recipe)


def compared(option: list[float], plain: list[float]) -> dict[str, Any]:
    """Quantiles with and without the option, and their ratios."""
    with_it, without = quantiles_ms(option), quantiles_ms(plain)
    ratios = {f"ratio_{q}": round(with_it[q] / without[q], 3) for q in ("median", "p99")}
    return {"plain_ms": without, "option_ms": with_it, **ratios}


def view_alone(first: Pixels, options: ViewOptions, frames: int, work: Path) -> Iterator[tuple[str, Any]]:
    """What the view alone takes on larger pictures of the same part."""
    size = DetectorConfig.input_size
    for height, width in LARGER:
        factor = height / first.shape[0]
        path = work / "large.png"
        large = cv2.resize(first, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        large = cv2.copyMakeBorder(large, 0, 0, 0, width - large.shape[1], cv2.BORDER_REFLECT_101)
        cv2.imwrite(str(path), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        mask = options.mask
        if mask is not None:
            mask = work / "large_mask.png"
            cv2.imwrite(str(mask), cv2.resize(read_image(work / "mask.png"), (width, height)))
        box = options.align and tuple(round(v * factor) for v in options.align)
        region = options.roi and tuple(round(v * factor) for v in options.roi)
        chosen = ViewOptions(region, mask, box)  # type: ignore[arg-type]
        view = make_view(path, size, chosen)
        seconds: dict[str, list[float]] = {"plain": [], "option": []}
        for _ in range(frames):
            for name, seen in (("plain", View(size)), ("option", view)):
                begun = time.perf_counter()
                seen.see(large)
                seconds[name].append(time.perf_counter() - begun)
        yield f"{width}x{height}", compared(seconds["option"], seconds["plain"])


def run_task(task: str, work: Path, steps: int, frames: int) -> dict[str, Any]:
    """Everything about one option."""
    data, wanted = work / task / "pictures", variants_of(task, work)
    write_set(data, TASKS[task], *COUNTS[task])
    folders = {name: work / task / name for name in wanted}
    gain = {name: train_and_judge(data, folders[name], wanted[name], steps) for name in wanted}
    tests = [read_image(path) for path in sorted((data / "test" / "good").iterdir())]
    seconds = times_of(folders, tests, frames)
    cost = {name: compared(seconds[name], seconds["plain"]) for name in wanted if name != "plain"}
    result = {"steps": steps, "frames": frames, "pictures": f"{tests[0].shape[1]}x{tests[0].shape[0]}",
              "gain": gain, "cost": cost}  # fmt: skip
    if task == "tile":
        tiling = _open(folders["tile"])[0].tiling
        assert tiling is not None
        return result | {"canvas": [*tiling.canvas], "tiles": len(tiling.corners)}
    first = read_image(data / "train" / "good" / "000.png")
    options = list(wanted.values())[-1]
    return result | {"view_alone": dict(view_alone(first, options, frames, work))}


def rows_of(result: dict[str, Any]) -> Iterator[list[str]]:
    """For the table: each variant against the plain one."""
    for name, r in result["cost"].items():
        aurocs = [f"{result['gain'][n]['image_auroc']:.3f}" for n in ("plain", name)]
        times = [f"{r[k]['median']:.1f} / {r[k]['p99']:.1f}" for k in ("plain_ms", "option_ms")]
        yield [name, *aurocs, *times, f"{r['ratio_median']:.2f} / {r['ratio_p99']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for sets, models and figures")
    parser.add_argument("--only", default=",".join(TASKS), help="names with commas; default: all")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--frames", type=int, default=200)
    add_save(parser, table=False)
    arguments = parser.parse_args()
    table = Table("option", "AUROC without", "with", "ms without, median / p99", "with", "ratio")
    jobs, results = Jobs(arguments.work), {}
    for task in arguments.only.split(","):
        rests_on = {"steps": arguments.steps, "frames": arguments.frames, "code": code_digest(*CODE)}
        work = partial(run_task, task, arguments.work, arguments.steps, arguments.frames)
        results[task] = jobs.once(f"results/{task}", rests_on, work) or {}
        for row in rows_of(results[task]):
            table.add_row(*row)
    if (target := target_of(arguments)) is not None:
        figures = {"seed": SEED, "input_size": [*DetectorConfig.input_size], "options": results}
        save_result("views", figures, target)
    console.print(table)


if __name__ == "__main__":
    main()
