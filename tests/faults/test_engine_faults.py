"""An engine in a process of its own breaks in every way; that costs the part in hand its pass, no more."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from peers import until
from toy import SIDE, toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.engines.isolation import IsolatedBackend
from edge.errors import BackendFault, RecipeError
from edge.frame import Pixels, Shot, make_frame
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.recipe import Recipe, load_pair
from edge.station.capture import Capture, Policy
from edge.station.loop import Station
from edge.station.worker import InferenceWorker
from edge.verdict import Reason

STARTS_S = 60.0  # a process that is started on a machine with other things to do


def grey(value: int) -> Pixels:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


@contextmanager
def isolated(engine: Path, patience_s: float = 30.0) -> Iterator[IsolatedBackend]:
    with closing(IsolatedBackend(*load_pair(engine)[:2], patience_s=patience_s)) as backend:
        yield backend


def lives(pid: int) -> bool:
    """A zombie that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def hurt(backend: IsolatedBackend, number: signal.Signals) -> int:
    pid = backend.pid
    assert pid is not None
    os.kill(pid, number)
    return pid


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_a_part_and_the_next_process_judges_as_the_first(
    tmp_path: Path, number: signal.Signals
) -> None:
    with isolated(toy_pair(tmp_path)) as backend:
        before = backend.infer(grey(60))[1]
        crashed = hurt(backend, number)
        assert until(lambda: backend.restarts == 1, STARTS_S)
        assert until(lambda: backend.ready, STARTS_S)
        assert number.name in backend.why and "memory" not in backend.why, "nobody was short of it"
        assert backend.pid != crashed and not lives(crashed)
        assert backend.infer(grey(60))[1] == before


def test_until_the_next_process_has_passed_its_self_test_no_part_is_judged(
    tmp_path: Path,
) -> None:
    with isolated(toy_pair(tmp_path)) as backend:
        hurt(backend, signal.SIGKILL)
        assert until(lambda: not backend.ready)
        with pytest.raises(BackendFault, match="being started again"):
            backend.infer(grey(60))


def test_a_hang_ends_and_another_process_is_started(tmp_path: Path) -> None:
    """The story: a driver hung on the second day, and the station answered DEADLINE_MISSED until Monday."""
    with isolated(toy_pair(tmp_path), patience_s=0.3) as backend:
        hung = hurt(backend, signal.SIGSTOP)
        with pytest.raises(BackendFault, match="hangs"):
            backend.infer(grey(60))
        assert until(lambda: backend.ready, STARTS_S)
        assert not lives(hung)


def test_a_hang_is_answered_at_the_deadline_and_the_part_after_the_restart_is_judged(tmp_path: Path) -> None:
    engine, recipe, artefact = load_pair(toy_pair(tmp_path))
    backend = IsolatedBackend(engine, recipe, patience_s=0.5)
    with closing(InferenceWorker(backend, recipe, artefact.sha256)) as worker:
        frames = [make_frame(Shot(grey(60 + i)), i, "test", time.monotonic_ns()) for i in range(3)]
        hurt(backend, signal.SIGSTOP)
        answer = worker.inspect(frames[0], time.monotonic_ns() + 20_000_000)
        assert answer is Reason.DEADLINE_MISSED
        assert until(lambda: not worker.hangs, STARTS_S)
        assert until(lambda: worker.ready, STARTS_S)
        judged = worker.inspect(frames[2], time.monotonic_ns() + int(STARTS_S * 1e9))
        assert not isinstance(judged, Reason) and judged.frame_id == 2
        assert worker.late == 1


def test_a_fault_of_the_library_costs_a_part_and_the_process_is_replaced(tmp_path: Path) -> None:
    """After a CUDA error every later call in that process fails, too: so it is not used again."""
    with isolated(toy_pair(tmp_path, kind="touchy")) as backend:
        assert backend.infer(grey(60))[1] == pytest.approx(0.6, rel=1e-4)
        failed = backend.pid
        with pytest.raises(BackendFault, match="inference failed"):
            backend.infer(grey(255))
        assert until(lambda: backend.ready, STARTS_S)
        assert backend.pid != failed
        assert backend.infer(grey(60))[1] == pytest.approx(0.6, rel=1e-4)


