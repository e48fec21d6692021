"""The model folder: what training leaves behind and build-engines starts from.

loco/model.pt            weights, configuration, what it was trained on (torch; loads without running code)
loco/calibration.npz     the held-out good pictures, uint8 (N, h, w, 3) as the view
                         shows them (with tiles: whole): limits and INT8 ranges come from them;
                         sha256 of every picture learnt from, uint8 (M, 32): they must set no limits
"""

import io
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.learnt import CALIBRATION_FILE
from distillation.detector import Detector, DetectorConfig
from distillation.weights import new_teacher
from edge.atomic import sweep, write_atomically, write_pair
from edge.errors import InspectError, RecipeError
from edge.frame import Pixels
from edge.picture.preprocess import Roi

MODEL_FILE, CHECKPOINT_FILE = "model.pt", "checkpoint.pt"  # the second only while it trains


@dataclass(frozen=True)
class About:
    """What a model was made of."""

    name: str
    trained_on: int
    held_out: int
    digest: str  # sha256 of the training set
    roi: Roi | None = None
    normalisation: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)  # `View.to_json`
    picture: tuple[int, int] | None = None  # (height, width) of all pictures; None where they differ
    health: dict[str, Any] = field(default_factory=dict)  # `HealthLimits.to_json`


def save_model(
    folder: Path, detector: Detector, about: About, held_out: Pixels, learnt: Sequence[str] = ()
) -> None:
    """Write both files, or neither; the model last, so that a folder with a model is whole.

    `learnt` are the hex sha256 of the pictures' files that were learnt from. Raises OSError naming the file
    that could not be written.
    """
    for name in (MODEL_FILE, CALIBRATION_FILE):
        sweep(folder, name)
    packed = io.BytesIO()
    digests = np.frombuffer(bytes.fromhex("".join(learnt)), np.uint8).reshape(-1, 32)
    np.savez_compressed(packed, images=held_out, training_set=np.array(about.digest), learnt=digests)
    content = {"config": asdict(detector.config), "about": asdict(about), "state": detector.state_dict()}
    write_pair(folder / MODEL_FILE, _saved(content), folder / CALIBRATION_FILE, packed.getvalue())


def save_whole(content: dict[str, Any], path: Path) -> None:
    """Write what `torch.load` reads, whole or not at all. Raises OSError naming `path`."""
    write_atomically(path, _saved(content))


def _saved(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)  # into a file torch makes a RuntimeError of a full disk
    return buffer.getvalue()


def load_model(folder: Path) -> tuple[Detector, About, Pixels]:
    """Detector ready to run, what it was made of, its held-out good pictures. Raises InspectError."""
    try:
        content = torch.load(folder / MODEL_FILE, map_location="cpu", weights_only=True)
        with (folder / CALIBRATION_FILE).open("rb") as raw, np.load(raw) as file:
            images, of = file["images"], str(file.get("training_set", ""))
        config = DetectorConfig(**content["config"])
        detector = Detector(new_teacher(config.teacher), config)
        detector.load_state_dict(content["state"])
        about = About(**content["about"])
    except FileNotFoundError as error:
        begun = (folder / CHECKPOINT_FILE).exists()
        what = "its training still runs or was interrupted" if begun else "there is no trained model here"
        todo = "To go on where it stopped" if begun else "Train first"
        hint = f"{todo}: {_training(folder)}"
        raise InspectError(what, str(folder), hint) from error
    except Exception as error:  # torch raises many types for a file that is not what it should be
        hint = "Train it again with this version."
        raise InspectError(f"the model cannot be read: {error}", str(folder), hint) from error
    if of and of != about.digest:  # files made by hand do not say whose they are
        what = f"{CALIBRATION_FILE} is of another training: {MODEL_FILE} may have learnt its pictures"
        hint = f"Limits from them would be too tight. Train again: {_training(folder)}"
        raise RecipeError(what, str(folder), hint)
    return detector.eval().requires_grad_(False), about, images


def _training(folder: Path) -> str:
    """The command that makes it."""
    return shlex.join(["edge-inspect", "train", "PICTURES", "--out", str(folder)])
