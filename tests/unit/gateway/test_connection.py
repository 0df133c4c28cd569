"""One client's socket, with a transport and a clock that do as they are told."""

import contextlib
import gc
import json
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.gateway_fakes import (
    LogEntry,
    Party,
    Transport,
    client_frame,
    parse_sse,
    record,
    request,
    server_frames,
    unchunked,
)
from tidings.clock import ManualClock
from tidings.closing import CloseCode
from tidings.gateway.handshake import Policy

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
V1 = "Sec-WebSocket-Protocol: tidings.v1"
START = ManualClock().now()


def send(transport: Transport, *frames: bytes) -> None:
    transport.connection.data_received(b"".join(frames))


def close_code(transport: Transport) -> int:
    """The code that the client was told; whatever came before it is passed over."""
    last = server_frames(transport.sent)[-1]
    assert last.opcode == CLOSE
    return last.code


def status(transport: Transport) -> int:
    return int(transport.sent.split(b" ", 2)[1])


def entries(count: int, size: int, user: str = "alice") -> list[LogEntry]:
    return [LogEntry(100 + number, record([user], data=f'"{number:06d}{"x" * size}"')) for number in range(count)]


# ---- handshake


def test_a_plain_client_gets_exactly_type_and_data_and_nothing_else() -> None:
    party = Party()
    alice = party.connect()
    party.deliver(LogEntry(10, record(["alice"], data='{"b":1, "a":2}')))
    assert [frame.payload for frame in server_frames(alice.sent)] == [b'{"type":"t","data":{"b":1, "a":2}}']


def test_a_v1_client_is_welcomed_first_with_where_it_starts() -> None:
    party = Party()
    alice = party.connect("alice", "/ws", V1)
    party.deliver(LogEntry(10, record(["alice"])))
    welcome, frame = [frame.json for frame in server_frames(alice.sent)]
    assert welcome == {
        "type": "$welcome",
        "data": {
            "session": "b00t-1",
            "node": "n1",
            "log": "log1",
            "cursor": "0:10,1:20",
            "resumed": False,
            "heartbeat_s": 25.0,
        },
    }
    assert frame == {"type": "t", "at": "0:11", "data": 1}


def test_an_event_stream_is_welcomed_and_told_when_to_retry() -> None:
    party = Party()
    alice = party.connect("alice", "/sse")
    party.deliver(LogEntry(10, record(["alice"])))
    body = unchunked(alice.sent)
    assert re.match(rb"retry: [1-4]\d\d\d\n\n", body)
    (welcome, no_id), (data, event_id) = parse_sse(body)
    assert json.loads(welcome)["type"] == "$welcome"
    assert no_id is None
    assert (data, event_id) == ('{"type":"t","data":1}', "log1.b.14")


def test_event_streams_are_told_different_times_to_come_back_after() -> None:
    party = Party()
    told = [int(unchunked(party.connect("alice", "/sse").sent)[7:11]) for _ in range(100)]
    assert 1_000 <= min(told) < 1_100
    assert 3_900 < max(told) <= 4_000
    assert max(b - a for a, b in pairwise(sorted(told))) < 100, "spread evenly"


@pytest.mark.parametrize(
    ("path", "idle_timeout_s", "user_timeout_ms"), [("/sse", 7.5, 7_500), ("/sse", 0, 0), ("/ws", 7.5, 0)]
)
def test_the_kernel_gives_up_on_an_event_stream_that_nobody_acknowledges(
    path: str, idle_timeout_s: float, user_timeout_ms: int
) -> None:
    """A web socket answers pings, so there it is not needed."""
    with socket.socket() as kernel:
        Party(idle_timeout_s=idle_timeout_s).connect("alice", path, socket=kernel)
        assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout_ms


def test_a_cursor_that_can_not_be_honoured_is_answered_with_resync_after_the_welcome() -> None:
    party = Party()
    for path, lines in (("/ws?cursor=0:-1&log=log1", [V1]), ("/sse?cursor=0:1", [])):
        alice = party.connect("alice", path, *lines)
        if path.startswith("/ws"):
            payloads = [frame.json for frame in server_frames(alice.sent)]
        else:
            payloads = [json.loads(data) for data, _ in parse_sse(unchunked(alice.sent))]
        assert [payload["type"] for payload in payloads] == ["$welcome", "$resync"]
        assert payloads[1]["data"] == {"reason": "invalid", "log": "log1", "cursor": "0:10,1:20"}
    assert party.count("tidings_gateway_resumes_total", outcome="invalid") == 2


