"""What a robot or a terminal says to a station over MQTT in JSON, and how it reads the answers. Pure."""

import json
import uuid
from collections import deque

from edge.plc.handshake import Mode
from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample
from edge.plcsim import Complaint, Mistake, Scan, Taken
from edge.plcsim.lasting import Lasting
from edge.verdict import Outcome, Reason

PATIENCE_NS = 10_000_000_000  # a part waits so long for its verdict
AGAIN_NS = 100_000_000  # before a refused trigger is sent again
SILENT_NS = 3_000_000_000  # without heartbeat or answer; a broker stands between
DEAF_NS = 5_000_000_000
PAUSE_NS = 1_000_000_000  # between two turns: we stood still ourselves


class MqttTalk:
    """One part after the other: trigger, verdict; nothing is acknowledged."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._arrived: deque[int] = deque()
        self._open: int | None = None  # triggered, no verdict yet
        self._open_ns = self._again_ns = self._turn_ns = 0
        self._name, self._asked = uuid.uuid4().hex[:8], 0  # ids of another run are never ours
        self._last: tuple[object, object] | None = None  # verdict, which may come twice
        self._shown: Sample = {"RESULT_ID": "0", "VERDICT": VerdictCode.NONE.name}
        self._taken: list[Taken] = []
        self._rejected: list[int] = []
        self._found: list[Complaint] = []
        self.abandon()

    def part_arrives(self, part_id: int) -> None:
        """It is triggered when the one before it has its verdict."""
        self._arrived.append(part_id)

    def abandon(self) -> None:
        """Station or broker are gone: whatever has no verdict has gone by."""
        self._online = self._healthy = self._ready = self._unanswered = False
        self._beat: tuple[int, int] | None = None  # heartbeat, and since when
        self._lasting = Lasting()
        self._rejected += self._arrived if self._open is None else (self._open, *self._arrived)
        self._open = None
        self._arrived.clear()

    def hear(self, name: str, payload: bytes, now_ns: int) -> None:
        """What was said on PREFIX/`name`."""
        match name, _object(payload):
            case "status", {"online": False}:
                self.abandon()
            case "status", {
                "online": True, "healthy": bool(healthy), "ready": bool(ready), "heartbeat": int(beat)
            }:  # fmt: skip
                self._online, self._healthy, self._ready = True, healthy, ready
                if self._beat is None or self._beat[0] != beat:
                    self._beat = (beat, now_ns)
            case "reply", {"ok": bool(ok), "id": which}:
                if which == f"{self._name}-{self._asked}":
                    self._unanswered = False
                    self._again_ns = 0 if ok else now_ns + AGAIN_NS
            case "verdict", {
                "frame_id": int(),
                "late": bool(),
                "outcome": str(),
                "reason_code": int(),
            } as told:
                if (now := (told["frame_id"], told.get("decided_ns"))) != self._last:
                    self._last = now
                    self._hear_verdict(told)
            case _:
                self._complain(Mistake.BAD_LINE, f"{name}: {payload[:100]!r}")

    def turn(self, now_ns: int) -> tuple[Scan, bytes | None]:
        """One cycle of the PLC, and what it says on PREFIX/cmd."""
        if now_ns - self._turn_ns > PAUSE_NS:
            self._beat = self._beat and (self._beat[0], now_ns)
            self._lasting.begin_anew()
        self._turn_ns = now_ns
        triggered, command = self._trigger(now_ns) if self._online else ((), None)
        if self._online:
            self._judge(now_ns)
        told = tuple(self._taken), tuple(self._rejected), tuple(self._found)
        self._taken, self._rejected, self._found = [], [], []
        return Scan(self._online, self._sample() if self._online else {}, triggered, *told), command

    def _hear_verdict(self, told: dict[str, object]) -> None:
        part = told.get("part_id")
        if told["late"]:  # it has gone by, whatever was found
            self._give_up(only=part)
            return
        if (code := _code(told)) is None:
            detail = f"a pass with reason {told['reason_code']} and score {told.get('score')}"
            self._complain(Mistake.CONTRADICTION, detail)
            return
        if self._mode is Mode.FREE_RUN:
            part = told["frame_id"] if part is None else part
        elif part != self._open:
            who = "no part" if self._open is None else f"part {self._open}"
            self._complain(Mistake.OTHER_PART, f"part_id is {part}, {who} waits for a verdict")
        else:
            self._open = None
        number = part if isinstance(part, int) else -1
        self._taken.append(Taken(number, code, f"{told.get('reason')}, frame {told['frame_id']}"))
        self._shown = {"RESULT_ID": str(number), "VERDICT": code.name}

    def _trigger(self, now_ns: int) -> tuple[tuple[int, ...], bytes | None]:
        """The next part, or once more the one that was refused."""
        if self._open is not None and now_ns - self._open_ns > PATIENCE_NS:
            self._give_up(only=self._open)
        if self._open is None and self._ready and self._arrived:
            self._open, self._open_ns, self._again_ns = self._arrived.popleft(), now_ns, now_ns
        if self._open is None or not 0 < self._again_ns <= now_ns:
            return (), None
        self._asked, self._unanswered, self._again_ns = self._asked + 1, True, 0
        command = {"command": "trigger", "part_id": self._open, "id": f"{self._name}-{self._asked}"}
        return (self._open,), json.dumps(command).encode()

    def _give_up(self, only: object) -> None:
        """The part that waits, where it is this one."""
        if self._open is not None and self._open == only:
            self._rejected.append(self._open)
            self._open, self._unanswered = None, False

    def _judge(self, now_ns: int) -> None:
        beat, since_ns = self._beat or (0, now_ns)
        still, silent = now_ns - since_ns > SILENT_NS, f"part {self._open}, for 3 s"
        deaf = self._mode is Mode.IDS and self._healthy and not self._ready and self._open is None
        look, why = self._lasting.look, "for 5 s; has it stopped the line? Is its handshake=ids?"
        self._found += [
            *look(Mistake.NO_HEARTBEAT, still, f"heartbeat has stood at {beat} for 3 s", 0, now_ns),
            *look(Mistake.NO_TRIGGER_ACK, self._unanswered, silent, SILENT_NS, now_ns),
            *look(Mistake.NOT_READY, deaf, why, DEAF_NS, now_ns),
            *look(Mistake.READY_OFFLINE, self._ready and not self._healthy, "ready, not healthy", 0, now_ns),
        ]

    def _complain(self, what: Mistake, detail: str) -> None:
        self._found.append(Complaint(what, detail))

    def _sample(self) -> Sample:
        waits = {} if self._mode is Mode.FREE_RUN else {"TRIGGER_ID": str(self._open or 0)}
        return {"ONLINE": self._healthy, "READY": self._ready, **waits, **self._shown}


def _object(payload: bytes) -> dict[str, object]:
    """{} for whatever is no JSON object."""
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _code(told: dict[str, object]) -> VerdictCode | None:
    """None for a pass that is none."""
    outcome, reason = told["outcome"], told["reason_code"]
    if outcome == Outcome.PASS.value:
        judged = reason == Reason.WITHIN_LIMITS and isinstance(told.get("score"), float | int)
        return VerdictCode.PASS if judged else None
    judged_bad = (outcome, reason) == (Outcome.FAIL.value, Reason.ANOMALY)
    return VerdictCode.FAIL if judged_bad else VerdictCode.NO_DECISION
