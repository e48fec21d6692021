"""Bytes from outside, by chance and nearly right: no crash, no pass. The targets: tests/fuzz/targets.py."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from fuzz import targets
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from peers import a_verdict, plc_client
from toy import toy_pair

from edge.errors import InspectError
from edge.outputs.modbus import ModbusServer
from edge.outputs.modbus_settings import server_settings
from edge.plc.link import PlcLink
from edge.plc.registers import PLC_COUNT
from edge.plc.sparkplug_payload import Metric, Payload, encode
from edge.verdict import Outcome

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))  # 10000 after a change of a parser: minutes
# The same inputs every time: what continuous integration finds today it must have found yesterday.
AT_RANDOM = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
SLOW = settings(AT_RANDOM, max_examples=max(10, EXAMPLES // 3))

SERIAL = st.lists(
    st.sampled_from([b"TRG", b"TRG,", b"ACK,", b"ST", b"HB", b"VER", b"CNT", b"RST", b"RCP,1", b"\r", b"\r",
                     b"\n", b"*", b"*00", b"4711", b"4294967296", b"\x1b", b"\xff", b"-1", b","])
    | st.binary(max_size=200)
).map(b"".join)  # fmt: skip
BLOCKS = st.lists(
    st.lists(st.sampled_from([0, 1, 2, 3, 16, 17, 31, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF),
             min_size=PLC_COUNT, max_size=PLC_COUNT), max_size=5,
).map(lambda blocks: b"".join(word.to_bytes(2, "big") for block in blocks for word in block))  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0, -1, 64, 10**400, 1e308]) | st.floats()
    | st.text(st.characters(), max_size=5) | st.sampled_from(["pass", "review", "fail", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
COMMANDS = st.fixed_dictionaries(
    {"command": st.sampled_from(["trigger", "reset_counters", "rebirth", "pass"]) | JSON},
    optional={"part_id": st.integers() | JSON, "id": JSON, "outcome": JSON},
).map(lambda command: json.dumps(command).encode())
METRICS = st.lists(
    st.builds(
        Metric,
        st.sampled_from(["Node Control/Rebirth", "Node Control/Trigger", "bdSeq", ""]),
        st.sampled_from([3, 4]),
        st.none() | st.integers(-(2**63), 2**64 - 1),
    )
    | st.builds(Metric, st.sampled_from(["Node Control/Rebirth", "x"]), st.just(11), st.booleans()),
    max_size=4,
).map(lambda metrics: encode(Payload(1, tuple(metrics))))  # fmt: skip


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Cut off somewhere, or with a few bits turned round."""
    flips = st.lists(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=8)
    return st.integers(0, len(whole) - 1).map(lambda at: whole[:at]) | flips.map(
        lambda bits: flipped(whole, bits)
    )


def flipped(whole: bytes, bits: list[int]) -> bytes:
    data = bytearray(whole)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def small_engine() -> bytes:
    """The toy engine without the table that it does not need: most bits of it mean something."""
    folder = targets.FOLDER / "whole"
    folder.mkdir(exist_ok=True)
    model = onnx.load(toy_pair(folder))
    needed = [each for each in model.graph.initializer if each.name != "zeros"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(needed)
    return bytes(model.SerializeToString())


ENGINE = small_engine()
RECIPE = targets.sealed(targets.SEALED)


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    shutil.rmtree(targets.FOLDER)


def test_the_undamaged_ones_are_accepted() -> None:
    """Else nothing below would come further than the first check."""
    path = targets.FOLDER / "whole.recipe.json"
    path.write_bytes(RECIPE)
    assert targets.load_recipe(path).on_fault == "fail"
    targets.onnx_engine(ENGINE)
    engine = targets.FOLDER / "engine.onnx"
    with_recipe = targets.load_pair(engine)
    backend = targets.open_backend(with_recipe[0], with_recipe[1])
    backend.close()


@AT_RANDOM
@given(SERIAL)
def test_serial_line(data: bytes) -> None:
    targets.serial_line(data)


@AT_RANDOM
@given(BLOCKS | st.binary(max_size=300))
def test_plc_block(data: bytes) -> None:
    targets.plc_block(data)


@AT_RANDOM
@given(damaged(RECIPE) | st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 2000)
@example(b'{"schema": 1, "digest": "\xed\xa0\x80"}')
def test_recipe_file(data: bytes) -> None:
    targets.recipe_file(data)


@settings(AT_RANDOM, max_examples=5 * EXAMPLES)
@given(st.sampled_from(sorted(targets.SEALED)), JSON)
@example("review", 10**400)
@example("name", "\ud800")
@example("view", {"reference": {"box": [0, 0, 1, 1], "patch": "AAAA", "picture": [10**30, 1]}})
@example("view", {"mask": "iVBORw0KGgo="})
def test_sealed_recipe(key: str, value: object) -> None:
    targets.sealed_recipe(f"{key}={json.dumps(value)}".encode())


@SLOW
@given(damaged(ENGINE) | st.binary(max_size=100))
def test_onnx_engine(data: bytes) -> None:
    targets.onnx_engine(data)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed: pip install openvino")
@SLOW
@given(damaged(ENGINE))
def test_openvino_engine(data: bytes) -> None:
    targets.openvino_engine(data)


@SLOW
@given(st.binary(max_size=300))
def test_plan_engine(data: bytes) -> None:
    targets.plan_engine(data)


@AT_RANDOM
@given(COMMANDS | st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 999)
def test_mqtt_command(data: bytes) -> None:
    targets.mqtt_command(data)


@AT_RANDOM
@given(METRICS | METRICS.flatmap(lambda data: damaged(data + b"\0")) | st.binary() | COMMANDS)
def test_sparkplug_command(data: bytes) -> None:
    targets.sparkplug_command(data)


@pytest.fixture(scope="module")
def server() -> Iterator[ModbusServer]:
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), PlcLink())
    output.send(a_verdict(5, Outcome.FAIL))
    yield output
    output.close()


MODBUS = st.builds(
    lambda head, unit, body: head + len(body + unit).to_bytes(2, "big") + unit + body,
    st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=1), st.binary(max_size=30),
)  # fmt: skip


@SLOW
@given(MODBUS | st.binary(max_size=300))
def test_modbus_server(server: ModbusServer, data: bytes) -> None:
    """The PLC beside the stranger reads on, and the fail stays a fail."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as stranger:
        stranger.sendall(data)
        with plc_client(server.port) as plc:
            assert plc.read_holding_registers(101, 1) == [2]


@pytest.mark.parametrize("name", ["model.pt", "toy.onnx"])
def test_a_model_that_is_cut_off_is_one_sentence(tmp_path: Path, name: str) -> None:
    from build_engines.graph import load_onnx
    from distillation.model import load_model

    whole = toy_pair(tmp_path).read_bytes()
    for length in (0, 1, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InspectError) as caught:
            if name == "model.pt":
                load_model(tmp_path)
            else:
                load_onnx(tmp_path / name)
        assert "Traceback" not in str(caught.value)


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_the_atheris_harness_runs(tmp_path: Path) -> None:
    script = Path(__file__).parent / "fuzz" / "run.py"
    command = [sys.executable, str(script), "mqtt_command", "-runs=20", "-seed=1"]
    own = {**os.environ, "TMPDIR": str(tmp_path)}  # libFuzzer ends without tidying up
    ended = subprocess.run(command, capture_output=True, timeout=100, env=own)
    assert ended.returncode == 0 and b"Done 20 runs" in ended.stderr, ended.stderr[-2000:]
