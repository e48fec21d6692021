"""The commands as a user types them: real processes, real exit codes."""

import fcntl
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from peers import free_port, tcp_plc, until
from rich.console import Console
from toy import demo_pair, toy_pair

from edge.engines.engine import pace
from edge.errors import DataError
from edge.outputs.plc_sim import SimulatedPlc
from edge.paths import check_file
from edge.recipe import Recipe, load_recipe, recipe_path, stale_note
from edge.station.live import watched
from edge.station.running import RunOptions
from edge.station.signals import SAME_WISH_S

INSPECT = [sys.executable, "-c", "from edge.cli import main; main()"]


def inspect(*words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*INSPECT, *map(str, words)], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a first start measures is kept for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return toy_pair(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "line"
    folder.mkdir()
    for i, grey in enumerate((60, 170, 220, 80)):
        noise = np.random.default_rng(i).integers(-20, 20, (90, 120, 3))
        cv2.imwrite(str(folder / f"{i}.png"), np.clip(grey + noise, 0, 255).astype(np.uint8))
    return folder


def test_a_folder_is_judged_and_the_plc_is_told(engine: Path, pictures: Path, tmp_path: Path) -> None:
    with closing(SimulatedPlc()) as plc:
        uri = plc.start()
        words = (
            "--camera",
            pictures,
            "--engine",
            engine,
            "--plc",
            uri,
            "--save",
            tmp_path / "heat",
            "--json",
        )
        ended = inspect("run", *words)
        assert plc.wait_for(4, 3.0)
        received = plc.results()
    assert ended.returncode == 0, ended.stderr
    *lines, last = (json.loads(line) for line in ended.stdout.splitlines())
    assert [line["outcome"] for line in lines] == ["pass", "review", "fail", "pass"]
    assert [verdict for _, verdict, _ in received] == [1, 3, 2, 1]
    assert last["summary"]["outcomes"] == {"pass": 2, "review": 1, "fail": 1}
    assert sorted(p.name.split("-")[3] for p in (tmp_path / "heat").iterdir()) == ["fail", "review"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_summary(engine: Path, number: signal.Signals) -> None:
    command = [*INSPECT, "run", "--camera", "conveyor:?fps=20", "--engine", str(engine), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    assert first["frame_id"] == 1
    assert process.returncode == 0
    assert json.loads(rest.splitlines()[-1])["summary"]["parts"] >= 1


def test_a_second_signal_right_after_the_first_costs_no_summary(engine: Path) -> None:
    """The story: a key that bounced, or an impatient finger, and the run ended without a word."""
    command = [*INSPECT, "run", "--camera", "conveyor:?fps=20", "--engine", str(engine), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    for _ in range(20):  # the last ones while the summary is written, or after it
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert "summary" in json.loads(rest.splitlines()[-1])


def test_a_later_second_signal_ends_what_does_not_end() -> None:
    code = (
        "import time\nfrom edge.station.signals import stop_on_signals\n"
        "with stop_on_signals(lambda: print('asked', flush=True)):\n"
        "    print('runs', flush=True)\n    time.sleep(60)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    time.sleep(SAME_WISH_S + 0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT


HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell may ignore it


def start_hearing(*words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", f"{HEARS}; from edge.cli import main; main()", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_command_with_a_word_and_a_code_of_its_own(engine: Path) -> None:
    """It reads a file on a share that does not answer."""
    share = recipe_path(engine)
    share.unlink()
    os.mkfifo(share)
    process, answers = start_hearing("recipe", engine), list[int]()

    def is_read() -> bool:
        with suppress(OSError):  # nobody reads it yet
            answers.append(os.open(share, os.O_WRONLY | os.O_NONBLOCK))
        return bool(answers)

    try:
        assert until(is_read, 60.0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        for each in answers:
            os.close(each)
    assert (process.returncode, said) == (130, "stopped\n")


def test_plc_sim_that_is_stopped_before_any_station_came_says_so() -> None:
    process = start_hearing("plc-sim", f"modbus-tcp://127.0.0.1:{free_port()}?handshake=bits", "--wait", 600)
    assert process.stderr is not None
    assert "start the station" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 5 and "no station came before plc-sim was stopped" in said


def test_commands_that_are_printed_can_be_pasted(tmp_path: Path) -> None:
    """The story: `Next: build-engines Modell Gehäuse groß`."""
    folder = tmp_path / "Gehäuse [groß]"
    said = inspect("collect", "--camera", "conveyor:?count=1&fps=0", "--out", folder).stderr.splitlines()[-1]
    assert shlex.split(said) == ["Next:", "edge-inspect", "check-data", str(folder)]
    for name in ("loco.onnx", "model.pt"):
        (folder / name).touch()
    os.utime(folder / "loco.onnx", (0, 0))
    note = stale_note(folder / "loco.onnx").partition("Run: ")[2]
    assert shlex.split(note) == ["build-engines", str(folder)]
    with pytest.raises(DataError) as error:
        check_file(folder / "no such" / "report.html", "--out")
    assert shlex.split(error.value.next_step)[2:] == ["mkdir", "-p", str(folder / "no such")]


def test_a_signal_while_the_program_loads_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """The story: Ctrl-C in the first moment gave twenty lines of Python."""
    slow = "import time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "typer.py").write_text(slow)  # a library on a slow disk
    command = [sys.executable, "-c", f"{HEARS}; from edge.start import main; main()", "run", "--help"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    try:
        _, rest = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGINT and "Traceback" not in rest


def test_a_recipe_is_shown_in_a_few_lines_and_a_change_beside_what_was(engine: Path) -> None:
    """The story: sixty lines of JSON and hashes, where the limits were asked for."""
    shown = inspect("recipe", engine).stdout
    assert re.search(r"^review +1\.5 ", shown, re.M) and re.search(r"^fail +2 ", shown, re.M)
    assert shown.count("\n") < 10 and "sha256" not in shown
    changed = inspect("recipe", engine, "--review", "1.6", "--fail", "1.9", "--health", "off").stdout
    assert re.search(r"^review +1\.5 -> 1\.6 ", changed, re.M)
    assert re.search(r"^fail +2 -> 1\.9 ", changed, re.M)
    assert "500 ->" not in changed
    whole = json.loads(inspect("recipe", engine, "--json").stdout)
    assert (whole["review"], whole["digest"]) == (1.6, load_recipe(recipe_path(engine)).digest)


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_addresses_are_shown_whole_on_a_terminal_of_80_columns(engine: Path, command: str) -> None:
    uri = "modbus-tcp://127.0.0.1:1?unit=1&offset=400&timeout_ms=300"
    words = ["--camera", "conveyor:", "--engine", str(engine), "--backend", "onnxruntime", "--plc", uri]
    dry = ["--dry-run"] if command == "run" else []
    ended = subprocess.run([*INSPECT, command, *words, *dry], capture_output=True, text=True, timeout=60,
                           env={**os.environ, "COLUMNS": "80"})  # fmt: skip
    lines = [line.strip() for line in ended.stderr.splitlines()]
    assert any(uri in line for line in lines) and "…" not in ended.stderr
    assert max(map(len, ended.stderr.splitlines())) <= 80


def test_the_dry_run_finds_every_fault_at_once(engine: Path) -> None:
    words = (
        "--camera",
        "/dev/video97",
        "--engine",
        engine.with_name("nothing.onnx"),
        "--plc",
        "modbus-tcp://127.0.0.1:1",
    )
    ended = inspect("run", *words, "--dry-run", "--json")
    checks = json.loads(ended.stdout)
    assert [check["ok"] for check in checks] == [False, False, False]
    assert ended.returncode == 3  # the engine's; the first fault gives the code
    assert "Traceback" not in ended.stderr


def test_the_dry_run_is_content_with_what_works(engine: Path, pictures: Path) -> None:
    with closing(SimulatedPlc()) as plc:
        ended = inspect(
            "run", "--camera", pictures, "--engine", engine, "--plc", plc.start(), "--dry-run", "--json"
        )
        assert plc.results() == []  # a check is no verdict
    assert ended.returncode == 0
    assert all(check["ok"] for check in json.loads(ended.stdout))


@pytest.mark.parametrize(
    "camera, plc, code, words",
    [
        ("nowhere/", "", 2, "no such folder"),
        ("gopher://x", "", 2, "Known"),
        ("conveyor:?colour=red", "", 2, "colour"),
        ("conveyor:?seed=-1", "", 2, "seed=-1 is below zero"),
        ("conveyor:?seed=x", "", 2, "seed=x is not a whole number"),
        ("conveyor:?count=3", "profinet://plc", 2, "modbus-tcp"),
        ("/dev/video97?width=9", "", 4, "camera"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    engine: Path, camera: str, plc: str, code: int, words: str
) -> None:
    outputs = ("--plc", plc) if plc else ()
    ended = inspect("run", "--camera", camera, "--engine", engine, *outputs, "--count", 1)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr and "Traceback" not in ended.stderr


def test_a_tampered_recipe_never_runs(engine: Path, pictures: Path) -> None:
    path = recipe_path(engine)
    path.write_text(path.read_text().replace('"review": 1.5', '"review": 1.9'))
    ended = inspect("run", "--camera", pictures, "--engine", engine)
    assert ended.returncode == 3
    assert "changed by hand" in ended.stderr


def test_a_plc_that_never_answered_shows_in_the_exit_code(engine: Path, pictures: Path) -> None:
    ended = inspect("run", "--camera", pictures, "--engine", engine, "--plc", "modbus-tcp://127.0.0.1:1")
    assert ended.returncode == 5
    assert ended.stderr.count("does not answer") == 1  # said once, though tried again and again


def test_an_output_that_cannot_work_is_told_at_once(engine: Path) -> None:
    """The story: a wrong port of the serial line was told when the shift was over; with --json never."""
    words = ("run", "--camera", "conveyor:?fps=10&count=100", "--engine", engine, "--json")
    command = [*INSPECT, *map(str, words), "--backend", "onnxruntime", "--plc", "serial:///dev/ttyUSB97"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.readline()
    running = process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert running and "ttyUSB97" in told and "tries again" in told
    assert process.returncode == 5


def test_a_fault_stays_on_the_terminal_when_the_table_is_gone(engine: Path, pictures: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=200)
    options = RunOptions(str(pictures), engine, [f"jsonl:{engine.parent}/no/folder.jsonl"])
    with watched(options, screen, quiet=False) as running:
        running.station.run()
    assert screen.file.getvalue().count("tries again") == 1  # type: ignore[attr-defined]


def test_that_an_output_works_again_is_told_as_its_fault_was(engine: Path) -> None:
    """The story: "no PLC is connected" stood in the log for ever, and the PLC had long come."""
    screen, port = Console(file=io.StringIO(), width=200), free_port()
    uri = f"tcp-server://127.0.0.1:{port}"
    options = RunOptions("conveyor:?fps=50", engine, [uri], "onnxruntime")

    def told() -> list[str]:
        lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        return [line for line in lines if line.startswith(("fault", "works again"))]

    with watched(options, screen, quiet=True) as running:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        assert until(lambda: len(told()) == 1, 20.0), "nobody is there"
        with tcp_plc(port):
            assert until(lambda: len(told()) == 2, 20.0)
        assert until(lambda: len(told()) == 3, 20.0), "it has gone"
        running.station.stop()
        loop.join()
    first, second, third = told()[:3]
    assert "no PLC is connected" in first and second == f"works again output {uri}" and third == first


@pytest.mark.parametrize(("dry", "code"), [((), 0), (("--dry-run",), 2)])
def test_pictures_of_another_size_than_learnt_from_are_not_judged(
    tmp_path: Path, pictures: Path, dry: tuple[str, ...], code: int
) -> None:
    """The story: a camera came back from a restart with its usual, smaller picture, and parts passed on."""
    engine = toy_pair(tmp_path, training_set={"picture": [64, 80]})
    ended = inspect("run", "--camera", pictures, "--engine", engine, *dry)
    said = " ".join(re.findall(r"[\w:.'-]+", ended.stderr))
    assert ended.returncode == code and said.count("120x90 those learnt from 80x64") == 1
    assert dry or "fail 4 reasons RECIPE_MISMATCH 4" in said


def test_the_time_a_picture_takes_is_told_beside_the_deadline() -> None:
    recipe = Recipe("loco", (8, 8), 1.0, 2.0, deadline_ms=500.0)
    assert pace(20.0, recipe) == "one picture takes about 20.0 ms here, the deadline is 500 ms"
    assert "--deadline-ms 1100" in pace(352.5, recipe)
    assert pace(100.0, recipe, 4) == pace(100.0, recipe)  # the last one waits for three others
    assert "for 5 before it. Give it time" in pace(100.0, recipe, 6)
    assert pace(100.0, recipe, 6).endswith("--deadline-ms 700 --max-frame-age-ms 700")


def test_a_run_with_a_slow_engine_ends_by_itself(tmp_path: Path, pictures: Path) -> None:
    """The story: the last picture was still in the engine when the run ended, and the program was aborted."""
    engine = demo_pair(tmp_path, view={"canvas": [1024, 1536]}, deadline_ms=1.0)
    ended = inspect("run", "--camera", pictures, "--engine", engine, "--count", 1)
    assert ended.returncode == 0 and "DEADLINE_MISSED" in ended.stderr


def test_collect_from_a_camera_that_is_not_there_ends_with_the_reason(tmp_path: Path) -> None:
    ended = inspect("collect", "--camera", "/dev/video97", "--out", tmp_path / "parts")
    assert ended.returncode == 4
    assert "/dev/v4l/by-id" in ended.stderr and "Traceback" not in ended.stderr


def test_collect_goes_on_numbering(tmp_path: Path) -> None:
    out = tmp_path / "parts"
    for _ in range(2):
        assert inspect("collect", "--camera", "conveyor:?count=3&fps=0", "--out", out).returncode == 0
    assert sorted(p.name for p in out.iterdir()) == [f"part-{i:06d}.png" for i in range(1, 7)]


def test_the_runtime_starts_without_torch() -> None:
    """On a bare station there is no torch; nothing on the way to `run` may ask for it."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from edge.cli import main\n"
        "sys.argv = ['edge-inspect', 'demo', '--parts', '5', '--fps', '20', '--json']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert '"parts": ' in ended.stdout, ended.stderr


def test_a_standard_error_that_nobody_reads_does_not_stop_the_line(engine: Path, tmp_path: Path) -> None:
    """The story: a log pipe whose reader hangs. Every part is stopped here, so every part writes a line."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    verdicts = tmp_path / "verdicts.jsonl"
    words = [
        "run",
        "--camera",
        "conveyor:?fps=0&count=400",
        "--engine",
        str(engine),
        "--plc",
        f"jsonl:{verdicts}",
    ]
    from edge.settings import change_recipe

    change_recipe(engine, {"review": 0.01, "fail": 0.02})
    process = subprocess.Popen([*INSPECT, *words], stderr=write_end)
    os.close(write_end)
    until = time.monotonic() + 40
    while not verdicts.exists() or verdicts.read_text().count("\n") < 400:
        assert time.monotonic() < until, "the line stands still"
        time.sleep(0.05)
    os.close(read_end)  # the reader goes; the summary has nowhere to go and the process must end all the same
    process.wait(timeout=20)


@pytest.mark.parametrize("module", ["edge.cli", "build_engines.cli"])
def test_the_version_is_told(module: str) -> None:
    command = [sys.executable, "-c", f"from {module} import main; main()", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and re.fullmatch(r"edge-inspect \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("words", [
    ("evaluate", "{engine}", "{pictures}", "--report", "{pictures}/no/report.html"),
    ("evaluate", "{engine}", "{pictures}", "--report", "{pictures}"),
    ("check-data", "{pictures}", "--out", "{pictures}/0.png/report.html"),
    ("train", "{pictures}", "--out", "/proc/model"),
    ("run", "--camera", "{pictures}", "--engine", "{engine}", "--save", "{pictures}/0.png/stopped"),
])  # fmt: skip
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    engine: Path, pictures: Path, words: tuple[str, ...]
) -> None:
    """The pictures are broken, which only the work itself would find."""
    for path in pictures.iterdir():
        path.write_text("no picture")
    ended = inspect(*(word.format(engine=engine, pictures=pictures) for word in words))
    assert ended.returncode == 2 and words[-2] in ended.stderr and "Traceback" not in ended.stderr


def test_nothing_is_printed_by_the_libraries_about_a_broken_picture(engine: Path, pictures: Path) -> None:
    data = cv2.imencode(".tif", cv2.imread(str(pictures / "0.png")))[1].tobytes()
    (pictures / "4.tif").write_bytes(data[: len(data) // 2])
    ended = inspect("evaluate", engine, pictures)
    assert ended.returncode == 2 and "4.tif" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_run_without_an_output_says_that_nobody_hears_it(engine: Path) -> None:
    words = ("run", "--camera", "conveyor:?seed=9&fps=0", "--engine", engine, "--count", 1)
    assert "no --plc" in inspect(*words).stderr
    assert "no --plc" not in inspect(*words, "--plc", f"jsonl:{engine.parent / 'verdicts.jsonl'}").stderr
