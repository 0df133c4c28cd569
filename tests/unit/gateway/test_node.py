"""The connections of one node together: limits, and who is given up when all of them wait."""

import asyncio

import pytest

from tests.gateway_fakes import LogEntry, Party, Transport, record, request, server_frames
from tidings.closing import CloseCode
from tidings.gateway.node import SPARE_SOCKETS
from tidings.gateway.turnstile import Turnstile


def turned_away(party: Party, user: str = "alice", *lines: str, peer: str = "192.0.2.1") -> tuple[int, int]:
    """Status and Retry-After of a client that is not let in."""
    transport = party.dial(peer=peer)
    transport.connection.data_received(request("/ws", *lines, token=user))
    head = transport.sent.partition(b"\r\n\r\n")[0].decode()
    retry = next(int(line.split(": ")[1]) for line in head.split("\r\n") if line.startswith("Retry-After"))
    transport.lose()
    return int(head.split(" ")[1]), retry


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS")
def test_a_full_node_is_503_until_somebody_leaves() -> None:
    party = Party(connections=2)
    first = party.connect("a")
    party.connect("b")
    status, retry = turned_away(party, "c")
    assert status == 503
    assert 5 <= retry <= 10
    assert party.count("tidings_gateway_refused_total", reason="node_full") == 1
    first.lose()
    party.connect("c")


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS")
def test_sockets_far_beyond_the_limit_are_cut_without_an_answer() -> None:
    party = Party(connections=2)
    for _ in range(SPARE_SOCKETS):  # said goodbye to and not gone yet
        party.connect("a").opened.close(CloseCode.DISCONNECTED, "")
    party.connect("a")
    party.connect("b")
    late = party.dial()
    assert late.aborted
    assert late.sent == b""
    assert party.count("tidings_gateway_refused_total", reason="node_full") == 1
    late.lose()
    assert (party.node.sockets, party.node.handshakes) == (2 + SPARE_SOCKETS, 0)


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS")
def test_whoever_opens_many_sockets_and_says_nothing_keeps_nobody_out() -> None:
    party = Party(connections=100)
    party.connect("there")
    silent = [party.dial() for _ in range(99 + SPARE_SOCKETS)]
    for number in range(50):
        party.connect(f"newcomer-{number}")
        assert silent[number].aborted, "the one that was silent for longest"
        if number % 10 == 9:  # the loop turns
            for gone in silent[number - 9 : number + 1]:
                gone.lose()
    assert len(party.node.registry) == 51
    assert not any(one.aborted for one in silent[50:])
    assert party.count("tidings_gateway_refused_total", reason="made_room") == 50
    assert party.node.handshakes == len(silent) - 50
    for one in silent[50:]:
        one.lose()
    assert party.node.sockets == 51
    assert party.node.expendable == {}


def test_those_who_were_refused_and_do_not_go_make_room_too() -> None:
    party = Party(connections=1)
    refused = [party.dial() for _ in range(1 + SPARE_SOCKETS)]
    for one in refused:
        one.connection.data_received(request("/nowhere"))
    party.connect("alice")
    assert refused[0].aborted
    assert not refused[1].aborted
    assert party.count("tidings_gateway_refused_total", reason="made_room") == 0, "it was counted when it was refused"


def test_who_has_asked_is_never_cut_for_another() -> None:
    party = Party(connections=1)
    party.node.turnstile = Turnstile(per_turn=0, call_soon=lambda _: None)
    for _ in range(1 + SPARE_SOCKETS):
        party.dial().connection.data_received(request())
    assert party.dial().aborted


