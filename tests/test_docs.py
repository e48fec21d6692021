"""README and docs say what the code does: commands, options, links, constants."""

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from build_engines.cli import app as build_app
from build_engines.precision import ISLANDS
from distillation.train import TrainConfig
from edge.cameras import KNOWN, camera_opener
from edge.cli import app as edge_app
from edge.outputs import SCHEMES, output_opener

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


COMMAND = re.compile(r"\b(?:edge-inspect|build-engines)\b[^`\n|;]*")
GROUP: Any = typer.main.get_command(edge_app)
BUILD: Any = typer.main.get_command(build_app)


def typed_commands() -> Iterator[tuple[str, str]]:
    """(page, command) for everything in code type that begins with a command of ours."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        for code in [*blocks, *spans]:
            for line in re.sub(r"\\\n", " ", code).splitlines():
                if re.match(r"(?:\S*/)?(?:edge-inspect|build-engines)\b", line.strip()):
                    yield page.name, COMMAND.search(line).group().strip()  # type: ignore[union-attr]


COMMANDS = sorted(set(typed_commands()))


def options_of(command: Any) -> set[str]:
    return {"--help"} | {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}


@pytest.mark.parametrize(("page", "text"), COMMANDS)
def test_every_command_and_option_that_is_written_exists(page: str, text: str) -> None:
    program, *words = text.split()
    command = BUILD
    if program == "edge-inspect" and words:
        if words[0].startswith("-"):
            command = GROUP
        else:
            assert words[0] in GROUP.commands, f"{page}: no command {words[0]!r}"
            command = GROUP.commands[words[0]]
    elif program == "edge-inspect":
        return  # the program's name alone
    unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options_of(command)
    assert not unknown, f"{page}: {text!r} has unknown {unknown}"


BASH = re.compile(r"^```bash\n(.*?)^```", re.M | re.S)
WHOLE = [
    (page.name, line)
    for page in PAGES
    for block in BASH.findall(page.read_text("utf-8"))
    for line in block.splitlines()
    if line.startswith(("edge-inspect ", "build-engines "))
]


@pytest.mark.parametrize(("page", "line"), WHOLE)
def test_whole_commands_are_understood(page: str, line: str) -> None:
    """As the program itself reads them: options, types, and nothing missing."""
    program, *words = shlex.split(line)
    command = GROUP.commands[words.pop(0)] if program == "edge-inspect" else BUILD
    command.make_context(program, words)


OUTPUT = re.compile(
    r"(?<![\w-])(?:modbus-[a-z-]+|gpio|s7|ethernet-ip|serial|tcp|tcp-server|mqtt)://[^\s\"`|)]+"
)


def test_cameras_and_outputs_that_are_written_out_are_known() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        for uri in re.findall(r"\bconveyor:\?[^\s\"`|]+", text):
            camera_opener(uri)
        for uri in OUTPUT.findall(text):
            output_opener(uri)


def test_the_tables_of_the_readme_name_every_camera_and_output() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    table = text.partition("## Cameras and outputs")[2].partition("##")[0]
    typed = {span.partition(":")[0] for span in re.findall(r"`([^`]+)`", table)}
    assert {name.partition(":")[0] for name in (*KNOWN, *SCHEMES)} <= typed


def test_the_help_of_run_names_every_camera_and_output() -> None:
    helps = {option: p.help for p in GROUP.commands["run"].params for option in p.opts}
    assert all(name in helps["--camera"] for name in KNOWN)
    assert all(name in helps["--plc"] for name in SCHEMES)


def test_the_help_of_train_names_the_default_of_steps() -> None:
    helps = {option: p.help for p in GROUP.commands["train"].params for option in p.opts}
    assert f" {TrainConfig().steps} " in helps["--steps"]


def test_the_five_commands_stand_in_the_readme() -> None:
    typed = [text for page, text in COMMANDS if page == "README.md"]
    wanted = (
        "edge-inspect collect --camera 0 --out parts/",
        "edge-inspect train parts/ --out loco/",
        "build-engines loco/",
        "edge-inspect evaluate loco/ parts/",
        "edge-inspect run --camera 0 --engine loco.onnx --plc modbus-tcp://192.168.0.10:502",
    )
    assert set(wanted) <= set(typed)


def test_options_that_stand_alone_in_the_text_exist_somewhere() -> None:
    known = options_of(BUILD).union(*(options_of(command) for command in GROUP.commands.values()))
    for script in ROOT.glob("benchmarks/*.py"):
        known |= set(re.findall(r'add_argument\(\s*"(--[a-z0-9-]+)"', script.read_text("utf-8")))
    known |= {
        "--build-arg",
        "--device",
        "--gpus",
        "--publish",
        "--restart",
        "--runtime",
        "--volume",
    }  # docker's
    for page in PAGES:
        for option in re.findall(r"`(--[a-z0-9-]+)[^`]*`", page.read_text("utf-8")):
            assert option in known, f"{page.name}: {option}"


LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def heading_anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in heading_anchors(file), f"{page.name}: {target}"


def test_scripts_named_in_the_text_are_there() -> None:
    for page in PAGES:
        for script in re.findall(r"\b(?:bash|python) ([\w/]+\.(?:sh|py))\b", page.read_text("utf-8")):
            assert (ROOT / script).is_file(), f"{page.name}: {script}"


def test_the_table_of_what_stays_in_fp32_is_the_code_s() -> None:
    text = (ROOT / "docs/engines.md").read_text("utf-8")
    table = text.partition("| Operations | What they are | Why |\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()]
    assert rows == [(", ".join(operations), what, why) for operations, what, why in ISLANDS]


def test_the_readme_picture_is_small_enough() -> None:
    assert (ROOT / "docs/images/heatmaps.jpg").stat().st_size <= 400_000


ROW = re.compile(r"^\| `([\w.]+)` \| ([\w/]+\.py) \| `(.+?)` \| .+ \|$", re.M)
CONSTANTS = ROW.findall((ROOT / "docs/constants.md").read_text("utf-8"))
COMPLETE = {  # files whose every number must be in the table
    f"distillation/{name}.py"
    for name in (
        "affinity",
        "augment",
        "detector",
        "fit",
        "learn",
        "mapfusion",
        "score",
        "students",
        "train",
        "wholes",
    )
} | {
    "calibration/normalisation.py",
    "calibration/thresholds.py",
    "calibration/check.py",
    "calibration/likeness.py",
    "calibration/unusual.py",
    "build_engines/quantise.py",
    "build_engines/qdq.py",
    "build_engines/rounding.py",
    "build_engines/gate.py",
    "build_engines/plans.py",
    "build_engines/cache.py",
}
SPELT = {"linspace": np.linspace, "__builtins__": {}}


def constants_in(file: str) -> dict[str, Any]:
    """Numbers with a name: module constants, settings of dataclasses, defaults of the students' widths."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    own = {k: v for k, v in vars(module).items() if getattr(v, "__module__", file) == module.__name__}
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assigned = {n.id for node in tree.body if isinstance(node, ast.Assign)
                for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)}  # fmt: skip
    found = {k: v for k, v in vars(module).items() if k in assigned and k.isupper() and _is_number(v)}
    for name, thing in own.items():
        if is_dataclass(thing) and name.endswith("Config"):
            found |= {f"{name}.{f.name}": f.default for f in fields(thing)}
        elif inspect.isclass(thing) and file.endswith("students.py") and name != "Conv":
            found |= _defaults(name, thing.__init__)
        elif name in ("split_held_out", "cross_distances"):
            found |= _defaults(name, thing)
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(item, int | float) for item in value.values())
    if isinstance(value, tuple):
        return all(isinstance(item, int | float) for item in value)
    return isinstance(value, int | float | np.ndarray)


def _defaults(name: str, function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {f"{name}.{p.name}": p.default for p in parameters if isinstance(p.default, int | float)}


@pytest.mark.parametrize(("name", "file", "value"), CONSTANTS)
def test_the_constant_is_what_the_table_says(name: str, file: str, value: str) -> None:
    actual = constants_in(file)
    assert name in actual, f"{file} has no {name}"
    said = eval(value, SPELT)
    same = actual[name] == said if isinstance(said, dict) else np.array_equal(actual[name], said)
    assert same, f"{name}: {actual[name]} in {file}"


def test_the_table_is_complete() -> None:
    documented = {(name, file) for name, file, _ in CONSTANTS}
    missing = {(name, file) for file in COMPLETE for name in constants_in(file)} - documented
    assert not missing, f"not in docs/constants.md: {sorted(missing)}"
    assert len(documented) == len(CONSTANTS), "a constant stands twice in docs/constants.md"
