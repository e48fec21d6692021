"""The PLC orders another recipe, a challenge, a lot: whole stations, real Modbus, another library there."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from faults.test_station_faults import grey
from peers import free_port, plc_client, until
from pyModbusTCP.client import ModbusClient
from toy import SIDE, toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.engines.choice import Choice
from edge.engines.engine import Opened, open_engine
from edge.errors import DataError, EndOfStream
from edge.plc.commands import Command
from edge.plc.handshake import Mode
from edge.plc.line_protocol import answer
from edge.plc.link import PlcLink
from edge.plc.program import PlcProgram
from edge.plc.registers import Control, Status, decode
from edge.recipe import load_pair
from edge.station.capture import Capture
from edge.station.challenge import challenge_pictures, surprises
from edge.station.compose import station_of
from edge.station.line import LineOptions, Recipes
from edge.station.loop import Station, Successor
from edge.station.orders import Orders
from edge.station.running import RunOptions
from edge.station.worker import InferenceWorker
from edge.verdict import Outcome, Reason, Verdict

ENDED = Status.COMMAND_DONE | Status.COMMAND_FAILED
GOOD, BAD = 60, 220  # grey levels


def write(folder: Path, *greys: int) -> Path:
    """Pictures of so many parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(greys):
        cv2.imwrite(str(folder / f"{number}.png"), grey(level).pixels)
    return folder


class Plc:
    """The program of a PLC that is the Modbus client."""

    def __init__(self, client: ModbusClient) -> None:
        self.client, self.program = client, PlcProgram(Mode.BITS, patience=10**9)
        self.block = [0] * 50

    def cycle(self) -> Status:
        self.block = self.client.read_holding_registers(100, 50) or [0] * 50
        self.client.write_multiple_registers(0, self.program.scan(self.block))
        return Status(self.block[0])

    def read(self, name: str) -> int:
        return int(decode(name, self.block))

    def waits_for(self, bits: Status) -> bool:
        return until(lambda: self.cycle() & bits == bits, 20.0)

    def order(self, command: Command, argument: int = 0) -> Status:
        """From EXEC_COMMAND to its end; which of DONE and FAILED."""
        assert until(lambda: not self.cycle() & ENDED)
        self.program.order(command, argument)
        assert until(lambda: bool(self.cycle() & ENDED), 20.0)
        return Status(self.block[0]) & ENDED

    def part(self, number: int) -> tuple[int, int]:
        """VERDICT and RECIPE_NUMBER of a part that comes now."""
        self.program.part_arrives(number)
        got: list[tuple[int, int]] = []

        def taken() -> bool:
            if self.cycle() & Status.RESULT_VALID and self.read("RESULT_ID") == number:
                got.append((self.read("VERDICT"), self.read("RECIPE_NUMBER")))
            return [part for part, *_ in self.program.taken][-1:] == [number]

        assert until(taken, 20.0)
        return got[0]


class Line:
    def __init__(self, plc: Plc, said: list[str], verdicts: Path) -> None:
        self.plc, self.said, self.verdicts = plc, said, verdicts

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.verdicts.read_text().splitlines()]


@contextmanager
def line(tmp_path: Path, greys: tuple[int, ...], options: LineOptions) -> Iterator[Line]:
    """Each trigger gets the next picture of a folder."""
    pictures, port, said = write(tmp_path / "line", *greys), free_port(), list[str]()
    outputs = [f"modbus-tcp-server://127.0.0.1:{port}?handshake=bits", f"jsonl:{tmp_path / 'verdicts.jsonl'}"]
    run = RunOptions(f"{pictures}?loop=1", toy_pair(tmp_path, "can"), outputs, "onnxruntime", line=options)
    with station_of(run, say=said.append) as running, plc_client(port) as client:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            yield Line(Plc(client), said, tmp_path / "verdicts.jsonl")
        finally:
            running.station.stop()
            loop.join()


