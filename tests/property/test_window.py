"""The window and a replay over it against a plain list of everything that was ever in the log."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway_fakes import record
from tidings.gateway import window as window_module
from tidings.gateway.cursor import InvalidCursor, format_cursor, format_event_id, parse_cursor, parse_event_id
from tidings.gateway.replay import Replay
from tidings.gateway.window import Segment, Window

USERS = ["alice", "bob", "7", "-7", 'q"uote', "\u00e9"]

write = st.tuples(
    st.just("write"),
    st.integers(0, 2),  # partition
    st.lists(
        st.tuples(st.integers(0, 3), st.sets(st.sampled_from(USERS), max_size=3), st.integers(0, 300)), max_size=30
    ),  # hole before it, receivers, size
)
other = st.one_of(
    st.tuples(st.just("expire"), st.none(), st.none()),
    st.tuples(st.just("hole"), st.integers(0, 2), st.integers(1, 5)),
    st.tuples(st.just("forget"), st.integers(0, 2), st.none()),
)
resume = st.tuples(
    st.just("resume"),
    st.sampled_from(USERS),
    st.tuples(st.fixed_dictionaries({0: st.integers(0, 60), 1: st.integers(0, 60)}), st.integers(1, 50)),
)
steps = st.lists(st.one_of(write, write, resume, other), max_size=40)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "SEGMENT_RECORDS", 5)


class Log:
    """All records of all partitions, and what a reader of older ones would find: pieces of a few offsets."""

    def __init__(self) -> None:
        self.records: dict[int, list[tuple[int, bytes, set[str]]]] = defaultdict(list)
        self.ends = {0: 0, 1: 0, 2: 0}

    def older(self, partition: int, offset: int) -> Segment:
        first = offset - offset % 4
        segment = Segment(first)
        for at, value, _ in self.records[partition]:
            if first <= at < first + 7:
                segment.append(at, value, 0)
        segment.end = first + 7
        return segment

    def owed(self, user: str, cursor: dict[int, int]) -> dict[int, list[int]]:
        return {
            partition: [at for at, _, who in self.records[partition] if user in who and at >= cursor.get(partition, 0)]
            for partition in self.ends
        }


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(0, 6_000), st.integers(1, 100))
def test_whatever_the_window_still_holds_a_replay_gives_exactly_what_is_owed(
    steps: list[Any], limit_bytes: int, limit_s: int
) -> None:
    window = Window(limit_bytes, limit_s)
    log = Log()
    now_ms = 0
    for partition in log.ends:
        window.begin(partition, 0)
    for kind, one, more in steps:
        if kind == "write":
            for hole, who, size in more:
                now_ms += 1_000
                offset = log.ends[one] + hole
                value = record(sorted(who), data='"' + "x" * size + '"')
                log.records[one].append((offset, value, who))
                log.ends[one] = offset + 1
                window.append(one, offset, value, now_ms)
                assert window.bytes <= limit_bytes
            window.advance(one, log.ends[one])
        elif kind == "hole":
            log.ends[one] += more
            window.advance(one, log.ends[one])
        elif kind == "expire":
            window.expire()
            assert window.span_s() <= limit_s
        elif kind == "forget":
            window.begin(one, log.ends[one])
        else:
            cursor, effort = more
            cursor = {partition: min(offset, log.ends[partition]) for partition, offset in cursor.items()}
            replay = Replay(one, cursor, 0)
            got: dict[int, list[int]] = {partition: [] for partition in log.ends}
            for _ in range(1_000):
                for found in replay.missed(window, log.ends, log.older, effort):
                    got[found.partition].append(found.offset)
                if replay.met(log.ends):
                    break
            assert replay.met(log.ends)
            assert got == log.owed(one, cursor)
    held = sum(len(known.segments) for known in window._partitions.values())
    assert (window.bytes > 0) == (held > 0)


@given(st.dictionaries(st.integers(0, 999_999), st.integers(0, 2**63 - 1), min_size=1, max_size=80))
def test_a_cursor_comes_back_as_it_went(positions: dict[int, int]) -> None:
    assert parse_cursor(format_cursor(positions)) == positions


@given(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~", min_size=1),
    st.dictionaries(st.integers(0, 100), st.integers(0, 2**63 - 1), min_size=1),
)
def test_an_event_id_comes_back_as_it_went(log: str, positions: dict[int, int]) -> None:
    tag, found = parse_event_id(format_event_id(log, positions))
    assert tag == log
    assert {partition: offset for partition, offset in found.items() if offset} == {
        partition: offset for partition, offset in positions.items() if offset
    }


@given(st.one_of(st.text(), st.text("0123456789:,.-+ abcdefx")))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    for parse in (parse_cursor, parse_event_id):
        try:
            parse(text)
        except InvalidCursor:
            continue
