"""Which lanes there are and how much they keep: without a loop, a broker or a clock."""

from collections.abc import Generator
from typing import Any

import pytest

from tidings.gateway import lanes
from tidings.gateway.lanes import Lane, Lanes
from tidings.gateway.repeats import ID_BYTES, Repeats
from tidings.gateway.window import Segment


class Work:
    """A read under way, until it is told to be done."""

    def __init__(self) -> None:
        self.ended = False

    def done(self) -> bool:
        return self.ended

    def cancel(self) -> bool:
        self.ended = True
        return True

    def __await__(self) -> Generator[Any, Any, None]:
        raise AssertionError("nothing here waits")


def segment(first: int, end: int, size: int = 0) -> Segment:
    made = Segment(first)
    for offset in range(first, end):
        made.append(offset, bytes(size), 0)
    return made


def never_cut() -> Lanes:
    return Lanes(lambda _: 0)


def opened(all_: Lanes, offset: int, partition: int = 0) -> Lane:
    lane = all_.open(partition, offset)
    assert lane is not None
    return lane


def read_on(all_: Lanes, lane: Lane, count: int, size: int = 0) -> None:
    """The next so many offsets."""
    made = segment(lane.next, lane.next + count, size)
    lane.next = made.end
    all_.keep(lane, made)


def ids(count: int) -> Repeats:
    """So many of them."""
    repeats = Repeats(None)
    for offset in range(count):
        repeats.at(offset, 0)
        repeats.is_repeat(b"%d" % offset, offset, 0)
    return repeats


def test_a_lane_starts_at_a_multiple_and_leads_to_what_is_little_ahead() -> None:
    all_ = never_cut()
    lane = opened(all_, 700)
    assert lane.next == 512
    assert all_.leading_to(0, 700) is lane
    assert all_.leading_to(0, 512 + 1_023) is lane
    assert all_.leading_to(0, 512 + 1_024) is None
    assert all_.leading_to(0, 511) is None
    assert all_.leading_to(1, 700) is None


def test_what_was_read_is_found_in_its_partition_only() -> None:
    all_ = never_cut()
    lane = opened(all_, 0)
    read_on(all_, lane, 10)
    read_on(all_, lane, 10)
    first, second = lane.segments
    assert [all_.find(0, offset) for offset in (0, 9, 10, 19, 20)] == [first, first, second, second, None]
    assert all_.find(1, 0) is None


def test_a_dropped_lane_is_held_no_longer_and_may_be_dropped_again() -> None:
    all_ = never_cut()
    lane = opened(all_, 0)
    assert lane in all_
    assert all_.holds(lane)
    all_.drop(lane)
    all_.drop(lane)
    assert lane not in all_
    assert not all_.holds(lane)


def test_lanes_of_a_log_that_was_cut_are_dropped_whoever_asks() -> None:
    cuts = {0: 0, 1: 0}
    all_ = Lanes(cuts.__getitem__)
    before, other = opened(all_, 0), opened(all_, 0, partition=1)
    read_on(all_, before, 10)
    cuts[0] = 1
    assert not all_.holds(before)
    assert before not in all_
    again = opened(all_, 0)
    assert all_.holds(again)
    cuts[0] = 2
    assert all_.find(0, 0) is None
    assert again not in all_
    assert all_.holds(other)


def test_for_a_new_lane_the_least_used_goes_that_is_not_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_LANES", 3)
    all_ = never_cut()
    first, second, third = (opened(all_, offset) for offset in (0, 10_240, 20_480))
    first.reading = Work()
    read_on(all_, second, 10)
    all_.use(third)
    assert all_.find(0, second.next - 1) is not None, "and that is a use"
    opened(all_, 30_720)
    assert [lane in all_ for lane in (first, second, third)] == [True, True, False]


def test_there_is_no_new_lane_while_all_are_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_LANES", 2)
    all_ = never_cut()
    works = []
    for offset in (0, 10_240):
        works.append(Work())
        opened(all_, offset).reading = works[-1]
    assert all_.open(0, 20_480) is None
    works[1].cancel()
    assert all_.open(0, 20_480) is not None
    assert all_.leading_to(0, 10_240) is None


