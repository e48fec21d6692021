"""The archive: what the disk refuses waits, in order and whole; no PLC is told before the line is written."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from peers import a_verdict, until
from test_orders import write
from toy import toy_pair

from edge.errors import OutputLost
from edge.outputs import Output, open_output, output_opener
from edge.plc.handshake import Mode, no_decision
from edge.plc.link import PlcLink
from edge.station.archive import WAIT_S, Archive
from edge.station.compose import station_of
from edge.station.outbox import Outbox
from edge.station.running import RunOptions
from edge.trigger import Request
from edge.verdict import Verdict


def archived(path: Path) -> list[int]:
    return [json.loads(row)["frame_id"] for row in path.read_text().splitlines()]


def test_what_the_disk_refuses_is_written_later_in_order(tmp_path: Path) -> None:
    path = tmp_path / "not yet" / "verdicts.jsonl"
    archive = Archive(output_opener(f"jsonl:{path}"))
    archive.put(a_verdict(1))
    assert archive.alarm and "not yet" in archive.last_error
    archive.put(a_verdict(2))
    path.parent.mkdir()
    assert until(lambda: not archive.alarm), "no part comes any more, and the disk has room"
    archive.put(a_verdict(3))
    archive.close()
    assert archived(path) == [1, 2, 3]
    assert archive.counters.sent == 3 and archive.counters.dropped == 0


def test_no_more_than_kept_waits_and_the_rest_is_counted(tmp_path: Path) -> None:
    archive = Archive(output_opener(f"jsonl:{tmp_path / 'no' / 'v.jsonl'}"), kept=3)
    for frame in range(1, 6):
        archive.put(a_verdict(frame))
    assert archive.counters.dropped == 2
    archive.close()
    assert archive.counters.dropped == 5


def test_a_picture_whose_name_is_no_text_is_archived_too(tmp_path: Path) -> None:
    """The story: an old Windows share named a picture in Latin-1. Its verdict could not be written; the error
    went through the archive into the station's loop and ended it."""
    path, name = tmp_path / "verdicts.jsonl", os.fsdecode(b"teil-\xfc.png")
    archive = Archive(output_opener(f"jsonl:{path}"))
    archive.put(replace(a_verdict(1), label=name))
    archive.put(a_verdict(2))
    archive.close()
    assert archived(path) == [1, 2] and json.loads(path.read_text().splitlines()[0])["label"] == name


def test_a_share_that_is_away_ends_nothing_and_gets_its_lines_when_it_is_back(tmp_path: Path) -> None:
    """The story: the NAS was switched off. To ask whether the file was there raised what nobody caught: the
    station ended, before any PLC had the verdict, and was not started again, as after wrong use."""
    share, there = tmp_path / "share", tmp_path / "there"
    there.mkdir()
    share.symlink_to("x" * 300)  # any question about a file in it is an error, as where a server is gone
    outputs = [f"jsonl:{share / 'v.jsonl'}"]
    pictures = write(tmp_path / "line", 60, 61, 62)
    run = RunOptions(str(pictures), toy_pair(tmp_path), outputs=outputs, backend="onnxruntime")
    with station_of(run) as running:
        running.station.run()
        archive = running.station.outboxes[0]
        assert isinstance(archive, Archive) and archive.alarm and "cannot write" in archive.last_error
        share.unlink()
        share.symlink_to(there)
        assert until(lambda: not archive.alarm, 10.0)
    assert archived(there / "v.jsonl") == [1, 2, 3]


class SlowDisk:
    """Refuses all until it has room; then it takes a millisecond for each line."""

    uri, has_room = "disk:", False

    def __init__(self) -> None:
        self.written = 0

    def send(self, verdict: Verdict) -> None:
        if not self.has_room:
            raise OutputLost("the disk is full", self.uri, "Make room.")
        time.sleep(0.001)
        self.written += 1

    def beat(self, counter: int, healthy: bool) -> None: ...

    def close(self) -> None: ...


def test_what_was_held_back_does_not_hold_the_line_when_the_disk_has_room_again() -> None:
    """The story: a disk had been full for a day. When somebody made room, the loop waited four seconds for
    all of it to be written: the heartbeat stopped, and the part under the camera got no verdict."""
    disk = SlowDisk()
    archive, many = Archive(lambda: disk), 1200
    for frame in range(many):
        archive.put(a_verdict(frame))
    disk.has_room = True
    assert until(lambda: disk.written > 0, 10.0)
    archive.put(a_verdict(many))
    assert disk.written < many
    archive.close()
    assert archive.counters.sent == many + 1 and archive.counters.dropped == 0


