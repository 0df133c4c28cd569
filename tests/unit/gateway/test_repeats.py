"""Ids recognised within reach, forgotten beyond it."""

import tracemalloc

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
    came(repeats, b"late", 10 * REACH_MS)
    assert len(repeats) == 1
