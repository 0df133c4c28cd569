"""Records to the connections of their receivers."""

from collections.abc import Sequence

import pytest

from tests.gateway_fakes import LogEntry, Member, record, server_frames
from tests.vectors import records
from tidings.gateway.frames import Encoding
from tidings.gateway.registry import Registry
from tidings.gateway.router import Routed, Router, Subscriber
from tidings.gateway.window import Window

TOPIC = "modifications"


class Fleet:
    """A router and some connections."""

    def __init__(self, *members: Member) -> None:
        self.registry: Registry[Subscriber] = Registry()
        for member in members:
            self.registry.add(member)
        self.router = Router(self.registry, compress_min_bytes=512, window=Window(1 << 20, 3600))

    def route(self, *values: bytes | LogEntry | None, partition: int = 0, first: int = 0) -> Routed:
        entries = [
            value if isinstance(value, LogEntry) else LogEntry(first + index, value)
            for index, value in enumerate(values)
        ]
        routed = Routed()
        if partition not in self.router.positions:
            self.router.begin(partition, entries[0].offset, None)
        self.router.route_modifications(TOPIC, partition, entries, entries[-1].offset + 1, routed)
        self._flush(routed)
        return routed

    def signal(self, *values: bytes | None) -> Routed:
        routed = Routed()
        self.router.route_signals("signals", 0, [LogEntry(index, value) for index, value in enumerate(values)], routed)
        self._flush(routed)
        return routed

    def gather(self, values: list[bytes], waiting: Sequence[Subscriber], *, gather: bool) -> list[Subscriber]:
        """One batch of partition 0 behind the last one; returns who waits for the next."""
        routed = Routed()
        first = self.router.positions.get(0, 0)
        if not first:
            self.router.begin(0, 0, None)
        entries = [LogEntry(first + index, value) for index, value in enumerate(values)]
        self.router.route_modifications(TOPIC, 0, entries, first + len(entries), routed)
        return routed.write(waiting, gather=gather)

    @staticmethod
    def _flush(routed: Routed) -> None:
        routed.write()


def payloads(member: Member) -> list[bytes]:
    return [frame.payload for frame in server_frames(b"".join(member.got))]


def test_a_record_reaches_every_connection_of_every_receiver() -> None:
    alice = [Member("alice"), Member("alice", Encoding.V1), Member("alice", Encoding.SSE)]
    bob = Member("bob", Encoding.V1_DEFLATE)
    routed = Fleet(*alice, bob).route(record(["alice", "bob"]))
    assert [len(member.got) for member in [*alice, bob]] == [1, 1, 1, 1]
    assert routed.outcomes == {"routed": 1}
    assert sum(routed.deliveries) == 4
    assert routed.bytes == sum(len(member.got[0]) for member in [*alice, bob])


def test_a_record_reaches_no_stranger() -> None:
    alice, stranger, nearly = Member("alice"), Member("bob"), Member("Alice")
    Fleet(alice, stranger, nearly).route(record(["alice", " bob"]))
    assert (len(alice.got), stranger.got, nearly.got) == (1, [], [])


def test_repeated_receivers_count_once() -> None:
    alice = Member("alice")
    routed = Fleet(alice).route(record(["alice", "alice", "alice"]))
    assert len(alice.got) == 1
    assert routed.deliveries == [1, 0, 0, 0, 0]


def test_an_integer_receiver_is_its_decimal_string() -> None:
    number = Member("17")
    Fleet(number).route(record([17, "17"]))
    assert len(number.got) == 1


def test_an_empty_list_and_unheard_records_cost_nothing_and_move_the_position() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    routed = fleet.route(record([]), record(["bob"]))
    assert routed.outcomes == {"unheard": 2}
    assert routed.sendings == []
    assert routed.timestamps_ms == []
    assert fleet.router.positions == {0: 2}


def test_the_same_bytes_object_goes_to_all_receivers() -> None:
    members = [Member(f"u{number % 5}") for number in range(20)]
    Fleet(*members).route(record([f"u{number}" for number in range(5)]))
    assert len({id(member.got[0]) for member in members}) == 1


def test_data_is_byte_for_byte_as_produced() -> None:
    for vector in records():
        if vector.accepted is None or vector.reason is not None:
            continue
        for user in set(vector.accepted.receivers):
            plain, v1 = Member(user), Member(user, Encoding.V1)
            Fleet(plain, v1).route(vector.value)
            assert payloads(plain)[0].endswith(b',"data":' + vector.accepted.data + b"}"), vector.name
            assert payloads(v1)[0].endswith(b',"data":' + vector.accepted.data + b"}"), vector.name


