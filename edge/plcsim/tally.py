"""What came of the parts, in figures. Pure."""

from collections import Counter, deque
from collections.abc import Iterator
from statistics import median

from edge.plc.handshake import Mode
from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample
from edge.plcsim import Complaint, Ended, Mistake, Scan, Taken
from edge.plcsim.stops import stop_words

KEPT = 200  # results, complaints, samples: for the screen
KEPT_TIMES = 10_000
TOLD = 3  # of each mistake in lines; the others are counted


class Tally:
    """Adds up scans. `chart` has one sample for each change of a signal."""

    def __init__(self, mode: Mode) -> None:
        self.connected = False
        self.connections = self.triggers = self.missed = 0
        self.stopped = 0  # ERROR_CODE while the line has to stop
        self.stops: list[int] = []  # every one there was, in order
        self._watches, self._paired = mode is Mode.FREE_RUN, 0
        self.verdicts: Counter[VerdictCode] = Counter()
        self.mistakes: Counter[Mistake] = Counter()
        self.commands: list[Ended] = []
        self.results: deque[tuple[Taken, float | None]] = deque(maxlen=KEPT)  # and ms since the trigger
        self.complaints: deque[Complaint] = deque(maxlen=KEPT)
        self.chart: deque[Sample] = deque(maxlen=KEPT)
        self._times: deque[float] = deque(maxlen=KEPT_TIMES)
        self._open: dict[int, int] = {}  # part -> when it was triggered

    @property
    def done(self) -> int:
        """Parts that have a result, or will have none."""
        return self._paired + self.missed

    @property
    def ok(self) -> bool:
        """Everything was as it should be."""
        carried_out = all(ended.ok for ended in self.commands)
        return bool(self.verdicts) and not self.missed and not self.mistakes and carried_out

    def add(self, scan: Scan, now_ns: int) -> Iterator[str]:
        """Take one cycle; gives a line for whatever a person should read, as it happens."""
        if scan.connected != self.connected:
            self.connected = scan.connected
            self.connections += scan.connected
            yield "the station is there" if scan.connected else "the station is gone"
        if scan.connected and scan.stopped != self.stopped:
            self.stopped = scan.stopped
            if scan.stopped:
                self.stops.append(scan.stopped)
                yield stop_words(scan.stopped)
            else:
                yield "the line may run again"
        for part in scan.triggered:
            self.triggers += part not in self._open
            self._open[part] = now_ns
        for complaint in scan.complaints:
            self.mistakes[complaint.what] += 1
            self.complaints.append(complaint)
            count = self.mistakes[complaint.what]
            if count <= TOLD:
                more = "; more of these are counted" if count == TOLD else ""
                yield f"MISTAKE {complaint.what.value}: {complaint.detail}{more}"
        for ended in scan.ended:
            self.commands.append(ended)
            yield f"command {ended}"
        for taken in scan.taken:
            yield self._take(taken, now_ns)
        for part in scan.rejected:
            self._open.pop(part, None)
            self.missed += 1
            yield f"part {part}: no result, rejected"
        if scan.sample and (not self.chart or self.chart[-1] != scan.sample):
            self.chart.append(scan.sample)

    def _take(self, taken: Taken, now_ns: int) -> str:
        begun = self._open.pop(taken.part_id, None)
        ms = None if begun is None else (now_ns - begun) / 1e6
        if ms is not None:
            self._times.append(ms)
        self._paired += self._watches or begun is not None
        self.verdicts[taken.verdict] += 1
        self.results.append((taken, ms))
        return f"part {taken.part_id}: {taken.verdict.name}" + ("" if ms is None else f" after {ms:.0f} ms")

    def summary(self) -> dict[str, object]:
        """For --json; times in milliseconds, as the PLC sees them: from trigger to result."""
        times = sorted(self._times)
        known = {VerdictCode.PASS: "pass", VerdictCode.FAIL: "fail", VerdictCode.NO_DECISION: "no_decision"}
        return {
            "triggers": self.triggers,
            "verdicts": self.verdicts.total(),
            **{name: self.verdicts[code] for code, name in known.items()},
            "other": sum(count for code, count in self.verdicts.items() if code not in known),
            "missed": self.missed,
            "mismatched": self.mistakes[Mistake.OTHER_PART],
            "mistakes": {what.value: count for what, count in self.mistakes.items()},
            "stops": self.stops,
            "connections": self.connections,
            "response_ms": {"median": round(median(times), 1), "max": round(times[-1], 1)} if times else None,
        }
