"""What stands before the camera of the soak: 64 bytes of shared memory between line and station.

The line writes which part is there and how the camera behaves; the station's camera reads it, as light reads
a real part. Whether a part is good lies in its picture alone: dark is good, bright is bad.
"""

import mmap
import struct
import time
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from edge.errors import CameraLost
from edge.frame import Shot
from edge.recipe import Artefact, Recipe, recipe_path, save_recipe, sha256_of

SIDE = 64
GOOD_GREY, BAD_GREY, BLACK_GREY, LIMIT = (
    60,
    220,
    4,
    1.5,
)  # grey levels; the engine's score is the mean grey level over 100
NAN_PIXEL = 255  # in the corner: the engine divides by zero
FPS = 1000.0
STALE_NS = 300_000_000
DEADLINE_MS = 250.0
SIZE = 64


class CameraState(IntEnum):
    """How the camera behaves."""

    WORKS = 0
    UNPLUGGED = 1
    FROZEN = 2
    BLACK = 3
    STALE = 4  # gives what it saw 0.3 s ago
    STUCK = 5  # the driver does not come back
    NAN = 6  # a picture that the engine answers with "not a number"


class Stage:
    """The shared bytes. Part and goodness are one number, so that a picture never shows half of each."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), SIZE)

    @property
    def part(self) -> tuple[int, bool]:
        """(number, is good)"""
        both = struct.unpack_from("<Q", self._bytes, 0)[0]
        return both >> 1, not both & 1

    @part.setter
    def part(self, part: tuple[int, bool]) -> None:
        struct.pack_into("<Q", self._bytes, 0, part[0] << 1 | (not part[1]))

    @property
    def camera(self) -> CameraState:
        return CameraState(struct.unpack_from("<Q", self._bytes, 8)[0])

    @camera.setter
    def camera(self, state: CameraState) -> None:
        struct.pack_into("<Q", self._bytes, 8, state)

    @property
    def clock_step_s(self) -> float:
        """Seconds that the wall clock is wrong by."""
        return float(struct.unpack_from("<d", self._bytes, 16)[0])

    @clock_step_s.setter
    def clock_step_s(self, step: float) -> None:
        struct.pack_into("<d", self._bytes, 16, step)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the camera saw at one moment."""

    number: int
    part: int
    good: bool
    begun_ns: int


class StageCamera:
    """Looks at the stage FPS times a second, whatever the PLC does; its pictures say when they were begun."""

    live, uri = True, "stage:"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        noise = np.random.default_rng(0).integers(-20, 20, (32, SIDE, SIDE, 3))
        self._pictures = {
            grey: (grey + noise).clip(0, 254).astype(np.uint8) for grey in (GOOD_GREY, BAD_GREY)
        }
        self._pictures[BLACK_GREY] = (BLACK_GREY + noise // 8).clip(0, 254).astype(np.uint8)
        self._due, self._number = time.monotonic(), 0
        self._seen: deque[Sight] = deque(maxlen=int(2 * FPS * STALE_NS / 1e9))
        self._last: Shot | None = None
        self._refuse()

    def read(self, timeout_s: float) -> Shot:
        """The next picture, good or bad as the camera's state will have it."""
        self._due = max(self._due + 1 / FPS, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        while self._stage.camera is CameraState.STUCK:
            time.sleep(0.01)
        self._refuse()
        state = self._stage.camera
        if state is CameraState.FROZEN and self._last is not None:
            begun_ns = time.monotonic_ns()
            return Shot(self._last.pixels.copy(), label=self._last.label, begun_ns=begun_ns)
        self._number += 1
        begun_ns = time.monotonic_ns()
        self._seen.append(Sight(self._number, *self._stage.part, begun_ns))
        self._last = self._shot(self._old() if state is CameraState.STALE else self._seen[-1], state)
        return self._last

    def close(self) -> None:
        """Nothing is held."""

    def _refuse(self) -> None:
        if self._stage.camera is CameraState.UNPLUGGED:
            raise CameraLost("the camera is unplugged", self.uri, "Plug it in.")

    def _old(self) -> Sight:
        until_ns = time.monotonic_ns() - STALE_NS
        while len(self._seen) > 1 and self._seen[0].begun_ns < until_ns:
            self._seen.popleft()
        return self._seen[0]

    def _shot(self, sight: Sight, state: CameraState) -> Shot:
        grey = BLACK_GREY if state is CameraState.BLACK else GOOD_GREY if sight.good else BAD_GREY
        pixels = self._pictures[grey][sight.number % 32].copy()
        pixels[-1, :8, 0] = (
            np.frombuffer(struct.pack("<Q", self._number), np.uint8) % 16
        )  # never twice the same
        if state is CameraState.NAN:
            pixels[0, 0] = NAN_PIXEL
        return Shot(
            pixels, label=f"part {sight.part} {'good' if sight.good else 'bad'}", begun_ns=sight.begun_ns
        )


def make_engine(folder: Path) -> Path:
    """A real engine whose score is the mean grey level over 100: engine and recipe in `folder`."""
    node, number = helper.make_node, TensorProto.FLOAT
    nodes = [
        node("Cast", ["pixels"], ["float"], to=number),
        node("ReduceMean", ["float", "channels"], ["grey"], keepdims=0),
        node("Div", ["grey", "hundred"], ["anomaly_map"]),
        node("ReduceMean", ["anomaly_map", "places"], ["mean"], keepdims=0),
        node("Slice", ["float", "zeros", "ones"], ["corner"]),
        node("ReduceMax", ["corner", "all"], ["brightest"], keepdims=0),
        node("Sub", ["limit", "brightest"], ["below"]),
        node("Div", ["zero", "below"], ["nothing"]),  # 0, or 0/0
        node("Add", ["mean", "nothing"], ["score"]),
    ]
    tensor, shape = helper.make_tensor, helper.make_tensor_value_info
    ints = {
        "channels": [3],
        "places": [1, 2],
        "zeros": [0, 0],
        "ones": [1, 1],
        "all": [1, 2, 3],
        "axes": [1, 2],
    }
    floats = {"hundred": 100.0, "limit": float(NAN_PIXEL), "zero": 0.0}
    constants: list[Any] = [tensor(name, TensorProto.INT64, [len(v)], v) for name, v in ints.items()]
    constants += [tensor(name, number, [], [value]) for name, value in floats.items()]
    nodes[4].input.append("axes")
    graph = helper.make_graph(
        nodes, "grey", [shape("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [shape("anomaly_map", number, ["batch", SIDE, SIDE]), shape("score", number, ["batch"])], constants,
    )  # fmt: skip
    engine = folder / "engine.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    engine.write_bytes(model.SerializeToString())
    recipe = Recipe("soak", (SIDE, SIDE), review=LIMIT, fail=LIMIT + 0.5, deadline_ms=DEADLINE_MS,
                    max_frame_age_ms=DEADLINE_MS)  # fmt: skip
    save_recipe(recipe.with_artefact(Artefact(engine.name, sha256_of(engine), "fp32")), recipe_path(engine))
    return engine
