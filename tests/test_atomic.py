"""Files that are whole or not there, whatever ends the program: by signals in the middle of a write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.atomic import LEFT_S, sweep, write_atomically, write_pair

SLOW_DISK = """
import os, signal, sys, time
from pathlib import Path
from edge.atomic import write_atomically

def slow(handle):
    print("writing", flush=True)
    time.sleep(100)

os.fsync = slow
signal.signal(signal.SIGINT, signal.default_int_handler)  # a plain shell starts "&" with it ignored
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
write_atomically(Path(sys.argv[1]), b"new" * 1000)
"""


def killed(path: Path, number: signal.Signals) -> subprocess.Popen[str]:
    """A process that was killed while it wrote `path`."""
    command = [sys.executable, "-c", SLOW_DISK, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          cwd=Path(__file__).parents[1]) as child:  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == "writing\n"
        assert list(path.parent.glob("*.part")) != [], "the signal must meet a half-written file"
        child.send_signal(number)
    assert child.returncode
    return child


def hours_old(file: Path) -> None:
    then = time.time() - 2 * LEFT_S
    os.utime(file, (then, then))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_write_that_is_interrupted_leaves_the_old_file_alone(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The story: only a full disk was cleaned up after; Ctrl-C left 30 MB with each try."""
    path = tmp_path / "loco.plan"
    path.write_bytes(b"old")
    killed(path, number)
    assert [file.name for file in tmp_path.iterdir()] == ["loco.plan"] and path.read_bytes() == b"old"


def test_an_interrupt_that_the_tests_themselves_ignore_ends_the_writer(tmp_path: Path) -> None:
    """The story: `pytest &` in a plain shell ignores SIGINT, and so did the writer: the tests failed."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        killed(tmp_path / "loco.plan", signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "loco.plan"
    dead = killed(path, signal.SIGKILL).pid
    (left,) = tmp_path.iterdir()
    assert left.name == f"loco.plan.{dead}.part"
    others = {f"loco.plan.{dead}", "loco.plan.first.part", "part", "x.part"}
    for name in others | {f"other.plan.{dead}.part"}:
        (tmp_path / name).touch()
    new = {file.name for file in tmp_path.iterdir()}
    sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == new, "a process of another container may be writing"
    for file in tmp_path.iterdir():
        hours_old(file)
    sweep(tmp_path, "loco.plan")
    assert {file.name for file in tmp_path.iterdir()} == others | {f"other.plan.{dead}.part"}
    sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == others


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "loco.plan", tmp_path):  # no folder; a folder where the file should be
        with pytest.raises(OSError) as caught:
            write_atomically(path, b"new")
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [] and list(tmp_path.parent.glob("*.part")) == []


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("fault", ["large", "small", "no rename"])
def test_of_a_pair_both_are_written_or_neither(tmp_path: Path, fault: str, old: bytes | None) -> None:
    """The story: a recipe that could not be written took the old engine with it."""
    large, small = tmp_path / "loco.plan", tmp_path / "loco.recipe.json"
    for path in (large, small):
        if old is not None:
            path.write_bytes(old)
    if fault == "no rename":  # a folder where the file should go, else where it is made first
        large.unlink(missing_ok=True)
        large.mkdir()
    else:
        path = large if fault == "large" else small
        path.with_name(f"{path.name}.{os.getpid()}.part").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_pair(large, b"new" * 1000, small, b"new")
    assert caught.value.filename == str(small if fault == "small" else large)
    assert (small.read_bytes() if small.exists() else None) == old
    if fault != "no rename":
        assert (large.read_bytes() if large.exists() else None) == old
    assert not any(path.is_file() for path in tmp_path.glob("*.part"))


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("last", ["loco.recipe.json", "loco.plan"])
def test_a_signal_right_behind_a_rename_leaves_no_half_pair(
    tmp_path: Path, last: str, old: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: Ctrl-C between the two renames left a new recipe beside the old engine; behind the second,
    the old recipe beside the new engine."""
    large, small = tmp_path / "loco.plan", tmp_path / "loco.recipe.json"
    for path in (large, small):
        if old is not None:
            path.write_bytes(old)

    rename = Path.replace

    def replace(part: Path, path: Path) -> None:
        rename(part, path)
        if path.name == last and path.read_bytes() != old:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_pair(large, b"new", small, b"new")
    wanted = b"new" if last == large.name else old
    assert [p.read_bytes() if p.exists() else None for p in (large, small)] == [wanted, wanted]
    assert list(tmp_path.glob("*.part")) == []


def test_a_pair_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    large, small = tmp_path / "loco.plan", tmp_path / "loco.recipe.json"
    for data, text in ((b"a" * 1000, b"1"), (b"b" * 1000, b"2")):
        write_pair(large, data, small, text)
        assert (large.read_bytes(), small.read_bytes()) == (data, text)
    assert len(list(tmp_path.iterdir())) == 2
