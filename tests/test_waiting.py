"""Which of the pictures that come answer a part: its own, or none."""

import numpy as np
import pytest

from edge.frame import Shot
from edge.station.waiting import EARLY_NS, Missing, Policy, Taken, Waiting
from edge.trigger import UNASKED, Request
from edge.verdict import Reason

MS = 1_000_000


def picture(at_ms: int, runs_free: bool = True) -> Taken:
    """Taken at this time; the label says so, too."""
    pixels, at_ns = np.zeros((8, 8, 3), np.uint8), at_ms * MS
    return Taken(Shot(pixels, label=str(at_ms), begun_ns=at_ns if runs_free else None), at_ns)


def part(number: int, at_ms: int) -> Request:
    return Request(number, number, at_ms * MS)


def waiting(keep: int = 1, policy: Policy = Policy.LATEST) -> Waiting:
    return Waiting(policy, depth=8, keep=keep)


def taken(queue: Waiting, request: Request, count: int = 1) -> list[str | Reason | None]:
    items = (queue.take(request) for _ in range(count))
    return [item.shot.label if isinstance(item, Taken) else item and item.reason for item in items]


@pytest.mark.parametrize("policy", Policy)
def test_a_part_gets_the_first_pictures_after_its_trigger_however_late_they_are_fetched(
    policy: Policy,
) -> None:
    queue = waiting(keep=2, policy=policy)
    queue.offer(picture(90))
    queue.expect(part(1, 100))
    for at_ms in (99, 110, 120, 130, 140):
        queue.offer(picture(at_ms))
    assert taken(queue, part(1, 100), 2) == ["110", "120"]


def test_the_last_picture_of_a_part_is_its_own_where_the_first_was_fetched_before_it_came() -> None:
    queue, seven = waiting(keep=2), part(1, 100)
    queue.expect(seven)
    queue.offer(picture(110))
    assert taken(queue, seven) == ["110"]
    for at_ms in (120, 130, 140):
        queue.offer(picture(at_ms))
    assert taken(queue, seven) == ["120"]


@pytest.mark.parametrize("done", [True, False])
def test_between_two_parts_the_newest_picture_waits(done: bool) -> None:
    """A trigger is told an instant after its time: its picture may be there already. So it is where the part
    before got none and was given up."""
    queue = waiting()
    queue.expect(part(1, 100))
    queue.offer(picture(150))
    if done:
        assert taken(queue, part(1, 100)) == ["150"]
    else:
        queue.forget(part(1, 100))
    for at_ms in (1200, 1300):
        queue.offer(picture(at_ms))
    queue.expect(part(2, 1290))
    queue.offer(picture(1400))
    assert taken(queue, part(2, 1290)) == ["1300"]


def test_a_part_that_was_given_up_does_not_take_the_next_ones_picture() -> None:
    """The story: the PLC aborted a part and triggered the next one; the loop still waited for the first."""
    queue, first, second = waiting(), part(1, 100), part(2, 300)
    queue.expect(first)
    assert not queue.has(first)
    queue.expect(second)
    assert queue.has(first)
    queue.offer(picture(310))
    assert taken(queue, first) == [Reason.CAMERA_TIMEOUT]
    queue.expect(first)
    queue.forget(first)
    queue.offer(picture(320))
    assert taken(queue, second) == ["310"]


@pytest.mark.parametrize("told", ["before the trigger", "after it"])
def test_a_picture_that_beat_its_trigger_is_not_replaced_by_the_next_parts(told: str) -> None:
    """The story: a light barrier fired camera and PLC together. The picture was there after 12 ms, the
    trigger after 20; it was dropped as too old. What answered a third of a second later showed the next part.
    """
    queue, early, seven = waiting(), picture(112, runs_free=False), part(1, 120)
    if told == "before the trigger":
        queue.offer(early)
    queue.expect(seven)
    if told == "after it":
        assert not queue.has(seven)
        queue.offer(early)
    queue.offer(picture(450, runs_free=False))
    assert queue.take(seven) == Missing(Reason.FRAME_STALE, 112 * MS)


def test_of_several_pictures_none_is_taken_for_another() -> None:
    queue, seven = waiting(keep=3), part(1, 120)
    queue.offer(picture(112, runs_free=False))
    queue.expect(seven)
    for at_ms in (130, 140, 450):
        queue.offer(picture(at_ms, runs_free=False))
    assert taken(queue, seven, 3) == [Reason.FRAME_STALE] * 3


def test_one_with_holes_that_beat_its_trigger_is_not_replaced_either() -> None:
    queue, seven = waiting(), part(1, 120)
    queue.hole(112 * MS)
    queue.expect(seven)
    queue.offer(picture(450, runs_free=False))
    assert taken(queue, seven) == [Reason.FRAME_STALE]


def test_a_picture_is_early_for_one_part_only_and_not_for_long() -> None:
    queue, old, seven = waiting(), picture(100, runs_free=False), part(1, 100 + EARLY_NS // MS + 1)
    queue.offer(old)
    queue.expect(seven)
    queue.offer(picture(310, runs_free=False))
    assert taken(queue, seven) == ["310"], "that of the last part that nobody asked for"
    queue.offer(picture(320, runs_free=False))
    queue.expect(part(2, 330))
    assert taken(queue, part(2, 330)) == [Reason.FRAME_STALE]
    queue.expect(part(3, 340))
    queue.offer(picture(350, runs_free=False))
    assert taken(queue, part(3, 340)) == ["350"]


def test_a_picture_that_had_no_place_is_early_for_the_part_after_it() -> None:
    """Another camera's picture is waited for meanwhile, so this one's first still lies there."""
    queue, first, second = waiting(), part(1, 100), part(2, 160)
    queue.expect(first)
    queue.offer(picture(110, runs_free=False))
    queue.offer(picture(150, runs_free=False))
    assert taken(queue, first) == ["110"]
    queue.expect(second)
    queue.offer(picture(300, runs_free=False))
    assert taken(queue, second) == [Reason.FRAME_STALE]


def test_what_an_aborted_part_left_behind_does_not_hide_an_early_picture() -> None:
    """The story: A was aborted, its picture waited on; B's came before B's trigger, and C's answered B."""
    queue = waiting()
    queue.expect(part(1, 100))
    queue.offer(picture(120, runs_free=False))  # A's, and nobody fetches it
    queue.offer(picture(980, runs_free=False))  # B's
    queue.expect(part(2, 1000))
    queue.offer(picture(1400, runs_free=False))  # C's
    assert taken(queue, part(2, 1000)) == [Reason.FRAME_STALE]


def test_a_camera_that_runs_free_is_never_early() -> None:
    queue, seven = waiting(), part(1, 120)
    for at_ms in (112, 122):
        queue.offer(picture(at_ms))
    queue.expect(seven)
    queue.offer(picture(132))
    assert taken(queue, seven) == ["122"]


def test_nobody_asks_and_the_newest_is_judged() -> None:
    queue = waiting()
    for at_ms in (10, 20, 30):
        queue.offer(picture(at_ms, runs_free=False))
    assert taken(queue, UNASKED, 2) == ["30", None] and queue.dropped == 2
