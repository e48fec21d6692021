"""The containers: what can be said of them without Docker. Nothing here shows that they run."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from build_engines.cli import app as build_app
from edge.cli import app as edge_app

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
GROUP: Any = typer.main.get_command(edge_app)
BUILD: Any = typer.main.get_command(build_app)
TAKES_VALUE = {"--name", "--restart", "--device", "--volume", "--runtime", "--gpus", "--publish"}
ALONE = {"--rm", "--detach"}


def instructions(file: Path, word: str) -> list[str]:
    text = re.sub(r"\\\n\s*", "", file.read_text("utf-8"))
    return re.findall(rf"^{word} (.+)$", text, re.M)


def commands(text: str) -> list[str]:
    return re.findall(r"^(?:#   )?(docker .+)$", text, re.M)


COMMANDS = [(file.name, line) for file in FILES for line in commands(file.read_text("utf-8"))]


def after_image(words: list[str]) -> list[str]:
    """What `docker run` starts inside: behind its options and the image."""
    while words[0].startswith("--"):
        assert words[0] in TAKES_VALUE | ALONE, words[0]
        words = words[2:] if words[0] in TAKES_VALUE else words[1:]
    assert words[0].startswith("edge-inspect:")
    return words[1:]


def test_there_is_one_for_each_kind_of_machine() -> None:
    assert [file.suffix for file in FILES] == [".cpu", ".jetson", ".x86"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_is_copied_is_there_and_is_all_that_is_installed(file: Path) -> None:
    copied = [name for line in instructions(file, "COPY") for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    named = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"}
    assert set(copied) == packages | named


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_extras_exist_and_the_base_is_pinned(file: Path) -> None:
    text = file.read_text("utf-8")
    extras = re.findall(r"\.\[([\w,]+)\]|EXTRAS=\[([\w,]+)\]", text)
    names = {name for pair in extras for group in pair for name in group.split(",") if name}
    assert names and names <= PROJECT["project"]["optional-dependencies"].keys()
    (base,) = instructions(file, "FROM")
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_cache_lies_in_the_volume(file: Path) -> None:
    (volume,) = instructions(file, "VOLUME")
    assert f"XDG_CACHE_HOME={volume}" in instructions(file, "ENV")
    runs = [line for line in commands(file.read_text("utf-8")) if " demo " not in line and " run " in line]
    assert runs and all(f"edge-inspect:{volume} " in line for line in runs)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_nothing_in_a_container_reports_to_a_maker(file: Path) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in instructions(file, "ENV")


def test_the_page_gives_the_commands_of_the_files() -> None:
    page = (ROOT / "docs/deploy.md").read_text("utf-8")
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S))
    assert sorted(commands(blocks)) == sorted(line for _, line in COMMANDS)


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_commands_are_understood(name: str, line: str) -> None:
    docker, verb, *words = shlex.split(line)
    assert docker == "docker"
    if verb == "build":
        given = dict(zip(words[0:-1:2], words[1:-1:2], strict=True))
        assert words[-1] == "." and given["--file"] == f"deploy/{name}"
        assert given["--tag"] == f"edge-inspect:{name.partition('.')[2]}"
        return
    assert verb == "run" and f" edge-inspect:{name.partition('.')[2]} " in line
    program, *inside = after_image(words)
    command = GROUP.commands[inside.pop(0)] if program == "edge-inspect" else BUILD
    command.make_context(program, inside)


@pytest.mark.parametrize("file", [f for f in FILES if f.suffix != ".cpu"], ids=lambda f: f.name)
def test_the_gpu_is_handed_in(file: Path) -> None:
    wanted = "--runtime nvidia" if file.suffix == ".jetson" else "--gpus all"
    runs = [line for line in commands(file.read_text("utf-8")) if line.startswith("docker run")]
    assert runs and all(wanted in line for line in runs)
    assert "-devel" in instructions(file, "FROM")[0] or "nvcr.io/nvidia/tensorrt:" in file.read_text("utf-8")
