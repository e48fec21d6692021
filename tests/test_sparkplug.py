"""Sparkplug B: our bytes are read by another library, its bytes by us; births, deaths, sequence, commands."""

import json
import math
import re
from pathlib import Path

import pysparkplug as other
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import a_verdict

from edge.errors import InspectError
from edge.plc.mqtt_words import Life, Message
from edge.plc.remote import Answer, RemoteCommand, Wish
from edge.plc.sparkplug import COMMANDS, COUNTER_METRICS, VERDICT_METRICS, SparkplugNode
from edge.plc.sparkplug_payload import Datatype, Metric, Payload, decode, encode
from edge.plc.station_image import Counters
from edge.verdict import Outcome, Reason

DOCS = Path(__file__).parents[1] / "docs" / "mqtt.md"
READY = Life(True, True, 1, Counters())
STALLED = Life(False, False, 1, Counters())
READERS = {"NBIRTH": other.NBirth, "DBIRTH": other.DBirth, "DDATA": other.DData, "NDATA": other.NData,
           "DDEATH": other.DDeath, "NDEATH": other.NDeath}  # fmt: skip


def read(message: Message) -> tuple[str, other.NBirth]:
    """(kind, payload as the other library reads it)."""
    namespace, group, kind, node, *device = message.topic.split("/")
    assert (namespace, group, node) == ("spBv1.0", "plant", "line3")
    assert device == (["cam"] if kind.startswith("D") else [])
    return kind, READERS[kind].decode(message.payload)


def values(message: Message) -> dict[str | None, object]:
    payload = read(message)[1]
    metrics = [payload.bd_seq_metric] if isinstance(payload, other.NDeath) else payload.metrics
    return {metric.name: metric.value for metric in metrics}


