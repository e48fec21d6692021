"""`edge-inspect check-data`: look at every good picture, then at what the teacher sees in it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from calibration.check import Finding, distinct_looks, judge, outliers, tested, unreadable
from calibration.check_report import Checked, write_check_report
from calibration.dataset import MIN_GOOD_IMAGES, content_digest, load_images, open_dataset
from calibration.look import Look, look_at
from calibration.unusual import unusualness
from calibration.views import ViewOptions, make_view
from distillation.detector import Detector, DetectorConfig
from distillation.fit import BATCH
from distillation.weights import load_teacher
from distillation.wholes import pooled
from edge.errors import DataError
from edge.paths import check_file
from edge.picture.view import View
from edge.picture.view_show import mask_share

NAMED = 5  # files of one finding named in the terminal; all of them are in the report and in the JSON

Done = Callable[[], None]  # one picture more


def check_data(
    pictures: Path, out: Path | None, options: ViewOptions, as_json: bool, console: Console
) -> int:
    """Check the good pictures of a set, print what was found; 1 when something was, else 0.

    Raises DataError where there are no pictures at all, or `out` cannot be written.
    """
    if out is not None:
        check_file(out, "--out")
    dataset = open_dataset(pictures, 1, options.mask)
    paths = [*dataset.train, *dataset.validation]
    tests = {content_digest(image.path): image.path for image in dataset.test}
    view = _view(min(paths), options)
    if share := mask_share(view):
        console.print(f"mask: {share}", highlight=False)
    checked = check(dataset.name, paths, view, console, tests)
    if out is not None:
        write_check_report(checked, out)
    if as_json:
        print(json.dumps(checked.fields(), indent=2, ensure_ascii=False))
    else:
        _show(checked, pictures, console)
    if out is not None:
        console.print(f"pictures: {out}", highlight=False, soft_wrap=True)
    return 1 if checked.findings else 0


def _view(first: Path, options: ViewOptions) -> View:
    """The first picture is read only where it must be: it may be one of the broken ones."""
    size = DetectorConfig().input_size
    return make_view(first, size, options) if options.mask or options.align else View(size, options.roi)


def check(
    name: str, paths: Sequence[Path], view: View, console: Console, tests: Mapping[str, Path]
) -> Checked:
    """All findings about these files, looked at through the view; `tests` as for `tested`."""
    with _bar(console, "looking at pictures", len(paths)) as done:
        looks, errors = _look(paths, view, done)
    if (view.roi or view.mask is not None) and not looks:  # a wrong region, not sixty wrong pictures
        raise next(iter(errors.values()))
    findings = [*unreadable(errors), *judge(looks), *tested(looks, tests)]
    shown = [look.path for look in distinct_looks(looks)]
    if len(shown) < MIN_GOOD_IMAGES:  # too few to tell what is usual
        return Checked(name, len(paths), findings, [])
    with _bar(console, "teacher features", len(shown)) as done:
        features = pooled_features(shown, view, done)
    with console.status("comparing each with all others"):  # seconds for thousands of pictures
        steps = unusualness(features)
    order = np.argsort(-steps)
    unusual = [(shown[i], float(steps[i])) for i in order]
    return Checked(name, len(paths), [*findings, *outliers(shown, steps)], unusual)


@torch.inference_mode()
def pooled_features(paths: Sequence[Path], view: View, done: Done) -> npt.NDArray[np.float64]:
    """What the default teacher sees in whole pictures: (N, 2 * sum of channels), raw. Raises DataError."""
    config = DetectorConfig()
    detector = Detector(load_teacher(config.teacher), config)  # its students are not asked
    rows = []
    for start in range(0, len(paths), BATCH):
        pixels = load_images(paths[start : start + BATCH], view)
        rows.append(pooled(detector.teacher(torch.from_numpy(pixels))).double().numpy())
        for _ in pixels:
            done()
    return np.concatenate(rows)


def _look(paths: Sequence[Path], view: View, done: Done) -> tuple[list[Look], dict[Path, DataError]]:
    looks, errors = [], {}
    for path in paths:
        try:
            looks.append(look_at(path, view))
        except DataError as error:
            errors[path] = error
        done()
    return looks, errors


@contextmanager
def _bar(console: Console, name: str, total: int) -> Iterator[Done]:
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(name, total=total)
        yield lambda: bars.advance(task)


def _show(checked: Checked, root: Path, console: Console) -> None:
    for finding in checked.findings:
        console.print(f"[bold yellow]{finding.kind}[/] {escape(finding.what)}. {escape(finding.next_step)}",
                      highlight=False, soft_wrap=True)  # fmt: skip
        for line in _lines(finding, root):
            console.print(f"    {escape(line)}", highlight=False, soft_wrap=True)
    if not checked.findings:
        console.print(f"[green]fine[/] {checked.pictures} pictures, nothing found", highlight=False)


def _lines(finding: Finding, root: Path) -> list[str]:
    lines = [" = ".join(_name(path, root) for path in group) for group in finding.groups[:NAMED]]
    more = len(finding.groups) - NAMED
    return [*lines, f"and {more} more"] if more > 0 else lines


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
