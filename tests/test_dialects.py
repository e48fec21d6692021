"""Dialects of other sensors: what is said, and that nothing but a pass can be read as one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import a_verdict

from edge.errors import InspectError
from edge.outputs import output_opener
from edge.outputs.languages import language_of
from edge.plc.dialects import DIALECTS, Dialect, pattern_of
from edge.plc.handshake import Handshake, Mode
from edge.plc.line_protocol import OwnLanguage, Received, receive
from edge.plc.station_image import StationImage
from edge.verdict import Outcome, Reason

URI = "tcp-server://0.0.0.0:2115"


def a_station(mode: Mode = Mode.IDS) -> Handshake:
    hand = Handshake(StationImage(recipe_number=3), mode)
    hand.beat(1, True, 0)
    return hand


def spoken(name: str, question: str, outcome: Outcome, reason: Reason | None = None) -> tuple[bytes, bytes]:
    """Answer to a trigger, and the line of its part."""
    dialect, hand = DIALECTS[name], a_station()
    answer = dialect.answer(question, hand, 0)
    assert hand.last_trigger is not None
    verdict = replace(a_verdict(9, outcome, reason), part_id=hand.last_trigger.part_id)
    return answer, dialect.result(verdict, 3)


PASS, FAIL = Outcome.PASS, Outcome.FAIL
SPOKEN = [
    ("t1", "T1", PASS, b"T1\r", b"RT,00001,OK\r"),
    ("t1", "t1", FAIL, b"T1\r", b"RT,00001,NG\r"),
    ("trig", "TRIG", PASS, b"\x02rTRIG 0\x03", b"\x021,OK\x03"),
    ("trig", "\x02TRIG", FAIL, b"\x02rTRIG 0\x03", b"\x021,NG\x03"),
    ("gardasoft", "Evt1,17", PASS, b"", b"SN1,17,1\r"),
    ("gardasoft", "Evt1,0", FAIL, b"", b"SN1,0,0\r"),
    ("plain", "TRG", PASS, b"", b"OK\r"),
]


@pytest.mark.parametrize(("name", "question", "outcome", "answer", "line"), SPOKEN)
def test_what_is_said(name: str, question: str, outcome: Outcome, answer: bytes, line: bytes) -> None:
    assert spoken(name, question, outcome) == (answer, line)


def test_a_trigger_that_is_not_taken_is_refused() -> None:
    said = {
        "t1": ("T1", b"ER,T1,01\r"), "trig": ("TRIG", b"\x02rTRIG 1\x03"),
        "gardasoft": ("Evt1,18", b"SN1,18,0\r"), "plain": ("TRG", b"BUSY\r"),
    }  # fmt: skip
    for name, dialect in DIALECTS.items():
        hand, (question, refusal) = a_station(), said[name]
        dialect.answer(question, hand, 0)
        assert dialect.answer(question, hand, 0) == refusal, "the first part is not judged yet"
        assert hand.missed == 1
        assert dialect.answer(question, a_station(Mode.FREE_RUN), 0) == refusal


def test_a_tag_that_was_refused_gets_no_verdict_behind_it() -> None:
    """The story: the controller counted its tags from 0 again while part 17 was judged. Its next 17 was
    refused, with the line of a bad part; then came the pass of the old 17, and the new one went through.
    """
    hand, dialect = a_station(), DIALECTS["gardasoft"]
    dialect.answer("Evt1,17", hand, 0)
    assert hand.last_trigger is not None
    old = replace(a_verdict(9), request=hand.last_trigger.number, part_id=17)
    assert dialect.answer("Evt1,17", hand, 0) == b"SN1,17,0\r"
    hand.publish(old, 0)
    assert hand.shown is None
    dialect.answer("Evt1,18", hand, 0)
    assert dialect.answer("Evt1,19", hand, 0) == b"SN1,19,0\r"
    assert hand.last_trigger is not None and hand.last_trigger.part_id == 18, "18 is judged all the same"


STRANGE = ("T11", "XT1", "Evt1,", "Evt1,256", "Evt2,1", "Evt1,99999999999", "TRIGGER", "OK", "\ufffd")


def test_what_nobody_knows_triggers_nothing() -> None:
    for dialect in DIALECTS.values():
        for line in STRANGE:
            hand = a_station()
            answer = dialect.answer(line, hand, 0)
            assert hand.last_trigger is None, line
            assert not answer or answer.isascii()
        assert dialect.answer("", a_station(), 0) == b"", "LF after CR, or a line that was too long"


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=40, deadline=None)
@given(noise=st.binary(max_size=200), reason=st.sampled_from([r for r in Reason if r.is_fault]))
def test_no_fault_and_no_answer_reads_as_a_pass(name: str, noise: bytes, reason: Reason) -> None:
    """A PLC that matches the line of a pass, whatever stands in its fields, sees one only for a good part."""
    dialect, hand = DIALECTS[name], a_station()
    a_pass = pattern_of(dialect.line, word=re.escape(dialect.passed))
    assert a_pass.fullmatch(bare(dialect, dialect.result(a_verdict(1), 3)))
    said = [dialect.answer(line, hand, 0) for line in receive(Received(), noise, 0, dialect.ends)[1]]
    said += [dialect.result(a_verdict(1, outcome), 3) for outcome in (Outcome.FAIL, Outcome.REVIEW)]
    said.append(dialect.result(a_verdict(1, Outcome.FAIL, reason), 3))
    assert not [line for line in said if a_pass.fullmatch(bare(dialect, line))]


def bare(dialect: Dialect, line: bytes) -> str:
    return line.decode().removeprefix(dialect.start).removesuffix(dialect.end)


def test_a_user_writes_a_template_into_the_uri_or_a_file(tmp_path: Path) -> None:
    judged, unseen = a_verdict(7), a_verdict(7, Outcome.FAIL, Reason.CAMERA_LOST)
    typed = "dialect=plain&trigger=GO&line={word};{id};{code}&pass=IO&fail=NIO&nodec=ERR&frame=crlf"
    settings = dict(pair.split("=") for pair in typed.split("&"))
    spoken = language_of(settings, URI)
    assert [spoken.result(v, 1) for v in (judged, unseen)] == [b"IO;7;0\r\n", b"ERR;7;10\r\n"]
    file = tmp_path / "cell4.toml"
    file.write_text('dialect = "gardasoft"\noutput = 2\n')
    assert language_of({"dialect": str(file)}, URI).result(judged, 1) == b"SN2,7,1\r"
    assert language_of({"dialect": str(file), "output": "3"}, URI).result(judged, 1) == b"SN3,7,1\r"
    assert isinstance(language_of({}, URI), OwnLanguage)
    output_opener(f"{URI}?{typed}")


WRONG = {
    "nobody": "not known",
    "t1&fail=ok": "word of a pass",
    "t1&nodec=OK": "word of a pass",
    "t1&nodec=": "no word",
    "plain&accepted=OK": "read as a pass",
    "plain&unknown={command}&pass=x": "read as a pass",
    "plain&line={word}{id}&pass=1&fail=11": "read as a pass",
    "plain&line=OK": "no {word}",
    "plain&line={word},{price}": "unknown fields",
    "plain&line={word},{id.real}": "unknown fields",
    "plain&line={word},{score:d}": "not usable",
    "plain&line={word": "not usable",
    "plain&trigger=": "empty",
    "plain&trigger={word}": "unknown fields",
    "plain&frame=tab": "not usable",
    "plain&ids=many": "not usable",
    "plain&pass=gut\u2713": "no word",
    "/no/such/file.toml": "cannot be read",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_could_let_a_part_through_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(InspectError, match=WRONG[text]):
        output_opener(f"{URI}?dialect={text}")


def test_a_file_with_a_slip_names_it(tmp_path: Path) -> None:
    file = tmp_path / "cell4.toml"
    for text, fault in (("line = {", "cannot be read"), ('lines = "x"', "unknown setting 'lines'")):
        file.write_text(text)
        with pytest.raises(InspectError, match=fault):
            language_of({"dialect": str(file)}, URI)


def test_the_docs_table_is_the_code_s() -> None:
    """What the PLC sends and what comes back, as written there: the answers to part 1, or to tag 17."""
    text = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([\w,]+)`.*?\| (.+?) \| (.+?) \|", text, re.M)
    table = {name: (question, answers, lines) for name, question, answers, lines in rows if name in DIALECTS}
    assert list(table) == list(DIALECTS)
    for name, (question, answers, lines) in table.items():
        dialect, hand = DIALECTS[name], a_station()
        taken = bare(dialect, dialect.answer(question, hand, 0))
        number = hand.last_trigger.part_id if hand.last_trigger else None
        refused = bare(dialect, dialect.answer(question, hand, 0))
        assert [said for said in (taken, refused) if said] == re.findall(r"`([^`]+)`", answers)
        judged = [replace(a_verdict(1, outcome), part_id=number) for outcome in (PASS, FAIL)]
        said = [bare(dialect, dialect.result(verdict, 1)) for verdict in judged]
        assert said == re.findall(r"`([^`]+)`", lines)
