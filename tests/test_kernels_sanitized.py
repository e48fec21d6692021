"""What a GPU would not tell: a barrier that is missing, a read beyond a map's end. Found on the CPU build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.kernels.compile import AFFINITY, RESIZE, SOURCES, host_library

SCRIPT = Path(__file__).with_name("kernel_under_sanitizer.py")
THREADS = ("-DREAL_THREADS", "-g", "-fsanitize=thread")
MEMORY = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


def sanitizer(name: str) -> str:
    """The sanitizer's library, which Python must load before anything else; skips where g++ has none."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the host build")
    path = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip(f"this g++ has no {name}")
    return path


def run(library: Path, preload: str, name: str = AFFINITY) -> subprocess.CompletedProcess[str]:
    """The case in a process of its own."""
    options = {"ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": preload}
    paths = {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])}
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(library), name],
        capture_output=True, text=True, env={**os.environ, **options, **paths}, timeout=100,
    )  # fmt: skip


def changed(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of the sources with one thing wrong."""
    copy = folder / "kernels"
    shutil.copytree(SOURCES, copy)
    text = (copy / file).read_text("utf-8")
    assert old in text, f"{file} no longer has {old!r}"
    (copy / file).write_text(text.replace(old, new), "utf-8")
    return copy


@pytest.mark.parametrize("name", [AFFINITY, RESIZE])
def test_no_barrier_is_missing(name: str) -> None:
    done = run(host_library(*THREADS, name=name), sanitizer("libtsan.so"), name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agrees" in done.stdout


@pytest.mark.parametrize(
    ("name", "file", "barrier"),
    [
        (AFFINITY, "places.cuh", "sync_warp();"),
        (AFFINITY, "fuse.cuh", "sync_block();"),
        (RESIZE, "resize.cuh", "sync_block();"),
    ],
)
def test_a_missing_barrier_would_be_found(
    name: str, file: str, barrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is wrong must not stay
    preload = sanitizer("libtsan.so")
    wrong = changed(tmp_path, file, barrier, "")
    done = run(host_library(*THREADS, name=name, sources=wrong), preload, name)
    assert "data race" in done.stderr and done.returncode


@pytest.mark.parametrize("name", [AFFINITY, RESIZE])
def test_nothing_is_read_or_written_outside_its_memory(name: str) -> None:
    done = run(host_library(*MEMORY, name=name), sanitizer("libasan.so"), name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agrees" in done.stdout


def test_a_read_beyond_the_end_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    preload = sanitizer("libasan.so")
    wrong = changed(tmp_path, "chunk.cuh", "if (place + i < places_of(s)) values", "values")
    done = run(host_library(*MEMORY, sources=wrong), preload)
    assert "heap-buffer-overflow" in done.stderr and done.returncode
