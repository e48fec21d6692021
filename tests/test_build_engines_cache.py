"""The cache of plans is a convenience: whatever is wrong with its folder, the build goes on."""

import sys
from pathlib import Path

import pytest
from mounts import mounted
from plans import Told, needs_rtx
from toy import toy_pair

from build_engines.builder import EngineBuilder, open_builder
from build_engines.cache import PlanCache

pytestmark = needs_rtx


ASK = """
import sys
from pathlib import Path
from build_engines.builder import open_builder
from build_engines.cache import PlanCache
from build_engines.listener import Listener
Listener.say = Listener.note = lambda self, text: print(text)
cache, model = PlanCache(Path(sys.argv[1]), Listener()), Path(sys.argv[2]).read_bytes()
for sm in (86, 89):
    print(len(cache.plan(model, open_builder("tensorrt-rtx"), sm, 1)), "bytes")
"""


@pytest.fixture(scope="module")
def builder() -> EngineBuilder:
    return open_builder("tensorrt-rtx")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_pair(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def model(engine: Path) -> bytes:
    return engine.read_bytes()


def test_a_cache_that_cannot_be_made_is_no_fault(
    tmp_path: Path, builder: EngineBuilder, model: bytes
) -> None:
    """The story: the build ended with exit code 2, its plan built and thrown away."""
    (tmp_path / "file").touch()
    noted, folder = Told(), tmp_path / "file" / "plans"
    assert PlanCache(folder, noted).plan(model, builder, 86, 1)
    (note,) = noted.notes
    assert "this one cannot be kept: Not a directory" in note and str(folder) in note


def test_a_cache_on_a_read_only_disk_is_read(
    tmp_path: Path, builder: EngineBuilder, engine: Path, model: bytes
) -> None:
    """The story: it was not, since the time of the plan that was found there could not be set."""
    kept = PlanCache(tmp_path).plan(model, builder, 86, 1)
    done = mounted([sys.executable, "-c", ASK, str(tmp_path), str(engine)], read_only=[tmp_path])
    assert done.returncode == 0, done.stderr
    first, say, note, _ = done.stdout.splitlines()
    assert first == f"{len(kept)} bytes" and say.startswith("building for SM 89")
    assert "this one cannot be kept: Read-only file system" in note and str(tmp_path) in note


def test_a_kept_plan_that_cannot_be_read_is_built_again(
    tmp_path: Path, builder: EngineBuilder, model: bytes
) -> None:
    noted, folder = Told(), tmp_path / "plans"
    first = PlanCache(folder, noted).plan(model, builder, 86, 1)
    (kept,) = folder.iterdir()
    kept.unlink()
    kept.symlink_to("/proc/self/mem")  # a file whose beginning nobody can read, rights or not
    assert len(PlanCache(folder, noted).plan(model, builder, 86, 1)) > len(first) / 2
    (note,) = noted.notes
    assert "what earlier builds may have kept cannot be read: Input/output error" in note
    (kept,) = folder.iterdir()
    assert not kept.is_symlink()
    assert kept.read_bytes()[32:] == PlanCache(folder, noted).plan(model, builder, 86, 1)


class Measuring(EngineBuilder):
    """Measures while it builds, as full TensorRT does, and starts from what was measured before."""

    def __init__(self) -> None:
        self.name = "none"
        self.given: list[bytes] = []

    def build(self, model: bytes, sm: int, batch: int, timing: bytes = b"") -> tuple[bytes, bytes]:
        self.given.append(timing)
        return b"plan", b"timing"


def test_one_fault_of_the_cache_is_told_once(tmp_path: Path) -> None:
    """The story: a folder that could not be read gave three notes: of the plan, of "a plan" that was the file
    of timings, and that nothing could be kept."""
    unreadable, impossible = tmp_path / "plans", tmp_path / ("x" * 300)
    PlanCache(unreadable).plan(b"onnx", Measuring(), 86, 1)
    for file in unreadable.iterdir():
        file.unlink()
        file.symlink_to("/proc/self/mem")
    for folder, words in (
        (unreadable, "what earlier builds may have kept cannot be read: Input/output error"),
        (impossible, "this one cannot be kept: File name too long"),
    ):
        noted, builder = Told(), Measuring()
        assert PlanCache(folder, noted).plan(b"onnx", builder, 86, 1) == b"plan"
        (note,) = noted.notes
        assert words in note and builder.given == [b""]


def test_a_plan_that_another_build_removes_meanwhile_is_no_fault(
    tmp_path: Path, builder: EngineBuilder, model: bytes
) -> None:
    """The story: of two builds at once one listed the plans, the other removed one, the first failed."""
    noted, gone = Told(), tmp_path / "gone.plan"
    gone.symlink_to(tmp_path / "nothing")  # is listed, and is not there when it is looked at
    assert PlanCache(tmp_path, noted).plan(model, builder, 86, 1)
    assert noted.notes == [] and len([path for path in tmp_path.glob("*.plan") if path.is_file()]) == 1