def test_counters_that_were_reset_are_no_failed_command(tmp_path: Path) -> None:
    """The story: the PLC got DONE, and the log said that it could not be carried out here."""
    with line(tmp_path, (GOOD,), LineOptions()) as on:
        assert on.plc.waits_for(Status.READY)
        on.plc.part(1)
        assert on.plc.order(Command.RESET_COUNTERS) == Status.COMMAND_DONE
        assert on.plc.read("COUNT_TOTAL") == 0
        assert until(lambda: "counters reset" in on.said)
        assert not any("failed" in text for text in on.said), on.said


def test_another_recipe_judges_from_the_command_s_end_on_and_every_result_names_its_own(
    tmp_path: Path,
) -> None:
    """Recipe 2 stops what recipe 1 passes; its deadline is told to the handshake as well."""
    strict = Choice(toy_pair(tmp_path, "lid", review=0.3, fail=0.4, deadline_ms=900.0), "onnxruntime")
    with line(tmp_path, (GOOD, 61, 62), LineOptions(recipes={2: strict})) as on:
        assert on.plc.waits_for(Status.READY)
        assert (on.plc.part(1), on.plc.read("RECIPE_ACTIVE")) == ((1, 1), 1)
        assert on.plc.order(Command.LOAD_RECIPE, 2) == Status.COMMAND_DONE
        assert on.plc.read("RECIPE_ACTIVE") == 2
        assert on.plc.part(2) == (2, 2)
        assert on.plc.order(Command.LOAD_RECIPE, 1) == Status.COMMAND_DONE
        assert (on.plc.part(3), on.plc.read("RECIPE_ACTIVE")) == ((1, 1), 1)
    assert [(r["part_id"], r["recipe_number"], r["outcome"]) for r in on.records()] == [
        (1, 1, "pass"), (2, 2, "fail"), (3, 1, "pass"),
    ]  # fmt: skip


def test_a_load_that_fails_leaves_the_old_recipe_and_says_why(tmp_path: Path) -> None:
    lid = toy_pair(tmp_path, "lid")
    with line(tmp_path, (GOOD,), LineOptions(recipes={2: Choice(lid, "onnxruntime")})) as on:
        assert on.plc.waits_for(Status.READY)
        assert on.plc.order(Command.LOAD_RECIPE, 9) == Status.COMMAND_FAILED
        assert on.plc.read("WARNING_CODE") == Reason.RECIPE_NOT_LOADED
        assert "there is no recipe 9 (known are 1, 2)" in on.said[-1]
        lid.write_bytes(b"half a file")
        assert on.plc.order(Command.LOAD_RECIPE, 2) == Status.COMMAND_FAILED
        assert "sha256 differs" in on.said[-1]
        assert on.plc.order(Command.TEACH) == Status.COMMAND_FAILED
        assert (on.plc.read("RECIPE_ACTIVE"), on.plc.part(1)) == (1, (1, 1))


def test_a_challenge_that_fails_stops_the_line_until_a_person_or_a_better_one_clears_it(
    tmp_path: Path,
) -> None:
    masters = tmp_path / "challenge"
    with line(tmp_path, (GOOD,), LineOptions()) as on:
        assert on.plc.waits_for(Status.READY)
        assert on.plc.order(Command.CHALLENGE) == Status.COMMAND_FAILED, "without pictures nothing is proved"
        write(masters / "good", 50, 70)
        write(masters / "bad", 180, 210)
        assert on.plc.order(Command.CHALLENGE) == Status.COMMAND_DONE
        assert "4 pictures" in on.said[-1]
        assert on.plc.waits_for(Status.READY) and on.plc.read("ERROR_CODE") == 0
        write(masters / "bad", 180, 65)
        assert on.plc.order(Command.CHALLENGE) == Status.COMMAND_FAILED
        assert "bad/1.png gave pass" in on.said[-1]
        assert (on.plc.read("ERROR_CODE"), on.plc.read("WARNING_CODE")) == (42, 42)
        assert on.plc.cycle() & (Status.READY | Status.ERROR) == Status.ERROR
        on.plc.client.write_multiple_registers(0, [Control.ENABLE | Control.CLEAR_ERROR])
        assert on.plc.waits_for(Status.READY)
        assert on.plc.part(1) == (1, 1)
    assert len(on.records()) == 1, "challenge pictures are no parts"


