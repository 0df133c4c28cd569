"""What the window holds has no gap, and it stays within its limits."""

import pytest

from tests.gateway_fakes import record
from tidings.gateway.window import SEGMENT_BYTES, SEGMENT_RECORDS, Needle, Segment, Window


def filled(
    window: Window, count: int, *, partition: int = 0, first: int = 0, receivers: list[str] | None = None
) -> None:
    for offset in range(first, first + count):
        who = receivers or [f"u{offset % 7}"]
        window.append(partition, offset, record(who), offset * 1000)
        window.advance(partition, offset + 1)


def offsets(window: Window, partition: int, since: int, end: int) -> list[int]:
    found = []
    while since < end and (segment := window.segment_at(partition, since)) is not None:
        found += [kept.offset for kept in segment.since(since)]
        since = segment.end
    return found


def test_what_was_appended_is_found_from_any_offset() -> None:
    window = Window(1 << 20, 1e9)
    window.begin(0, 0)
    filled(window, 3 * SEGMENT_RECORDS)
    for since in (0, 1, SEGMENT_RECORDS - 1, SEGMENT_RECORDS, 2 * SEGMENT_RECORDS + 5, 3 * SEGMENT_RECORDS - 1):
        assert offsets(window, 0, since, 3 * SEGMENT_RECORDS) == list(range(since, 3 * SEGMENT_RECORDS))
    assert window.segment_at(0, 3 * SEGMENT_RECORDS) is None


@pytest.mark.limit("TIDINGS_GATEWAY_WINDOW_BYTES")
def test_the_oldest_go_first_when_all_together_are_over_the_limit() -> None:
    window = Window(100_000, 1e9)
    window.begin(0, 0)
    window.begin(1, 0)
    for offset in range(4_000):
        filled(window, 1, partition=offset % 2, first=offset)
    assert 50_000 < window.bytes <= 100_000
    starts = [window.start(0), window.start(1)]
    assert all(start is not None and 2_000 < start < 4_000 for start in starts)
    assert abs((starts[0] or 0) - (starts[1] or 0)) <= 2 * SEGMENT_RECORDS
    assert offsets(window, 0, starts[0] or 0, 4_000) == [
        offset for offset in range(starts[0] or 0, 4_000) if offset % 2 == 0
    ]


@pytest.mark.limit("TIDINGS_GATEWAY_WINDOW_S")
def test_what_is_too_old_goes_and_only_the_log_s_clock_counts() -> None:
    window = Window(1 << 20, 100.0)
    window.begin(0, 0)
    filled(window, 2 * SEGMENT_RECORDS)
    window.expire()
    assert window.start(0) == SEGMENT_RECORDS
    assert window.span_s() == pytest.approx(0.0)
    filled(window, 10, first=2 * SEGMENT_RECORDS)
    assert window.span_s() == pytest.approx(10.0)


DAY_MS = 86_400_000


def test_a_broker_s_clock_that_was_ahead_once_empties_the_window_no_longer_than_it_is() -> None:
    window = Window(1 << 20, 100.0)
    window.begin(0, 0)
    window.begin(1, 0)
    window.append(1, 0, record(["u"]), DAY_MS)  # and nothing more comes to this partition
    filled(window, 50)
    window.expire()
    assert offsets(window, 0, 0, 50) == list(range(50))
    assert window.span_s() == pytest.approx(49.0 - 49.0)
    window.append(0, 50, record(["u"]), DAY_MS)
    filled(window, 10, first=51)
    window.expire()
    assert offsets(window, 0, 0, 61) == list(range(61))


def dated_ahead(limit_s: float) -> Window:
    """A segment of a day ahead and one of the right time behind it."""
    window = Window(100_000, limit_s)
    window.begin(0, 0)
    for offset in range(SEGMENT_RECORDS):
        window.append(0, offset, record(["u"]), DAY_MS + offset)
    filled(window, SEGMENT_RECORDS, first=SEGMENT_RECORDS)
    return window


def test_what_a_clock_that_was_ahead_has_dated_is_too_old_when_what_follows_it_is() -> None:
    window = dated_ahead(100.0)
    filled(window, 1, first=2 * SEGMENT_RECORDS + 99)
    window.expire()
    assert window.start(0) == 0
    filled(window, 1, first=2 * SEGMENT_RECORDS + 100)
    window.expire()
    assert window.start(0) == 2 * SEGMENT_RECORDS


def test_what_a_clock_that_was_ahead_has_dated_is_not_kept_at_the_cost_of_other_partitions() -> None:
    window = dated_ahead(3_600.0)
    window.expire()
    window.begin(1, 2 * SEGMENT_RECORDS)
    for offset in range(2 * SEGMENT_RECORDS, 3_000):
        filled(window, 1, partition=offset % 2, first=offset)
        assert (window.start(1) or 0) - (window.start(0) or 0) <= 2 * SEGMENT_RECORDS


