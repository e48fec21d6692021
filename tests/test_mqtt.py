"""MQTT on real brokers: what is said, commands, who is let in, what an address may say."""

import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pysparkplug as other
import pytest
from mqtt_broker import KINDS, MOSQUITTO, PASSWORD, USER, Authority, Broker, Listener
from peers import a_verdict, silent_peer, until

from edge.errors import InspectError, OutputLost
from edge.outputs import handshake_of, is_information, kept_verdicts, open_output, output_opener
from edge.outputs.mqtt_settings import mqtt_settings
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.mqtt_words import Life, record, status_json
from edge.plc.remote import KEPT_ANSWERS, Answer, Desk, RemoteCommand, Wish, read_command
from edge.plc.station_image import Counters
from edge.station.dry_run import dry_run
from edge.station.running import RunOptions
from edge.verdict import Outcome

DOCS = (Path(__file__).parents[1] / "docs" / "mqtt.md").read_text("utf-8")
HANDLES = Path("/proc/self/fd")
PATIENT = "timeout_ms=20000"  # a loaded test machine
TRIGGER, RESET = RemoteCommand(Wish.TRIGGER, 7, "a"), RemoteCommand(Wish.RESET_COUNTERS, None, "b")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture(params=KINDS)
def each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("no broker: apt-get install mosquitto")
    with Broker(tmp_path, request.param) as running:
        yield running


def test_status_verdicts_and_the_last_words_in_json(each_broker: Broker) -> None:
    broker = each_broker
    with Listener(broker.port) as somebody:
        output = open_output(f"mqtt://127.0.0.1:{broker.port}/plant/line3?{PATIENT}")
        output.beat(1, healthy=True)
        verdict = a_verdict(1, Outcome.FAIL)
        output.send(verdict)
        output.close()
        assert until(lambda: somebody.json_on("plant/line3/status")[-1:] == [{"online": False}])
        (told,) = somebody.json_on("plant/line3/verdict")
        first, beat, _ = somebody.json_on("plant/line3/status")
        assert not any(message.retain for message in somebody.heard)
    at_ms = told.pop("at_ms")
    assert told == {k: v for k, v in record(verdict, False, 0).items() if k != "at_ms"}
    assert 0 <= beat["at_ms"] - first["at_ms"] < 60_000 and abs(beat["at_ms"] - at_ms) < 60_000
    assert (first["healthy"], beat["healthy"], beat["heartbeat"]) == (False, True, 1)
    with Listener(broker.port) as later:
        assert until(lambda: later.json_on("plant/line3/status")[:1] == [{"online": False}])
        assert later.on("plant/line3/verdict") == [], "nobody may take an old verdict for a new one"


def test_commands_are_answered_one_by_one(broker: Broker) -> None:
    """In free run a trigger is refused; garbage, unknown commands and repeats cost nobody anything."""
    with Listener(broker.port) as somebody:
        link = PlcLink()
        output = output_opener(f"mqtt://127.0.0.1:{broker.port}/s?{PATIENT}", link=link)()
        output.beat(1, healthy=True)
        output.send(a_verdict(1))
        sent: list[tuple[bytes | str, str]] = [
            ('{"command": "trigger", "part_id": 5}', "handshake=ids"),
            (b"\xff\x00garbage", "no command: not JSON ("),
            ("", "no command: not JSON ("),
            ("[" * 900, "no command: not JSON ("),
            ('{"command": "pass"}', "unknown command"),
            ('{"command": "trigger", "part_id": 5, "outcome": "pass"}', "unknown key"),
            (json.dumps({"command": "trigger", "id": "x" * 65}), "id is not"),
            ("x" * 2000, "2000 bytes"),
            ('{"command": "reset_counters", "id": 9}', ""),
            ('{"command": "rebirth"}', ""),
        ]
        for number, (payload, error) in enumerate(sent, 1):
            somebody.say("s/cmd", payload)
            assert until(lambda n=number: len(somebody.on("s/reply")) == n, 20)  # type: ignore[misc]
            answer = somebody.json_on("s/reply")[-1]
            assert answer["ok"] is (not error) and error in (answer["error"] or "")
        assert link.act(lambda hand, _: hand.image.counters) == Counters()
        output.close()


