"""What must hold for any bytes from outside: nothing raises but InspectError, and nothing becomes a pass.

Each target takes bytes. Hypothesis runs them in tests/test_fuzz.py, atheris in tests/fuzz/run.py.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.backends import open_backend
from edge.errors import InspectError
from edge.frame import Frame, Inspection
from edge.picture.view import view_of
from edge.plc.handshake import Handshake, Mode
from edge.plc.line_protocol import Received, answer, receive
from edge.plc.link import PlcLink
from edge.plc.mqtt_words import Life, PlainJson
from edge.plc.registers import PLC_COUNT, Status
from edge.plc.remote import Answer, Desk
from edge.plc.sparkplug import SparkplugNode
from edge.plc.sparkplug_payload import decode
from edge.plc.station_image import Counters, StationImage
from edge.recipe import (
    Artefact,
    Recipe,
    check_artefact,
    dumps,
    load_pair,
    load_recipe,
    recipe_path,
    save_recipe,
    sha256_of,
)
from edge.verdict import Outcome, Reason, decide

FOLDER = Path(tempfile.mkdtemp(prefix="edge-inspect-fuzz-"))
ENGINE = FOLDER / "fuzz.onnx"
ENGINE.write_bytes(b"")
SIZE = (64, 64)
RECIPE = Recipe("fuzz", SIZE, review=1.5, fail=2.0, roi=(0, 0, 64, 64), view={"canvas": [128, 128]})
SEALED = json.loads(dumps(RECIPE.with_artefact(Artefact("fuzz.onnx", "0" * 64, "fp32"))))


def serial_line(data: bytes) -> None:
    """Any characters, in pieces: one answer a line, OK or ER."""
    hand, received, now_ns = Handshake(StationImage(), Mode.IDS, budget_ns=50_000_000), Received(), 0
    hand.beat(1, True, 0)
    for chunk in pieces(data, 7):
        now_ns += 1_000_000
        received, lines = receive(received, chunk, now_ns)
        for line in lines:
            said = answer(line, hand, now_ns)
            assert said[:2] in (b"OK", b"ER") and said.endswith(b"\r") and said.count(b"\r") == 1
        never_a_pass(hand.block())


def plc_block(data: bytes) -> None:
    """Registers 0..27 as a PLC may write them, again and again."""
    for mode in Mode:
        link = PlcLink(mode)
        link.beat(1, True)
        for registers in _registers(data):
            for word_order in ("big", "little"):
                link.plc_wrote(registers, word_order)  # type: ignore[arg-type]
                never_a_pass(link.block())


def recipe_file(data: bytes) -> None:
    """Any bytes where the recipe should be."""
    path = FOLDER / "any.recipe.json"
    path.write_bytes(data)
    with suppress(InspectError):
        usable(load_recipe(path))


def sealed_recipe(data: bytes) -> None:
    """`KEY=JSON` put into a recipe that is then sealed: what gets past the digest."""
    key, _, value = data.decode("utf-8", "replace").partition("=")
    try:
        recipe_file(sealed({**SEALED, key: json.loads(value)}))
    except (ValueError, RecursionError):
        return


def onnx_engine(data: bytes) -> None:
    """An engine whose bytes are wrong, with a recipe that was sealed for just these bytes."""
    engine = FOLDER / "engine.onnx"
    engine.write_bytes(data)
    _opens_or_says_why(engine)


def openvino_engine(data: bytes) -> None:
    """The same, read by OpenVINO, which has a parser of its own."""
    engine = FOLDER / "openvino.onnx"
    engine.write_bytes(data)
    _opens_or_says_why(engine, "openvino")


def plan_engine(data: bytes) -> None:
    """The same for a TensorRT plan."""
    engine = FOLDER / "engine.fp16.sm86.plan"
    engine.write_bytes(data)
    _opens_or_says_why(engine)


def mqtt_command(data: bytes) -> None:
    """JSON on PREFIX/cmd."""
    _hear(PlainJson("s"), "s/cmd", data)


def sparkplug_command(data: bytes) -> None:
    """Protobuf in NCMD, and the state of the primary host."""
    with suppress(InspectError):
        decode(data, "fuzz")
    for topic in ("spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d", "spBv1.0/STATE/h"):
        _hear(SparkplugNode("g", "n", "d", "h"), topic, data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        serial_line, plc_block, recipe_file, sealed_recipe, onnx_engine, openvino_engine, plan_engine,
        mqtt_command, sparkplug_command,
    )
}  # fmt: skip


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def never_a_pass(block: list[int]) -> None:
    """Nobody has decided anything: no PASS, and no VERDICT 1."""
    assert not block[0] & Status.PASS and block[1] != 1
    assert len(block) == 50 and all(0 <= word <= 0xFFFF for word in block)


def sealed(raw: dict[str, Any]) -> bytes:
    """A recipe's JSON with a seal that fits, worked out apart from the product's own code."""
    values = {key: value for key, value in raw.items() if key != "digest"}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps({**values, "digest": digest}).encode()


def usable(recipe: Recipe) -> None:
    """A recipe that was accepted: its view opens or says why, and no fault passes by it."""
    with suppress(InspectError):
        view_of(recipe)
    with suppress(InspectError):
        check_artefact(recipe, ENGINE)
    assert recipe.identity and dumps(recipe)
    frame = Frame(1, "fuzz", 0, np.zeros((*SIZE, 3), np.uint8))
    for result in (
        *Reason,
        *(_inspection(score) for score in (math.nan, math.inf, recipe.review, recipe.fail)),
    ):
        assert decide(frame, result, recipe, 0).outcome is not Outcome.PASS


def _inspection(score: float) -> Inspection:
    return Inspection(1, score, np.zeros(SIZE, np.float32), "", 0, 0)


def _registers(data: bytes) -> Iterator[list[int]]:
    for piece in pieces(data, 2 * PLC_COUNT):
        whole = piece.ljust(2 * PLC_COUNT, b"\0")
        yield [int.from_bytes(word, "big") for word in pieces(whole, 2)]


def _opens_or_says_why(engine: Path, name: str = "auto") -> None:
    recipe = Recipe("fuzz", SIZE, review=1.5, fail=2.0)
    save_recipe(recipe.with_artefact(Artefact(engine.name, sha256_of(engine), "fp32")), recipe_path(engine))
    try:
        path, recipe, _ = load_pair(engine)
        backend = open_backend(path, recipe, name)
    except InspectError as error:
        assert error.what and error.where and error.next_step and "Traceback" not in str(error)
        return
    try:
        with suppress(InspectError):
            anomaly_map, score = backend.infer(np.zeros((*SIZE, 3), np.uint8))
            assert isinstance(score, float) and anomaly_map.dtype == np.float32
    finally:
        backend.close()


def _hear(dialect: Any, topic: str, data: bytes) -> None:
    link, desk = PlcLink(Mode.IDS), Desk()
    link.beat(1, True)
    dialect.will(1)
    dialect.birth(Life(True, True, 1, Counters()), 1)
    try:
        commands = dialect.hear(topic, data, False)
    except InspectError as error:
        dialect.answer(Answer(str(error)), 1)
        return
    for command in commands:
        dialect.answer(link.act(partial(_take, desk, command)), 1)
    never_a_pass(link.block())


def _take(desk: Desk, command: Any, hand: Handshake, now_ns: int) -> Any:
    return desk.take(command, hand, now_ns)