def test_the_lot_stands_in_every_verdict_from_then_on(tmp_path: Path) -> None:
    with line(tmp_path, (GOOD, 61), LineOptions()) as on:
        assert on.plc.waits_for(Status.READY)
        on.plc.part(1)
        assert on.plc.order(Command.SET_LOT, 70_012) == Status.COMMAND_DONE
        on.plc.part(2)
        assert on.plc.order(Command.RESET_COUNTERS) == Status.COMMAND_DONE
        assert on.plc.cycle() and on.plc.read("COUNT_TOTAL") == 0
    assert [r["lot"] for r in on.records()] == [None, 70_012]


@contextmanager
def scripted(folder: Path) -> Iterator[tuple[Station, ScriptedCamera, list[tuple[Outcome, int]]]]:
    """A station in free run; what it answers, with the recipe's number."""
    engine, recipe, artefact = load_pair(toy_pair(folder, "can"))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera, answers = ScriptedCamera(live=False), list[tuple[Outcome, int]]()
    with Capture(lambda: camera, "script") as capture:
        shown: Callable[..., None] = lambda frame, answer, verdict: answers.append(  # noqa: E731
            (verdict.outcome, verdict.recipe_number)
        )
        station = Station(capture, worker, recipe, [shown])
        loop = threading.Thread(target=station.run)
        loop.start()
        try:
            yield station, camera, answers
        finally:
            camera.put(EndOfStream("done"))
            loop.join()
            station.close()


def shelf(folder: Path, opened: Callable[[], Opened]) -> Recipes:
    """Numbers 2 and 7 are both what `opened` gives."""
    any_choice = Choice(folder, "auto")
    return Recipes(folder, {2: any_choice, 7: any_choice}, (), opened, lambda choice: opened())


def test_the_old_engine_inspects_while_the_new_one_is_prepared(tmp_path: Path) -> None:
    lid, may_open, opening = (
        toy_pair(tmp_path, "lid", review=0.3, fail=0.4),
        threading.Event(),
        threading.Event(),
    )

    def slowly() -> Opened:
        opening.set()
        may_open.wait()
        return open_engine(lid, "onnxruntime")

    link = PlcLink(Mode.BITS)
    with scripted(tmp_path) as (station, camera, answers):
        orders = Orders(station, shelf(tmp_path, slowly), lambda text: None)
        orders.obey(link)
        assert link.act(lambda hand, now_ns: hand.command(Command.LOAD_RECIPE, 7, now_ns))
        assert opening.wait(10.0)
        camera.put(grey(GOOD))
        assert until(lambda: answers == [(Outcome.PASS, 1)])
        assert link.block()[0] & Status.COMMAND_BUSY
        may_open.set()
        assert until(lambda: bool(link.block()[0] & Status.COMMAND_DONE), 20.0)
        camera.put(grey(61))
        assert until(lambda: answers[1:] == [(Outcome.FAIL, 7)])
        orders.close()


def test_a_part_that_was_triggered_before_the_change_is_not_judged_by_the_new_recipe(tmp_path: Path) -> None:
    """The story: the trigger was taken in the moment between two parts in which the loop changed over."""
    can, lid = (open_engine(toy_pair(tmp_path, name), "onnxruntime") for name in ("can", "lid"))
    workers = [InferenceWorker(each.backend, each.recipe, each.artefact.sha256) for each in (can, lid)]
    camera, answers = ScriptedCamera([grey(GOOD), grey(GOOD + 1)], live=False), list[Verdict]()
    with Capture(lambda: camera, "script") as capture:
        station = Station(capture, workers[0], can.recipe, [lambda *seen: answers.append(seen[2])])
        station.trigger = link = PlcLink(Mode.IDS)
        station.listeners.append(lambda number, recipe: link.judges_by(number, 10**10))
        link.beat(1, True)
        assert [link.act(partial(answer, text)) for text in ("HB", "TRG,7")] == [b"OK\r", b"OK,7\r"]
        station.change_recipe(Successor(workers[1], lid.recipe, 2, lambda: None))
        station.run(count=1)
        link.publish(answers[0])
        assert link.act(partial(answer, "ACK,7")) == b"OK\r"
        assert link.act(partial(answer, "TRG,8")) == b"OK,8\r"
        station.run(count=2)
        camera.put(EndOfStream("done"))
        station.close()
    assert [(v.part_id, v.outcome, v.reason) for v in answers] == [
        (7, Outcome.FAIL, Reason.RECIPE_MISMATCH), (8, Outcome.PASS, Reason.WITHIN_LIMITS),
    ]  # fmt: skip