def test_a_retained_command_is_refused(broker: Broker) -> None:
    """The story: somebody published a trigger with retain, and every restart took a picture."""
    with Listener(broker.port) as somebody:
        somebody.say("s/cmd", '{"command": "reset_counters"}', retain=True)
        output = open_output(f"mqtt://127.0.0.1:{broker.port}/s?{PATIENT}")
        assert until(lambda: bool(somebody.on("s/reply")), 20)
        assert "retained" in somebody.json_on("s/reply")[0]["error"]
        output.close()


def test_a_host_may_ask_for_a_rebirth(each_broker: Broker) -> None:
    """NBIRTH and DBIRTH come again, the sequence begins anew and stays without a gap."""
    broker = each_broker
    metric = other.Metric(1, "Node Control/Rebirth", other.DataType.BOOLEAN, value=True)
    rebirth = other.NCmd(1, (metric,)).encode(include_dtypes=True)
    with Listener(broker.port, "spBv1.0/#") as host:
        output = open_output(f"mqtt://127.0.0.1:{broker.port}/plant/line3/cam?format=sparkplug&{PATIENT}")
        output.beat(1, healthy=True)
        output.send(a_verdict(1))
        for number in range(2, 5):
            host.say("spBv1.0/plant/NCMD/line3", rebirth, qos=0)
            output.send(a_verdict(number))
            assert until(lambda n=number: len(host.on("spBv1.0/plant/NBIRTH/line3")) == n, 20)  # type: ignore[misc]
        host.say("spBv1.0/plant/NCMD/line3", b"\xff\xff", qos=0)
        assert until(lambda: b"not a Sparkplug" in host.on("spBv1.0/plant/NDATA/line3")[-1], 20)
        output.close()
        assert until(lambda: bool(host.on("spBv1.0/plant/NDEATH/line3")), 20)
        said = [m for m in host.heard if m.topic.split("/")[2] not in ("NCMD", "NDEATH")]
    before = 255
    for message in said:
        seq = other.NData.decode(message.payload).seq
        assert seq == (0 if "NBIRTH" in message.topic else (before + 1) % 256)
        before = seq
    assert [m.topic.split("/")[2] for m in said].count("DBIRTH") == 4