def test_a_request_may_come_byte_by_byte() -> None:
    party = Party()
    alice = party.dial()
    for byte in request():
        alice.connection.data_received(bytes([byte]))
    assert status(alice) == 101
    assert len(party.node.registry) == 1
    assert party.node.handshakes == 0


def test_frames_sent_with_the_request_are_read() -> None:
    party = Party()
    alice = party.dial()
    alice.connection.data_received(request() + client_frame(PING, b"hi"))
    assert server_frames(alice.sent.partition(b"\r\n\r\n")[2]) == [(PONG, b"hi", False)]


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_HEADER_BYTES")
def test_a_head_over_the_limit_is_431_whether_it_ends_or_not() -> None:
    for rest in (b"", b"\r\n\r\n"):
        party = Party(header_bytes=1_000)
        alice = party.dial()
        alice.connection.data_received(b"GET /ws HTTP/1.1\r\nX: " + b"y" * 980 + rest)
        assert status(alice) == 431
        assert alice.eof
        assert party.count("tidings_gateway_refused_total", reason="header_too_big") == 1
    within = Party(header_bytes=1_000).dial()
    within.connection.data_received(b"GET /ws HTTP/1.1\r\nX: " + b"y" * 900)
    assert within.sent == b""


@pytest.mark.limit("TIDINGS_GATEWAY_HANDSHAKE_TIMEOUT_S")
def test_a_handshake_that_takes_too_long_is_408_then_cut() -> None:
    party = Party(handshake_timeout_s=5.0)
    alice = party.dial()
    alice.connection.data_received(b"GET /ws")
    party.advance(4.75)
    assert alice.sent == b""
    party.advance(0.75)
    assert status(alice) == 408
    assert party.count("tidings_gateway_refused_total", reason="handshake_timeout") == 1
    assert not alice.aborted
    party.advance(2.5)
    assert alice.aborted


def test_a_refusal_is_read_even_if_the_client_still_sends() -> None:
    party = Party()
    alice = party.dial()
    alice.connection.data_received(request(token="bad"))
    assert status(alice) == 401
    assert alice.eof
    alice.connection.data_received(b"x" * 100_000)
    assert not alice.closing
    party.advance(2.5)
    assert alice.aborted
    alice.lose()
    assert (party.node.sockets, party.node.handshakes, len(party.node.registry)) == (0, 0, 0)


def test_what_is_no_http_is_400() -> None:
    alice = Party().dial()
    alice.connection.data_received(b"\x16\x03\x01 hello\r\n\r\n")
    assert status(alice) == 400


def test_a_refused_page_of_an_allowed_origin_may_read_why() -> None:
    party = Party()
    allowed, stranger = party.dial(), party.dial()
    allowed.connection.data_received(request("/sse", "Origin: http://gateway.test", token="bad", upgrade=False))
    stranger.connection.data_received(request("/sse", "Origin: http://evil.test", upgrade=False))
    assert b"Access-Control-Allow-Origin: http://gateway.test" in allowed.sent
    assert (status(stranger), b"Access-Control" in stranger.sent) == (403, False)


def test_a_preflight_counts_as_no_refusal() -> None:
    party = Party()
    page = party.dial()
    head = request("/sse", "Origin: http://gateway.test", token=None, upgrade=False).replace(b"GET", b"OPTIONS", 1)
    page.connection.data_received(head)
    assert status(page) == 204
    assert party.count("tidings_gateway_refused_total", reason="preflight") == 0


def test_a_client_that_leaves_during_the_handshake_leaves_nothing_behind() -> None:
    party = Party()
    alice = party.dial()
    alice.connection.data_received(b"GET")
    alice.lose()
    alice.connection.data_received(b"late")
    assert (party.node.sockets, party.node.handshakes) == (0, 0)
    party.advance(10)
    assert alice.sent == b""


# ---- from the client


