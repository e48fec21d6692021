"""The soak's own judgement finds what it is there to find, and a short soak finds nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from soak_faults import EVERY, Fault, plan
from soak_judge import Counts, Part, Sample, handles_grown, leaked_bytes_per_1000
from soak_line import Line

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"
PARTS = os.environ.get("SOAK_PARTS", "20000")  # some two minutes


def row(part: int, outcome: str = "pass", reason: int = 0, score: float | None = 0.6) -> dict[str, Any]:
    return {"label": f"part {part} good", "outcome": outcome, "reason_code": reason, "score": score}


@pytest.mark.parametrize(
    ("part", "rows", "wrong"),
    [
        (Part(7, True, True, (1,)), [row(7)], {}),
        (Part(7, False, True, (2,)), [row(7, "fail", 1)], {}),
        (Part(7, True, True, (3,)), [row(7, "fail", 20, None)], {}),
        (Part(7, True, True, ()), [], {}),
        (Part(7, False, True, (1,)), [row(7)], {"false_pass": 1}),
        (Part(7, True, False, (1,)), [row(7)], {"false_pass": 1}),
        (Part(7, False, True, (2, 1)), [row(7, "fail", 1), row(7)], {"false_pass": 1}),
        (Part(7, True, True, (1,)), [row(6)], {"mispaired": 1}),
        (Part(7, True, True, ()), [row(6)], {"mispaired": 1}),  # judged by another's picture, if only filed
        (Part(7, True, True, (1,)), [row(7, "fail", 1)], {"mispaired": 1}),
        (Part(7, True, True, (1,)), [], {"lost_verdicts": 1}),
        (Part(7, True, True, (2, 2)), [row(7, "fail", 1)], {"lost_verdicts": 1}),
    ],
)
def test_what_counts_as_wrong(part: Part, rows: list[dict[str, Any]], wrong: dict[str, int]) -> None:
    counts = Counts()
    counts.add_part(part, rows)
    found = {name: getattr(counts, name) for name in ("false_pass", "mispaired", "lost_verdicts")}
    assert found == {"false_pass": 0, "mispaired": 0, "lost_verdicts": 0} | wrong
    assert bool(counts.details) == bool(wrong)


def test_a_leak_is_found_and_a_restart_is_none() -> None:
    flat = [Sample(1, 3000 + 250 * i, 10**8, 12) for i in range(20)]
    leaking = [Sample(2, 3000 + 250 * i, 10**8 + 250 * i, 12 + i) for i in range(20)]
    assert leaked_bytes_per_1000(flat) == 0 and handles_grown(flat) == 0
    assert leaked_bytes_per_1000(leaking) == 1000 and handles_grown([*flat, *leaking]) == 19
    assert leaked_bytes_per_1000(flat[:2]) is None


def test_faults_come_as_often_as_said_and_the_same_for_a_run_that_goes_on() -> None:
    plans = [plan(1, number) for number in range(60_000)]
    found = {each.fault for each in plans if each.fault is not None}
    assert found == set(Fault)
    assert 0.8 < sum(each.fault is not None for each in plans) * EVERY / len(plans) < 1.2
    assert plan(1, 17) == plans[17] and [plan(2, n) for n in range(99)] != plans[:99]


def test_a_run_that_goes_on_does_not_take_two_processes_for_one(tmp_path: Path) -> None:
    """The story: both were life 1, and the memory of one was compared with the other's."""
    line = Line(tmp_path, Counts(), [Sample(3, 9000, 10**8, 12)])
    with line.running():
        line.take_sample()
    assert [sample.life for sample in line.samples] == [3, 4]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_slips_through_when_everything_breaks(tmp_path: Path) -> None:
    command = [sys.executable, str(SOAK), "--parts", PARTS, "--seed", "1", "--json", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["parts"] == int(PARTS) and len(figures["faults"]) > 10
    assert (figures["false_pass"], figures["mispaired"], figures["lost_verdicts"]) == (0, 0, 0)
    assert figures["passed"] > 0.6 * figures["parts"] and figures["handles_grown"] <= 2
