"""The golden picture: what an engine said at its first start is what it has to say at every other."""

import json
import math
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from toy import SIDE, toy_pair

from edge.backends import open_backend
from edge.engines.engine import Housing, open_engine
from edge.engines.selftest import GoldenMemory, answer_of, fingerprint, golden_picture, unlike
from edge.errors import BackendFault


def test_the_picture_is_the_same_at_every_start_and_looks_at_every_place() -> None:
    picture = golden_picture((48, 64))
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, golden_picture((48, 64)))
    assert all(cell.std() > 20 for row in np.array_split(picture, 8) for cell in np.array_split(row, 8, 1))


def test_rounding_is_the_same_answer_and_a_wrong_place_is_not() -> None:
    draw = np.random.default_rng(0)
    anomaly_map = draw.random((64, 64), np.float32)
    golden = fingerprint(anomaly_map, 3.0)
    assert unlike(fingerprint(anomaly_map * np.float32(1.0005), 3.0015), golden) == ""
    wrong = anomaly_map.copy()
    wrong[:8, :8] = 0.0
    assert "the map differs" in unlike(fingerprint(wrong, 3.0), golden)
    assert "the score is 3.1, it was 3" in unlike(fingerprint(anomaly_map, 3.1), golden)


def test_an_answer_that_is_no_number_is_none() -> None:
    with pytest.raises(BackendFault, match="no number"):
        fingerprint(np.full((16, 16), np.nan, np.float32), 1.0)
    with pytest.raises(BackendFault, match="no number"):
        fingerprint(np.zeros((16, 16), np.float32), math.inf)


@pytest.mark.parametrize("side", [8, SIDE])
def test_a_map_may_be_small(side: int) -> None:
    golden = fingerprint(np.ones((side, side), np.float32), 1.0)
    assert len(golden) == 65 and unlike(golden, golden) == ""


def test_the_first_start_is_remembered_and_another_answer_is_refused(tmp_path: Path) -> None:
    housing = Housing(golden=GoldenMemory(tmp_path / "golden"))
    engine = toy_pair(tmp_path)
    for _ in range(2):
        open_engine(engine, housing=housing).backend.close()
    (file,) = (tmp_path / "golden").iterdir()
    values = json.loads(file.read_text())
    file.write_text(json.dumps([values[0] * 1.02, *values[1:]]))
    with pytest.raises(BackendFault, match=str(file)):
        open_engine(engine, housing=housing)
    file.unlink()  # as the message says
    open_engine(engine, housing=housing).backend.close()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '["x"]', "7"])
def test_a_file_that_cannot_be_read_is_written_again(tmp_path: Path, text: str) -> None:
    engine = toy_pair(tmp_path)
    memory = GoldenMemory(tmp_path / "golden")
    opened = open_engine(engine)
    with closing(opened.backend):
        memory.check(opened.backend, opened.recipe, opened.artefact)
        (file,) = (tmp_path / "golden").iterdir()
        file.write_text(text)
        memory.check(opened.backend, opened.recipe, opened.artefact)
        assert json.loads(file.read_text()) == answer_of(opened.backend)


def test_a_folder_that_cannot_be_written_costs_no_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    opened = open_engine(toy_pair(tmp_path))
    with closing(opened.backend):
        GoldenMemory(tmp_path / "file" / "golden").check(opened.backend, opened.recipe, opened.artefact)


def test_each_engine_and_library_has_its_own(tmp_path: Path) -> None:
    memory = GoldenMemory(tmp_path / "golden")
    for name in ("one", "two"):
        opened = open_engine(toy_pair(tmp_path, name, kind="plain" if name == "one" else "touchy"))
        with closing(opened.backend):
            memory.check(opened.backend, opened.recipe, opened.artefact)
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    with closing(open_backend(opened.path, opened.recipe, "openvino")) as other:
        memory.check(other, opened.recipe, opened.artefact)
    assert len(list((tmp_path / "golden").iterdir())) == 3
