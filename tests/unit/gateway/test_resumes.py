"""Connections with a cursor on a node with fake sockets: what the brokers need not be asked about happens at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from tests.gateway_fakes import LogEntry, Party, Transport, parse_sse, record, request, server_frames, unchunked
from tests.unit.gateway.test_readback import FakeLog, until
from tidings.errors import BrokerUnavailable
from tidings.gateway import cursor_check, lanes, readback
from tidings.gateway.cursor_check import Log
from tidings.gateway.readback import ReadBack

V1 = "Sec-WebSocket-Protocol: tidings.v1"
LOG = "log=log1"


def deliver(party: Party, first: int, count: int, receivers: list[str] | None = None, partition: int = 0) -> None:
    party.deliver(
        *(LogEntry(first + n, record(receivers or ["alice"], data=str(first + n))) for n in range(count)),
        partition=partition,
    )


def frames(client: Transport) -> list[Any]:
    return [frame.json for frame in server_frames(client.sent) if frame.opcode == 1]


def data(client: Transport) -> list[Any]:
    return [frame["data"] for frame in frames(client) if not frame["type"].startswith("$")]


def test_a_resume_is_welcomed_with_its_own_cursor_gets_what_it_missed_and_is_live() -> None:
    party = Party()
    deliver(party, 10, 5)
    deliver(party, 15, 5, ["bob"])
    alice = party.connect("alice", f"/ws?cursor=0:12,1:20&{LOG}", V1)
    welcome, *rest = frames(alice)
    assert welcome["type"] == "$welcome"
    assert (welcome["data"]["resumed"], welcome["data"]["cursor"]) == (True, "0:12,1:20")
    assert [(frame["at"], frame["data"]) for frame in rest] == [("0:13", 12), ("0:14", 13), ("0:15", 14)]
    deliver(party, 20, 1)
    assert data(alice) == [12, 13, 14, 20]
    assert party.count("tidings_gateway_resumes_total", outcome="window") == 1
    assert party.count("tidings_gateway_window_lookups_total", result="hit") == 1


def test_two_devices_at_different_cursors_get_each_their_own() -> None:
    party = Party()
    deliver(party, 10, 5)
    phone = party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}", V1)
    laptop = party.connect("alice", f"/ws?cursor=0:14,1:20&{LOG}", V1)
    deliver(party, 15, 1)
    assert (data(phone), data(laptop)) == ([10, 11, 12, 13, 14, 15], [14, 15])


def test_server_sent_events_resume_by_the_id_of_the_last_one() -> None:
    party = Party()
    deliver(party, 10, 3)
    alice = party.connect("alice", "/sse?cursor=0:0,1:0&log=other", "Last-Event-ID: log1.b.14")
    events = parse_sse(unchunked(alice.sent))
    assert json.loads(events[0][0])["data"]["resumed"] is True
    assert [(json.loads(text)["data"], event_id) for text, event_id in events[1:]] == [
        (11, "log1.c.14"),
        (12, "log1.d.14"),
    ]


def test_an_event_stream_that_breaks_off_before_the_first_record_comes_back_to_its_welcome() -> None:
    """A browser knows its place only by an id, and an id alone is enough for it."""
    party = Party()
    alice = party.connect("alice", "/sse")
    assert unchunked(alice.sent).endswith(b"id: log1.a.14\n\n")
    party.node.resync_all("expired")
    assert unchunked(alice.sent).endswith(b"id: log1.a.14\n\n")
    deliver(party, 10, 1)
    again = party.connect("alice", "/sse", "Last-Event-ID: log1.a.14")
    assert json.loads(parse_sse(unchunked(again.sent))[1][0])["data"] == 10


def test_a_client_ahead_of_this_node_gets_nothing_twice_and_is_live_once_the_node_has_come_as_far() -> None:
    party = Party()
    alice = party.connect("alice", f"/ws?cursor=0:13,1:20&{LOG}", V1, inspected=True)
    deliver(party, 10, 2)
    assert data(alice) == []
    deliver(party, 12, 3)
    party.run_resumes()
    assert data(alice) == [13, 14]
    deliver(party, 15, 1)
    assert data(alice) == [13, 14, 15]


def test_a_checkpoint_while_it_waits_is_its_own_cursor() -> None:
    party = Party()
    alice = party.connect("alice", f"/ws?cursor=0:13,1:20&{LOG}", V1, inspected=True)
    party.advance(30)
    checkpoints = [frame["data"]["cursor"] for frame in frames(alice) if frame["type"] == "$checkpoint"]
    assert set(checkpoints) == {"0:13,1:20"}


@pytest.mark.parametrize("cursor", ["x", "0:1,0:2", "0:-1"])
def test_a_damaged_cursor_gets_a_resync_and_is_live(cursor: str) -> None:
    party = Party()
    alice = party.connect("alice", f"/ws?cursor={cursor}&{LOG}", V1)
    welcome, resync = frames(alice)
    assert welcome["data"]["resumed"] is False
    assert resync == {"type": "$resync", "data": {"reason": "invalid", "log": "log1", "cursor": "0:10,1:20"}}
    deliver(party, 10, 1)
    assert data(alice) == [10]


class Brokers:
    """What the node is told when it asks about its topic."""

    def __init__(self, party: Party) -> None:
        self.starts = {0: 0, 1: 0}
        self.ends = {0: 10, 1: 20}
        self.asked: list[str] = []
        self.away = False
        party.node.resumes.log = Log(
            stale=lambda: False,
            check=partial(self._answer, "check", False),
            find_partitions=partial(self._answer, "partitions", None),
            ends=partial(self._answer, "ends", self.ends),
            starts=partial(self._answer, "starts", self.starts),
        )

    async def _answer(self, question: str, answer: Any) -> Any:
        self.asked.append(question)
        if self.away:
            raise BrokerUnavailable("away")
        return answer


@pytest.mark.parametrize(
    ("cursor", "log", "reason"),
    [
        ("0:10,1:20", "other", "log_changed"),
        ("0:10,1:20,5:1", "log1", "invalid"),
        ("0:11,1:20", "log1", "ahead"),
        ("0:4,1:20", "log1", "expired"),
        ("0:9,1:20", "log1", "budget"),
        ("1:20", "log1", "expired"),
    ],
)
def test_a_refused_cursor_is_told_why(cursor: str, log: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor_check, "_AHEAD_WAIT_S", 0.0)
    party = Party(readback_bytes=0)
    Brokers(party).starts[0] = 5
    alice = party.connect("alice", f"/ws?cursor={cursor}&log={log}", V1, inspected=True)
    assert [frame["type"] for frame in frames(alice)] == ["$welcome", "$resync"]
    assert frames(alice)[0]["data"]["resumed"] is False
    assert frames(alice)[1]["data"] == {"reason": reason, "log": "log1", "cursor": "0:10,1:20"}
    assert party.count("tidings_gateway_resumes_total", outcome=reason) == 1
    deliver(party, 10, 1)
    assert data(alice) == [10]


def test_a_cursor_that_can_not_be_checked_is_believed_and_looked_at_again() -> None:
    party = Party()
    brokers = Brokers(party)
    brokers.away = True
    ahead = party.connect("alice", f"/ws?cursor=0:99,1:20&{LOG}", V1, inspected=True)
    good = party.connect("alice", f"/ws?cursor=0:11,1:20&{LOG}", V1, inspected=True)
    assert [frame["type"] for frame in frames(ahead) + frames(good)] == ["$welcome"] * 2
    brokers.away = False
    brokers.ends[0] = 12
    asyncio.run(party.node.resumes.look_at_waiting())
    assert frames(ahead)[-1]["data"]["reason"] == "ahead"
    deliver(party, 10, 2)
    party.run_resumes()
    assert data(good) == [11]


def test_a_topic_made_anew_while_a_cursor_is_looked_at_is_told_in_place_of_a_resume() -> None:
    party = Party()
    Brokers(party)
    router = party.node.router

    async def ends() -> dict[int, int]:
        router.forget()
        router.log = "log2"
        router.begin(0, 5, None)
        party.node.resync_all("log_changed")
        return {0: 99}

    log = party.node.resumes.log
    assert log is not None
    party.node.resumes.log = replace(log, ends=ends)
    alice = party.connect("alice", f"/ws?cursor=0:13,1:20&{LOG}", V1, inspected=True)
    welcome, resync = frames(alice)
    assert welcome["data"]["resumed"] is False
    assert resync["data"] == {"reason": "log_changed", "log": "log2", "cursor": "0:5"}
    deliver(party, 5, 1)
    assert data(alice) == [5]


@pytest.mark.parametrize("path", ["/ws", "/sse"])
def test_while_the_brokers_are_asked_a_client_gets_a_sign_of_life_in_its_own_protocol(path: str) -> None:
    party = Party()
    answered = asyncio.Event()

    async def wait() -> dict[int, int]:
        await answered.wait()
        return {0: 99, 1: 99}

    async def ask() -> bytes:
        Brokers(party)
        log = party.node.resumes.log
        assert log is not None
        party.node.resumes.log = replace(log, ends=wait)
        client = party.dial()
        lines = [V1] if path == "/ws" else []
        head = request(f"{path}?cursor=0:13,1:20&{LOG}", *lines, upgrade=path == "/ws")
        client.connection.data_received(head)
        await asyncio.sleep(0)
        party.advance(60)
        before = client.sent.partition(b"\r\n\r\n")[2]
        answered.set()
        await party.settled()
        assert b'"resumed":true' in client.sent
        return before

    before = asyncio.run(ask())
    assert before
    if path == "/ws":
        assert {frame.opcode for frame in server_frames(before)} == {9}
    else:
        assert set(unchunked(before)) == set(b":\n")


def test_missed_frames_are_not_compressed_for_one_client_alone() -> None:
    party = Party(compress_min_bytes=10)
    deliver(party, 10, 1)
    alice = party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}", V1, "Sec-WebSocket-Extensions: permessage-deflate")
    deliver(party, 11, 1)
    compressed = [(frame.json["type"], frame.compressed) for frame in server_frames(alice.sent)]
    assert compressed == [("$welcome", False), ("t", False), ("t", True)]


def test_many_who_wait_for_the_node_are_looked_at_now_and_then() -> None:
    party = Party()
    clients = [party.connect(f"u{number}", f"/ws?cursor=0:13,1:20&{LOG}", V1, inspected=True) for number in range(40)]
    deliver(party, 10, 5, [f"u{number}" for number in range(40)])
    party.run_resumes()
    assert not any(data(client) for client in clients)
    party.advance(0.25)
    party.run_resumes()
    assert all(data(client) == [13, 14] for client in clients)


def test_plain_clients_have_no_cursor() -> None:
    party = Party()
    deliver(party, 10, 3)
    alice = party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}")
    assert frames(alice) == []


def test_a_long_replay_stops_at_a_full_socket_and_goes_on_with_it() -> None:
    party = Party()
    deliver(party, 10, 3_000)
    alice = party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}", V1, room=20_000)
    party.run_resumes()
    assert len(alice.sent) <= 20_000
    assert party.node.backlog_bytes == 0, "what it misses waits in the window, not in memory of its own"
    deliver(party, 3_010, 1)
    while alice.buffered:
        alice.drain(50_000)
        party.run_resumes()
    alice.drain()
    party.run_resumes()
    assert data(alice) == list(range(10, 3_011))
    assert party.node.registry.held == 0


def test_a_slow_client_that_can_resume_becomes_a_position_in_the_window() -> None:
    party = Party(slow_unsent_bytes=10_000, unsent_bytes=20_000)
    alice, bob = party.connect("alice", "/ws", V1), party.connect("bob", "/ws", V1)
    alice.room = 0
    for first in range(10, 2_010, 100):
        deliver(party, first, 100, ["alice", "bob"])
    assert party.node.backlog_bytes < 20_000
    assert party.count("tidings_gateway_held_back_total") == 1
    assert data(bob) == list(range(10, 2_010))
    alice.drain()
    party.run_resumes()
    assert data(alice) == list(range(10, 2_010))
    deliver(party, 2_010, 1)
    assert data(alice)[-1] == 2_010


def test_a_slow_client_that_the_window_has_left_behind_is_closed_as_too_slow() -> None:
    party = Party(slow_unsent_bytes=10_000, unsent_bytes=20_000, window_bytes=100_000)
    alice = party.connect("alice", "/ws", V1)
    alice.room = 0
    for first in range(10, 5_010, 100):
        deliver(party, first, 100)
    alice.drain()
    party.run_resumes()
    assert server_frames(alice.sent)[-1].code == 4008
    seen = data(alice)
    assert seen == list(range(10, 10 + len(seen))), "what it got has no gap"


def test_repeats_and_poison_are_not_replayed() -> None:
    party = Party()
    same = [("id", b"one")]
    party.deliver(
        LogEntry(10, record(["alice"], data='"first"'), headers=same),
        LogEntry(11, b"poison"),
        LogEntry(12, record(["alice"], data='"again"'), headers=same),
        LogEntry(13, None),
        LogEntry(14, record(["alice"], data='"last"')),
    )
    before = party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}", V1)
    after = party.connect("alice", f"/ws?cursor=0:11,1:20&{LOG}", V1)
    assert data(before) == ["first", "last"]
    assert data(after) == ["last"], "it has had the first"


def test_when_the_log_is_another_one_all_who_hold_a_cursor_are_told() -> None:
    party = Party()
    alice, plain, sse = party.connect("alice", "/ws", V1), party.connect("bob"), party.connect("carol", "/sse")
    party.node.router.forget()
    party.node.router.log = "log2"
    party.node.router.begin(0, 0, None)
    party.node.resync_all("log_changed")
    assert frames(alice)[-1]["data"] == {"reason": "log_changed", "log": "log2", "cursor": "0:0"}
    assert json.loads(parse_sse(unchunked(sse.sent))[-1][0])["data"]["reason"] == "log_changed"
    assert frames(plain) == []
    deliver(party, 0, 1, ["alice", "bob", "carol"])
    assert data(alice) == data(plain) == [0]


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_RESUMES_PER_S")
def test_a_storm_of_resumes_is_let_in_at_a_rate_and_the_rest_told_when_to_come() -> None:
    party = Party(per_s=10.0)
    clients = []
    for number in range(50):
        client = party.dial()
        client.connection.data_received(request(f"/ws?cursor=0:10,1:20&{LOG}", V1, token=f"u{number}"))
        clients.append(client)
    refused = [client for client in clients if b" 503 " in client.sent.split(b"\r\n")[0]]
    assert len(refused) == 40
    waits = [int(client.sent.split(b"Retry-After: ")[1].split(b"\r\n")[0]) for client in refused]
    assert min(waits) >= 1
    assert 2 <= max(waits) <= 6
    assert len(set(waits)) > 1
    assert party.count("tidings_gateway_refused_total", reason="resume_rate") == 40
    party.connect("somebody", "/ws", V1)  # no cursor, no limit


def test_a_browsers_event_stream_is_told_to_come_again_in_a_way_that_it_obeys() -> None:
    party = Party(per_s=1.0)
    path, accept = "/sse?cursor=log1.a.14", "Accept: text/event-stream"
    clients: list[Transport] = []
    for lines in ([accept], [accept], [accept, "Origin: http://gateway.test"], []):
        client = party.dial()
        client.connection.data_received(request(path, *lines, token=f"u{len(clients)}", upgrade=False))
        clients.append(client)
    first, second, of_a_page, no_browser = (client.sent for client in clients)
    assert b"Transfer-Encoding: chunked" in first
    for later in (second, of_a_page):
        head, _, body = later.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
        assert f"Content-Length: {len(body)}".encode() in head
        retry, closing = body.split(b"\n\n")[:2]
        assert 1_000 <= int(retry.removeprefix(b"retry: ")) < 10_000
        assert json.loads(closing.removeprefix(b"data: ")) == {"type": "$close", "data": {"code": 1001}}
    assert (b"Access-Control-Allow-Origin" in second, b"Access-Control-Allow-Origin" in of_a_page) == (False, True)
    assert no_browser.startswith(b"HTTP/1.1 503 ")
    assert party.count("tidings_gateway_refused_total", reason="resume_rate") == 3
    assert all(client.eof for client in clients[1:])


def test_who_is_told_to_go_before_being_greeted_is_not_told_in_a_frame() -> None:
    party = Party()
    alice = party.dial()

    async def leave_meanwhile() -> None:
        alice.connection.data_received(request(f"/ws?cursor=0:1,1:1&{LOG}", V1, token="alice"))
        assert alice.sent.endswith(b"\r\n\r\n"), "the brokers are being asked"
        alice.opened.leave()
        await party.node.stop()

    asyncio.run(leave_meanwhile())
    (last,) = server_frames(alice.sent.partition(b"\r\n\r\n")[2])
    assert (last.opcode, last.code) == (8, 1001)


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_RESUMES_PER_USER_PER_MIN")
def test_a_client_that_resumes_in_a_loop_is_told_to_wait_and_others_are_not() -> None:
    party = Party(per_user_per_min=6.0)
    statuses = []
    for _ in range(8):
        client = party.dial()
        client.connection.data_received(request(f"/ws?cursor=0:10,1:20&{LOG}", V1))
        statuses.append(client.sent.split(b" ")[1])
    assert statuses == [b"101"] * 6 + [b"429"] * 2
    party.connect("bob", f"/ws?cursor=0:10,1:20&{LOG}", V1)
    party.clock.advance(10.1)
    party.connect("alice", f"/ws?cursor=0:10,1:20&{LOG}", V1)


def test_held_connections_count_for_the_limits_and_are_drained_and_disconnected() -> None:
    party = Party(connections_per_user=2)
    held = party.connect("alice", f"/ws?cursor=0:13,1:20&{LOG}", V1, inspected=True)
    party.connect("alice", "/ws", V1)
    third = party.dial()
    third.connection.data_received(request("/ws", V1))
    assert b" 429 " in third.sent.split(b"\r\n")[0]
    party.deliver(LogEntry(0, b'{"receivers":["alice"],"type":"$disconnect","data":{"reason":"x"}}'), topic="signals")
    assert server_frames(held.sent)[-1].code == 4002
    assert len(party.node.registry) == 0


# ---- Read back from a log that stands for Kafka's


class Aged:
    """A party whose window begins at the end of a log of 1 KiB records, and what was read of it.

    Args:
        node_knows: It has seen all of the log's ids. Else those before a range that is read back are looked at too.
        partitions: All alike.
    """

    READS = 2

    def __init__(
        self, *, node_knows: bool = True, end: int = 60_000, partitions: Sequence[int] = (0,), **limits: Any
    ) -> None:
        self.log = FakeLog(end, size=1_000)
        self.party = Party(**limits)
        self.told: list[int] = []
        node = self.party.node
        for partition in partitions:
            node.router.begin(partition, end, None if node_knows else 1e18)
        node.router.settle()
        positions, repeats_of = node.router.positions, node.router.repeats_of
        node.resumes.older = ReadBack(
            cast(Any, self.log), "modifications", positions.__getitem__, repeats_of, self.READS, self.told.append
        )
        Brokers(self.party)

    async def resume(self, cursor: int | str, *, shown: bytes) -> Transport:
        """Connect with that cursor, or offset in partition 0, wait for some bytes, and hang up."""
        if isinstance(cursor, int):
            cursor = f"0:{cursor},1:20"
        client = self.party.dial()
        client.connection.data_received(request(f"/ws?cursor={cursor}&{LOG}", V1))
        serving = asyncio.create_task(self.party.node.resumes.run())
        async with asyncio.timeout(10):
            await until(lambda: shown in client.sent or b'"$resync"' in client.sent)
        serving.cancel()
        client.lose()
        return client

    @property
    def left(self) -> float:
        now = self.party.clock.monotonic()
        return self.party.node.resumes._budgets.of("alice", now).left(now)


@pytest.mark.parametrize("node_knows", [True, False], ids=["ids-known", "ids-looked-up"])
def test_one_that_hangs_up_again_and_again_gets_a_bounded_share_of_the_log(
    node_knows: bool,
) -> None:
    aged = Aged(node_knows=node_knows, readback_bytes=1_000_000)

    async def again_and_again() -> list[bytes]:
        clients = [await aged.resume(number * 2_048, shown=b'"at":') for number in range(25)]
        await aged.party.settled()
        await asyncio.sleep(0.05)  # nothing goes on behind its back
        return [client.sent for client in clients]

    sent = asyncio.run(again_and_again())
    assert b'"at":' in sent[0]
    assert b'"reason":"budget"' in sent[-1]
    assert sum(aged.told) <= 1_000_000 + aged.READS * max(aged.told)


def test_a_hang_up_ends_what_is_read_for_it() -> None:
    aged = Aged(node_knows=False)

    async def hang_up() -> int:
        client = aged.party.dial()
        client.connection.data_received(request(f"/ws?cursor=0:20480,1:20&{LOG}", V1))
        serving = asyncio.create_task(aged.party.node.resumes.run())
        await until(lambda: len(aged.log.fetched) == 3)
        client.lose()
        await aged.party.settled()
        await asyncio.sleep(0.05)
        serving.cancel()
        return len(aged.log.fetched)

    assert asyncio.run(hang_up()) == 3
    assert aged.left < 16 << 20, "what came was paid for"


def test_one_that_meets_the_node_at_once_pays_for_what_it_looked_at() -> None:
    aged = Aged()
    older = aged.party.node.resumes.older
    assert older is not None

    async def resume_twice() -> list[float]:
        left = []
        for _ in range(2):
            client = await aged.resume(aged.log.end - 10, shown=b'"data":59999}')
            assert data_of(client) == list(range(aged.log.end - 10, aged.log.end))
            left.append(aged.left)
        return left

    first, second = asyncio.run(resume_twice())
    assert 10_000 < first - second < 20_000, "what it shared, though nothing was fetched for it"
    assert first == (16 << 20) - sum(aged.told), "and what was"


def data_of(client: Transport) -> list[Any]:
    client.sent = client.sent.partition(b"\r\n\r\n")[2]
    return data(client)


def test_a_cursor_that_is_old_in_many_partitions_looks_up_the_ids_of_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is room for those of a few only, none of them is looked up twice."""
    monkeypatch.setattr(lanes, "_IDS_BYTES", 300_000)
    monkeypatch.setattr(readback, "_RETRY_S", 0.01)
    partitions = range(8)
    aged = Aged(node_knows=False, end=4_000, partitions=partitions, readback_bytes=64 << 20)
    aged.log.ids = {offset: b"%016d" % offset for offset in range(2_000, 3_000)}
    cursor = ",".join(f"{partition}:3072" for partition in partitions)
    client = asyncio.run(aged.resume(cursor, shown=b'"at":"7:4000"'))
    assert sorted(data_of(client)) == sorted(list(range(3_072, 4_000)) * len(partitions))
    assert len(aged.log.fetched) == len(partitions) * (1 + 7 + 10)


def test_lanes_that_nobody_needs_any_more_are_closed_by_the_housekeeping() -> None:
    aged = Aged()
    resumed, older = aged.party.node.resumes, aged.party.node.resumes.older
    assert older is not None

    async def resume_and_wait() -> None:
        await aged.resume(4_096, shown=b'"at":')
        await asyncio.sleep(0.05)  # the piece under way is there
        assert older.bytes > 0
        for _ in range(13):
            await resumed.look_at_waiting()
            aged.party.clock.advance(5)

    asyncio.run(resume_and_wait())
    assert older.bytes == 0