def test_a_ping_is_answered_with_its_payload() -> None:
    party = Party()
    alice = party.connect()
    send(alice, client_frame(PING, b"abc"), client_frame(PONG, b"unasked"))
    assert server_frames(alice.sent) == [(PONG, b"abc", False)]
    assert party.count("tidings_gateway_client_frames_total", kind="ping") == 1
    assert party.count("tidings_gateway_client_frames_total", kind="pong") == 1


def test_a_plain_clients_messages_are_counted_and_never_answered() -> None:
    party = Party()
    alice = party.connect()
    send(alice, client_frame(TEXT, b"hello"), client_frame(BINARY, b"\xff"))
    assert alice.sent == b""
    assert party.count("tidings_gateway_client_frames_total", kind="text") == 1
    assert party.count("tidings_gateway_client_frames_total", kind="binary") == 1


def test_a_v1_clients_other_messages_are_answered_with_an_error() -> None:
    alice = Party().connect("alice", "/ws", V1)
    send(alice, client_frame(TEXT, b"hello"), client_frame(BINARY, b"\xff"))
    errors = [frame.json for frame in server_frames(alice.sent)[1:]]
    assert [error["type"] for error in errors] == ["$error", "$error"]


def test_what_an_event_streams_client_sends_is_ignored() -> None:
    party = Party()
    alice = party.connect("alice", "/sse")
    before = alice.sent
    alice.connection.data_received(b"anything")
    assert alice.sent == before
    assert len(party.node.registry) == 1


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_PER_S")
@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_BURST")
def test_too_many_frames_are_1008() -> None:
    party = Party(frames_per_s=2.0, frames_burst=5)
    alice = party.connect()
    for _ in range(20):
        send(alice, client_frame(TEXT, b"x"))
        party.advance(0.5)
    assert alice.sent == b""
    send(alice, *[client_frame(PONG)] * 6)
    assert close_code(alice) == 1008
    assert party.count("tidings_gateway_client_frames_total", kind="pong") == 5
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="1008") == 1


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
def test_an_event_streams_client_that_goes_on_sending_is_1008() -> None:
    party = Party(message_bytes=1_000)
    alice = party.connect("alice", "/sse")
    alice.connection.data_received(b"x" * 1_000)
    assert len(party.node.registry) == 1
    alice.connection.data_received(b"x")
    data, _ = parse_sse(unchunked(alice.sent))[-1]
    assert json.loads(data) == {"type": "$close", "data": {"code": 1008}}
    assert len(party.node.registry) == 0


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_PER_S")
@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_BURST")
def test_fragments_are_frames_too() -> None:
    party = Party(frames_per_s=2.0, frames_burst=5)
    alice = party.connect()
    send(alice, client_frame(TEXT, b"x", fin=False), *[client_frame(0, b"y", fin=False)] * 4)
    assert alice.sent == b""
    party.advance(0.5)
    send(alice, client_frame(0, b"z", fin=False))
    assert alice.sent == b""
    send(alice, client_frame(0, b"z"))
    assert close_code(alice) == 1008
    assert party.count("tidings_gateway_client_frames_total", kind="text") == 0


def test_a_bug_of_ours_ends_that_connection_with_1011_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    party = Party()
    alice, bob, carol = party.connect("alice"), party.connect("bob"), party.connect("carol")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("tidings.gateway.connection.Connection._on_client_event", broken)
        send(alice, client_frame(PING))
    assert close_code(alice) == 1011
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="1011") == 1
    with monkeypatch.context() as patch:
        patch.setattr("tidings.gateway.connection.Session.on_due", broken)
        party.advance(25.0)
    assert close_code(bob) == 1011
    party.deliver(LogEntry(10, record(["carol"])))
    assert len(party.node.registry) == 0, "all had the same bug"
    assert close_code(carol) == 1011


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
def test_a_message_over_the_limit_is_1009() -> None:
    party = Party(message_bytes=1_000)
    alice = party.connect()
    send(alice, client_frame(TEXT, b"x" * 1_000))
    assert alice.sent == b""
    send(alice, client_frame(TEXT, b"x" * 1_001)[:4])
    assert close_code(alice) == 1009


