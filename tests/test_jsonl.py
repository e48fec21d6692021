"""JSON lines: the documented keys, on the standard output and in a file."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from peers import a_verdict

from edge.errors import OutputLost
from edge.outputs import open_output
from edge.verdict import Outcome, Reason
from edge.verdict_json import verdict_json

DOCS = Path(__file__).parents[1] / "docs" / "outputs.md"


def test_the_documented_keys_are_the_code() -> None:
    section = DOCS.read_text("utf-8").partition("## JSON lines")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(verdict_json(a_verdict(1)))


def test_a_file_into_which_nothing_was_written_does_not_stay(tmp_path: Path) -> None:
    """The story: a dry run left an empty verdicts.jsonl behind."""
    path = tmp_path / "verdicts.jsonl"
    open_output(f"jsonl:{path}").close()
    assert not path.exists()
    path.touch()
    open_output(f"jsonl:{path}").close()
    assert path.exists()  # it was there before us


def test_a_verdict_as_an_object() -> None:
    verdict = replace(
        a_verdict(7, Outcome.FAIL), part_id=99, label="scratch", captured_ns=0, decided_ns=38_000_000
    )
    assert verdict_json(verdict) == {
        "frame_id": 7, "part_id": 99, "outcome": "fail", "reason": "ANOMALY", "reason_code": 1, "score": 1.5,
        "threshold": 0.5, "recipe": "widget@abcd12345678", "recipe_number": 0, "lot": None,
        "total_ms": 38.0, "preprocess_ms": 2.0,
        "infer_ms": 30.0, "captured_ns": 0, "decided_ns": 38_000_000, "label": "scratch",
    }  # fmt: skip


def test_numbers_that_json_cannot_hold_are_null() -> None:
    verdict = replace(
        a_verdict(1, Outcome.FAIL, Reason.SCORE_INVALID), score=float("nan"), threshold=float("inf")
    )
    row = json.loads(json.dumps(verdict_json(verdict), allow_nan=False))
    assert row["score"] is None and row["threshold"] is None


def test_the_standard_output_gets_one_line_each_and_stays_open(capsys: pytest.CaptureFixture[str]) -> None:
    output = open_output("jsonl:-")
    output.send(a_verdict(1))
    output.send(replace(a_verdict(2), label="Kratzer ü\nzwei Zeilen"))
    output.close()
    print("still open")
    *rows, last = capsys.readouterr().out.splitlines()
    assert [json.loads(row)["frame_id"] for row in rows] == [1, 2]
    assert last == "still open"


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a b.jsonl"
    path.write_text('{"frame_id": 0}\n')
    output = open_output(f"jsonl:{path}")
    output.send(a_verdict(1))
    assert len(path.read_text().splitlines()) == 2, "written at once, not at close"
    output.close()


def test_a_folder_that_is_not_there_and_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputLost, match="folder exists"):
        open_output(f"jsonl:{tmp_path / 'no' / 'where.jsonl'}")
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    output = open_output("jsonl:/dev/full")
    with pytest.raises(OutputLost, match="space"):
        output.send(a_verdict(1))
    output.close()