def test_a_disk_that_hangs_holds_no_part(tmp_path: Path) -> None:
    """The story: the loop itself wrote the file. An SD card tidied up for seconds: no part was judged, the
    PLC's link stayed locked, HEARTBEAT stood still, and the watchdog killed a station that was well."""
    path, parts = tmp_path / "v.jsonl", 100  # less than a pipe holds
    run = RunOptions(
        str(write(tmp_path / "line", *range(60, 60 + parts))),
        toy_pair(tmp_path, deadline_ms=10_000.0),
        outputs=[f"jsonl:{path}"],
        backend="onnxruntime",
    )
    with station_of(run) as running:
        os.mkfifo(path)  # whoever opens it for writing waits until somebody reads
        loop, began_s = threading.Thread(target=running.station.run), time.monotonic()
        loop.start()
        try:
            assert until(lambda: not loop.is_alive(), 60.0)
            assert time.monotonic() - began_s < parts * WAIT_S, "each part waited"
            archive = running.station.outboxes[0]
            assert isinstance(archive, Archive) and "does not answer" in archive.last_error
        finally:
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            loop.join()
        assert until(lambda: not archive.alarm, 10.0)
    with os.fdopen(reader) as rows:
        assert [json.loads(row)["frame_id"] for row in rows] == list(range(1, parts + 1))


def test_a_disk_that_hangs_to_the_end_holds_no_closing_and_what_it_took_late_is_counted() -> None:
    disk, may_go = SlowDisk(), threading.Event()

    def hangs() -> SlowDisk:
        may_go.wait(60.0)
        disk.has_room = True
        return disk

    archive = Archive(hangs)
    for frame in (1, 2, 3):
        archive.put(a_verdict(frame))
    archive.close()
    assert archive.counters.dropped == 3
    may_go.set()
    assert until(lambda: archive.counters.sent == 1 and archive.counters.dropped == 2)


def test_a_disk_that_fails_as_nobody_foresaw_is_a_disk_that_refuses(tmp_path: Path) -> None:
    path, errors = tmp_path / "v.jsonl", [RuntimeError("stale handle")]

    def opens() -> Output:
        if errors:
            raise errors.pop()
        return open_output(f"jsonl:{path}")

    archive = Archive(opens)
    archive.put(a_verdict(1))
    assert until(lambda: not archive.alarm)
    archive.close()
    assert archived(path) == [1]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from peers import a_verdict, until
from edge.station.archive import Archive
from edge.outputs import Output, open_output, output_opener
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
archive = Archive(output_opener(f"jsonl:{path}"))
archive.put(a_verdict(1))
assert until(lambda: archive.counters.sent == 1)
full = path.stat().st_size + 100  # the next line finds room for its first 100 bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
archive.put(a_verdict(2))
assert until(lambda: archive.counters.losses == 1), "the kernel took a line that does not fit"
assert len(path.read_text().splitlines()) == 1, "half a line stayed"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
archive.close()
"""


def test_a_line_that_a_full_disk_takes_half_is_taken_back(tmp_path: Path) -> None:
    """The story: half a line and the next one behind it made a row that no program could read."""
    path = tmp_path / "v.jsonl"
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path), str(Path(__file__).parent)], check=True)
    assert archived(path) == [1, 2]


def test_after_a_power_cut_the_next_line_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"frame_id": 1}\n{"frame')
    archive = Archive(output_opener(f"jsonl:{path}"))
    archive.put(a_verdict(7))
    archive.close()
    assert json.loads(path.read_text().splitlines()[-1])["frame_id"] == 7


def test_a_run_writes_its_archive_before_it_tells_a_plc(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    path = tmp_path / "v.jsonl"
    outputs = ["jsonl:-", f"jsonl:{path}"]
    with station_of(
        RunOptions("conveyor:count=1", engine, outputs=outputs, backend="onnxruntime")
    ) as running:
        kinds = [type(box) for box in running.station.outboxes]
    assert kinds == [Archive, Outbox]


def test_the_handshakes_own_verdict_is_archived_too() -> None:
    """The story: a PLC took "no decision" for a part, and no record said that there had been one."""
    link, told = PlcLink(Mode.IDS, budget_ns=0), list[Verdict]()
    link.archive = told.append
    link.act(lambda hand, now_ns: hand.beat(1, True, now_ns))
    link.act(lambda hand, now_ns: setattr(hand, "enabled", True))
    assert link.act(lambda hand, now_ns: hand.trigger(7, now_ns))
    assert until(lambda: bool(link.block()[1]))
    assert [v.part_id for v in told] == [7]
    assert told[0] == no_decision(Request(1, 7, told[0].captured_ns), told[0].decided_ns, recipe_number=1)