def test_what_came_before_a_broken_frame_is_obeyed() -> None:
    alice = Party().connect()
    send(alice, client_frame(PING, b"p"), client_frame(TEXT, b"x", mask=None))
    pong, close = server_frames(alice.sent)
    assert (pong.payload, close.code) == (b"p", 1002)


def test_compressed_frames_are_read_and_sent_where_negotiated() -> None:
    party = Party(compress_min_bytes=10)
    alice = party.connect("alice", "/ws", V1, "Sec-WebSocket-Extensions: permessage-deflate")
    compressor = zlib.compressobj(wbits=-15)
    body = compressor.compress(b"hello") + compressor.flush(zlib.Z_SYNC_FLUSH)
    send(alice, client_frame(TEXT, body[:-4], rsv=4))
    party.deliver(*entries(1, 1_000))
    welcome, error, frame = server_frames(alice.sent)
    assert (welcome.compressed, error.json["type"], frame.compressed) == (False, "$error", True)
    assert frame.json["type"] == "t"


# ---- the token


def token_frame(token: str) -> bytes:
    return client_frame(TEXT, json.dumps({"type": "$token", "data": {"token": token}}).encode())


def test_when_the_token_ends_the_socket_closes_with_4001() -> None:
    party = Party()
    alice = party.connect(f"alice@{START + 10}")
    party.advance(9.75)
    assert alice.sent == b""
    party.advance(0.5)
    assert close_code(alice) == 4001
    assert len(party.node.registry) == 0


def test_a_token_checked_at_the_handshake_only_does_not_end_the_socket() -> None:
    party = Party(policy=Policy(watch_expiry=False))
    alice = party.connect(f"alice@{START + 10}", "/ws", V1)
    send(alice, token_frame(f"alice@{START + 12}"))
    party.advance(11)
    assert [frame.opcode for frame in server_frames(alice.sent)] == [TEXT]


def test_a_renewed_token_keeps_the_socket_open_until_its_own_end() -> None:
    party = Party()
    alice = party.connect(f"alice@{START + 10}", "/ws", V1)
    party.advance(5)
    send(alice, token_frame(f"alice@{START + 20}"))
    party.advance(14.75)
    assert CLOSE not in [frame.opcode for frame in server_frames(alice.sent)]
    party.advance(0.5)
    assert close_code(alice) == 4001


def test_a_renewal_by_the_leeway_alone_lasts_as_long_as_the_leeway() -> None:
    party = Party()
    alice = party.connect(f"alice@{START + 60}", "/ws", V1)
    send(alice, token_frame(f"alice@{START - 5}"))
    party.advance(4.75)
    assert CLOSE not in [frame.opcode for frame in server_frames(alice.sent)]
    party.advance(0.5)
    assert close_code(alice) == 4001


@pytest.mark.parametrize(
    ("token", "reason"),
    [("bad", "$token: the token is bad"), ("bob", "$token: the token is another user's")],
)
def test_a_renewal_with_a_wrong_token_changes_nothing(token: str, reason: str) -> None:
    party = Party()
    alice = party.connect(f"alice@{START + 10}", "/ws", V1)
    send(alice, token_frame(token))
    assert server_frames(alice.sent)[-1].json == {"type": "$error", "data": {"reason": reason}}
    party.advance(9.5)
    assert len(party.node.registry) == 1
    party.advance(1)
    assert close_code(alice) == 4001


# ---- pings and silence


def test_pings_come_every_interval_and_pongs_keep_it_open() -> None:
    party = Party()
    alice = party.connect()
    pings = 0
    for _ in range(40):
        party.advance(5)
        count = sum(frame.opcode == PING for frame in server_frames(alice.sent))
        if count > pings:
            send(alice, client_frame(PONG))
        pings = count
    assert pings in (7, 8)
    assert len(party.node.registry) == 1


@pytest.mark.limit("TIDINGS_GATEWAY_IDLE_TIMEOUT_S")
def test_a_silent_client_is_closed_with_4011() -> None:
    party = Party(ping_interval_s=10.0, idle_timeout_s=30.0)
    alice = party.connect()
    party.advance(29)
    assert len(party.node.registry) == 1
    party.advance(12)
    assert close_code(alice) == 4011
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="4011") == 1


