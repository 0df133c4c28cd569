"""From a cursor to the node's position: everything missed, each partition in order, nothing else."""

from tests.gateway_fakes import record
from tidings.gateway.replay import Missed, Replay
from tidings.gateway.window import Segment, Window

NOBODY_OLDER = lambda partition, offset: None  # noqa: E731
PLENTY = 1_000_000


def window_of(partitions: dict[int, tuple[int, int]], limit_bytes: int = 1 << 24) -> Window:
    """Records from the first to before the second offset; every third is for alice, the others for bob."""
    window = Window(limit_bytes, 1e9)
    for partition, (first, end) in partitions.items():
        window.begin(partition, first)
        for offset in range(first, end):
            who = ["alice" if offset % 3 == 0 else "bob"]
            window.append(partition, offset, record(who, data=str(offset)), offset)
        window.advance(partition, end)
    return window


def places(found: list[Missed]) -> list[tuple[int, int]]:
    return [(missed.partition, missed.offset) for missed in found]


def test_all_that_was_missed_comes_and_then_it_has_met_the_node() -> None:
    node = {0: 700, 1: 50}
    window = window_of({0: (0, 700), 1: (0, 50)})
    replay = Replay("alice", {0: 100, 1: 40}, 0)
    found = list(replay.missed(window, node, NOBODY_OLDER, PLENTY))
    assert places(found) == [(0, n) for n in range(102, 700, 3)] + [(1, n) for n in (42, 45, 48)]
    assert [bytes(missed.record.data) for missed in found[:2]] == [b"102", b"105"]
    assert replay.met(node)
    assert not replay.behind(node)
    assert list(replay.missed(window, node, NOBODY_OLDER, PLENTY)) == []


def test_behind_the_last_record_there_is_nothing_to_search() -> None:
    window = window_of({0: (0, 3)})
    replay = Replay("alice", {0: 5}, 0)
    assert list(replay.missed(window, {0: 10}, NOBODY_OLDER, PLENTY)) == []
    assert replay.met({0: 10})


def test_a_partition_that_the_cursor_does_not_name_counts_from_0() -> None:
    replay = Replay("alice", {0: 9}, 0)
    found = list(replay.missed(window_of({0: (0, 9), 1: (0, 4)}), {0: 9, 1: 4}, NOBODY_OLDER, PLENTY))
    assert places(found) == [(1, 0), (1, 3)]
    assert replay.met({0: 9, 1: 4})


def test_it_may_be_stopped_anywhere_and_goes_on_from_there() -> None:
    node = {0: 900, 1: 900}
    window = window_of({0: (0, 900), 1: (0, 900)})
    replay = Replay("alice", {}, 0)
    found: list[Missed] = []
    for _ in range(10_000):
        for missed in replay.missed(window, node, NOBODY_OLDER, PLENTY):
            found.append(missed)
            if len(found) % 7 == 0:
                break
        if replay.met(node):
            break
    assert places(found) == [(partition, n) for partition in (0, 1) for n in range(0, 900, 3)]


def test_effort_bounds_what_is_searched_at_once_also_where_nothing_is_found() -> None:
    node = {0: 5_000}
    window = window_of({0: (0, 5_000)})
    replay = Replay("alice", {}, 0)
    rounds = 0
    found: list[Missed] = []
    while not replay.met(node):
        rounds += 1
        before = replay.positions.get(0, 0)
        found += replay.missed(window, node, NOBODY_OLDER, 100)
        assert 0 < replay.positions[0] - before <= 160
    assert rounds > 30
    assert len(found) == 1_667
    for _ in range(3):  # by now it is known whom the segments name
        list(Replay("somebody", {}, 0).missed(window, node, NOBODY_OLDER, PLENTY))
    stranger = Replay("nobody", {}, 0)
    list(stranger.missed(window, node, NOBODY_OLDER, 100))
    assert stranger.positions[0] > 2_000, "segments that do not name the user are passed over"


def test_a_client_ahead_of_the_node_gets_nothing_and_waits() -> None:
    window = window_of({0: (0, 10), 1: (0, 10)})
    replay = Replay("alice", {0: 12, 1: 0}, 0)
    assert places(list(replay.missed(window, {0: 10, 1: 10}, NOBODY_OLDER, PLENTY))) == [(1, 0), (1, 3), (1, 6), (1, 9)]
    assert not replay.met({0: 10, 1: 10})
    assert not replay.behind({0: 10, 1: 10})
    for offset in range(10, 14):
        window.append(0, offset, record(["alice"]), 0)
    assert places(list(replay.missed(window, {0: 14, 1: 10}, NOBODY_OLDER, PLENTY))) == [(0, 12), (0, 13)]
    assert replay.met({0: 14, 1: 10})


def test_a_partition_that_the_node_does_not_know_keeps_it_waiting() -> None:
    replay = Replay("alice", {0: 10, 7: 1}, 0)
    list(replay.missed(window_of({0: (0, 10)}), {0: 10}, NOBODY_OLDER, PLENTY))
    assert not replay.met({0: 10})


def test_it_ends_when_the_position_passes_not_when_a_record_comes() -> None:
    window = Window(1 << 20, 1e9)
    window.begin(0, 0)
    window.append(0, 2, record(["alice"]), 0)
    window.advance(0, 50)  # an aborted transaction up to there
    replay = Replay("alice", {0: 0}, 0)
    assert places(list(replay.missed(window, {0: 50}, NOBODY_OLDER, PLENTY))) == [(0, 2)]
    assert replay.met({0: 50})


def test_what_is_older_than_the_window_comes_from_what_was_read_back() -> None:
    window = window_of({0: (60, 90)})
    older: dict[int, Segment] = {}

    def find(partition: int, offset: int) -> Segment | None:
        return next((one for one in older.values() if one.first <= offset < one.end), None)

    replay = Replay("alice", {0: 10}, 0)
    assert list(replay.missed(window, {0: 90}, find, PLENTY)) == []
    assert replay.wants == [(0, 10)]
    older[0] = Segment(0)
    for offset in range(40):
        older[0].append(offset, record(["alice" if offset % 3 == 0 else "bob"]), 0)
    assert places(list(replay.missed(window, {0: 90}, find, PLENTY))) == [(0, n) for n in range(12, 40, 3)]
    assert replay.wants == [(0, 40)]
    assert replay.older_bytes > 0
    older[1] = Segment(40)
    for offset in range(40, 100):  # reaches over the window's start, and past the node
        older[1].append(offset, record(["alice" if offset % 3 == 0 else "bob"]), 0)
    assert places(list(replay.missed(window, {0: 90}, find, PLENTY))) == [(0, n) for n in range(42, 90, 3)]
    assert replay.wants == []
    assert replay.met({0: 90})


def test_poison_and_look_alikes_in_what_was_read_back_reach_nobody() -> None:
    older = Segment(0)
    for offset, value in enumerate(
        [b'{"receivers":["alice"]}', b'"alice"', record(["bob"], data='"alice"'), record(["alice"]), b"\xff\\"]
    ):
        older.append(offset, value, 0)
    window = Window(1 << 20, 1e9)
    window.begin(0, 5)
    replay = Replay("alice", {}, 0)
    assert places(list(replay.missed(window, {0: 5}, lambda *_: older, PLENTY))) == [(0, 3)]
    assert replay.met({0: 5})