def a_node() -> SparkplugNode:
    node = SparkplugNode("plant", "line3", "cam")
    node.will(1)
    return node


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
METRICS = st.one_of(
    st.builds(Metric, TEXT, st.just(Datatype.INT32), st.none() | st.integers(-(2**31), 2**31 - 1)),
    st.builds(Metric, TEXT, st.just(Datatype.INT64), st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.builds(Metric, TEXT, st.just(Datatype.DOUBLE), st.floats(allow_nan=False), st.integers(0, 2**63)),
    st.builds(Metric, TEXT, st.just(Datatype.BOOLEAN), st.booleans(), historical=st.booleans()),
    st.builds(Metric, TEXT, st.just(Datatype.STRING), st.none() | TEXT),
)


@settings(deadline=None, derandomize=True)
@given(st.lists(METRICS, max_size=5), st.integers(0, 255), st.integers(0, 2**63))
def test_another_library_reads_what_we_write_and_we_read_what_it_writes(
    metrics: list[Metric], seq: int, at_ms: int
) -> None:
    ours = Payload(at_ms, tuple(metrics), seq)
    theirs = other.NData.decode(encode(ours))
    assert (theirs.timestamp, theirs.seq) == (at_ms, seq)
    assert [(m.name, m.datatype, m.value, m.is_historical) for m in theirs.metrics] == [
        (m.name, m.datatype, m.value, m.historical) for m in metrics
    ]
    assert decode(theirs.encode(include_dtypes=True), "x") == ours


SMALLEST = {
    "INT8": -(2**7),
    "INT16": -(2**15),
    "INT32": -(2**31),
    "INT64": -(2**63),
    "UINT8": 0,
    "FLOAT": -0.5,
}
LARGEST = {"INT8": 2**7 - 1, "UINT8": 2**8 - 1, "UINT16": 2**16 - 1, "UINT32": 2**32 - 1, "UINT64": 2**64 - 1}


@pytest.mark.parametrize(("name", "value"), [*SMALLEST.items(), *LARGEST.items()])
def test_numbers_of_every_kind_are_read(name: str, value: float) -> None:
    kind = other.DataType[name]
    data = other.NData(1, 0, (other.Metric(1, "a", kind, value=value),)).encode(include_dtypes=True)
    assert [metric.value for metric in decode(data, "x").metrics] == [value]


def test_births_data_and_deaths_have_the_sequence_a_host_expects() -> None:
    node = SparkplugNode("plant", "line3", "cam")
    will = node.will(1)
    said = [*node.birth(READY, 2), *node.beat(READY, 3), *node.verdict(a_verdict(1), False, 4, READY, 5)]
    said += [*node.beat(STALLED, 6), *node.beat(READY, 7)]
    kinds = [read(message) for message in said]
    assert [(kind, payload.seq) for kind, payload in kinds] == [
        ("NBIRTH", 0), ("DBIRTH", 1), ("DDATA", 2), ("DDEATH", 3), ("DBIRTH", 4)
    ]  # fmt: skip
    assert {message.qos for message in said} == {0} and not any(message.retain for message in said)
    assert read(will)[0] == "NDEATH" and will.qos == 1
    assert values(will) == {"bdSeq": 0} == {"bdSeq": values(said[0])["bdSeq"]}
    assert values(node.death(9)[0]) == {"bdSeq": 0}


def test_the_sequence_goes_round_without_a_gap_and_bd_seq_with_every_connection() -> None:
    node, seen = SparkplugNode("plant", "line3", "cam"), []
    for connection in range(300):
        assert values(node.will(1))["bdSeq"] == connection % 256
        assert values(node.birth(READY, 1)[0])["bdSeq"] == connection % 256
    for number in range(600):
        seen += [read(m)[1].seq for m in node.verdict(a_verdict(number), False, 1, READY, 1)]
    assert seen == [(2 + n) % 256 for n in range(600)]


def test_what_is_not_born_says_nothing_and_a_verdict_brings_its_device_with_it() -> None:
    node = a_node()
    assert node.answer(Answer("no"), 1) == []
    assert [read(m)[0] for m in node.birth(STALLED, 1)] == ["NBIRTH"]
    assert node.beat(STALLED, 1) == []
    assert [read(m)[0] for m in node.verdict(a_verdict(1), False, 1, STALLED, 1)] == ["DBIRTH", "DDATA"]
    assert [read(m)[0] for m in node.beat(STALLED, 1)] == ["DDEATH"]


def test_a_late_verdict_is_historical_and_a_birth_repeats_none() -> None:
    """The story: after a rebirth the dashboard showed the last part's pass beside a part that failed."""
    node = a_node()
    node.birth(READY, 1)
    ((_, live),) = map(read, node.verdict(a_verdict(7), False, 1000, READY, 1040))
    ((_, late),) = map(read, node.verdict(a_verdict(8, Outcome.FAIL), True, 1000, READY, 90_000))
    parts = [m for m in late.metrics if str(m.name).startswith("Verdict/")]
    assert all(m.is_historical and m.timestamp == 1000 for m in parts) and late.timestamp == 90_000
    assert not any(m.is_historical for m in live.metrics)
    assert not any(m.is_historical for m in late.metrics if str(m.name).startswith("Counters/"))
    reborn = values(node.birth(READY, 100_000)[1])
    assert {value for name, value in reborn.items() if str(name).startswith("Verdict/")} == {None}


def test_a_part_that_was_not_judged_has_no_score() -> None:
    node = a_node()
    node.birth(READY, 1)
    verdict = a_verdict(1, Outcome.FAIL, Reason.CAMERA_LOST)
    told = values(node.verdict(verdict, False, 1, READY, 1)[0])
    assert (told["Verdict/Outcome"], told["Verdict/Reason Code"], told["Verdict/Score"]) == ("fail", 10, None)


def test_every_metric_has_its_time_and_commands_are_heard_with_quality_1() -> None:
    """Both are a MUST of Sparkplug 3.0 (payloads-name-birth-data-requirement, edge-node-ncmd-subscribe)."""
    node = a_node()
    said = [*node.birth(READY, 2), *node.verdict(a_verdict(1), True, 1, READY, 3)]
    said += [*node.answer(Answer(""), 4), *node.beat(Life(True, True, 1, Counters(total=9)), 5)]
    times = [{metric.timestamp for metric in read(message)[1].metrics} for message in said]
    assert times == [{2}, {2}, {1, 3}, {4}, {5}]
    assert dict(node.listens) == {"spBv1.0/plant/NCMD/line3": 1, "spBv1.0/plant/DCMD/line3/cam": 1}


def test_the_births_name_every_metric_that_comes_later() -> None:
    node = a_node()
    born, device = node.birth(READY, 1)
    data = node.verdict(a_verdict(1), False, 1, READY, 1)[0]
    assert values(data).keys() == values(device).keys()
    assert {m.name: m.datatype for m in read(data)[1].metrics} == {
        m.name: m.datatype for m in read(device)[1].metrics
    }
    assert values(node.answer(Answer("no"), 1)[0]).keys() <= values(born).keys()
    assert values(born).keys() >= COMMANDS.keys()


def test_counters_that_were_reset_are_told_with_the_next_beat() -> None:
    node = a_node()
    counted = Life(True, True, 1, Counters(5, 3, 1, 1))
    node.birth(counted, 1)
    assert node.beat(counted, 2) == []
    assert values(node.beat(READY, 3)[0]) == {name: 0 for name, _ in COUNTER_METRICS}


def ncmd(name: str, kind: other.DataType, value: object) -> bytes:
    metric = other.Metric(1, name, kind, value=value)  # type: ignore[arg-type]
    return other.NCmd(1, (metric,)).encode(include_dtypes=True)


def test_commands_as_another_library_writes_them() -> None:
    node, topic = a_node(), "spBv1.0/plant/NCMD/line3"
    assert node.listens == [(topic, 1), ("spBv1.0/plant/DCMD/line3/cam", 1)]
    wanted = [
        ("Node Control/Rebirth", other.DataType.BOOLEAN, True, RemoteCommand(Wish.REBIRTH)),
        ("Node Control/Reset Counters", other.DataType.BOOLEAN, True, RemoteCommand(Wish.RESET_COUNTERS)),
        ("Node Control/Trigger", other.DataType.INT64, 4711, RemoteCommand(Wish.TRIGGER, 4711)),
        ("Node Control/Trigger", other.DataType.UINT32, 2**32 - 1, RemoteCommand(Wish.TRIGGER, 2**32 - 1)),
    ]
    for name, kind, value, command in wanted:
        assert node.hear(topic, ncmd(name, kind, value), False) == [command]


@pytest.mark.parametrize(
    ("name", "kind", "value", "text"),
    [
        ("Node Control/Reboot", other.DataType.BOOLEAN, True, "no command"),
        ("Node Control/Rebirth", other.DataType.BOOLEAN, False, "not true"),
        ("Node Control/Rebirth", other.DataType.INT64, 1, "not true"),
        ("Node Control/Trigger", other.DataType.INT64, -1, "part_id"),
        ("Node Control/Trigger", other.DataType.INT64, 2**32, "part_id"),
        ("Node Control/Trigger", other.DataType.DOUBLE, 1.0, "part_id"),
        ("Node Control/Trigger", other.DataType.BOOLEAN, True, "part_id"),
    ],
)
def test_other_commands_are_refused_by_name(
    name: str, kind: other.DataType, value: object, text: str
) -> None:
    with pytest.raises(InspectError, match=text):
        a_node().hear("spBv1.0/plant/NCMD/line3", ncmd(name, kind, value), False)


def test_retained_commands_and_commands_to_the_device_are_refused() -> None:
    rebirth = ncmd("Node Control/Rebirth", other.DataType.BOOLEAN, True)
    with pytest.raises(InspectError, match="retained"):
        a_node().hear("spBv1.0/plant/NCMD/line3", rebirth, True)
    with pytest.raises(InspectError, match="takes no commands"):
        a_node().hear("spBv1.0/plant/DCMD/line3/cam", rebirth, False)


def test_an_old_goodbye_of_the_primary_host_is_not_believed() -> None:
    node = SparkplugNode("plant", "line3", "cam", "scada")
    node.will(1)
    state = "spBv1.0/STATE/scada"
    assert (state, 1) in node.listens and not node.host_online
    for online, at, expected in ((True, 5, True), (False, 4, True), (False, 6, False), (True, 7, True)):
        assert node.hear(state, json.dumps({"online": online, "timestamp": at}).encode(), True) == []
        assert node.host_online is expected
    for garbage in (
        b"",
        b"ONLINE",
        b"[]",
        b'{"online": true}',
        b'{"online": 1, "timestamp": 1e999}',
        b"[" * 9999,
    ):
        with pytest.raises(InspectError, match="state"):
            node.hear(state, garbage, True)
    node.will(2)
    assert not node.host_online, "a new connection waits for it again"


def test_numbers_that_end_nowhere_are_refused() -> None:
    for data in (
        b"\x80" * 11,
        b"\x08",
        b"\x12\x05ab",
        b"\x0b",
        b"\x12\x02\x0a\xff",
        b"\x12\x00",
        b"\xff" * 70_000,
    ):
        with pytest.raises(InspectError, match="not a Sparkplug B payload"):
            decode(data, "x")
    assert math.isinf(decode(encode(Payload(1, (Metric("a", 10, math.inf),))), "x").metrics[0].value or 0)


def test_the_tables_in_the_docs_are_the_code_s() -> None:
    rows = re.findall(r"^\| `([\w /]+)` \| (\w+) \|", DOCS.read_text("utf-8"), re.M)
    listed = [(name, kind) for name, kind in rows if "/" in name and not name.startswith("PREFIX")]
    names = {kind: kind.name.capitalize() for kind in Datatype} | {
        Datatype.INT32: "Int32",
        Datatype.INT64: "Int64",
    }
    assert set(listed) == {
        *((name, names[kind]) for name, kind, _ in VERDICT_METRICS),
        *((name, "Int64") for name, _ in COUNTER_METRICS),
        *((name, names[kind]) for name, (kind, _) in COMMANDS.items()),
        ("Node Control/Answer", "String"),
        ("Properties/Software", "String"),
    }
