"""What is here to run a plan with, and the command that makes a plan which fits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plans import needs_rtx

from build_engines.builder import open_builder
from edge.errors import BackendFault
from edge.gpu import RUNTIMES, installed

ASKED = """
from edge.gpu import describe_mismatch
from edge.recipe import Artefact
print(describe_mismatch(Artefact("p.fp16.sm87.plan", "", "fp16", 87, "tensorrt 10.3.0")))
"""


def test_a_tensorrt_that_pip_does_not_know_is_found(tmp_path: Path) -> None:
    """The story: JetPack's TensorRT has no metadata of pip: the builder named it, the station did not."""
    (tmp_path / "tensorrt.py").write_text('__version__ = "10.3.0"\n')
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "tensorrt 10.3.0" in done.stdout.partition("; here: ")[2]


def test_where_there_is_no_tensorrt_a_way_that_works_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The story: "JetPack brings it", but for Python 3.10, which this package does not run on."""
    for name in RUNTIMES.values():
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendFault, match=r"pip install tensorrt-rtx.*JetPack 6.*docs/deploy\.md") as caught:
        open_builder()
    assert "JetPack brings" not in str(caught.value)


@needs_rtx
def test_builder_and_station_say_the_same_name() -> None:
    assert open_builder("tensorrt-rtx").name in installed()
