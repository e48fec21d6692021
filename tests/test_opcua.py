"""The OPC UA server against two clients in processes of their own; one of them shares no code with it."""

import random
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opcua_peer import (
    ANSWER_S,
    AUTOMATIC,
    EXTERNAL,
    INTERNAL,
    MACHINE,
    PEERS,
    PRODUCT,
    RECIPES,
    RESULT,
    RESULTS,
    OpcUaPeer,
    PeerError,
    opcua_peer,
    shows,
)  # fmt: skip
from peers import a_verdict, free_port, until
from toy import toy_pair

from edge.errors import OutputLost
from edge.outputs import Output, output_opener
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import Status
from edge.plc.vision import Refusal
from edge.station.compose import station_of
from edge.station.running import RunOptions
from edge.trigger import Request
from edge.verdict import Outcome, Reason

PASSWORD = "blue parrot"
WAIT_NS = 600_000_000_000  # no trigger of these tests runs out of time
FIELDS = ["ResultId", "PartId", "JobId", "ResultState", "MeasId", "ResultContent", "InternalRecipeId"]


class Station:
    """An output that is served; its loop is played by the test."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        self.port, self.link = free_port(), PlcLink(mode, budget_ns=WAIT_NS)
        self.link.recipe = "widget@abcd12345678"
        place = (
            f"opc-ua://127.0.0.1:{self.port}?user=line&password_file={secret}&certificates={folder / 'own'}"
        )
        self.uri = f"{place}&handshake={mode.value}"
        self.opener = output_opener(self.uri, link=self.link)
        self.output: Output = self.opener()
        self.output.beat(1, True)
        self.frames = 0

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/edge-inspect"

    def connect(self, peer: OpcUaPeer) -> OpcUaPeer:
        peer.ask("connect", url=self.url, secure=True, user="line", password=PASSWORD)
        return peer

    def request(self) -> Request:
        request = self.link.wait(ANSWER_S)
        assert request is not None
        return request

    def judge(self, request: Request, outcome: Outcome = Outcome.PASS, reason: Reason | None = None) -> None:
        self.frames += 1
        verdict = a_verdict(self.frames, outcome, reason)
        self.output.send(replace(verdict, part_id=request.part_id, request=request.number))


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    station = Station(tmp_path_factory.mktemp("free"), Mode.FREE_RUN)
    yield station
    station.output.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    station = Station(tmp_path_factory.mktemp("asked"), Mode.IDS)
    yield station
    station.output.close()


@pytest.fixture(scope="module", params=PEERS)
def free_peer(request: pytest.FixtureRequest, free: Station) -> Iterator[OpcUaPeer]:
    with opcua_peer(request.param) as peer:
        free.connect(peer).ask("watch", nodes=["Station.BLOCK", "Station.RESULT_ID"], fields=FIELDS)
        yield peer


@pytest.fixture(scope="module", params=PEERS)
def asked_peer(request: pytest.FixtureRequest, asked: Station) -> Iterator[OpcUaPeer]:
    with opcua_peer(request.param) as peer:
        asked.connect(peer).ask("watch", nodes=["Station.VERDICT"], fields=FIELDS)
        yield peer


@pytest.mark.parametrize("kind", PEERS)
def test_nobody_comes_in_without_key_and_password(free: Station, kind: str) -> None:
    refused: dict[str, dict[str, object]] = {
        "no encryption": {"secure": False, "user": "line", "password": PASSWORD},
        "neither": {"secure": False, "user": "", "password": ""},
        "wrong password": {"secure": True, "user": "line", "password": "red parrot"},
        "another user": {"secure": True, "user": "admin", "password": PASSWORD},
        "nobody in particular": {"secure": True, "user": "", "password": ""},
    }
    with opcua_peer(kind) as peer:
        for name, how in refused.items():
            with pytest.raises(PeerError):
                peer.ask("connect", url=free.url, **how)
                pytest.fail(f"came in with {name}")
        assert free.connect(peer).read("Station.TEST_U16") == [0x1234]


def test_a_subscriber_sees_every_verdict_in_order(free: Station, free_peer: OpcUaPeer) -> None:
    peer = free_peer
    peer.begin()
    kinds = [Outcome.PASS, Outcome.FAIL, Outcome.REVIEW] * 4
    numbers = [free.frames + at for at in range(1, len(kinds) + 1)]
    before = peer.read("Station.SEQUENCE")[0]
    for kind in kinds:
        free.judge(Request(), kind)
    assert until(lambda: len(peer.results()) == len(kinds), ANSWER_S)
    told = peer.results()
    assert [int(each["PartId"]["Id"]) for each in told] == numbers
    assert len({each["ResultId"]["Id"] for each in told}) == len(kinds)
    assert [each["ResultContent"][:4] for each in told] == [
        [{Outcome.PASS: 1, Outcome.FAIL: 2, Outcome.REVIEW: 3}[kind], number, before + at, at_reason(kind)]
        for at, (kind, number) in enumerate(zip(kinds, numbers, strict=True), 1)
    ]
    assert until(lambda: ("Station.RESULT_ID", numbers[-1]) in peer.seen, ANSWER_S)
    ids = [value for name, value in peer.seen if name == "Station.RESULT_ID"]
    assert ids == sorted(ids) and set(numbers) <= set(ids)
    for name, block in peer.seen:
        if name == "Station.BLOCK" and block["RESULT_ID"] in numbers:
            kind = kinds[block["RESULT_ID"] - numbers[0]]
            assert block["REASON"] == at_reason(kind), "verdict, part and reason of one block belong together"
            assert bool(block["STATUS"] & Status.PASS) is (kind is Outcome.PASS)


def at_reason(kind: Outcome) -> int:
    return {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.REVIEW: 2}[kind]


def test_a_result_is_found_by_its_id_and_by_its_part(free: Station, free_peer: OpcUaPeer) -> None:
    peer = free_peer
    peer.begin()
    free.judge(Request(), Outcome.FAIL)
    free.judge(Request(), Outcome.FAIL, Reason.CAMERA_LOST)
    assert until(lambda: len(peer.results()) == 2, ANSWER_S)
    judged, fault = peer.results()
    handle, result, error = peer.call(
        f"{RESULTS}.GetResultById", ["struct", judged["ResultId"]["Id"], RESULT], ["int32", 0]
    )
    assert (handle, error) == (0, Refusal.NONE)
    assert result["ResultId"] == judged["ResultId"] and result["PartId"]["Id"] == str(free.frames - 1)
    assert (result["ResultState"], result["IsPartial"], result["IsSimulated"]) == (1, False, False)
    assert result["InternalRecipeId"]["Id"] == "widget@abcd12345678"
    assert result["ExternalRecipeId"]["Id"] == "widget"
    assert result["ProcessingTimes"]["ProcessingDuration"] == pytest.approx(38.0)
    assert result["ProcessingTimes"]["StartTime"] < result["ProcessingTimes"]["EndTime"]
    assert result["ResultContent"][4:] == ["ANOMALY", pytest.approx(1.5), pytest.approx(0.5)]
    parts = peer.call(
        f"{RESULTS}.GetResultComponentsById", ["struct", fault["ResultId"]["Id"], RESULT], ["int32", 0]
    )
    assert len(parts) == 17 and parts[-1] == Refusal.NONE
    assert parts[4] == 4, "not judged: a failed result, whatever becomes of the part"
    assert parts[6]["Id"] == str(free.frames)
    assert peer.found(part=str(free.frames)) == [fault["ResultId"]["Id"]]
    assert peer.found(part="nobody") == []
    assert peer.found(state=4)[-1] == fault["ResultId"]["Id"] and judged["ResultId"]["Id"] not in peer.found(
        state=4
    )
    answer = peer.call(f"{RESULTS}.GetResultById", ["struct", "no such id", RESULT], ["int32", 0])
    assert answer[-1] == Refusal.UNKNOWN_ID


def test_a_station_that_runs_by_itself_says_what_it_cannot_do(free: Station, free_peer: OpcUaPeer) -> None:
    peer = free_peer
    free.output.beat(2, True)
    assert peer.state() == ["Operational", "ContinuousExecution"]
    assert peer.start("StartSingleJob", part="7") == ["", Refusal.NOT_SUPPORTED]
    for method in (f"{AUTOMATIC}.Stop", f"{AUTOMATIC}.Abort", f"{MACHINE}.Halt"):
        assert peer.call(method, ["int32", 0], ["string", "why"]) == [Refusal.NOT_SUPPORTED]
    assert peer.state() == ["Operational", "ContinuousExecution"]


def test_one_recipe_is_loaded_and_no_other(free: Station, free_peer: OpcUaPeer) -> None:
    peer = free_peer
    ids = [["struct", "", EXTERNAL], ["struct", "", PRODUCT]]
    numbers = [["int32", 1], ["uint32", 0], ["uint32", 0], ["int32", 0]]
    listed = peer.call(f"{RECIPES}.GetRecipeListFiltered", *ids, *numbers)
    assert listed[:3] == [True, 1, 0] and listed[3][0]["Id"] == "widget@abcd12345678" and listed[4] == 0
    assert prepared(peer, "widget")[1:] == [True, Refusal.NONE]
    assert prepared(peer, "gadget")[1:] == [False, Refusal.UNKNOWN_ID]
    assert prepared(peer, "12")[1:] == [False, Refusal.FAILED], "nobody here carries out LOAD_RECIPE"
    unprepared = peer.call(
        f"{RECIPES}.UnprepareRecipe", ["struct", "widget", EXTERNAL], ["struct", "", INTERNAL]
    )
    assert unprepared[-1] == Refusal.NOT_SUPPORTED


def prepared(peer: OpcUaPeer, recipe: str) -> list[object]:
    return peer.call(f"{RECIPES}.PrepareRecipe", ["struct", recipe, EXTERNAL], ["struct", "", INTERNAL])


def test_a_job_is_a_trigger_and_its_result_carries_its_ids(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    peer.begin()
    assert peer.state() == ["Operational", "Ready"]
    job, error = peer.start("StartSingleJob", part="4711", meas="shift 3", recipe="widget")
    assert error == Refusal.NONE and job
    assert peer.state() == ["Operational", "SingleExecution"]
    missed = peer.read("Station.COUNT_MISSED")[0]
    assert peer.start("StartSingleJob", part="4712") == ["", Refusal.WRONG_STATE]
    assert peer.read("Station.COUNT_MISSED", "Station.STATUS.MISSED_TRIGGER") == [missed + 1, True]
    assert peer.call(f"{MACHINE}.ConfirmAll", ["text", "seen"]) == []
    assert peer.read("Station.STATUS.MISSED_TRIGGER") == [False]
    request = asked.request()
    assert request.part_id == 4711
    asked.judge(request)
    names = ("VERDICT", "RESULT_ID", "REASON", "STATUS.RESULT_VALID", "STATUS.PASS", "STATUS.FAIL")
    assert peer.read(*(f"Station.{name}" for name in names)) == [1, 4711, 0, True, True, False]
    assert until(lambda: len(peer.results()) == 1, ANSWER_S)
    told = peer.results()[0]
    assert (told["JobId"]["Id"], told["PartId"]["Id"], told["MeasId"]["Id"]) == (job, "4711", "shift 3")
    assert peer.state() == ["Operational", "Ready"]
    assert peer.start("StartSingleJob", part="the red one")[1] == Refusal.NONE
    assert peer.read("Station.VERDICT", "Station.STATUS.PASS") == [0, False], "the next job takes the result"
    asked.judge(asked.request(), Outcome.FAIL)
    assert until(lambda: len(peer.results()) == 2, ANSWER_S)
    assert peer.results()[1]["PartId"]["Id"] == "the red one"
    told_of = [
        kind.rpartition("i=")[2] for kind, fields in peer.events if (fields["JobId"] or {}).get("Id") == job
    ]
    assert told_of == ["1013", "1024", "1023"], "JobStarted, ResultReady, Ready"


def test_recipes_and_products_that_are_not_loaded_start_nothing(
    asked: Station, asked_peer: OpcUaPeer
) -> None:
    peer = asked_peer
    assert peer.start("StartSingleJob", part="1", recipe="gadget") == ["", Refusal.UNKNOWN_ID]
    assert peer.start("StartSingleJob", part="1", product="P1") == ["", Refusal.NOT_SUPPORTED]
    assert asked.link.wait(0.0) is None


def test_an_aborted_job_has_no_result(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    stop, abort = f"{AUTOMATIC}.Stop", f"{AUTOMATIC}.Abort"
    why = (["int32", 0], ["string", "the part fell off"])
    assert peer.call(abort, *why) == [Refusal.WRONG_STATE]
    assert peer.start("StartSingleJob", part="13")[1] == Refusal.NONE
    request = asked.request()
    assert peer.call(stop, *why) == [Refusal.NONE], "what has begun comes to its end"
    assert peer.state() == ["Operational", "SingleExecution"]
    assert peer.call(abort, *why) == [Refusal.NONE]
    assert peer.state() == ["Operational", "Ready"]
    asked.judge(request)
    assert peer.read("Station.VERDICT", "Station.RESULT_ID") == [0, 0]
    assert peer.found(part="13") == []


def test_continuous_execution_triggers_until_it_is_stopped(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    peer.begin()
    job, error = peer.start("StartContinuous", meas="run")
    assert error == Refusal.NONE
    for _ in range(3):
        asked.judge(asked.request())
        assert peer.state() == ["Operational", "ContinuousExecution"]
    last = asked.request()
    assert peer.start("StartSingleJob", part="1") == ["", Refusal.WRONG_STATE]
    assert peer.call(f"{AUTOMATIC}.Stop", ["int32", 0], ["string", ""]) == [Refusal.NONE]
    assert peer.state() == ["Operational", "ContinuousExecution"]
    asked.judge(last)
    assert peer.state() == ["Operational", "Ready"]
    assert until(lambda: len(peer.results()) == 4, ANSWER_S)
    assert {each["JobId"]["Id"] for each in peer.results()} == {job}
    assert asked.link.wait(0.0) is None


def test_halted_until_the_reset(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    why = (["int32", 0], ["string", "end of shift"])
    assert peer.call(f"{MACHINE}.Halt", *why) == [Refusal.NONE]
    assert peer.state() == ["Halted", "BadStateNotActive"]
    asked.output.beat(3, True)
    assert peer.read("Station.STATUS.READY", "Station.VERDICT", "Station.STATE") == [False, 0, 2]
    assert peer.start("StartSingleJob", part="5") == ["", Refusal.WRONG_STATE]
    assert peer.call(f"{MACHINE}.Reset", *why) == [Refusal.NONE]
    assert peer.state() == ["Preoperational", "BadStateNotActive"]
    asked.output.beat(4, True)
    assert peer.state() == ["Operational", "Ready"]
    assert asked.link.wait(0.0) is None


def test_a_stalled_station_is_not_ready_and_vouches_for_nothing(
    asked: Station, asked_peer: OpcUaPeer
) -> None:
    peer = asked_peer
    peer.begin()
    peer.start("StartSingleJob", part="21")
    asked.judge(asked.request())
    assert peer.read("Station.VERDICT") == [1]
    asked.output.beat(5, False)
    assert peer.state() == ["Error", "BadStateNotActive"]
    names = ("VERDICT", "RESULT_ID", "STATUS.PASS", "STATUS.READY", "STATUS.ONLINE", "ERROR_CODE")
    assert peer.read(*(f"Station.{name}" for name in names)) == [0, 0, False, False, False, 60]
    assert peer.start("StartSingleJob", part="22") == ["", Refusal.WRONG_STATE]
    assert until(lambda: [v for _, v in peer.seen][-2:] == [1, 0], ANSWER_S)
    asked.output.beat(6, True)
    assert peer.state() == ["Operational", "Ready"]


def test_a_plc_without_structures_triggers_and_acknowledges(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    assert peer.call("Station.Trigger", ["uint32", 31]) == [True]
    assert peer.call("Station.Trigger", ["uint32", 32]) == [False]
    asked.judge(asked.request(), Outcome.FAIL)
    assert peer.read("Station.RESULT_ID", "Station.VERDICT") == [31, 2]
    assert peer.call("Station.Acknowledge", ["uint32", 99]) == [False]
    assert peer.call("Station.Acknowledge", ["uint32", 31]) == [True]
    assert peer.read("Station.RESULT_ID", "Station.VERDICT") == [0, 0]
    peer.call(f"{MACHINE}.ConfirmAll", ["text", ""])


def test_only_the_heartbeat_can_be_written_and_its_silence_is_noticed(
    asked: Station, asked_peer: OpcUaPeer
) -> None:
    peer = asked_peer
    assert peer.ask("write", node="Station.VERDICT", value=1)["status"] != "Good"
    first = peer.read("Station.PLC_HEARTBEAT")[0]
    assert peer.ask("write", node="Station.PLC_HEARTBEAT", value=first + 1)["status"] == "Good"
    assert shows(peer, "Station.WARNING_CODE", int(Reason.OUTPUT_LOST)), "silent for three seconds"
    assert peer.read("Station.STATUS.READY") == [False]
    assert peer.start("StartSingleJob", part="8") == ["", Refusal.WRONG_STATE]
    assert peer.ask("write", node="Station.PLC_HEARTBEAT", value=first + 2)["status"] == "Good"
    assert shows(peer, "Station.STATUS.READY", True)
    asked.link.withdraw()  # forgets that this PLC beats
    asked.output.beat(7, True)


def test_too_few_arguments_are_the_clients_fault(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    answer = peer.ask("call", object=AUTOMATIC, method="Stop", arguments=[["int32", 0]])
    assert answer["status"] == "BadArgumentsMissing"


def test_arguments_of_another_kind_start_nothing(asked: Station, asked_peer: OpcUaPeer) -> None:
    five = [["uint32", 7]] * 4 + [["variants", []]]
    answer = asked_peer.ask("call", object=AUTOMATIC, method="StartSingleJob", arguments=five)
    assert answer["status"] == "BadInvalidArgument"
    answer = asked_peer.ask("call", object="Station", method="Trigger", arguments=[["string", "7"]])
    assert answer["status"] == "BadInvalidArgument"
    assert asked.link.wait(0.0) is None and asked_peer.state() == ["Operational", "Ready"]


def test_noise_on_the_port_is_nobodys_fault(free: Station, free_peer: OpcUaPeer) -> None:
    noise = random.Random(7)
    for start in (b"", b"HELF", b"OPNF", b"MSGF\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n") * 4:
        with socket.create_connection(("127.0.0.1", free.port)) as rude:
            rude.sendall(start + noise.randbytes(noise.randrange(1, 300)))
    assert free_peer.read("Station.TEST_U16") == [0x1234]
    free.judge(Request())
    assert free_peer.read("Station.RESULT_ID") == [free.frames]


def test_what_cannot_be_done_is_not_offered(asked: Station, asked_peer: OpcUaPeer) -> None:
    peer = asked_peer
    parts = {"VisionStateMachine", "RecipeManagement", "ResultManagement", "SystemState"}
    assert set(peer.ask("browse", node="VisionSystem")["names"]) == parts
    methods = {"GetResultById", "GetResultComponentsById", "GetResultListFiltered"}
    assert set(peer.ask("browse", node=RESULTS)["names"]) == methods


def test_a_client_that_goes_and_comes_back_finds_its_result(asked: Station) -> None:
    lost = OpcUaPeer("asyncua")
    asked.connect(lost).start("StartSingleJob", part="51")
    lost.kill()
    asked.judge(asked.request())
    with opcua_peer("asyncua") as back:
        assert asked.connect(back).read("Station.RESULT_ID", "Station.VERDICT") == [51, 1]
        assert len(back.found(part="51")) == 1


def test_a_port_that_is_taken_is_said_at_once(free: Station) -> None:
    with pytest.raises(OutputLost, match="cannot listen"):
        output_opener(free.uri)()


def test_the_servers_key_is_nobody_elses(free: Station, tmp_path: Path) -> None:
    own = Path(free.uri.partition("certificates=")[2].partition("&")[0])
    assert stat.S_IMODE((own / "own.key.pem").stat().st_mode) == 0o600
    assert PASSWORD not in free.output.uri


def test_a_whole_station_is_triggered_over_opc_ua(tmp_path: Path) -> None:
    notes: list[str] = []
    port = free_port()
    uri = f"opc-ua://127.0.0.1:{port}?security=none&handshake=ids"
    options = RunOptions("conveyor:?seed=1&fps=50", toy_pair(tmp_path, deadline_ms=5000.0), [uri])
    with station_of(options, say=notes.append) as running, opcua_peer("asyncua") as peer:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            assert until(lambda: connected(peer, f"opc.tcp://127.0.0.1:{port}"), ANSWER_S)
            assert shows(peer, "Station.STATUS.READY", True)
            for part in (901, 902, 903):
                assert peer.call("Station.Trigger", ["uint32", part]) == [True]
                assert shows(peer, "Station.RESULT_ID", part)
                assert peer.read("Station.VERDICT") != [0]
            told = peer.call(f"{RESULTS}.GetResultById", ["struct", peer.found()[-1], RESULT], ["int32", 0])
            assert told[1]["IsSimulated"] is True, "the camera is a simulated line"
            assert prepared(peer, "toy")[0] == {**prepared(peer, "toy")[0], "Id": running.recipe.identity}
        finally:
            running.station.stop()
            loop.join()
    assert any("security=none" in note for note in notes)


def connected(peer: OpcUaPeer, url: str) -> bool:
    try:
        peer.ask("connect", url=url, secure=False, user="", password="")
    except PeerError:
        return False
    return True