def test_a_station_waits_for_its_primary_host(broker: Broker) -> None:
    state, uri = (
        "spBv1.0/STATE/scada",
        f"mqtt://127.0.0.1:{broker.port}/p/n/d?format=sparkplug&primary_host=scada",
    )
    with Listener(broker.port, "spBv1.0/#") as host:
        with pytest.raises(OutputLost, match="primary host scada is offline"):
            open_output(f"{uri}&timeout_ms=500")
        assert host.on("spBv1.0/p/NBIRTH/n") == []
        host.say(state, '{"online": true, "timestamp": 1}', retain=True)
        output = open_output(f"{uri}&{PATIENT}")
        assert until(lambda: bool(host.on("spBv1.0/p/NBIRTH/n")))
        host.say(state, '{"online": false, "timestamp": 2}', retain=True)

        def offline() -> bool:
            try:
                output.beat(1, healthy=True)
            except OutputLost as error:
                return "primary host scada is offline" in str(error)
            return False

        assert until(offline, 20)
        output.close()
        assert until(lambda: bool(host.on("spBv1.0/p/NDEATH/n")))


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_let_in(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS with a real authority; wrong password, wrong authority, wrong name, no TLS: one sentence each."""
    if kind == "mosquitto" and MOSQUITTO is None:
        pytest.skip("no broker: apt-get install mosquitto")
    authority, stranger = Authority.make(tmp_path), Authority.make(tmp_path, "stranger")
    (tmp_path / "good").write_text(PASSWORD + "\n")
    (tmp_path / "bad").write_text("guessed")
    monkeypatch.setenv("BROKER_PASSWORD", PASSWORD)
    who, ca = f"username={USER}&password_file={tmp_path / 'good'}", f"ca={authority.ca}"
    with Broker(tmp_path, kind, authority) as broker:
        secure = f"mqtts://127.0.0.1:{broker.port}/s?{PATIENT}"
        for query in (
            f"{ca}&{who}", f"{ca}&username={USER}&password_env=BROKER_PASSWORD",
            f"{ca}&{who}&cert={authority.cert}&key={authority.key}",
        ):  # fmt: skip
            output = open_output(f"{secure}&{query}")
            output.send(a_verdict(1))
            output.close()
        refused = {
            f"{secure}&{ca}&username={USER}&password_file={tmp_path / 'bad'}": "Check username",
            f"{secure}&{ca}": "Check username",
            f"{secure}&{who}": "CERTIFICATE_VERIFY_FAILED",
            f"{secure}&{who}&ca={stranger.ca}": "CERTIFICATE_VERIFY_FAILED",
            f"{secure}&{who}&{ca}".replace("127.0.0.1", "localhost"): "ostname mismatch",
            f"{secure}&{who}".replace("mqtts", "mqtt"): "mqtts://",
        }
        for uri, text in refused.items():
            with pytest.raises(OutputLost, match=text) as caught:
                open_output(uri)
            assert PASSWORD not in str(caught.value) and "guessed" not in str(caught.value)


UNUSABLE = {
    "mqtt:///topic": "no address",
    "mqtt://plc:99999/topic": "ort",
    "mqtt://plc": "topic",
    "mqtt://plc/a//b": "topic",
    "mqtt://plc/a/%23": "topic",
    "mqtt://plc/a/+/b": "topic",
    "mqtt://plc/$SYS/a": "topic",
    "mqtt://plc/a?format=xml": "json or sparkplug",
    "mqtt://plc/a/b?format=sparkplug": "group, node and device",
    "mqtt://plc/a?qos=2": "unknown setting",
    "mqtt://plc/a?keep=0": "keep=0",
    "mqtt://plc/a?keepalive_s=0": "keepalive_s=0",
    "mqtt://plc/a?ca=x": "mqtts://",
    "mqtts://plc/a?ca=/nowhere": "certificates cannot be used",
    "mqtts://plc/a?key=/nowhere": "without cert",
    "mqtt://plc/a?username=u&password_file=/nowhere": "cannot be read",
    "mqtt://plc/a?username=u&password_env=NOT_SET_ANYWHERE": "no variable",
    "mqtt://plc/a?password_env=PATH": "without username",
    "mqtt://plc/a?username=u&password_env=PATH&password_file=x": "together",
    "mqtt://plc/a?primary_host=x": "format=sparkplug",
    "mqtt://plc/a/b/c?format=sparkplug&primary_host=x/y": "primary_host",
    "mqtt://plc/a?handshake=bits": "handshake=bits",
}


@pytest.mark.parametrize(("uri", "text"), UNUSABLE.items())
def test_an_address_that_cannot_be_used_is_refused_at_once(uri: str, text: str) -> None:
    with pytest.raises(InspectError, match=text):
        output_opener(uri)


SECRETS = [
    "mqtt://u:hunter2@plc/a",
    "mqtt://plc/a?password=hunter2&handshake=x",
    "mqtt://u:hunter2/x@plc/a",
    "mqtt://u:hunter2?x@plc/a",
    "mqtt+tls://u:hunter2@plc/a",
    "opc-ua://0.0.0.0?password=hunter2",
    "opc-ua://u:hunter2@0.0.0.0?handshake=bits",
    "tcp://u:hunter2@plc:2115?nonsense=1",
]


@pytest.mark.parametrize("uri", SECRETS)
def test_a_password_in_the_address_is_refused_and_not_repeated(uri: str, tmp_path: Path) -> None:
    for tried in (handshake_of, output_opener):
        with pytest.raises(InspectError, match="password does not belong") as caught:
            tried(uri)
        assert "hunter2" not in str(caught.value)
    checks = dry_run(RunOptions("conveyor:", tmp_path / "none.onnx", [uri]))
    assert "hunter2" not in " ".join(f"{check.what} {check.detail} {check.error}" for check in checks)


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "opc-ua", "modbus-tcp", "s7", "tcp", "serial"])
def test_an_address_that_nobody_can_read_is_one_sentence(scheme: str, tmp_path: Path) -> None:
    """The story: a bracket was forgotten, and the station ended with a traceback."""
    for tried in (handshake_of, output_opener):
        with pytest.raises(InspectError, match="cannot be read"):
            tried(f"{scheme}://[::1/a")
    assert any(
        check.error for check in dry_run(RunOptions("conveyor:", tmp_path / "x", [f"{scheme}://[::1/a"]))
    )


def test_what_a_setting_means() -> None:
    plain = mqtt_settings("mqtt://u@broker/a/b")
    assert (plain.host, plain.port, plain.path, plain.username, plain.tls) == (
        "broker",
        1883,
        ("a", "b"),
        "u",
        None,
    )
    assert mqtt_settings("mqtts://broker/a").port == 8883
    assert plain.client_id == mqtt_settings("mqtt://u@broker/a/b").client_id, "the same after a restart"
    assert plain.client_id != mqtt_settings("mqtt://u@broker/a/c").client_id and len(plain.client_id) <= 23
    assert handshake_of("mqtt://broker/a?handshake=ids") is Mode.IDS
    assert (kept_verdicts("mqtt://broker/a"), kept_verdicts("mqtt://broker/a?keep=5")) == (10_000, 5)
    assert kept_verdicts("modbus-tcp://plc") == 100
    assert [is_information(uri) for uri in ("jsonl:-", "mqtts://b/a", "serial:///dev/x")] == [
        True,
        True,
        False,
    ]


def test_without_the_library_the_extra_is_named() -> None:
    code = "import sys; sys.modules['paho'] = None\nfrom edge.outputs import output_opener\noutput_opener('mqtt://b/a')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'edge-inspect[mqtt]'" in ended.stderr.splitlines()[-1]


def test_a_command_that_comes_twice_is_carried_out_once() -> None:
    """At least once is all that MQTT promises: a part must not be triggered twice by one message."""
    link, desk = PlcLink(Mode.IDS), Desk()
    link.beat(1, True)

    def ask(command: RemoteCommand) -> Answer:
        return link.act(lambda hand, now_ns: desk.take(command, hand, now_ns))

    assert ask(TRIGGER) == ask(TRIGGER) == Answer("", "trigger", 7, "a")
    assert link.wait(0.0) is not None and link.wait(0.0) is None
    assert "another command" in ask(RemoteCommand(Wish.RESET_COUNTERS, None, "a")).error
    assert "not taken" in ask(RemoteCommand(Wish.TRIGGER, 8)).error
    assert ask(RESET).error == ""
    for number in range(KEPT_ANSWERS):
        ask(RemoteCommand(Wish.RESET_COUNTERS, None, number))
    assert "not taken" in ask(TRIGGER).error, "forgotten after so many others"


def test_commands_are_read_strictly() -> None:
    assert read_command(b'{"command": "trigger", "part_id": 0, "id": 1}', "x") == RemoteCommand(
        Wish.TRIGGER, 0, 1
    )
    for text in (
        '{"part_id": true}',
        '{"part_id": 1.0}',
        '{"part_id": -1}',
        '{"part_id": 4294967296}',
        '{"id": []}',
    ):
        with pytest.raises(InspectError):
            read_command(json.dumps(json.loads(text) | {"command": "trigger"}).encode(), "x")
    with pytest.raises(InspectError, match="takes no part_id"):
        read_command(b'{"command": "rebirth", "part_id": 1}', "x")


def test_the_keys_in_the_docs_are_the_code_s() -> None:
    def keys(heading: str) -> list[str]:
        return re.findall(r"^\| `(\w+)` \|", DOCS.partition(f"### {heading}")[2].partition("\n#")[0], re.M)

    assert keys("PREFIX/status") == list(status_json(Life(True, True, 1, Counters()), 1))
    assert keys("PREFIX/verdict") == list(record(a_verdict(1), False, 1))[-2:]
    assert keys("PREFIX/reply") == list(Answer().as_json())


def test_a_connection_that_has_ended_holds_no_handle() -> None:
    """The story: each try to reach a broker held two handles until Python came to sweep, much later."""
    with silent_peer() as port:
        gc.collect()
        gc.disable()
        try:
            before = len(list(HANDLES.iterdir()))
            for _ in range(5):
                with suppress(OutputLost):
                    output_opener(f"mqtt://127.0.0.1:{port}/a?timeout_ms=50")()
            assert len(list(HANDLES.iterdir())) == before
        finally:
            gc.enable()
