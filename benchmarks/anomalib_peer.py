"""What do anomalib's own detectors reach on the same sets, with the weights the user has?

    PEER/bin/python benchmarks/anomalib_peer.py DATA --out peer.json [--sets a,b] [--models padim,patchcore]
    python benchmarks/quality.py DATA --work DIR --peer-json peer.json

Run in an environment of its own (pip install anomalib==2.7.0 torch==2.14.1 torchvision==0.29.1): nothing of
ours imports anomalib, and this file imports nothing of ours. For sets in MVTec AD's or LOCO AD's folders.
Settings are anomalib's defaults at 256 x 256 pixels, scores those of its own models. Backbones come through
timm, EfficientAD's teacher from anomalib's own download; it also trains with ImageNet pictures (--imagenet).

With --random-weights everything runs without a download: speed and plumbing only, not a quality figure, and
the rows say so.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import Folder
from anomalib.data.utils.split import ValSplitMode
from anomalib.engine import Engine
from anomalib.models import EfficientAd, Padim, Patchcore, ReverseDistillation
from torchvision.io import ImageReadMode, decode_image
from torchvision.utils import save_image

SIZE = (256, 256)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
UNTRUE = "random weights: speed and plumbing only, not a quality figure"
EPOCHS = {"reverse": 200}  # as published; the others: one pass, or EfficientAD's steps
EFFICIENTAD_STEPS = 70_000  # as published

Scored = dict[str, np.ndarray]  # type of test picture -> scores (n,)


class UntaughtEfficientAd(EfficientAd):
    """With a teacher that nobody taught, for trying."""

    def prepare_pretrained_model(self) -> None:
        """Nothing is downloaded."""


def _backbone(kind: Any) -> Callable[[argparse.Namespace], Any]:
    return lambda a: kind(pre_trained=not a.random_weights, pre_processor=kind.configure_pre_processor(SIZE))


def _efficientad(size: str) -> Callable[[argparse.Namespace], Any]:
    def make(a: argparse.Namespace) -> Any:
        kind = UntaughtEfficientAd if a.random_weights else EfficientAd
        return kind(a.imagenet, model_size=size, pre_processor=kind.configure_pre_processor(SIZE))

    return make


MODELS = {
    "patchcore": _backbone(Patchcore), "padim": _backbone(Padim), "reverse": _backbone(ReverseDistillation),
    "efficientad-s": _efficientad("small"), "efficientad-m": _efficientad("medium"),
}  # fmt: skip


def train(name: str, data: Path, arguments: argparse.Namespace, scratch: Path) -> Any:
    """One detector, fitted on train/good; a share of it is set apart where anomalib wants validation."""
    torch.manual_seed(arguments.seed)
    efficient = name.startswith("efficientad")
    pictures = Folder(
        data.name, root=data, normal_dir="train/good", val_split_mode=ValSplitMode.FROM_TRAIN,
        val_split_ratio=1 / 7, train_batch_size=1 if efficient else 8, num_workers=0, seed=arguments.seed,
    )  # fmt: skip
    length: dict[str, Any] = {"max_epochs": EPOCHS.get(name, 1)}
    if arguments.steps or efficient:
        length = {"max_steps": arguments.steps or EFFICIENTAD_STEPS, "max_epochs": -1 if efficient else None}
    if name in ("patchcore", "padim"):
        length = {}
    model = MODELS[name](arguments)
    engine = Engine(
        logger=False, default_root_dir=scratch, accelerator=arguments.device, devices=1, barebones=False,
        enable_progress_bar=False, **length,
    )  # fmt: skip
    engine.fit(model, datamodule=pictures)
    return model.eval()


@torch.inference_mode()
def score_all(model: Any, data: Path) -> tuple[Scored, list[float]]:
    """Scores of all test pictures by type, and the seconds of each, decoded picture to score."""
    device, seconds = next(model.parameters()).device, []
    scores: dict[str, list[float]] = {}
    for path in sorted(p for p in (data / "test").glob("*/*") if p.suffix.lower() in SUFFIXES):
        image = decode_image(path, ImageReadMode.RGB).float().div(255).unsqueeze(0).to(device)
        begun = time.perf_counter()
        score = float(model.model(model.pre_processor(image)).pred_score)
        seconds.append(time.perf_counter() - begun)
        scores.setdefault(path.parent.name, []).append(score)
    # A score that is no number is a part that would not pass, as in our own evaluation.
    return {kind: np.nan_to_num(values, nan=np.inf) for kind, values in scores.items()}, seconds


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    """Chance that a bad part scores above a good one; a tie counts half."""
    return float((bad[:, None] > good).mean() + (bad[:, None] == good).mean() / 2)


def row_of(name: str, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row with the heads of benchmarks/quality_table.py, and the figures by type."""
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.monotonic()
        model = train(name, data, arguments, Path(scratch))
        minutes = (time.monotonic() - begun) / 60
    scores, seconds = score_all(model, data)
    good = scores.pop("good")
    kinds = {kind: auroc(good, bad) for kind, bad in scores.items()}
    groups = list(kinds.values()) if "logical_anomalies" in kinds else [
        auroc(good, np.concatenate(list(scores.values())))
    ]  # fmt: skip
    limit = np.sort(good)[::-1][int(0.01 * good.size)]
    median, largest = np.quantile(seconds[3:], [0.5, 1.0]) * 1e3
    return {
        "set": data.name,
        "detector": f"anomalib {name}" + (f" ({UNTRUE})" if arguments.random_weights else ""),
        "image AUROC": f"{np.mean(groups):.3f}",
        "recall at 1 %": f"{np.mean(np.concatenate(list(scores.values())) > limit):.3f}",
        "minutes": f"{minutes:.1f}",
        "ms, median (largest)": f"{median:.1f} ({largest:.1f}) torch",
        "per_type": kinds,
    }


def random_imagenet(folder: Path) -> Path:
    """A few pictures of noise where EfficientAD wants ImageNet."""
    (folder / "noise").mkdir(parents=True)
    for i in range(4):
        save_image(torch.rand(3, 256, 256), folder / "noise" / f"{i}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--out", type=Path, required=True, help="JSON for quality.py --peer-json")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas; default: all")
    parser.add_argument("--imagenet", type=Path, default=Path("imagenette"), help="pictures for EfficientAD")
    parser.add_argument("--steps", type=int, default=0, help="for trying: training steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, gpu or auto")
    parser.add_argument("--random-weights", action="store_true", help=UNTRUE)
    arguments = parser.parse_args()
    root = arguments.data
    names = arguments.sets.split(",") if arguments.sets else sorted(p.name for p in root.iterdir())
    sets = [root / name for name in names if (root / name / "train" / "good").is_dir()]
    if unknown := set(arguments.models.split(",")) - set(MODELS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(MODELS)}.")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as noise:
        if arguments.random_weights:
            arguments.imagenet = random_imagenet(Path(noise) / "imagenet")
        for data in sets:
            for name in arguments.models.split(","):
                rows.append(row_of(name, data, arguments))
                print({head: value for head, value in rows[-1].items() if head != "per_type"}, flush=True)
                note = UNTRUE if arguments.random_weights else ""
                arguments.out.write_text(json.dumps({"note": note, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
