"""What stands on OK, NG, READY, FAULT and LIFE, and when: drawn, one column a millisecond."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.plc.discrete import ALL_OFF, DiscreteLines, Line, changes

MS = 1_000_000


def chart(steps: dict[int, str], until_ms: int, ready: bool = True) -> dict[str, str]:
    """Run `steps` ("pass", "bad", "well", "ill", "fault", several with blanks) at their times."""
    lines, drawn = DiscreteLines(pulse_ns=4 * MS, gap_ns=2 * MS), {line.name: "" for line in Line}
    lines.beat(True, 0)
    for ms in range(until_ms):
        for step in steps.get(ms, "").split():
            match step:
                case "pass" | "bad":
                    lines.show(step == "pass", ms * MS)
                    lines.judged(True)
                case "fault":
                    lines.show(False, ms * MS)
                    lines.judged(False)
                case "well" | "ill":
                    lines.beat(step == "well", ms * MS)
        for line, on in lines.levels(ready, ms * MS).items():
            drawn[line.name] += "‾" if on else "_"
    return drawn


@pytest.mark.parametrize(
    ("steps", "ok", "ng"),
    [
        ({2: "pass"}, "__‾‾‾‾______", "____________"),
        ({2: "bad"}, "____________", "__‾‾‾‾______"),
        ({0: "pass", 8: "pass"}, "‾‾‾‾____‾‾‾‾", "____________"),
        ({0: "pass", 5: "pass"}, "‾‾‾‾__‾‾‾‾__", "____________"),  # waits for the pause to end
        ({0: "pass", 2: "pass"}, "‾‾__‾‾‾‾____", "____________"),  # overtaken: cut, and yet an edge for each
        ({0: "pass", 2: "bad"}, "‾‾__________", "____‾‾‾‾____"),
        ({0: "bad", 1: "pass"}, "___‾‾‾‾_____", "‾___________"),
        (
            {0: "pass", 1: "bad", 2: "pass"},
            "‾___________",
            "___‾‾‾‾_____",
        ),  # two meet in the pause: both pass or NG
        ({0: "pass", 1: "pass", 2: "bad"}, "‾___________", "___‾‾‾‾_____"),
        ({0: "pass", 1: "pass", 2: "pass"}, "‾__‾‾‾‾_____", "____________"),
        ({0: "pass", 2: "ill", 3: "well"}, "‾‾__________", "____________"),  # taken back, and not shown again
        ({0: "pass", 2: "ill", 3: "well pass"}, "‾‾__‾‾‾‾____", "____________"),
        ({0: "ill", 2: "pass"}, "__‾‾‾‾______", "____________"),  # who judges is well again
    ],
)
def test_pulses(steps: dict[int, str], ok: str, ng: str) -> None:
    drawn = chart(steps, 12)
    assert (drawn["OK"], drawn["NG"]) == (ok, ng)
    assert not any(both == ("‾", "‾") for both in zip(drawn["OK"], drawn["NG"], strict=True))


def test_ready_waits_for_the_pulse_and_its_pause() -> None:
    assert chart({2: "pass"}, 10)["READY"] == "‾‾______‾‾"
    assert chart({2: "pass"}, 10, ready=False)["READY"] == "_" * 10


def test_fault_is_on_while_all_is_well_and_comes_back_with_a_judged_part() -> None:
    drawn = chart({1: "fault", 7: "bad", 14: "ill", 17: "well"}, 20)
    assert drawn["FAULT"] == "‾______‾‾‾‾‾‾‾___‾‾‾"
    assert drawn["READY"] == "‾____________‾___‾‾‾"


def test_life_flips_with_each_beat_and_stands_still_with_the_station() -> None:
    assert chart({2: "well", 4: "well", 6: "ill", 8: "ill", 9: "well"}, 11)["LIFE"] == "‾‾__‾‾___‾‾"


def test_before_the_first_beat_all_lines_are_off() -> None:
    lines = DiscreteLines(4 * MS)
    assert lines.levels(True, MS) == ALL_OFF


def test_what_goes_off_is_switched_first() -> None:
    before = {**ALL_OFF, Line.NG: True, Line.READY: True}
    after = {**ALL_OFF, Line.OK: True, Line.READY: True, Line.FAULT: True}
    assert list(changes(before, after)) == [Line.NG, Line.FAULT, Line.OK], "OK is believed only under FAULT"
    assert changes(after, after) == {}


KINDS = st.sampled_from(["pass", "bad", "fault", "ill", "well"])


@example(steps={0: "pass", 1: "bad", 3: "pass"})  # the NG was overtaken at the very moment of its beginning
@given(steps=st.dictionaries(st.integers(0, 39), KINDS, max_size=20))
def test_an_ok_says_that_every_part_since_the_pulse_before_has_passed(steps: dict[int, str]) -> None:
    drawn = chart(steps, 60)
    ok, ng = drawn["OK"], drawn["NG"]
    pulse = "".join("_" if (a, b) == ("_", "_") else "x" for a, b in zip(ok, ng, strict=True))
    assert "‾‾" not in {a + b for a, b in zip(ok, ng, strict=True)}, "never together"
    assert all(len(pause) >= 2 for pause in pulse.strip("_").split("x") if pause), "an edge for each"
    for at in (at for at in range(60) if ok[at] == "‾" and ok[at - 1 : at] != "‾"):
        since = max(pulse.rfind("x", 0, at), *(t for t in range(at) if steps.get(t) == "ill"), -1)
        came = {steps[t] for t in range(since + 1, at + 1) if steps.get(t) in ("pass", "bad", "fault")}
        assert came == {"pass"}
