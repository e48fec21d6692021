"""Timing charts of a handshake as text, drawn from what was recorded, not by hand.

python -m edge.plc.timing_chart      prints the charts of docs/outputs.md
"""

from collections.abc import Sequence
from itertools import pairwise

from edge.plc.block import PlcBlock, PlcWatch
from edge.plc.commands import Command, Order
from edge.plc.handshake import Handshake, Mode
from edge.plc.line_events import Happened
from edge.plc.program import PlcProgram
from edge.plc.registers import Control, Status, VerdictCode, WordOrder, decode
from edge.plc.station_image import StationImage
from edge.trigger import Request
from edge.verdict import Outcome, Reason, Verdict

STEP = 5  # characters a sample
STEPS = 11  # of the record: two parts from trigger to acknowledge
HIGH, LOW, RISE, FALL = "‾", "_", "/", "\\"
Sample = dict[str, int | bool | str]  # signal -> level, or what stands in a register

COLUMNS = {
    Mode.BITS: ("READY", "TRIGGER", "TRIGGER_ACK", "BUSY", "RESULT_VALID", "RESULT_ACK", "PASS", "FAIL"),
    Mode.IDS: ("READY", "TRIGGER_ID", "BUSY", "RESULT_VALID", "RESULT_ACK_ID", "PASS", "FAIL"),
    Mode.FREE_RUN: ("ONLINE", "RESULT_VALID", "PASS", "FAIL"),
}
SHOWN = ("RESULT_ID", "VERDICT", "SEQUENCE")
ORDERED = ("READY", "EXEC_COMMAND", "COMMAND", "COMMAND_ARG", "COMMAND_BUSY", "COMMAND_DONE")


def sample(mode: Mode, plc: Sequence[int], station: Sequence[int], word_order: WordOrder = "big") -> Sample:
    """What stands in both blocks (28 and 50 registers) at one moment."""
    seen = _signals(COLUMNS[mode], plc, station, word_order)
    seen |= {name: str(int(decode(name, station, word_order))) for name in SHOWN}
    verdict = int(seen["VERDICT"])
    seen["VERDICT"] = VerdictCode(verdict).name if verdict in tuple(VerdictCode) else str(verdict)
    return seen


def _signals(
    names: Sequence[str], plc: Sequence[int], station: Sequence[int], word_order: WordOrder = "big"
) -> Sample:
    """Bits of STATUS and CONTROL as levels, registers of the PLC as numbers."""
    control, status = Control(plc[0]), Status(station[0])
    seen: Sample = {}
    for name in names:
        if name in Status.__members__:
            seen[name] = bool(status & Status[name])
        elif name in Control.__members__:
            seen[name] = bool(control & Control[name])
        else:
            seen[name] = str(int(decode(name, plc, word_order)))
    return seen


def chart(samples: Sequence[Sample], step: int = STEP) -> str:
    """One line a signal; time goes to the right, `step` characters a sample."""
    names = list(samples[0])
    width = max(map(len, names)) + 1
    rows = {name: _row([each[name] for each in samples], step) for name in names}
    return "\n".join(f"{name:<{width}} {row}".rstrip() for name, row in rows.items())


def _row(values: Sequence[int | bool | str], step: int) -> str:
    changes = [0, *(at for at in range(1, len(values)) if values[at] != values[at - 1]), len(values)]
    return "".join(_piece(values[at], (end - at) * step, at == 0) for at, end in pairwise(changes))


def _piece(value: int | bool | str, width: int, first: bool) -> str:
    """From one change to the next."""
    if isinstance(value, str):
        return f"|{value}"[:width].ljust(width)
    edge = "" if first else (RISE if value else FALL)
    return edge.ljust(width, HIGH if value else LOW)


def record(mode: Mode) -> list[Sample]:
    """A good part and a bad one; the PLC and the station act in turn, one step each a sample."""
    hand, program = Handshake(StationImage(), mode), PlcProgram(mode)
    watch, asked, samples = PlcWatch(hand), list[Request](), list[Sample]()
    hand.beat(1, True, 0)
    for part in (7, 8):
        program.part_arrives(part)
    for step in range(STEPS):
        plc = program.scan(hand.block())
        watch.look(PlcBlock.decode(plc), step)
        asked += [e.request for e in hand.take_events() if e.what is Happened.TRIGGERED and e.request]
        samples.append(sample(mode, plc, hand.block()))
        if asked and step % 4 == 3:
            hand.publish(_judged(asked.pop(0), step), step)
            samples.append(sample(mode, plc, hand.block()))
    return samples


def record_command() -> list[Sample]:
    """Recipe 2 is loaded, which takes the station a while; parts could be triggered meanwhile."""
    image = StationImage()
    hand, program = Handshake(image, Mode.BITS), PlcProgram(Mode.BITS)
    watch, orders, samples = PlcWatch(hand), list[Order](), list[Sample]()
    hand.beat(1, True, 0)
    for step in range(STEPS):
        if step == 2:
            program.order(Command.LOAD_RECIPE, 2)
        plc = program.scan(hand.block())
        watch.look(PlcBlock.decode(plc), step)
        orders += [
            event.order for event in hand.take_events() if event.what is Happened.ORDERED and event.order
        ]
        if step == 7:
            image.recipe_number = 2
            hand.end_command(orders.pop(), True, step)
        active = str(int(decode("RECIPE_ACTIVE", hand.block())))
        samples.append({**_signals(ORDERED, plc, hand.block()), "RECIPE_ACTIVE": active})
    return samples


def _judged(request: Request, now_ns: int) -> Verdict:
    good = request.part_id == 7
    outcome, reason = (Outcome.PASS, Reason.WITHIN_LIMITS) if good else (Outcome.FAIL, Reason.ANOMALY)
    frame, score = request.number or 0, 0.1 if good else 1.5
    times = (request.at_ns, now_ns)
    return Verdict(frame, request.part_id, outcome, reason, score, 0.5, "", *times, request=request.number)


if __name__ == "__main__":
    for each in (Mode.BITS, Mode.IDS):
        print(f"{each.value}\n\n{chart(record(each))}\n")
    print(f"command\n\n{chart(record_command())}\n")