def test_no_more_are_cut_at_once_than_sockets_are_spare() -> None:
    party = Party(connections=1)
    silent = [party.dial() for _ in range(1 + SPARE_SOCKETS)]
    for _ in range(SPARE_SOCKETS):
        assert not party.dial().aborted
    assert sum(one.aborted for one in silent) == SPARE_SOCKETS
    assert party.dial().aborted, "those cut are still open files"


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_USER")
def test_too_many_of_one_user_are_429_and_others_come_in() -> None:
    party = Party(connections_per_user=2)
    first = party.connect("alice")
    party.connect("alice", "/sse")
    status, retry = turned_away(party, "alice")
    assert status == 429
    assert 30 <= retry <= 60
    assert party.count("tidings_gateway_refused_total", reason="user_limit") == 1
    party.connect("bob")
    first.lose()
    party.connect("alice")


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS")
def test_too_many_from_one_address_are_429_and_others_come_in() -> None:
    party = Party(connections_per_address=2)
    party.connect("a")
    party.connect("b")
    assert turned_away(party, "c")[0] == 429
    assert party.count("tidings_gateway_refused_total", reason="address_limit") == 1
    party.connect("c", peer="192.0.2.2")


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS")
@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_USER")
@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS")
def test_zero_is_no_limit() -> None:
    party = Party(connections=0, connections_per_user=0, connections_per_address=0)
    for _ in range(200):
        party.connect("alice")
    assert len(party.node.registry) == 200
    assert party.node.has_room()


def test_a_draining_node_is_503_and_says_to_go_elsewhere() -> None:
    party = Party()
    party.node.draining = True
    status, retry = turned_away(party)
    assert status == 503
    assert retry <= 2
    assert party.count("tidings_gateway_refused_total", reason="draining") == 1


def behind(party: Party, user: str, frames: int) -> Transport:
    client = party.connect(user)
    client.room = 0
    for number in range(frames):
        party.deliver(LogEntry(number, record([user], data=f'"{"x" * 10_000}"')))
    return client


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES")
def test_over_the_process_limit_the_furthest_behind_are_4008_and_the_others_stay() -> None:
    party = Party(unsent_total_bytes=200_000)
    far, near = behind(party, "far", 15), behind(party, "near", 3)
    quick = party.connect("quick")
    assert len(party.node.registry) == 3
    for number in range(5):
        party.deliver(LogEntry(number, record(["near", "quick"], data=f'"{"x" * 10_000}"')))
    assert {member.user for member in party.node.registry} == {"near", "quick"}
    assert party.count("tidings_gateway_drops_total", reason="process_unsent") > 0
    assert party.node.unsent_bytes() <= 180_000
    far.drain()
    assert server_frames(far.sent)[-1].code == 4008
    near.drain()
    assert len(server_frames(near.sent)) == 8
    assert len(server_frames(quick.sent)) == 5


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES")
def test_what_transports_hold_counts_to_the_process_limit_too() -> None:
    party = Party(unsent_total_bytes=200_000)
    clients = [behind(party, f"u{number}", 1) for number in range(25)]
    assert party.node.backlog_bytes == 0
    party.advance(0.25)
    assert len(party.node.registry) < len(clients)
    assert party.node.unsent_bytes() <= 180_000


def test_session_numbers_are_never_used_twice() -> None:
    party = Party()
    assert len({party.node.next_session() for _ in range(100)}) == 100


def test_every_touched_connection_is_written_once_per_batch() -> None:
    party = Party()
    clients = [party.connect(f"u{number}") for number in range(10)]
    before = [client.writes for client in clients]
    party.deliver(*(LogEntry(number, record([f"u{user}" for user in range(10)])) for number in range(20)))
    assert [client.writes - count for client, count in zip(clients, before, strict=True)] == [1] * 10


@pytest.mark.parametrize(("came", "status"), [(True, b"101"), (False, b"401")])
def test_keys_that_another_fetched_just_before_count_too(came: bool, status: bytes) -> None:
    """To whoever asks a moment later there are no newer ones any more: it must look itself."""
    party = Party()
    party.known_keys = False

    async def none_newer() -> bool:
        return False

    async def arrive() -> bytes:
        party.node.refresh_keys = none_newer
        transport = party.dial()
        transport.connection.data_received(request(token="unknown"))
        party.known_keys = came
        await party.settled()
        return bytes(transport.sent)

    assert asyncio.run(arrive()).startswith(b"HTTP/1.1 " + status)