def test_records_of_a_partition_arrive_in_the_order_of_the_log() -> None:
    alice = Member("alice")
    Fleet(alice).route(*(record(["alice"], data=str(number)) for number in range(100)))
    assert payloads(alice) == [b'{"type":"t","data":%d}' % number for number in range(100)]


def test_whoever_has_waited_longest_is_written_to_first_whatever_the_partition() -> None:
    written: list[str] = []

    class Watched(Member):
        def flush(self) -> None:
            written.append(self.user)
            super().flush()

    fleet = Fleet(*(Watched(user) for user in ("ann", "bob", "cem", "dan")))
    routed = Routed()
    for partition, entries in enumerate(
        (
            [LogEntry(0, record(["cem", "bob"]), timestamp=30), LogEntry(1, record(["ann"]), timestamp=40)],
            [LogEntry(0, record(["bob"]), timestamp=10), LogEntry(1, record(["dan"]), timestamp=20)],
        )
    ):
        fleet.router.begin(partition, 0, None)
        fleet.router.route_modifications(TOPIC, partition, entries, 2, routed)
    routed.write()
    assert written == ["bob", "dan", "cem", "ann"]


def test_a_frame_alone_for_its_connection_waits_for_the_next_batch_and_no_longer() -> None:
    alice, bob, cem = Member("alice"), Member("bob"), Member("cem")
    fleet = Fleet(alice, bob, cem)
    waiting = fleet.gather([record(["alice", "bob"], data="1"), record(["bob"], data="2")], (), gather=True)
    assert (alice.writes, bob.writes) == (0, 1), "two frames leave at once"
    assert waiting == [alice]
    waiting = fleet.gather([record(["cem"], data="3"), record(["alice"], data="4")], waiting, gather=True)
    assert alice.writes == 1
    assert [payload[-2:] for payload in payloads(alice)] == [b"1}", b"4}"]
    assert waiting == [cem]
    assert fleet.gather([], waiting, gather=True) == []
    assert [payload[-2:] for payload in payloads(cem)] == [b"3}"]


def test_who_waits_for_a_second_frame_is_written_to_with_a_batch_that_gathers_nothing() -> None:
    alice, bob = Member("alice"), Member("bob")
    fleet = Fleet(alice, bob)
    waiting = fleet.gather([record(["alice"], data="1")], (), gather=True)
    assert fleet.gather([record(["bob"], data="2")], waiting, gather=False) == []
    assert (alice.writes, bob.writes) == (1, 1)


def test_a_connection_that_is_gone_is_not_written_what_waited_for_a_second_frame() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    waiting = fleet.gather([record(["alice"])], (), gather=True)
    alice.inbox.clear()  # as a closed connection does
    assert fleet.gather([], waiting, gather=False) == []
    assert alice.writes == 0


def test_a_frame_carries_its_partition_and_the_next_offset() -> None:
    alice = Member("alice", Encoding.V1)
    Fleet(alice).route(record(["alice"]), partition=3, first=41)
    assert payloads(alice) == [b'{"type":"t","at":"3:42","data":1}']


def test_an_events_id_is_the_cursor_with_this_record_and_not_with_later_ones() -> None:
    alice = Member("alice", Encoding.SSE)
    fleet = Fleet(alice)
    fleet.router.log = "L"
    for partition, offset in {0: 0, 1: 9}.items():
        fleet.router.begin(partition, offset, None)
    fleet.route(record(["alice"]), record(["alice"]), first=4)
    assert [chunk.split(b"id: ")[1].split(b"\n")[0] for chunk in alice.got] == [b"L.5.9", b"L.6.9"]


def test_holes_in_the_log_are_no_loss() -> None:
    alice = Member("alice", Encoding.V1)
    fleet = Fleet(alice)
    routed = Routed()
    entries = [LogEntry(3, record(["alice"])), LogEntry(9, record(["alice"]))]
    fleet.router.begin(0, 3, None)
    fleet.router.route_modifications(TOPIC, 0, entries, 15, routed)
    assert fleet.router.positions == {0: 15}
    routed.write()
    assert [frame.split(b'"')[7] for frame in payloads(alice)] == [b"0:4", b"0:10"]