def test_a_challenge_that_another_link_ordered_holds_the_line_and_may_stop_it(
    tmp_path: Path,
) -> None:
    """The story: an operator's panel on a serial line ordered the challenge. The PLC still saw READY, its
    parts waited for a loop that was busy; the challenge failed, and the PLC's parts were judged on."""
    write(tmp_path / "challenge" / "good", GOOD, BAD)
    write(tmp_path / "challenge" / "bad", BAD)
    plc, panel, judging, may_go = PlcLink(Mode.BITS), PlcLink(), threading.Event(), threading.Event()

    def ready() -> bool:
        return bool(plc.block()[0] & Status.READY)

    def busy() -> None:
        judging.set()
        may_go.wait(30.0)

    with scripted(tmp_path) as (station, _, _answers):
        orders = Orders(
            station, shelf(tmp_path, lambda: open_engine(tmp_path / "can.onnx")), lambda text: None
        )
        orders.obey(plc)
        orders.obey(panel)
        plc.beat(1, healthy=True)
        plc.act(lambda hand, now_ns: setattr(hand, "enabled", True))
        assert ready()
        station.between_parts(busy)
        assert judging.wait(10.0)
        panel.act(lambda hand, now_ns: hand.command(Command.CHALLENGE, 0, now_ns))
        assert until(lambda: not ready()), "the loop has no time for a part"
        may_go.set()
        assert until(lambda: panel.act(lambda hand, _: hand.commands.bits) == Status.COMMAND_FAILED, 20.0)
        assert not ready() and decode("ERROR_CODE", plc.block()) == Reason.CHALLENGE_FAILED
        (tmp_path / "challenge" / "good" / "1.png").unlink()
        panel.act(lambda hand, now_ns: hand.command(Command.CHALLENGE, 0, now_ns))
        assert until(ready, 20.0), "proven"
        orders.close()


def test_an_engine_made_anew_does_not_push_out_another_recipe(tmp_path: Path) -> None:
    """The story: the PLC had changed over; then the first recipe's plan was ready, and took its place."""
    lid = toy_pair(tmp_path, "lid", review=0.3, fail=0.4)
    with scripted(tmp_path) as (station, camera, answers):
        orders = Orders(station, shelf(tmp_path, lambda: open_engine(lid)), lambda text: None)
        link = PlcLink(Mode.BITS)
        orders.obey(link)
        link.act(lambda hand, now_ns: hand.command(Command.LOAD_RECIPE, 2, now_ns))
        assert until(lambda: bool(link.block()[0] & Status.COMMAND_DONE), 20.0)
        anew = open_engine(tmp_path / "can.onnx")
        station.replace_engine(InferenceWorker(anew.backend, anew.recipe, anew.artefact.sha256), anew.recipe)
        camera.put(grey(GOOD))
        assert until(lambda: answers == [(Outcome.FAIL, 2)])
        orders.close()


def test_master_parts_need_both_kinds_and_a_fault_proves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "challenge" / "good", 50)
    with pytest.raises(DataError, match="no bad challenge pictures"):
        challenge_pictures(tmp_path / "challenge")
    write(tmp_path / "challenge" / "bad", 170)
    cv2.imwrite(str(tmp_path / "challenge" / "bad" / "black.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    masters = challenge_pictures(tmp_path / "challenge")
    with scripted(tmp_path) as (station, _, _answers):
        wrong: list[str] = []
        done = threading.Event()
        station.between_parts(
            lambda: (wrong.extend(surprises(masters, partial(station.try_out, station))), done.set())[0]
        )
        assert done.wait(20.0)
    assert wrong == ["bad/black.png gave fail, FRAME_BLANK"], "a review stops the part, a fault says nothing"
