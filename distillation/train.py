"""Training the two students: one loop over cached teacher features, resumable after a kill."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distillation.affinity import affinity_error, hard_mean
from distillation.detector import Detector
from distillation.features import FeatureCache
from distillation.model import save_whole
from edge.errors import InspectError

Progress = Callable[["Step"], None]
SAVE_EVERY_S = 5.0  # a killed run loses no more than this; saving takes 0.1 s


@dataclass(frozen=True)
class TrainConfig:
    """The fixed configuration for all products; every number is our reading (docs/method.md)."""

    steps: int = 1600
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    hard_share: float = 0.02  # of all places of a batch
    hard_weight: float = 0.2
    affinity_weight: float = 1.0
    variants: int = 1  # light variations of each picture, see distillation/augment.py
    flips: bool = False
    seed: int = 0
    evaluations: int = 20  # looks at the held-out loss during a run
    patience: int = 6  # looks without a better held-out loss before the run ends


@dataclass(frozen=True)
class Step:
    """What the progress bar shows."""

    number: int
    total: int
    loss: float
    held_out_loss: float
    images_per_s: float


@dataclass
class _State:
    """What a checkpoint holds beside weights and optimiser."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    held_out_loss: float = math.nan


def student_loss(detector: Detector, maps: Sequence[Tensor], config: TrainConfig) -> Tensor:
    """Local error + global error + contextual affinity, each summed over its scales: () scalar."""
    return local_loss(detector, maps, config) + global_loss(detector, maps, config)


def local_loss(detector: Detector, maps: Sequence[Tensor], config: TrainConfig) -> Tensor:
    """What the local student learns by: () scalar."""
    return _error_loss(detector, detector.local, maps, _mixed(detector.local, maps), config)


def global_loss(detector: Detector, maps: Sequence[Tensor], config: TrainConfig) -> Tensor:
    """What the global student learns by, the contextual affinity included: () scalar."""
    student, grid = detector.globl, detector.config.context_grid
    found = _mixed(student, maps)
    loss = _error_loss(detector, student, maps, found, config)
    if config.affinity_weight:
        pairs = zip(student.targets, found, strict=True)
        loss = loss + config.affinity_weight * sum(affinity_error(maps[k], y, grid).mean() for k, y in pairs)
    return loss