def test_nothing_is_kept_with_a_limit_of_nothing() -> None:
    window = Window(0, 1e9)
    window.begin(0, 5)
    filled(window, 10, first=5)
    assert (window.start(0), window.bytes) == (15, 0)


def test_holes_belong_to_the_window() -> None:
    window = Window(1 << 20, 1e9)
    window.begin(0, 10)
    window.advance(0, 20)
    assert window.start(0) == 20, "nothing but a hole: it reaches back no further"
    filled(window, 1, first=25)
    window.advance(0, 40)
    assert window.start(0) == 20
    segment = window.segment_at(0, 30)
    assert segment is not None
    assert (segment.first, segment.end, list(segment.since(30))) == (20, 40, [])


def test_a_partition_begun_anew_forgets_what_was() -> None:
    window = Window(1 << 20, 1e9)
    window.begin(0, 0)
    filled(window, 300)
    window.begin(0, 1_000)
    assert (window.start(0), window.bytes, window.segment_at(0, 1_000)) == (1_000, 0, None)
    window.clear()
    assert window.start(0) is None


def test_an_indexed_segment_knows_whom_it_names() -> None:
    segment = Segment(0)
    for offset in range(SEGMENT_RECORDS):
        segment.append(offset, record([f"user-{offset}"]) if offset else b"poison", 0)
    assert segment.may_name(Needle("anybody")), "not looked at yet"
    before = segment.bytes
    assert segment.index() == segment.bytes - before == (SEGMENT_RECORDS - 1) * 8
    assert all(segment.may_name(Needle(f"user-{offset}")) for offset in range(1, SEGMENT_RECORDS))
    assert not any(segment.may_name(Needle(f"other-{number}")) for number in range(100))
    assert segment.index() == 0


def test_a_segment_that_grows_is_indexed_as_it_does() -> None:
    segment = Segment(0)
    for offset in range(100):
        segment.append(offset, record([f"user-{offset}"]), 0)
        assert segment.may_name(Needle("anybody")), "the last record was not looked at yet"
        segment.index()
        assert segment.may_name(Needle(f"user-{offset}"))
        assert segment.may_name(Needle("user-0"))
        assert not segment.may_name(Needle("anybody"))


def test_a_segment_is_indexed_once_it_is_searched_again_and_again() -> None:
    window = Window(1 << 20, 1e9)
    window.begin(0, 0)
    filled(window, SEGMENT_RECORDS + 5)
    before = window.bytes
    for offset in (0, SEGMENT_RECORDS):
        for search in range(4):
            segment = window.segment_at(0, offset)
            assert segment is not None
            assert segment.may_name(Needle("stranger")) is (search < 2)
            assert segment.may_name(Needle(f"u{offset % 7}"))
    assert window.bytes == before + 7 * 8 + 5 * 64
    filled(window, SEGMENT_RECORDS, first=SEGMENT_RECORDS + 5)
    window.segment_at(0, SEGMENT_RECORDS)
    held = sum(segment.bytes for segment in window._partitions[0].segments)
    assert window.bytes == held


def test_no_record_is_hidden_by_an_index_that_shrank_its_segment() -> None:
    """The index of a growing segment is larger than that of a full one, and both count as its bytes."""
    window = Window(1 << 24, 1e9)
    window.begin(0, 0)
    for offset in range(SEGMENT_RECORDS):
        who = [f"user-{offset}-{number}" for number in range(60)]
        window.append(0, offset, record(who), offset)
        found = window.segment_at(0, offset)
        assert found is not None
        assert found.may_name(Needle(f"user-{offset}-0"))
        assert offset in [kept.offset for kept in found.since(offset)]


def test_a_segment_is_full_at_each_of_its_limits() -> None:
    by_records, by_bytes = Segment(0), Segment(0)
    for offset in range(SEGMENT_RECORDS):
        assert not by_records.full
        by_records.append(offset, b"", 0)
    by_bytes.append(0, b"x" * SEGMENT_BYTES, 0)
    assert by_records.full
    assert by_bytes.full


@pytest.mark.parametrize(
    ("user", "value", "expected"),
    [
        ("alice", b'{"receivers":["alice"]}', True),
        ("alice", b'{"receivers":["malice"]}', False),
        ("alice", b'{"receivers":["\\u0061lice"]}', True),
        ("42", b'{"receivers":[42]}', True),
        ("42", b'{"receivers":["42"]}', True),
        ("-7", b'{"receivers":[-7]}', True),
        ("42", b'{"receivers":[43]}', False),
        ('a"b', b'{"receivers":["a\\"b"]}', True),
        ("\u00e9", '{"receivers":["\u00e9"]}'.encode(), True),
        ("\u00e9", b'{"receivers":["\\u00e9"]}', True),
        ("a\x7fb", b'{"receivers":["a\x7fb"]}', True),
    ],
)
def test_a_needle_misses_no_way_to_write_an_id(user: str, value: bytes, expected: bool) -> None:
    assert Needle(user).may_be_in(value) is expected
