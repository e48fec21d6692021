"""Heat maps on disk: what is kept, what is not, and a disk that breaks costs nothing but pictures."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from peers import until

from edge.errors import InspectError
from edge.frame import Frame, Inspection, Shot, make_frame
from edge.recipe import Recipe
from edge.station import evidence
from edge.station.evidence import EvidenceWriter
from edge.verdict import decide

RECIPE = Recipe("toy", (8, 8), review=1.0, fail=2.0)


def judged(number: int, score: float) -> tuple[Frame, Inspection]:
    frame = make_frame(Shot(np.full((16, 16, 3), 90, np.uint8)), number, "test", captured_ns=0)
    return frame, Inspection(number, score, np.full((8, 8), score, np.float32), "sha", 0, 0)


def show(writer: EvidenceWriter, number: int, score: float) -> None:
    frame, inspection = judged(number, score)
    writer(frame, inspection, decide(frame, inspection, RECIPE, 1))


def test_only_stopped_parts_are_kept_unless_all_are_wanted(tmp_path: Path) -> None:
    for everything, expected in ((False, ["fail", "review"]), (True, ["fail", "pass", "review"])):
        folder = tmp_path / str(everything)
        with closing(EvidenceWriter(folder, RECIPE, 1.0, everything)) as writer:
            for number, score in enumerate((0.5, 1.5, 2.5), 1):
                show(writer, number, score)
        assert sorted(p.name.split("-")[3] for p in folder.iterdir()) == expected


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    for number in range(evidence.KEPT):
        (tmp_path / f"20200101-000000-{number:06d}-fail-ANOMALY-9.jpg").write_bytes(b"old")
    with closing(EvidenceWriter(tmp_path, RECIPE, 1.0)) as writer:
        show(writer, 1, 5.0)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == evidence.KEPT
    assert names[0].split("-")[2] == "000001" and names[-1].endswith("000001-fail-ANOMALY-5.000.jpg")


def test_a_disk_that_goes_away_is_counted_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "heat"
    with closing(EvidenceWriter(folder, RECIPE, 1.0)) as writer:
        shutil.rmtree(folder)
        show(writer, 1, 5.0)
        assert until(lambda: writer.dropped == 1)
        folder.mkdir()
        show(writer, 2, 5.0)
        assert until(lambda: writer.saved == 1)
    assert "No such file" in writer.last_error


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InspectError, match="--save"):
        EvidenceWriter(tmp_path / "file" / "heat", RECIPE, 1.0)


def test_pictures_that_are_not_ours_are_never_deleted(tmp_path: Path) -> None:
    for number in range(evidence.KEPT + 5):
        (tmp_path / f"holiday-{number}.jpg").write_bytes(b"mine")
    with closing(EvidenceWriter(tmp_path, RECIPE, 1.0)) as writer:
        show(writer, 1, 5.0)
    assert len(list(tmp_path.glob("holiday-*.jpg"))) == evidence.KEPT + 5