def test_a_null_value_is_skipped() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    assert fleet.route(None, record(["alice"])).outcomes == {"null": 1, "routed": 1}
    assert fleet.signal(None, record(["alice"])).outcomes == {"null": 1, "routed": 1}
    assert len(alice.got) == 2


@pytest.mark.parametrize(
    "vector",
    [vector for vector in records() if vector.reason is not None],
    ids=lambda vector: vector.name,
)
def test_a_poison_record_is_counted_and_the_next_good_one_is_delivered(vector: object) -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    routed = fleet.route(vector.value, record(["alice"]), first=7)  # type: ignore[attr-defined]
    assert routed.outcomes == {"poison": 1, "routed": 1}
    (poison,) = routed.poison
    assert (poison.topic, poison.partition, poison.offset) == (TOPIC, 0, 7)
    assert poison.reason == vector.reason  # type: ignore[attr-defined]
    assert payloads(alice) == [b'{"type":"t","data":1}']


def test_an_id_repeated_within_reach_is_delivered_to_nobody() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    entries = [
        LogEntry(0, record(["alice"], data="1"), headers=[("trace", b"x"), ("id", b"a")]),
        LogEntry(1, record(["alice"], data="2"), headers=[("id", b"a")]),
        LogEntry(2, record(["alice"], data="3"), headers=[("id", b"b")]),
        LogEntry(3, record(["alice"], data="4")),
    ]
    assert fleet.route(*entries).outcomes == {"routed": 3, "repeat": 1}
    assert [payload[-2:] for payload in payloads(alice)] == [b"1}", b"3}", b"4}"]


def test_an_empty_or_missing_id_makes_no_repeat() -> None:
    alice = Member("alice")
    entries = [
        LogEntry(number, record(["alice"]), headers=[(name, value)])
        for number, (name, value) in enumerate([("id", b""), ("id", None), ("id", b""), ("ID", b"x"), ("ID", b"x")])
    ]
    assert Fleet(alice).route(*entries).outcomes == {"routed": 5}


def test_the_id_of_a_refused_record_does_not_hide_the_good_one() -> None:
    alice = Member("alice")
    entries = [LogEntry(0, b"{", headers=[("id", b"a")]), LogEntry(1, record(["alice"]), headers=[("id", b"a")])]
    assert Fleet(alice).route(*entries).outcomes == {"poison": 1, "routed": 1}


def test_ids_are_of_one_partition() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    for partition in (0, 1):
        fleet.route(LogEntry(0, record(["alice"]), headers=[("id", b"a")]), partition=partition)
    assert len(alice.got) == 2


def test_an_id_is_remembered_though_nobody_heard_the_first() -> None:
    fleet = Fleet()
    fleet.route(LogEntry(0, record(["alice"]), headers=[("id", b"a")]))
    alice = Member("alice")
    fleet.registry.add(alice)
    fleet.route(LogEntry(1, record(["alice"]), headers=[("id", b"a")]))
    assert alice.got == []


def test_the_broker_times_of_delivered_records_are_told() -> None:
    fleet = Fleet(Member("alice"))
    entries = [LogEntry(0, record(["alice"]), timestamp=5), LogEntry(1, record(["bob"]), timestamp=6)]
    assert fleet.route(*entries).timestamps_ms == [5]


# ---- signals


def test_a_signal_is_delivered_without_a_position() -> None:
    plain, v1 = Member("alice"), Member("alice", Encoding.V1)
    fleet = Fleet(plain, v1)
    fleet.signal(record(["alice"], "typing"))
    assert payloads(plain) == payloads(v1) == [b'{"type":"typing","data":1}']
    assert fleet.router.positions == {}


def test_a_disconnect_signal_names_all_sessions_of_its_receivers() -> None:
    alice = [Member("alice", session_id="b-1"), Member("alice", session_id="b-2")]
    bob = Member("bob", session_id="b-3")
    routed = Fleet(*alice, bob).signal(record(["alice"], "$disconnect", '{"reason":"abuse"}'))
    assert [(order.subscriber, order.reason) for order in routed.disconnects] == [
        (alice[0], "abuse"),
        (alice[1], "abuse"),
    ]
    assert routed.outcomes == {"control": 1}
    assert all(member.got == [] for member in [*alice, bob])