def test_a_process_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    with isolated(toy_pair(tmp_path)) as backend:
        backend.memory_limit = 1 << 20
        assert until(lambda: "MiB of memory, 1 are allowed" in backend.why, STARTS_S)
        backend.memory_limit = 1 << 40
        assert until(lambda: backend.ready, STARTS_S)


def test_an_engine_that_judges_otherwise_after_its_restart_judges_no_part(tmp_path: Path) -> None:
    with isolated(toy_pair(tmp_path, kind="random")) as backend:
        hurt(backend, signal.SIGKILL)
        assert until(lambda: "self-test failed: the score is" in backend.why, STARTS_S)
        assert not backend.ready


def test_an_engine_that_was_replaced_on_the_disk_is_not_taken_with_the_old_limits(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    with isolated(engine) as backend:
        engine.write_bytes(toy_pair(tmp_path, "other", kind="touchy").read_bytes())
        hurt(backend, signal.SIGKILL)
        assert until(lambda: "sha256 differs" in backend.why, STARTS_S)
        assert not backend.ready


def test_what_opening_raises_comes_through(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    recipe = load_pair(engine)[1]
    with pytest.raises(RecipeError, match="does not know this engine"):
        IsolatedBackend(engine, Recipe("toy", (SIDE, SIDE), 1.0, 2.0))
    with pytest.raises(BackendFault, match="unknown backend 'abacus'"):
        IsolatedBackend(engine, recipe, "abacus")


PARENT = """
import sys, time
from pathlib import Path
from edge.engines.isolation import IsolatedBackend
from edge.recipe import load_pair
print(IsolatedBackend(*load_pair(Path(sys.argv[1]))[:2]).pid, flush=True)
time.sleep(600)
"""


def test_the_engine_s_process_dies_with_the_station_even_where_it_hangs(tmp_path: Path) -> None:
    """The story: a killed station left a process that held the GPU, and the next one found no memory."""
    command = [sys.executable, "-c", PARENT, str(toy_pair(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as station:
        assert station.stdout is not None
        pid = int(station.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        assert lives(pid)
        station.kill()
        assert until(lambda: not lives(pid), STARTS_S)


def test_a_plc_that_triggers_is_not_told_ready_while_there_is_no_engine(tmp_path: Path) -> None:
    engine, recipe, artefact = load_pair(toy_pair(tmp_path))
    backend = IsolatedBackend(engine, recipe)
    camera = ScriptedCamera(live=True)
    with (
        closing(InferenceWorker(backend, recipe, artefact.sha256)) as worker,
        Capture(lambda: camera, "script", Policy.EVERY) as capture,
    ):
        station = Station(capture, worker, recipe)
        station.trigger = PlcLink(Mode.IDS)
        loop = threading.Thread(target=station.run)
        loop.start()
        try:
            now = time.monotonic_ns()
            assert until(lambda: station.is_healthy(now), STARTS_S)
            hurt(backend, signal.SIGKILL)
            assert until(lambda: not station.is_healthy(now))
            assert station.turns(now)  # the loop is well: a new station would be no better
            assert until(lambda: station.is_healthy(now), STARTS_S)
        finally:
            station.stop()
            loop.join()


def test_maps_and_scores_are_those_of_the_library_to_the_last_digit(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    picture = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with isolated(engine) as backend, closing(OnnxRuntimeBackend(engine, (SIDE, SIDE))) as here:
        (map_there, score_there), (map_here, score_here) = backend.infer(picture), here.infer(picture)
    assert score_there == score_here
    np.testing.assert_array_equal(map_there, map_here)