def test_an_event_stream_has_a_comment_as_heartbeat_and_is_never_idle() -> None:
    party = Party()
    alice = party.connect("alice", "/sse")
    alice.sent = b""
    party.advance(300)
    heartbeats = unchunked(alice.sent).split(b"\n\n")[:-1]
    assert len(heartbeats) == 12
    assert all(heartbeat.startswith(b":") and b"\nid: log1." in heartbeat for heartbeat in heartbeats)
    assert len(party.node.registry) == 1


@pytest.mark.parametrize("path", ["/ws", "/sse"])
def test_a_slow_client_that_reads_is_not_idle_though_it_gets_no_pings(path: str) -> None:
    party = Party()
    alice = party.connect("alice", path)
    alice.room = 0
    party.deliver(*entries(30, 10_000))
    for _ in range(150):
        alice.drain(1_000)
        party.advance(1)
    assert party.node.blocked
    assert len(party.node.registry) == 1


@pytest.mark.parametrize("path", ["/ws", "/sse"])
def test_a_client_that_is_behind_and_takes_nothing_is_idle_also_as_an_event_stream(path: str) -> None:
    party = Party(ping_interval_s=10.0, idle_timeout_s=30.0)
    alice = party.connect("alice", path)
    alice.room = 0
    party.deliver(*entries(3, 1_000))
    party.advance(29)
    assert len(party.node.registry) == 1
    party.advance(12)
    assert len(party.node.registry) == 0
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="4011") == 1


# ---- slow clients


def test_what_a_socket_does_not_take_waits_in_order_and_nothing_is_lost_or_repeated() -> None:
    party = Party()
    alice = party.connect()
    alice.room = 0
    for first in range(0, 200, 10):
        party.deliver(*entries(200, 3_000)[first : first + 10])
    assert party.node.backlog_bytes > 500_000
    assert party.node.unsent_bytes() == party.node.backlog_bytes + len(alice.buffered)
    for _ in range(100):
        alice.drain(7_001)
    alice.drain()
    assert [frame.json["data"][:6] for frame in server_frames(alice.sent)] == [f"{n:06d}" for n in range(200)]
    assert (party.node.backlog_bytes, party.node.unsent_bytes(), party.node.blocked) == (0, 0, set())
    party.deliver(LogEntry(900, record(["alice"])))
    assert server_frames(alice.sent)[-1].json == {"type": "t", "data": 1}


