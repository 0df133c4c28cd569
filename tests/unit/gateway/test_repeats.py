"""Ids recognised within reach, forgotten beyond it."""

import tracemalloc

import pytest

from tidings.gateway.repeats import REPEAT_RECORDS, REPEAT_SECONDS, Repeats

REACH_MS = int(REPEAT_SECONDS * 1000)


def came(repeats: Repeats, id_: bytes | None, timestamp_ms: int = 0) -> bool:
    repeats.at(0, timestamp_ms)
    return repeats.is_repeat(id_, 0, timestamp_ms)


def test_an_id_repeated_is_recognised_every_time() -> None:
    repeats = Repeats(None)
    assert [came(repeats, b"a") for _ in range(3)] == [False, True, True]


def test_other_ids_and_records_without_one_are_no_repeats() -> None:
    repeats = Repeats(None)
    assert [came(repeats, id_) for id_ in (b"a", b"b", None, None)] == [False] * 4


def test_long_ids_are_told_apart_and_take_no_more_room() -> None:
    repeats = Repeats(None)
    one, other = b"x" * 100_000 + b"1", b"x" * 100_000 + b"2"
    assert [came(repeats, id_) for id_ in (one, other, one, other)] == [False, False, True, True]
    tracemalloc.start()
    for number in range(100):
        came(repeats, b"%d" % number * 50_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000


def test_reach_is_ten_minutes_of_broker_time() -> None:
    repeats = Repeats(None)
    came(repeats, b"a", 1000)
    assert came(repeats, b"a", 1000 + REACH_MS)
    assert not came(repeats, b"a", 1001 + REACH_MS)


def test_reach_is_20_000_records() -> None:
    repeats = Repeats(None)
    came(repeats, b"a")
    repeats.records += REPEAT_RECORDS - 1
    assert came(repeats, b"a")
    assert not came(repeats, b"a")


def test_reach_is_20_000_records_behind_one_that_came_again_out_of_reach_too() -> None:
    repeats = Repeats(None)
    assert [came(repeats, b"old", 0), came(repeats, b"a", 1)] == [False, False]
    repeats.records += REPEAT_RECORDS - 10
    assert not came(repeats, b"old", REACH_MS + 1)
    repeats.records += 10
    assert not came(repeats, b"a", REACH_MS + 1), "a node that started meanwhile never saw the first"


def test_reach_counts_from_the_first_not_from_a_repeat() -> None:
    repeats = Repeats(None)
    came(repeats, b"a", 0)
    assert came(repeats, b"a", REACH_MS)
    assert not came(repeats, b"a", REACH_MS + 1)
    assert came(repeats, b"a", REACH_MS + 2)


def test_what_is_out_of_reach_takes_no_room() -> None:
    repeats = Repeats(None)
    for number in range(100):
        came(repeats, b"%d" % number, number)
    assert len(repeats) == 100
    came(repeats, b"a day later", 86_500_000)
    assert len(repeats) == 1
    for number in range(2 * REPEAT_RECORDS):
        came(repeats, b"%d" % number, 86_500_000)
    assert len(repeats) <= REPEAT_RECORDS + 1


def read(repeats: Repeats, offset: int, timestamp_ms: int, id_: bytes | None = None) -> bool:
    repeats.at(offset, timestamp_ms)
    return repeats.is_repeat(id_, offset, timestamp_ms)


def test_an_id_that_came_again_out_of_reach_is_known_from_then_on() -> None:
    repeats = Repeats(None)
    assert not came(repeats, b"a", 0)
    repeats.records += REPEAT_RECORDS - 10
    assert not came(repeats, b"a", REACH_MS + 1)
    repeats.records += 20
    assert not came(repeats, b"b", REACH_MS + 1), "the first place of a is given up here"
    assert came(repeats, b"a", REACH_MS + 1)


def test_an_id_that_comes_again_and_again_keeps_no_others() -> None:
    """A producer that gives every record the same id, once a second, beside one that does as it should."""
    repeats = Repeats(None)
    for second in range(3 * REPEAT_RECORDS):
        came(repeats, b"constant", second * 1_000)
        assert not came(repeats, b"%d" % second, second * 1_000)
        came(repeats, b"in turn %d" % (second % 700), second * 1_000)
    assert len(repeats) <= REPEAT_RECORDS
    assert len(repeats._order) <= REPEAT_RECORDS


def test_from_the_beginning_of_the_log_everything_is_known() -> None:
    assert Repeats(None).exact_from == 0


def test_what_was_read_from_a_time_on_is_certain_ten_minutes_later() -> None:
    repeats = Repeats(since_ms=1_000)
    read(repeats, 5, 2_000)
    read(repeats, 6, 1_000 + REACH_MS - 1)
    assert repeats.exact_from is None
    read(repeats, 9, 1_000 + REACH_MS)
    read(repeats, 10, 2_000 + REACH_MS)
    assert repeats.exact_from == 9


def test_or_20_000_records_later() -> None:
    repeats = Repeats(since_ms=float("inf"))
    for offset in range(REPEAT_RECORDS + 5):
        repeats.at(offset, 0)
    assert repeats.exact_from == REPEAT_RECORDS


def test_at_the_end_of_a_log_the_next_one_is_certain() -> None:
    repeats = Repeats(since_ms=1_000)
    read(repeats, 76, 2_000)
    assert repeats.exact_from is None
    repeats.settle(77)
    repeats.settle(99)
    assert repeats.exact_from == 77


def test_a_broker_s_clock_that_jumps_ahead_and_comes_back_hides_no_repeat() -> None:
    repeats = Repeats(None)
    read(repeats, 0, 0, b"a")
    assert not read(repeats, 1, 6 * REACH_MS, b"b")
    assert read(repeats, 2, 1_000, b"a"), "by the broker's clock a second apart"
    assert read(repeats, 3, 2_000, b"b")


def test_where_repeats_stood_is_remembered_for_those_who_read_again() -> None:
    repeats = Repeats(None)
    found = [offset for offset in range(100) if read(repeats, offset, 0, b"%d" % (offset % 60))]
    assert found == list(range(60, 100))
    assert [offset for offset in range(120) if repeats.was_repeat(offset)] == found


def test_repeats_without_end_are_forgotten_and_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.gateway.repeats._KEPT_OFFSETS", 10)
    repeats = Repeats(None)
    for offset in range(100):
        read(repeats, offset, 0, b"same")
    assert repeats.exact_from is not None
    assert 70 < repeats.exact_from < 95
    assert all(repeats.was_repeat(offset) for offset in range(repeats.exact_from, 100))


def test_after_a_cut_what_is_gone_makes_no_repeat_of_what_is_new() -> None:
    repeats = Repeats(None)
    ids = [b"a", b"b", b"a", b"c", b"c", b"d"]
    found = [offset for offset, id_ in enumerate(ids) if read(repeats, offset, 0, id_)]
    assert found == [2, 4]
    repeats.cut(3, 6)
    assert not any(repeats.was_repeat(offset) for offset in (3, 4, 5))
    assert repeats.was_repeat(2)
    again = [(3, b"b"), (4, b"c"), (5, b"d"), (6, b"d"), (9, b"c")]
    assert [offset for offset, id_ in again if read(repeats, offset, 0, id_)] == [3, 6, 9]
    assert [offset for offset in range(12) if repeats.was_repeat(offset)] == [2, 3, 6, 9]


def test_what_ids_take_is_estimated() -> None:
    repeats = Repeats(None)
    tracemalloc.start()
    for number in range(REPEAT_RECORDS):
        came(repeats, b"%036d" % (number % (REPEAT_RECORDS - 100)), 1_700_000_000_000 + number)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert repeats.memory_bytes == pytest.approx(grown, rel=0.25)
