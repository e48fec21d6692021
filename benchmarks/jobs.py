"""Long work in steps that are done once: each result is one JSON file that says what it rests on.

A run that was killed goes on where it stopped; what rests on other code, data or settings is done anew.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.dataset import Dataset, dataset_digest
from edge.atomic import write_atomically
from edge.errors import InspectError

Facts = Mapping[str, Any]  # what JSON can hold

ROOT = Path(__file__).parents[1]
# What a trained model rests on: not what shows progress, not how the parts of the score are weighed. And what
# its figures rest on besides.
_TRAINS = ("affinity", "augment", "detector", "features", "fit", "learn", "mapfusion", "resnet", "students",
           "teacher", "train", "weights", "wholes")  # fmt: skip
TRAINING_CODE = (*(f"distillation/{name}.py" for name in _TRAINS),
                 "calibration/normalisation.py", "calibration/dataset.py", "calibration/selfmade.py",
                 "calibration/layouts.py", "calibration/views.py",
                 "edge/picture/preprocess.py", "edge/picture/images.py", "edge/picture/view.py")  # fmt: skip
SCORE_CODE = ("distillation/score.py",)  # of ours alone: a known method has a score of its own
JUDGING_CODE = ("build_engines/build.py", "build_engines/export.py",
                "build_engines/seal.py", "calibration/evaluate.py", "calibration/figures.py",
                "calibration/localisation.py", "calibration/*metrics.py", "calibration/thresholds.py",
                "benchmarks/judging.py", "edge/backends/ort.py")  # fmt: skip


@dataclass(frozen=True)
class Jobs:
    """The results under `folder`; with `done_only` nothing is run: for a table of what is there."""

    folder: Path
    done_only: bool = False

    def once(self, name: str, rests_on: Facts, work: Callable[[], Facts]) -> dict[str, Any] | None:
        """The result of `work()`, kept in `folder/NAME.json`; None where `work` may not run."""
        path = self.folder / f"{name}.json"
        identity = json.loads(json.dumps(rests_on))
        if (kept := _read(path)) is not None and kept.get("rests_on") == identity:
            return dict(kept["result"])
        if self.done_only:
            return None
        result = dict(work())
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"rests_on": identity, "result": result}
        write_atomically(path, json.dumps(content, indent=1, allow_nan=False).encode())
        return result


def digest_of(facts: Facts) -> str:
    """Twelve hex digits that change with any of the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def code_digest(*patterns: str) -> str:
    """Twelve hex digits over names and contents of these files of the repository."""
    files = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:12]


def data_digest(dataset: Dataset) -> str:
    """Twelve hex digits over all pictures and masks of a set."""
    tests = [path for image in dataset.test for path in (image.path, *image.masks)]
    return dataset_digest([*dataset.train, *dataset.validation, *tests])[:12]


def linked_set(folder: Path, parts: Mapping[str, Sequence[Path]]) -> Path:
    """A data set of links: {"train/good": pictures, "test/crack": pictures}. Returns `folder`.

    Links are numbered in the given order, since two pictures may have one name.
    """
    for part, pictures in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            link = folder / part / f"{number:05}{picture.suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(picture.resolve())
    return folder


@contextmanager
def errors_in_words() -> Iterator[None]:
    """What is wrong, where, what to do next; tracebacks are for programmers' mistakes."""
    try:
        yield
    except InspectError as error:
        raise SystemExit(str(error)) from None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and "result" in kept else None