class Kernel:
    """What takes a few pages of frames and then no more: a socket whose other end reads only when it is told to."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def drain(self) -> bytes:
        taken = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += self._theirs.recv(1 << 20)
        return taken

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.mark.parametrize(("at_once", "size"), [(1, 900), (1, 20_000), (2, 9_000), (7, 900)])
def test_what_the_kernel_does_not_take_of_a_batch_follows_through_the_transport(
    kernel: Kernel, at_once: int, size: int
) -> None:
    party = Party()
    alice = party.connect(socket=kernel)
    for first in range(0, 42, at_once):
        party.deliver(*entries(42, size)[first : first + at_once])
    taken = kernel.drain()
    assert taken, "some of it"
    assert [frame.json["data"][:6] for frame in server_frames(taken + alice.sent)] == [f"{n:06d}" for n in range(42)]


def test_frames_go_to_the_kernel_without_the_transport_while_it_takes_them(kernel: Kernel) -> None:
    party = Party()
    alice = party.connect(socket=kernel)
    writes = alice.writes
    party.deliver(*entries(1, 10))
    party.deliver(*entries(3, 10))
    assert [frame.json["data"][:6] for frame in server_frames(kernel.drain())] == [
        "000000",
        "000000",
        "000001",
        "000002",
    ]
    assert alice.writes == writes


def test_behind_what_waits_in_the_transport_nothing_is_written_past_it(kernel: Kernel) -> None:
    party = Party()
    alice = party.connect(socket=kernel)
    alice.room = 0
    party.deliver(*entries(40, 900))
    first = kernel.drain()
    party.deliver(*entries(1, 10))
    party.deliver(*entries(2, 10))
    assert kernel.drain() == b""
    alice.drain()
    numbers = [frame.json["data"][:6] for frame in server_frames(first + alice.sent)]
    assert numbers == [f"{n:06d}" for n in (*range(40), 0, 0, 1)]


def test_the_number_of_a_socket_that_may_be_closed_is_never_written_to(kernel: Kernel) -> None:
    for by_us in (True, False):
        party = Party()
        alice = party.connect(socket=kernel)
        opened = alice.opened
        if by_us:
            opened.close(CloseCode.DISCONNECTED, "bye")
        else:
            alice.lose()
        opened.send(b"for another")
        opened.inbox += [b"for", b"another"]
        opened.flush()
        assert kernel.drain() == b""


def test_a_connection_leaves_the_closing_of_its_socket_to_the_transport(kernel: Kernel) -> None:
    for by_us in (True, False):
        party = Party()
        alice = party.connect(socket=kernel)
        if by_us:
            alice.opened.close(CloseCode.DISCONNECTED, "bye")
        else:
            alice.lose()
        del alice, party
        gc.collect()
        os.fstat(kernel.fileno())  # raises for a descriptor that was closed


def test_frames_of_its_own_wait_behind_what_waits_already() -> None:
    party = Party()
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(2, 100))
    party.deliver(*entries(2, 100))
    send(alice, client_frame(PING, b"p"))
    alice.drain()
    assert [frame.opcode for frame in server_frames(alice.sent)] == [TEXT] * 4 + [PONG]


@pytest.mark.parametrize("pauses_first", [False, True])
def test_a_backlog_of_any_length_leaves_in_one_go_when_the_socket_takes_it(
    monkeypatch: pytest.MonkeyPatch, pauses_first: bool
) -> None:
    monkeypatch.setattr("tidings.gateway.outlet._REFILL_BYTES", 1)
    party = Party()
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(1, 10))
    party.deliver(*entries(3_000, 10))
    alice.pauses_first = pauses_first
    alice.drain()
    assert (party.node.backlog_bytes, party.node.blocked) == (0, set())
    assert len(server_frames(alice.sent)) == 3_001


def test_one_write_per_batch() -> None:
    party = Party()
    alice = party.connect()
    before = alice.writes
    party.deliver(*entries(50, 10))
    assert alice.writes == before + 1


@pytest.mark.parametrize("path", ["/ws", "/sse"])
def test_nothing_overtakes_a_frame_that_waits_for_a_second_one(path: str) -> None:
    def numbers(transport: Transport) -> list[str]:
        return re.findall(r"0000\d\d|checkpoint|drain|: \nid|pong-of-mine", transport.sent.decode("latin-1"))

    party = Party()
    alice = party.connect("alice", path, *([V1] if path == "/ws" else []))
    alice.sent = b""
    party.deliver(*entries(1, 0), gather=True)
    assert alice.sent == b""
    if path == "/ws":
        send(alice, client_frame(PING, b"pong-of-mine"))
        assert numbers(alice) == ["000000", "pong-of-mine"]
    party.advance(25)
    alice.sent = b""
    party.deliver(LogEntry(1, record(["alice"], data='"000001"')), gather=True)
    party.advance(25)
    assert numbers(alice)[0] == "000001", "before the heartbeat, whose cursor is behind it"
    alice.sent = b""
    party.deliver(LogEntry(2, record(["alice"], data='"000002"')), gather=True)
    alice.opened.leave()
    assert numbers(alice)[0] == "000002"
    party.node.write_gathered()
    assert numbers(alice).count("000002") == 1


def test_a_frame_that_waits_for_a_second_one_is_written_before_the_answer_to_a_close() -> None:
    party = Party()
    alice = party.connect()
    party.deliver(*entries(1, 0), gather=True)
    send(alice, client_frame(CLOSE, b"\x03\xe8"))
    assert [frame.opcode for frame in server_frames(alice.sent)] == [TEXT, CLOSE]


def test_a_client_that_is_too_slow_is_not_written_what_waited_for_a_second_frame() -> None:
    party = Party(unsent_bytes=10_000)
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(4, 2_000))
    party.deliver(*entries(1, 20_000), gather=True)
    assert len(party.node.registry) == 1
    party.node.write_gathered()
    assert (len(party.node.registry), party.node.blocked, party.node.backlog_bytes) == (0, set(), 0)
    alice.drain()
    assert close_code(alice) == 4008


@pytest.mark.parametrize(
    "ending",
    [
        lambda alice: alice.opened.close(CloseCode.DISCONNECTED, "bye"),
        lambda alice: alice.opened.leave(),
        lambda alice: send(alice, client_frame(CLOSE, b"\x03\xe8")),
        lambda alice: send(alice, client_frame(PING, b"p")),
        lambda alice: send(alice, b"\xff\x00"),
    ],
    ids=["disconnect", "drain", "client's close", "ping", "nonsense"],
)
def test_a_frame_that_waited_and_is_one_too_many_closes_once(ending: Callable[[Transport], None]) -> None:
    party = Party(unsent_bytes=10_000)
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(4, 2_000))
    party.deliver(*entries(1, 20_000), gather=True)
    ending(alice)
    alice.drain()
    alice.lose()
    assert [frame.code for frame in server_frames(alice.sent) if frame.opcode == CLOSE] == [4008]
    assert server_frames(alice.sent)[-1].opcode == CLOSE, "nothing comes behind it"
    assert party.count("tidings_gateway_closes_total", code="4008") == 1
    assert (party.node.sockets, party.node.backlog_bytes) == (0, 0)


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_BYTES")
def test_more_unsent_than_the_limit_is_4008_and_the_rest_is_dropped() -> None:
    party = Party(unsent_bytes=100_000)
    alice, bob = party.connect(), party.connect("bob")
    alice.room = 0
    for _ in range(9):
        party.deliver(*entries(1, 10_000))
    assert len(party.node.registry) == 2
    party.deliver(*entries(5, 10_000))
    assert party.node.registry.connections_of("alice") == ()
    assert party.count("tidings_gateway_drops_total", reason="unsent") == 13, (
        "all 14 but the one that the transport has"
    )
    assert (party.node.backlog_bytes, party.node.blocked) == (0, set())
    party.deliver(LogEntry(1, record(["alice", "bob"])))
    assert len(server_frames(bob.sent)) == 1
    alice.drain()
    assert close_code(alice) == 4008
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="4008") == 1


def test_a_frame_that_waited_for_a_second_one_when_its_socket_broke_counts_as_dropped() -> None:
    party = Party()
    alice = party.connect()
    party.deliver(*entries(1, 0), gather=True)
    alice.lose()
    assert party.count("tidings_gateway_drops_total", reason="gone") == 1


@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_UNSENT_BYTES")
@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_AFTER_S")
def test_no_progress_over_the_lower_limit_is_4008() -> None:
    party = Party(slow_unsent_bytes=50_000, slow_after_s=5.0)
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(1, 30_000))
    party.deliver(*entries(1, 30_000))
    party.advance(4.5)
    alice.drain(100)
    party.advance(4.5)
    assert len(party.node.registry) == 1
    party.advance(1)
    assert len(party.node.registry) == 0
    assert party.count("tidings_gateway_drops_total", reason="slow") == 1
    alice.drain()
    assert close_code(alice) == 4008


def test_a_little_unsent_stands_without_being_closed() -> None:
    party = Party(slow_unsent_bytes=50_000, idle_timeout_s=0)
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(1, 20_000))
    party.advance(600)
    assert len(party.node.registry) == 1


# ---- closing


def test_a_closing_handshake_begun_by_the_client_is_answered_with_its_code() -> None:
    party = Party()
    alice = party.connect()
    send(alice, client_frame(CLOSE, b"\x03\xe8bye"), client_frame(PING, b"void"))
    assert [(frame.opcode, frame.code) for frame in server_frames(alice.sent)] == [(CLOSE, 1000)]
    assert alice.closing
    assert len(party.node.registry) == 0
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="1000") == 1


def test_a_close_without_a_code_is_answered_without_one_and_counted_as_1005() -> None:
    party = Party()
    alice = party.connect()
    send(alice, client_frame(CLOSE))
    assert alice.sent == b"\x88\x00"
    alice.lose()
    assert party.count("tidings_gateway_closes_total", code="1005") == 1


def test_a_closing_handshake_of_ours_waits_for_the_answer() -> None:
    party = Party()
    alice = party.connect()
    alice.opened.leave()
    assert close_code(alice) == 1001
    assert not alice.closing
    send(alice, client_frame(TEXT, b"late"))
    assert not alice.closing
    send(alice, client_frame(CLOSE, b"\x03\xe9"))
    assert alice.closing
    assert not alice.aborted


def test_after_nonsense_nothing_is_read_and_the_client_hangs_up_or_is_cut() -> None:
    party = Party()
    for begin in ("ours", "theirs"):
        alice = party.connect()
        if begin == "ours":
            alice.opened.leave()
        send(alice, client_frame(TEXT, b"x", mask=None))
        assert alice.eof
        send(alice, client_frame(CLOSE, b"\x03\xe9"))
        assert not alice.closing
        party.advance(2.5)
        assert alice.aborted
        assert len(server_frames(alice.sent)) == 1


def test_a_client_that_never_answers_our_close_is_cut_after_two_seconds() -> None:
    party = Party()
    alice = party.connect()
    alice.opened.leave()
    party.advance(1.75)
    assert not alice.aborted
    party.advance(0.75)
    assert alice.aborted


def test_a_connection_closed_once_is_not_closed_again() -> None:
    party = Party()
    alice = party.connect()
    connection = alice.opened
    connection.leave()
    connection.leave()
    connection.give_up("slow", "x")
    assert len(server_frames(alice.sent)) == 1
    alice.lose()
    connection.leave()
    assert party.count("tidings_gateway_closes_total", code="1001") == 1


def test_an_event_stream_is_told_the_code_before_its_end() -> None:
    alice = Party().connect("alice", "/sse")
    alice.opened.leave()
    assert alice.sent.endswith(b"0\r\n\r\n")
    data, _ = parse_sse(unchunked(alice.sent))[-1]
    assert json.loads(data) == {"type": "$close", "data": {"code": 1001}}
    assert alice.eof
    alice.connection.data_received(b"late")


def test_a_v1_client_is_told_to_drain_before_the_close() -> None:
    alice = Party().connect("alice", "/ws", V1)
    alice.opened.leave()
    welcome, drain, close = server_frames(alice.sent)
    assert welcome.json["type"] == "$welcome"
    assert drain.json == {"type": "$drain", "data": {"reconnect_after_ms": 0}}
    assert close.code == 1001


def test_what_waits_is_sent_before_an_orderly_close() -> None:
    party = Party()
    alice = party.connect("alice", "/ws", V1)
    alice.room = 0
    for _ in range(3):
        party.deliver(*entries(2, 1_000))
    alice.opened.leave()
    assert (party.node.backlog_bytes, party.node.blocked) == (0, set())
    alice.drain()
    frames = server_frames(alice.sent)
    assert [frame.opcode for frame in frames] == [TEXT] * 8 + [CLOSE]
    assert frames[-2].json["type"] == "$drain"


def test_nothing_is_routed_to_a_connection_that_is_closing() -> None:
    party = Party()
    alice = party.connect()
    alice.opened.leave()
    party.deliver(LogEntry(10, record(["alice"])))
    assert len(server_frames(alice.sent)) == 1


def test_a_socket_that_breaks_takes_its_backlog_with_it_and_is_1006() -> None:
    party = Party()
    alice = party.connect()
    alice.room = 0
    party.deliver(*entries(1, 1_000))
    party.deliver(*entries(1, 1_000))
    alice.lose()
    assert (party.node.backlog_bytes, party.node.blocked, party.node.sockets) == (0, set(), 0)
    assert len(party.node.registry) == 0
    assert party.count("tidings_gateway_closes_total", code="1006") == 1
    party.advance(100)


def test_a_disconnect_signal_closes_with_4002() -> None:
    party = Party()
    one, two = party.connect("alice", "/ws", V1), party.connect()
    session = server_frames(one.sent)[0].json["data"]["session"]
    order = json.dumps({"reason": "abuse", "session": session})
    party.deliver(LogEntry(0, record(["alice"], "$disconnect", order)), topic="signals")
    assert close_code(one) == 4002
    assert server_frames(one.sent)[-1].payload[2:] == b"abuse"
    assert two.sent == b""
    party.deliver(LogEntry(1, record(["alice"], "$disconnect", '{"reason":""}')), topic="signals")
    assert close_code(two) == 4002