def test_a_disconnect_signal_names_one_session() -> None:
    alice = [Member("alice", session_id="b-1"), Member("alice", session_id="b-2")]
    data = '{"reason":"","session":"b-2"}'
    routed = Fleet(*alice).signal(record(["alice"], "$disconnect", data))
    assert [order.subscriber for order in routed.disconnects] == [alice[1]]
    # The session of a user who is no receiver stays.
    assert Fleet(*alice).signal(record(["bob"], "$disconnect", data)).disconnects == []


def test_a_disconnect_signal_with_wrong_data_harms_nobody() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)
    for data in ("1", "null", '{"reason":7}', '{"session":{}}'):
        routed = fleet.signal(record(["alice"], "$disconnect", data))
        assert routed.outcomes == {"control_invalid": 1}
        assert routed.disconnects == []


def test_an_unknown_order_is_neither_obeyed_nor_delivered() -> None:
    alice = Member("alice")
    routed = Fleet(alice).signal(record(["alice"], "$reboot", "{}"))
    assert routed.outcomes == {"control": 1}
    assert (alice.got, routed.disconnects) == ([], [])


def test_an_order_on_modifications_is_poison() -> None:
    alice = Member("alice")
    routed = Fleet(alice).route(record(["alice"], "$disconnect", '{"reason":""}'))
    assert routed.poison[0].reason == "type_reserved"
    assert routed.disconnects == []


def test_poison_on_signals_is_counted_and_the_next_good_one_is_delivered() -> None:
    alice = Member("alice")
    routed = Fleet(alice).signal(b"{", record(["alice"]))
    assert routed.outcomes == {"poison": 1, "routed": 1}
    assert (routed.poison[0].topic, routed.poison[0].offset) == ("signals", 0)
    assert len(alice.got) == 1


def test_the_window_begins_where_it_is_certain_which_records_are_repeats() -> None:
    fleet = Fleet()
    window = fleet.router._window
    fleet.router.begin(0, 100, since_ms=0.0)
    ten_minutes_ms = 600_000
    old = [LogEntry(offset, record(["alice"]), timestamp=1) for offset in range(100, 110)]
    fleet.route(*old)
    assert window.start(0) == 110
    young = [LogEntry(offset, record(["alice"]), timestamp=ten_minutes_ms) for offset in range(110, 115)]
    fleet.route(LogEntry(110, record(["alice"]), timestamp=2), *young[1:])
    assert window.start(0) == 111
    assert fleet.router.repeats_of(0).exact_from == 111


def test_a_quiet_partition_is_certain_once_the_node_has_caught_up() -> None:
    fleet = Fleet()
    fleet.router.begin(0, 100, since_ms=0.0)
    fleet.router.settle()
    assert fleet.router.repeats_of(0).exact_from == 100
    fleet.route(LogEntry(100, record(["alice"])))
    assert fleet.router._window.start(0) == 100


def test_a_topic_made_anew_leaves_nothing_of_the_old_one() -> None:
    fleet = Fleet()
    fleet.route(record(["alice"]), record(["alice"]))
    fleet.router.forget()
    assert fleet.router.positions == {}
    assert fleet.router._window.start(0) is None
    assert fleet.router._window.bytes == 0


def test_after_a_log_was_cut_its_new_records_are_not_taken_for_repeats_of_what_is_gone() -> None:
    alice = Member("alice")
    fleet = Fleet(alice)

    def with_id(offset: int, id_: bytes) -> LogEntry:
        return LogEntry(offset, record(["alice"], data=str(offset)), headers=[("id", id_)])

    fleet.route(with_id(0, b"a"), with_id(1, b"b"), with_id(2, b"a"), with_id(3, b"c"))
    fleet.router.jump(0, 2)
    known = fleet.router.repeats_of(0)
    assert not known.was_repeat(2)
    routed = fleet.route(with_id(2, b"c"), with_id(3, b"b"), with_id(4, b"d"))
    assert routed.outcomes == {"routed": 2, "repeat": 1}
    assert [payload[-2:] for payload in payloads(alice)] == [b"0}", b"1}", b"3}", b"2}", b"4}"]
    assert [offset for offset in range(9) if known.was_repeat(offset)] == [3]
    assert fleet.router._window.start(0) == 2


def test_after_a_jump_ahead_the_ids_of_before_are_still_known() -> None:
    fleet = Fleet(Member("alice"))
    fleet.route(LogEntry(0, record(["alice"]), headers=[("id", b"a")]))
    fleet.router.jump(0, 50)
    assert fleet.route(LogEntry(50, record(["alice"]), headers=[("id", b"a")])).outcomes == {"repeat": 1}
