"""The kernels compile for every GPU that is meant, with all they need in registers; C++ and Python agree."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affinity_reference import default_shapes, random_case

from distillation.affinity import NORM_FLOOR
from edge.errors import BackendFault
from edge.kernels import constants as numbers
from edge.kernels.compile import AFFINITY, RESIZE, SOURCES, compiled, find_compiler, gpu_command, gpu_library
from edge.kernels.launch import KERNELS, SharedLibrary
from edge.kernels.problem import ALIGNMENT, Layout, Maps
from edge.kernels.resize import SHARED_BYTES, Resize, ResizePlan

SHARED = {"sm_75": 64, "sm_87": 164, "sm_89": 100, "sm_90": 228, "sm_110": 228, "sm_120": 100}  # KiB
DOCS = (Path(__file__).parents[1] / "docs" / "kernels.md").read_text("utf-8")
RESERVED = 1024  # bytes of it that the system takes from each block


def has_nvcc() -> bool:
    try:
        return bool(find_compiler("nvcc"))
    except BackendFault:
        return False


needs_nvcc = pytest.mark.skipif(not has_nvcc(), reason="no nvcc (CUDA toolkit) here")


def reports(name: str, arch: str, folder: Path) -> dict[str, str]:
    """What the assembler says of each kernel."""
    command = gpu_command(SOURCES / f"{name}.cu", "--threads", "1", "-Xptxas", "-v", "-cubin", arch=arch)
    made = str(folder / "a.cubin")
    done = subprocess.run([*command, "-o", made], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    found = re.split(r"Compiling entry function '(\w+)'", done.stderr)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def shared_bytes(report: str, asked: int) -> int:
    """What the kernel declares itself and what a launch asks for."""
    declared = re.search(r"(\d+) bytes smem", report)
    return (int(declared[1]) if declared else 0) + asked


def fits(report: str, asked_bytes: int, arch: str) -> bool:
    """Nothing spilled, and two blocks fit on a multiprocessor."""
    spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spilled is not None and set(spilled.groups()) == {"0"}, report
    shared = shared_bytes(report, asked_bytes)
    return shared <= 48 * 1024 and 2 * (shared + RESERVED) <= SHARED[arch] * 1024  # more must be asked for


@needs_nvcc
@pytest.mark.parametrize("arch", SHARED)
def test_nothing_is_spilled_and_two_blocks_fit_at_least(arch: str, tmp_path: Path) -> None:
    found = reports(AFFINITY, arch, tmp_path)
    assert sorted(found) == sorted(KERNELS)
    constants, _ = random_case(0, **default_shapes())
    shapes = dict(zip(KERNELS, constants.launches(), strict=True))
    assert all(fits(report, shapes[name].shared_bytes, arch) for name, report in found.items())
    for name, (_, threads, asked) in shapes.items():
        assert f"| {name} | {threads} | {shared_bytes(found[name], asked):,} |" in DOCS
    (report,) = reports(RESIZE, arch, tmp_path).values()
    assert fits(report, SHARED_BYTES, arch)


NUMBERS = {
    "SCALES": "kScales", "NETWORKS": "kNetworks", "MAX_RADIUS": "kMaxRadius",
    "CONTEXT_THREADS": "kContextThreads", "SHARES": "kShares", "PLACES": "kPlaces", "CONTEXTS": "kContexts",
    "CHUNK": "kChunk", "STRIP": "kStrip", "REACH": "kReach",
}  # fmt: skip


def test_the_docs_have_the_default_s_numbers() -> None:
    constants, (teacher, _, local) = random_case(0, **default_shapes())
    height, width = constants.input_size
    values, of_local = (sum(m.size for m in of if m is not None) for of in (teacher, local))
    assert (
        f"{height} x {width}" in DOCS and f"{values:,} values of F, as many of G, {of_local:,} of L" in DOCS
    )


def test_python_and_c_have_the_same_numbers() -> None:
    text = "".join(path.read_text("utf-8") for path in SOURCES.glob("*.cuh"))
    written = dict(re.findall(r"constexpr \w+ (k\w+) = ([\d.]+)", text))
    for python, name in NUMBERS.items():
        assert int(written[name]) == getattr(numbers, python), name
    tile, warp = int(written["kTile"]), int(written["kWarp"])
    assert numbers.PLACES // tile * warp == numbers.PLACE_THREADS
    assert float(written["kNormFloor"]) == NORM_FLOOR


@needs_nvcc
def test_without_a_gpu_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = gpu_library(arch="sm_90")
    assert gpu_library(arch="sm_90") == library  # made once
    launcher = SharedLibrary(library)  # so the structures have the same size on both sides
    plan = Layout(random_case(0)[0], 1)
    nowhere = plan.problem(Maps((0, 0, 0), (0, 0, 0), (None, 0, 0)), 0, 0, 0, 0)
    with pytest.raises(BackendFault, match="did not start"):
        launcher.run(nowhere)
    shrinker = SharedLibrary(gpu_library(RESIZE, "sm_90"), RESIZE, Resize)
    with pytest.raises(BackendFault, match="did not start"):
        shrinker.run(ResizePlan((480, 640), (256, 256)).problem(0, 0, 0, 0))
    with pytest.raises(BackendFault, match="no NVIDIA GPU or driver here to compile for"):
        gpu_library()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile with")
def test_another_compiler_or_another_gpu_makes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache shared by two machines gave one of them what the other's compiler had made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, flags = tmp_path / "first", ("-shared", "-fPIC", "-std=c++17")
    first.mkdir()
    source = tmp_path / "nothing.cpp"
    source.write_text("int nothing;")
    made = compiled(("g++", *flags, str(source)), "so")
    newer = first / "g++"
    newer.write_text('#!/bin/sh\n[ "$1" = --version ] && echo newer && exit\nexec /usr/bin/g++ "$@"\n')
    newer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{first}:/usr/bin:/bin")
    assert compiled(("g++", *flags, str(source)), "so") != made
    named = [gpu_command(source, arch=arch) for arch in ("sm_87", "sm_90")]
    assert named[0] != named[1] and not any("native" in word for command in named for word in command)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile with")
def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BackendFault, match=r"g\+\+ failed"):
        compiled(("g++", "-no-such-option", str(SOURCES / "affinity_host.cpp")), "so")
    assert not any((tmp_path / "edge-inspect").iterdir()), "something half-made was left"


@pytest.mark.parametrize("where", ["PATH", "CUDA_HOME", "CUDA_PATH", "toolkit"])
def test_nvcc_is_found_where_the_toolkit_lies(where: str, tmp_path: Path) -> None:
    """JetPack leaves PATH alone: the station said that nvcc is not installed, and resized on the CPU."""
    places = {name: tmp_path / name for name in ("PATH", "CUDA_HOME", "CUDA_PATH", "toolkit")}
    nvcc = places[where] / "nvcc" if where == "PATH" else places[where] / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    environ = {name: str(folder) for name, folder in places.items() if name != "toolkit"}
    assert find_compiler("nvcc", environ, places["toolkit"]) == str(nvcc)


def test_where_nvcc_was_looked_for_is_told(tmp_path: Path) -> None:
    nowhere, toolkit = {"PATH": str(tmp_path), "CUDA_HOME": "/opt/cuda", "CUDA_PATH": ""}, tmp_path / "cuda"
    with pytest.raises(BackendFault, match=r"not in PATH, /opt/cuda/bin, .*/cuda/bin") as error:
        find_compiler("nvcc", nowhere, toolkit)
    assert "Install the CUDA toolkit" in error.value.next_step
    with pytest.raises(BackendFault, match=r"not in PATH.*apt-get install g\+\+"):
        find_compiler("g++", nowhere, toolkit)


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "affinity.so"
    broken.write_bytes(b"half a library")
    with pytest.raises(BackendFault, match="cannot be loaded"):
        SharedLibrary(broken)


def test_the_memory_is_laid_out_without_overlaps() -> None:
    constants, _ = random_case(0, pictures=3)
    plan = Layout(constants, 3)
    made = plan.problem(Maps((16, 32, 48), (64, 80, 96), (None, 128, 144)), 1 << 20, 1 << 30, 4096, 8192)
    starts = [s.contexts for s in made.scales] + [s.sheets for s in made.scales]
    starts += [made.places, made.tickets, (1 << 30) + plan.scratch_bytes]
    sizes = [2 * 3 * 2 * s.padded_cells * s.padded_channels for s in made.scales]
    sizes += [4 * 3 * 3 * s.height * s.width for s in made.scales] + [4 * 3 * 2 * 256, 4 * 3]
    for start, size, following in zip(starts, sizes, starts[1:], strict=False):
        assert start % ALIGNMENT == 0 and start + size <= following
    gain = np.frombuffer(
        plan.tables.tobytes(), np.float32, count=3 * 64, offset=made.scales[1].gain - (1 << 20)
    )
    np.testing.assert_array_equal(gain, constants.gains[1].ravel())


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "a.cpp").write_text("int main() { return 0; }")
    with pytest.raises(BackendFault, match=r"cannot be kept.*XDG_CACHE_HOME"):
        compiled(("g++", str(tmp_path / "a.cpp")), "so")
