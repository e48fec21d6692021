"""Training end to end on few small pictures: it learns, resumes after a kill, refuses what is unusable."""

import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mounts import mounted
from rich.console import Console
from typer.testing import CliRunner

from calibration.views import ViewOptions
from distillation.detector import Detector, DetectorConfig
from distillation.features import FeatureCache
from distillation.learn import learn, set_channel_statistics
from distillation.model import CALIBRATION_FILE, MODEL_FILE, About, load_model, save_model
from distillation.progress import ProgressBars
from distillation.train import Step, TrainConfig, Trainer
from distillation.weights import load_teacher, new_teacher
from edge.cameras.parts import render_part
from edge.cli import app
from edge.errors import DataError, InspectError, RecipeError
from edge.recipe import sha256_of

SIZE = (64, 64)
SMALL = DetectorConfig(input_size=SIZE, width=64, context=32)


class Quiet:
    """A watcher that only remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[Step] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def download(self, done: int, total: int) -> None: ...

    def features(self, done: int, total: int) -> None: ...

    def step(self, step: Step) -> None:
        self.steps.append(step)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for i in range(16):
        cv2.imwrite(str(folder / f"part-{i:06d}.png"), render_part(3, i))
    return folder


def small_trainer(parts: Path, folder: Path, config: TrainConfig) -> Trainer:
    images = np.stack([cv2.resize(cv2.imread(str(p)), SIZE) for p in sorted(parts.glob("*.png"))])
    torch.manual_seed(config.seed)
    detector = Detector(load_teacher("efficientnet-lite0"), SMALL)
    cache = FeatureCache(folder / "cache", detector.teacher, images, "cpu", lambda done, total: None)
    set_channel_statistics(detector, cache, range(12))
    return Trainer(detector, cache, range(12), range(12, 16), config, folder / "checkpoint.pt")


def test_the_held_out_loss_falls_and_the_model_is_loaded_as_saved(parts: Path, tmp_path: Path) -> None:
    watcher = Quiet()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "checkpoint.pt").write_bytes(b"of nobody knows what")
    result = learn(parts, tmp_path / "m", watcher, SMALL, TrainConfig(steps=60, seed=1))
    _, warning, anew = watcher.said
    assert anew.startswith("begun anew: the interrupted run here had other pictures or settings")
    assert warning.startswith("warning: only 16 different pictures to learn from. Add other good parts: 50")
    assert warning.endswith(f"See: edge-inspect check-data {parts}")
    losses = [step.held_out_loss for step in watcher.steps if step.held_out_loss == step.held_out_loss]
    assert losses[-1] < 0.8 * losses[0]
    assert result.trained_on + result.held_out == 16
    detector, about, held_out = load_model(tmp_path / "m")
    assert held_out.shape == (result.held_out, *SIZE, 3)
    assert about.normalisation["words_weight"] > 0
    anomaly_map, score = detector(torch.from_numpy(held_out))
    assert anomaly_map.shape == held_out.shape[:3]
    assert score.mean() == pytest.approx(1.0, rel=0.5)  # 1.0 is a typical good part
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["calibration.npz", "model.pt"]
    with np.load(tmp_path / "m" / "calibration.npz") as file:
        learnt = {bytes(row).hex() for row in file["learnt"]}
    assert len(learnt) == result.trained_on and learnt < {sha256_of(path) for path in parts.iterdir()}


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(parts: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=16, evaluations=4, batch=4)
    whole = small_trainer(parts, tmp_path / "whole", config)
    whole.run(lambda step: None)

    class Interrupted(Exception): ...

    def stop_at_ten(step: Step) -> None:
        if step.number == 10:
            raise Interrupted

    first = small_trainer(parts, tmp_path / "parts", config)
    with pytest.raises(Interrupted):
        first.run(stop_at_ten, save_every_s=0.0)
    second = small_trainer(parts, tmp_path / "parts", config)
    assert second.resume()
    assert second.state.step == 10
    second.run(lambda step: None)
    for name, tensor in whole.students.state_dict().items():
        assert torch.allclose(tensor, second.students.state_dict()[name], atol=1e-5), name


def test_a_checkpoint_of_other_settings_is_not_taken_up(parts: Path, tmp_path: Path) -> None:
    first = small_trainer(parts, tmp_path, TrainConfig(steps=4, batch=4))
    first.run(lambda step: None, save_every_s=0.0)
    assert not small_trainer(parts, tmp_path, TrainConfig(steps=4, batch=4, seed=5)).resume()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_gets_lines_where_a_terminal_has_bars(terminal: bool) -> None:
    clock, screen = iter(range(0, 1000, 20)), io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    with ProgressBars(console, lambda: next(clock)) as bars:
        for number in range(1, 7):  # 20 seconds apart
            bars.step(Step(number, 6, 0.5, math.nan if number < 3 else 0.25, 8.0))
    shown = screen.getvalue()
    if terminal:
        assert "━" in shown and "step" not in shown
    else:
        held = {2: "-", 4: "0.250", 6: "0.250"}
        lines = [f"students: step {n} of 6  loss 0.500  held out {h}  8 images/s" for n, h in held.items()]
        assert shown.splitlines() == lines


def test_training_ends_early_when_the_held_out_loss_does_not_fall(parts: Path, tmp_path: Path) -> None:
    """Without a learning rate nothing gets better, so the run must not go through all its steps."""
    config = TrainConfig(steps=4000, batch=4, evaluations=2000, patience=3, learning_rate=1e-12)
    trainer = small_trainer(parts, tmp_path, config)
    for module in trainer.students.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # running statistics alone would go on changing the held-out loss
    trainer.run(lambda step: None)
    assert trainer.state.step < 200


def test_a_killed_training_goes_on_where_it_was(parts: Path, tmp_path: Path) -> None:
    """The story: the power goes in the middle of a training. SIGKILL, no warning, no clean-up."""
    command = [
        sys.executable, "-c", "from edge.cli import main; main()", "train", str(parts),
        "--out", str(tmp_path / "m"), "--size", "64", "--steps", "400",
    ]  # fmt: skip
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "m" / "checkpoint.pt"
    until = time.monotonic() + 90
    while not checkpoint.exists():
        assert victim.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < until
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    resumed = re.search(r"resumed at step (\d+) of 400", again.stderr)
    assert resumed is not None and int(resumed.group(1)) > 0
    assert (tmp_path / "m" / "model.pt").exists() and not checkpoint.exists()


@pytest.mark.parametrize(("room", "words"), [("500k", "30 pictures need 1 MiB here"), ("6m", "model.pt")])
def test_a_full_disk_is_said_in_words(parts: Path, tmp_path: Path, room: str, words: str) -> None:
    """The story: the features lay in files with holes; the disk filled up, and training ended with SIGBUS,
    without a word. Later, that the model did not fit was a traceback from inside torch."""
    disk = tmp_path / "disk"
    disk.mkdir()
    train = [
        sys.executable, "-c", "from edge.cli import main; main()", "train", str(parts),
        "--out", str(disk / "m"), "--size", "64", "--steps", "1",
    ]  # fmt: skip
    done = mounted(train, full=[disk], room=room)
    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr and words in done.stderr
    assert str(disk / "m") in done.stderr and "Traceback" not in done.stderr
    assert (".f16" not in done.stdout) == ("MiB" in words)  # what there was no room for is not left there


def of_training(folder: Path, name: str, shade: int) -> None:
    """A model folder as a training of that name leaves it."""
    detector = Detector(new_teacher("efficientnet-lite0"), SMALL)
    save_model(folder, detector, About("m", 1, 1, digest=name), np.full((1, *SIZE, 3), shade, np.uint8))


@pytest.mark.parametrize("name", [MODEL_FILE, CALIBRATION_FILE])
def test_a_training_that_cannot_be_saved_leaves_the_old_model_with_its_own_pictures(
    tmp_path: Path, name: str
) -> None:
    """The story: beside the old model lay the new held-out pictures, which it may have learnt: its limits
    would have come out too tight. What could not be written was not named, and half of it stayed for good."""
    of_training(tmp_path, "old", 10)
    blocked = tmp_path / f"{name}.{os.getpid()}.part"
    blocked.mkdir()
    with pytest.raises(OSError) as caught:
        of_training(tmp_path, "new", 20)
    assert caught.value.filename == str(tmp_path / name)
    blocked.rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [CALIBRATION_FILE, MODEL_FILE]
    _, about, held_out = load_model(tmp_path)
    assert about.digest == "old" and held_out.max() == 10


def test_held_out_pictures_of_another_training_are_refused(tmp_path: Path) -> None:
    of_training(tmp_path, "old", 10)
    pictures = np.zeros((1, *SIZE, 3), np.uint8)
    np.savez(tmp_path / CALIBRATION_FILE, images=pictures, training_set=np.array("new"))
    with pytest.raises(RecipeError, match=r"of another training.*Train again: edge-inspect train"):
        load_model(tmp_path)
    np.savez(tmp_path / CALIBRATION_FILE, images=pictures)  # made by hand, or by an earlier version
    assert load_model(tmp_path)[2].max() == 0


def test_a_key_that_cannot_be_written_leaves_no_features(parts: Path, tmp_path: Path) -> None:
    """The story: the disk was full behind the last map; they stayed there and kept it full."""
    (tmp_path / "cache" / f"key.json.{os.getpid()}.part").mkdir(parents=True)
    with pytest.raises(DataError, match=r"features of 16 pictures need .* MiB here"):
        small_trainer(parts, tmp_path, TrainConfig(steps=1))
    assert not any(path.is_file() for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("left", [b"", b'{"teacher": "effi', b"\xff\x00"])
def test_a_half_written_key_is_as_good_as_none(parts: Path, tmp_path: Path, left: bytes) -> None:
    """The story: the power went while key.json was written; every later training was a traceback."""
    config = TrainConfig(steps=1)
    whole = small_trainer(parts, tmp_path, config).cache[[0, 15]]
    key = tmp_path / "cache" / "key.json"
    full = key.read_bytes()
    key.write_bytes(left)
    (tmp_path / "cache" / "map0.f16").write_bytes(b"")  # nor did its maps reach the disk
    again = small_trainer(parts, tmp_path, config).cache[[0, 15]]
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert key.read_bytes() == full


@pytest.mark.parametrize("count, message", [(0, "no pictures"), (1, "only 1 picture of good parts")])
def test_too_few_pictures_are_refused(parts: Path, tmp_path: Path, count: int, message: str) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(parts.glob("*.png"))[:count]:
        (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=message if count else "(?i)no .*pictures"):
        learn(folder, tmp_path / "m", Quiet(), SMALL, TrainConfig(steps=1))
    assert not (tmp_path / "m").exists()


def test_the_mask_among_the_pictures_is_not_learnt(parts: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parts, tmp_path / "parts")
    mask = folder / "mask.png"
    painted = np.full(render_part(3, 0).shape[:2], 255, np.uint8)
    painted[:8] = 0
    cv2.imwrite(str(mask), painted)
    options = ViewOptions(mask=mask)
    result = learn(folder, tmp_path / "m", Quiet(), SMALL, TrainConfig(steps=1), options=options)
    assert result.trained_on + result.held_out == 16


def test_a_broken_picture_is_named_on_the_command_line_without_a_traceback(
    parts: Path, tmp_path: Path
) -> None:
    for path in parts.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "m")])
    assert result.exit_code == 2
    assert "broken.png" in result.output and "Traceback" not in result.output


@pytest.mark.parametrize(
    "words", [("--measure", "foo"), ("--local-student", "foo"), ("--teacher", "vgg"), ("--context-grid", 64)]
)
def test_settings_that_nobody_knows_are_refused_in_words(
    parts: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(app, ["train", str(parts), "--out", str(tmp_path / "m"), *map(str, words)])
    assert result.exit_code == 2
    assert words[0] in result.output and "Traceback" not in result.output


def test_a_folder_that_cannot_be_written_is_said_in_words(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = CliRunner().invoke(app, ["train", str(parts), "--out", str(tmp_path / "file" / "m")])
    assert result.exit_code == 2
    assert "check its rights" in result.output and "Traceback" not in result.output


def test_an_input_size_that_does_not_fit_the_network_is_refused(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="multiples of 32"):
        learn(parts, tmp_path / "m", Quiet(), DetectorConfig(input_size=(250, 256)), TrainConfig(steps=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"local_student": "reverse"},
        {"measure": "cosine"},
        {"measure": "both", "pooled_distance": False},
        {"bottleneck": "attention", "word_distance": False},
        {"bottleneck": "none", "branches": ("local", "global")},
        {"normalisation": "quantile", "fusion": "sum"},
        {"normalisation": "deviation", "fusion": "reliability"},
    ],
)
def test_the_alternatives_train_too(parts: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = DetectorConfig(input_size=SIZE, width=64, context=32, **changes)  # type: ignore[arg-type]
    learn(parts, tmp_path / "m", Quiet(), config, TrainConfig(steps=2))
    detector, _, held_out = load_model(tmp_path / "m")
    assert torch.isfinite(detector(torch.from_numpy(held_out))[0]).all()
