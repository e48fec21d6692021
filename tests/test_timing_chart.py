"""The charts in the docs are what the state machine does."""

from pathlib import Path

import pytest

from edge.plc.handshake import Mode
from edge.plc.timing_chart import STEP, chart, record, record_command

DOCS = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text("utf-8")


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
def test_the_documented_chart_is_a_recorded_run(mode: Mode) -> None:
    assert f"```text\n{chart(record(mode))}\n```" in DOCS, "python -m edge.plc.timing_chart draws it anew"


def test_the_documented_chart_of_a_command_is_a_recorded_run() -> None:
    assert f"```text\n{chart(record_command())}\n```" in DOCS, "python -m edge.plc.timing_chart draws it anew"


def test_levels_edges_and_values_have_their_places() -> None:
    signals = [(False, "7"), (True, "7"), (True, "70000")]
    drawn = chart([{"BIT": level, "ID": value} for level, value in signals]).splitlines()
    assert drawn == [
        "BIT  " + "_" * STEP + "/" + "‾" * (2 * STEP - 1),
        "ID   " + "|7".ljust(2 * STEP) + "|7000",
    ]