def test_over_the_limit_the_oldest_segments_of_the_least_used_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "CACHE_BYTES", 50_000)
    all_ = never_cut()
    old, new = opened(all_, 0), opened(all_, 10_240)
    for lane in (old, new, old, new):
        read_on(all_, lane, 10, 1_000)
    assert all_.bytes == old.bytes + new.bytes <= 50_000
    read_on(all_, new, 10, 1_000)
    assert [len(lane.segments) for lane in (old, new)] == [1, 3]
    assert old.find(0) is None
    assert old.find(10) is not None
    read_on(all_, new, 10, 1_000)
    assert [len(lane.segments) for lane in (old, new)] == [0, 4]
    assert all_.bytes <= 50_000


def test_what_was_just_read_stays_even_if_it_alone_is_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "CACHE_BYTES", 5_000)
    all_ = never_cut()
    lane = opened(all_, 0)
    for _ in range(3):
        read_on(all_, lane, 10, 1_000)
    assert all_.find(0, 29) is not None
    assert len(lane.segments) == 1


def test_ids_over_their_limit_go_with_their_idle_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_IDS_BYTES", 150 * ID_BYTES)
    all_ = never_cut()
    without, idle, busy = (opened(all_, offset) for offset in (0, 10_240, 20_480))
    idle.repeats, busy.repeats, busy.reading = ids(100), ids(100), Work()
    read_on(all_, busy, 1)
    assert [lane in all_ for lane in (without, idle, busy)] == [True, False, True]
    busy.repeats = ids(200)
    read_on(all_, busy, 1)
    assert busy in all_, "nobody is there to go for it"


def test_room_for_ids_is_made_of_lanes_that_nobody_came_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_IDS_BYTES", 300 * ID_BYTES)
    all_ = never_cut()
    one, two, busy, new = (opened(all_, offset) for offset in (0, 10_240, 20_480, 30_720))
    for lane in (one, two, busy):
        lane.repeats = ids(100)
    busy.reading = Work()
    assert not all_.reserve(new, 100 * ID_BYTES, {}), "nothing is known yet of who comes back"
    used = all_.uses()
    all_.use(one)
    assert all_.reserve(new, 100 * ID_BYTES, used)
    assert [lane in all_ for lane in (one, two, busy)] == [True, False, True]
    assert all_.ids_bytes == 300 * ID_BYTES, "what is reserved counts"
    assert not all_.reserve(new, 200 * ID_BYTES, used)
    assert new.ids_bytes == 100 * ID_BYTES


def test_ids_count_as_what_they_may_become_while_they_are_looked_up() -> None:
    lane = opened(never_cut(), 0)
    lane.reserved_bytes = 10 * ID_BYTES
    lane.repeats = ids(4)
    assert lane.ids_bytes == lane.bytes == 10 * ID_BYTES
    lane.reserved_bytes = 0
    assert lane.ids_bytes == lane.repeats.memory_bytes


def test_lanes_that_nobody_needs_for_a_minute_are_closed_but_none_that_is_being_read() -> None:
    all_ = never_cut()
    idle, busy, used = (opened(all_, offset) for offset in (0, 10_240, 20_480))
    busy.reading = work = Work()
    all_.close_idle(100.0)
    all_.use(used)
    all_.close_idle(159.0)
    assert idle in all_
    all_.close_idle(160.0)
    assert [lane in all_ for lane in (idle, busy, used)] == [False, True, True]
    work.cancel()
    all_.close_idle(219.0)
    assert [lane in all_ for lane in (busy, used)] == [True, False]
    all_.close_idle(220.0)
    assert busy not in all_


def test_nothing_is_left_of_another_topic() -> None:
    all_ = never_cut()
    read_on(all_, opened(all_, 0), 10, 100)
    all_.clear()
    assert all_.bytes == 0
    assert all_.find(0, 0) is None
