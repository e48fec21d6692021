"""The house keeps its order: imports go only to the right; one library, one file."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("edge", "calibration", "distillation", "build_engines")  # each may import those before it
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FLOORS = (  # of edge/: each may import those of its own line and of the lines below it
    ("doctor", "demo", "plcsim"),
    ("station",),
    ("engines",),
    ("outputs",),
    ("plc",),
    ("backends",),
    ("kernels",),
    ("cameras", "readers"),
    ("picture",),
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
OWNERS = {
    "asyncua": {"edge/outputs/opcua/", "edge/plcsim/opcua.py"},
    "cryptography": {"edge/outputs/opcua/"},
    "gpiod": {"edge/outputs/gpio.py"},
    "pycuda": {"edge/kernels/cuda.py"},
    "paho": {"edge/outputs/mqtt_connection.py"},
    "pymodbus": {"edge/outputs/modbus_wire.py"},
    "serial": {"edge/outputs/serial_line.py"},
    "snap7": {"edge/outputs/s7.py", "edge/plcsim/s7.py"},
    "pycomm3": {"edge/outputs/ethernet_ip.py"},
    "gi": {"edge/readers/aravis.py", "edge/readers/gst.py"},
    "pypylon": {"edge/readers/pylon.py"},
    "harvesters": {"edge/readers/genicam.py"},
    "genicam": {"edge/readers/genicam.py"},
    "onnxruntime": {"edge/backends/ort.py", "build_engines/"},
    "openvino": {"edge/backends/openvino.py"},
    "onnx": {"build_engines/"},
    "torch": {"distillation/", "build_engines/"},
}


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """(top-level name, whether it is imported inside a function) of every import of a file.

    What stands under `if TYPE_CHECKING:` is not imported when the program runs, and is counted as the rest.
    """
    tree = ast.parse(path.read_text("utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}: relative import"
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield name.partition(".")[0], id(node) in late


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_only_to_the_right(path: Path) -> None:
    own = PACKAGES.index(name_of(path).partition("/")[0])
    for name, inside in imports_of(path):
        if name in PACKAGES[own + 1 :]:
            assert name_of(path) == "edge/cli.py" and inside, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_one_library_one_file(path: Path) -> None:
    here = name_of(path)
    for name, _ in imports_of(path):
        owners = OWNERS.get(name)
        allowed = owners is None or any(here == o or (o.endswith("/") and here.startswith(o)) for o in owners)
        assert allowed, f"{here} imports {name}, which is for {sorted(owners or ())}"


@pytest.mark.parametrize("folder", ["cameras", "backends", "outputs"])
def test_cameras_backends_and_outputs_do_not_know_each_other(folder: str) -> None:
    others = {"cameras", "backends", "outputs"} - {folder}
    for path in (ROOT / "edge" / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        assert not any(re.search(rf"^\s*(from|import) edge\.{other}\b", text, re.M) for other in others), path


def test_inside_the_station_imports_go_only_down() -> None:
    """The words at the top of `edge/` know no package; what puts things together may."""
    for path in (ROOT / "edge").rglob("*.py"):
        parts = path.relative_to(ROOT / "edge").parts
        if parts[0] in ("cli.py", "start.py", "settings.py"):
            continue
        below = range(FLOOR[parts[0]], len(FLOORS)) if len(parts) > 1 else range(0)
        for name in re.findall(r"^\s*(?:from|import) edge\.(\w+)", path.read_text("utf-8"), re.M):
            assert FLOOR.get(name, len(FLOORS)) in (*below, len(FLOORS)), (
                f"{name_of(path)} imports edge.{name}"
            )


def test_only_one_file_opens_cameras() -> None:
    users = {name_of(p) for p in MODULES for n in ast.walk(ast.parse(p.read_text("utf-8")))
             if isinstance(n, ast.Attribute) and n.attr == "VideoCapture"}  # fmt: skip
    assert users == {"edge/cameras/opencv.py"}


def test_nobody_installs_the_tests() -> None:
    listed = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.M | re.S)
    assert listed is not None
    packages = set(re.findall(r'"([\w.]+)"', listed.group(1)))
    on_disk = {name_of(p.parent).replace("/", ".") for p in MODULES if p.name == "__init__.py"}
    assert packages == on_disk


def test_readers_need_nothing_but_their_library() -> None:
    """The system's Python runs them: it has that one library, and neither numpy nor the rest of ours."""
    inside = {"wire.py", "features.py", "aravis.py", "gst.py", "__init__.py"}
    plain = {ROOT / "edge" / name for name in ("__init__.py", "errors.py", "camera_clock.py", "lifetime.py")}
    for path in {ROOT / "edge" / "readers" / name for name in inside} | plain:
        foreign = {name for name, _ in imports_of(path)} - set(sys.stdlib_module_names) - {"edge", "gi"}
        assert not foreign, f"{name_of(path)} imports {foreign}"
        modules = set(re.findall(r"^(?:from|import) (edge[\w.]*)", path.read_text("utf-8"), re.M))
        allowed = {f"edge.{name}" for name in ("errors", "camera_clock", "lifetime", "readers.wire")}
        allowed |= {"edge", "edge.readers.features"}
        assert modules <= allowed, f"{name_of(path)} imports {modules - allowed}"