def _mixed(student: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """A student's maps, computed in mixed precision; float, so that errors keep their digits."""
    device, dtype = maps[0].device.type, mixed_precision(maps[0].device.type)
    with torch.autocast(device, dtype, enabled=dtype is not None):
        found = student(maps)
    return [y.float() for y in found]


def _error_loss(
    detector: Detector,
    student: nn.Module,
    maps: Sequence[Tensor],
    found: Sequence[Tensor],
    config: TrainConfig,
) -> Tensor:
    errors = [detector.error(maps[k], y) for k, y in zip(student.targets, found, strict=True)]
    return sum(hard_mean(e, config.hard_share, config.hard_weight) for e in errors)  # type: ignore[return-value]


def mixed_precision(device: str) -> torch.dtype | None:
    """What the students may be computed in while they learn; None: nothing but float32 is fast there."""
    if device == "cuda":
        return torch.float16
    fast = device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast and torch.cpu.get_capabilities().get("avx512_bf16") else None


Loss = Callable[[Detector, Sequence[Tensor], TrainConfig], Tensor]


class Trainer:
    """Trains the students of one detector; its teacher and channel statistics are already set."""

    def __init__(
        self, detector: Detector, cache: FeatureCache, train: Sequence[int], held_out: Sequence[int],
        config: TrainConfig, checkpoint: Path, device: str = "cpu", loss: Loss = student_loss,
    ):  # fmt: skip
        """`loss` other than the default trains a part of the students; the rest stays as it was drawn."""
        self.detector, self.cache, self.config = detector, cache, config
        self.rows, self.held_out = np.asarray(train), np.asarray(held_out)
        self.checkpoint, self.device, self.loss = checkpoint, device, loss
        self.students = nn.ModuleList([detector.local, detector.globl])
        self.students.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        parameters = self.students.parameters()
        self.optimiser = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, config.learning_rate, total_steps=config.steps, pct_start=0.15
        )
        self.scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
        self.state = _State()
        self._order = (-1, self.rows)

    def run(self, progress: Progress, save_every_s: float = SAVE_EVERY_S) -> int:
        """Train to the end or to the early stop; the best held-out weights stay. Returns the best step.

        `resume` first, to continue an interrupted run.
        """
        begun = saved = time.monotonic()
        first = self.state.step
        every = max(1, self.config.steps // self.config.evaluations)
        while self.state.step < self.config.steps and not self._stale(every):
            loss = self.train_step()
            if self.state.step % every == 0 or self.state.step == self.config.steps:
                self._look()
            now = time.monotonic()
            if now - saved > save_every_s:
                self._save()
                saved = now
            rate = (self.state.step - first) * self.config.batch / (now - begun)
            progress(Step(self.state.step, self.config.steps, loss, self.state.held_out_loss, rate))
        if not self.state.best:
            hint = "Look for odd pictures with few or no details, or train with another --seed."
            raise InspectError("the loss is not a finite number", str(self.checkpoint.parent), hint)
        self.students.load_state_dict(self.state.best)
        self.students.eval()
        return self.state.best_step

    def train_step(self) -> float:
        """One optimiser step on the next batch; returns its loss."""
        self.students.train()
        maps = self._maps(self._batch_rows(self.state.step))
        loss = self.loss(self.detector, maps, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        self.state.step += 1
        return float(loss.detach())

    @torch.inference_mode()
    def held_out_loss(self) -> float:
        """Mean loss over the held-out good pictures."""
        self.students.eval()
        batches = np.array_split(self.held_out, math.ceil(len(self.held_out) / self.config.batch))
        losses = [float(self.loss(self.detector, self._maps(b), self.config)) * len(b) for b in batches]
        return sum(losses) / len(self.held_out)

    def _look(self) -> None:
        self.state.held_out_loss = self.held_out_loss()
        if self.state.held_out_loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step = self.state.held_out_loss, self.state.step
            self.state.best = {k: v.detach().clone() for k, v in self.students.state_dict().items()}

    def _stale(self, every: int) -> bool:
        return (
            bool(self.state.best) and self.state.step - self.state.best_step >= self.config.patience * every
        )

    def _maps(self, rows: np.ndarray) -> list[Tensor]:  # type: ignore[type-arg]
        maps = self.detector.standardise([m.to(self.device) for m in self.cache[rows]])
        return [m.contiguous(memory_format=torch.channels_last) for m in maps]

    def _batch_rows(self, step: int) -> np.ndarray:  # type: ignore[type-arg]
        """Rows of this step: a new seeded order each epoch, the same after a resume as without one."""
        per_epoch = max(1, len(self.rows) // self.config.batch)
        epoch, position = divmod(step, per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.config.seed, epoch])
            self._order = (epoch, rng.permutation(self.rows))
        start = position * self.config.batch
        return np.sort(self._order[1][start : start + self.config.batch])

    def _save(self) -> None:
        content = {"config": self._identity(), "state": asdict(self.state), **self._parts_state()}
        save_whole(content, self.checkpoint)

    def resume(self) -> bool:
        """Take up the checkpoint, where there is one of the same pictures and settings."""
        if not self.checkpoint.exists():
            return False
        try:
            saved: dict[str, Any] = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except Exception:  # torch raises many types for a broken file; the training just begins anew
            return False
        if saved["config"] != self._identity():
            return False
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.state = _State(**saved["state"])
        return True

    def _parts(self) -> dict[str, Any]:
        return {
            "students": self.students, "optimiser": self.optimiser,
            "schedule": self.schedule, "scaler": self.scaler,
        }  # fmt: skip

    def _parts_state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def _identity(self) -> str:
        """Two runs with the same string may continue each other."""
        return repr((self.config, self.detector.config, self.cache.key))
