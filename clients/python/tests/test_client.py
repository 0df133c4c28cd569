"""What the client promises, against a gateway that misbehaves on purpose."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.gateway import EAGER, LOG, FakeGateway, Peer, Refusal, eventually, jwt, stay
from tidings_client import (
    Client,
    Disconnected,
    Event,
    InvalidState,
    Position,
    ProtocolViolation,
    Refused,
    Resync,
    TokenRefused,
    connect,
)

TIMEOUT_S = 5.0


def client_of(*gateways: FakeGateway, **more: Any) -> Client:
    urls = [gateway.url for gateway in gateways]
    options: dict[str, Any] = {"token": "a.b.c", "backoff": EAGER, "proxy": None, "timeout_s": 2, **more}
    return connect(urls, **options)


async def next_of(client: Client) -> Event:
    async with asyncio.timeout(TIMEOUT_S):
        return await anext(client)


async def next_or_end(client: Client) -> Event | None:
    return await anext(client, None)


async def take(client: Client, count: int) -> list[Any]:
    return [(await next_of(client)).data for _ in range(count)]


def says(*places: str, cursor: str = "0:0", end: Callable[[Peer], Awaitable[None]] | None = None) -> Any:
    """A script: welcome, one event per place with the place as data, then `end` or nothing."""

    async def script(peer: Peer) -> None:
        await peer.welcome(cursor)
        for place in places:
            await peer.event(place, place)
        await (end or Peer.stay)(peer)

    return script


async def cut(peer: Peer) -> None:
    peer.cut()


def closes(code: int, reason: str = "") -> Callable[[Peer], Awaitable[None]]:
    return lambda peer: peer.close(code, reason)


# The start


async def test_events_come_with_type_data_and_place() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("0:4")
        await peer.event("0:5", {"text": "it costs 5$", "more": "$"})
        await peer.send("typing", {"who": "bob"})
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway) as client:
        assert await next_of(client) == Event("update", {"text": "it costs 5$", "more": "$"}, "0:5")
        assert await next_of(client) == Event("typing", {"who": "bob"}, None)
        assert gateway.asked[0].token == "a.b.c"
        assert gateway.asked[0].cursor == ""
        assert (client.session, client.node) == ("s-1", "n-1")


async def test_entering_waits_for_the_welcome_and_the_position_begins_there() -> None:
    greet = asyncio.Event()

    async def script(peer: Peer) -> None:
        await greet.wait()
        await peer.welcome("0:4,1:7")
        await peer.stay()

    async with FakeGateway(script) as gateway:
        client = client_of(gateway)
        entering = asyncio.create_task(client.__aenter__())
        await eventually(lambda: len(gateway.asked) == 1)
        await asyncio.sleep(0.05)
        assert not entering.done()
        assert client.position is None
        greet.set()
        await asyncio.wait_for(entering, TIMEOUT_S)
        assert client.position == Position(LOG, "0:4,1:7")
        assert (client.cursor, client.log) == ("0:4,1:7", LOG)
        await client.close()


async def test_it_goes_on_from_a_saved_position() -> None:
    async with FakeGateway() as gateway, client_of(gateway, position=f"0:17,1:4@{LOG}"):
        assert (gateway.asked[0].cursor, gateway.asked[0].log) == ("0:17,1:4", LOG)


async def test_an_address_may_have_a_path_and_a_query_of_its_own() -> None:
    async with FakeGateway() as gateway:
        url = gateway.url.replace("http", "ws") + "/ws?tenant=7"
        async with connect(url, token="t", position="0:1@l+/=", proxy=None):
            assert (gateway.asked[0].cursor, gateway.asked[0].log) == ("0:1", "l+/=")


@pytest.mark.parametrize("url", ["", "gateway.example", "ftp://gateway.example", "ws://", "ws://u:p@gateway.example"])
async def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        connect(url, token="t")


async def test_bad_arguments_are_refused_at_once() -> None:
    wrong: list[dict[str, Any]] = [{"token": "a\nb"}, {"token": " "}, {"buffer_frames": 0}, {"position": "x"}]
    for more in wrong:
        options = {"token": "t", **more}
        with pytest.raises(ValueError, match=r"token|buffer|position"):
            connect("ws://gateway.example", **options)
    with pytest.raises(ValueError, match="address"):
        connect([], token="t")


# Nothing is lost, nothing comes twice


async def test_it_comes_back_with_the_place_it_has_reached() -> None:
    async with FakeGateway(says("0:1", "1:5", "0:2", end=cut), says("0:3")) as gateway, client_of(gateway) as client:
        assert await take(client, 4) == ["0:1", "1:5", "0:2", "0:3"]
        assert [asked.cursor for asked in gateway.asked] == ["", "0:2,1:5", "0:2,1:5"][:2]
        assert gateway.asked[1].log == LOG


async def test_what_was_received_but_not_handed_over_does_not_count() -> None:
    async with (
        FakeGateway(says("0:1", "0:2", "0:3"), says("0:2", "0:3", "0:4")) as gateway,
        client_of(gateway) as client,
    ):
        assert await take(client, 1) == ["0:1"]
        await asyncio.sleep(0.05)  # the others have come by now
        assert client.cursor == "0:1"


async def test_what_waited_when_the_connection_broke_comes_once() -> None:
    async def script(peer: Peer) -> None:
        await says("0:2", "0:3", "0:4")(peer)

    async with (
        FakeGateway(says("0:1", "0:2", "0:3", end=cut), script) as gateway,
        client_of(gateway) as client,
    ):
        assert await take(client, 1) == ["0:1"]
        await eventually(lambda: len(gateway.asked) == 2)
        assert gateway.asked[1].cursor == "0:1"
        assert await take(client, 3) == ["0:2", "0:3", "0:4"]


async def test_what_comes_again_is_dropped() -> None:
    async with FakeGateway(says("0:1", "0:2", "0:2", "0:1", "1:1", "0:3")) as gateway, client_of(gateway) as client:
        assert await take(client, 4) == ["0:1", "0:2", "1:1", "0:3"]
        assert client.repeats == 2


async def test_a_checkpoint_counts_when_all_before_it_was_handed_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.event("0:1", 1)
        await peer.send("$checkpoint", {"cursor": "0:50,1:60"})
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway) as client:
        await asyncio.sleep(0.05)
        assert client.cursor == "0:0"
        assert await take(client, 1) == [1]
        assert client.cursor == "0:1"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(client), 0.05)
        assert client.cursor == "0:50,1:60"


async def test_a_client_that_waits_is_moved_on_by_checkpoints_alone() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("0:1")
        await peer.send("$checkpoint", {"cursor": "0:900"})
        await asyncio.sleep(0.05)
        peer.cut()

    async with FakeGateway(script, says("0:901")) as gateway, client_of(gateway) as client:
        assert await take(client, 1) == ["0:901"]
        assert gateway.asked[1].cursor == "0:900"


async def test_cancelling_the_iteration_loses_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number in range(1, 201):
            await peer.event(f"0:{number}", number)
            await asyncio.sleep(0.0005)
        await peer.stay()

    got: list[int] = []
    async with FakeGateway(script) as gateway, client_of(gateway) as client:
        async with asyncio.timeout(TIMEOUT_S):
            while len(got) < 200:
                try:
                    async with asyncio.timeout(0.002):
                        got.append((await anext(client)).data)
                except TimeoutError:
                    pass
    assert got == list(range(1, 201))


async def test_half_a_frame_is_no_frame() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        text = b'{"type":"update","at":"0:1","data":"half"}'
        peer.write_raw(bytes([0x81, len(text)]) + text[:20])
        await asyncio.sleep(0.02)
        peer.cut()

    async with FakeGateway(script, says("0:1")) as gateway, client_of(gateway) as client:
        assert await take(client, 1) == ["0:1"]
        assert gateway.asked[1].cursor == "0:0"


async def test_only_one_task_may_iterate() -> None:
    async with FakeGateway() as gateway, client_of(gateway) as client:
        first = asyncio.create_task(next_or_end(client))
        await asyncio.sleep(0)
        with pytest.raises(InvalidState):
            await anext(client)
        first.cancel()
    with pytest.raises(InvalidState):
        await anext(client_of(gateway))


async def test_closing_says_goodbye_and_ends_the_iteration() -> None:
    codes = []

    async def script(peer: Peer) -> None:
        await stay(peer)
        codes.append(peer.ws.close_code)

    async with FakeGateway(script) as gateway:
        client = client_of(gateway)
        async with client:
            waiting = asyncio.create_task(next_or_end(client))
            await asyncio.sleep(0.01)
            await client.close()
            assert await asyncio.wait_for(waiting, TIMEOUT_S) is None
        await eventually(lambda: codes == [1000])
        assert client.session is None


# Ends of connections


async def test_it_turns_to_the_next_address_when_a_node_drains_and_waits_as_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.event("0:1", "first")
        await peer.send("$drain", {"reconnect_after_ms": 200})
        await peer.close(1001)

    async with FakeGateway(script) as one, FakeGateway(says("0:2")) as two, client_of(one, two) as client:
        assert await take(client, 2) == ["first", "0:2"]
        assert len(one.asked) == 1
        assert two.asked[0].cursor == "0:1"
        assert 0.2 <= two.asked[0].at - one.asked[0].at < 1


async def test_an_address_where_nobody_answers_is_passed_over() -> None:
    async with FakeGateway() as gone:
        pass
    async with FakeGateway(says("0:1")) as gateway, client_of(gone, gateway) as client:
        assert len(gateway.asked) == 1
        assert await take(client, 1) == ["0:1"]


async def test_4001_brings_a_new_token() -> None:
    tokens = iter(["one", "two"])

    async def token() -> str:
        return next(tokens) + "\n"

    async with (
        FakeGateway(says("0:1", end=closes(4001)), says("0:2")) as gateway,
        client_of(gateway, token=token) as client,
    ):
        assert await take(client, 2) == ["0:1", "0:2"]
        assert [asked.token for asked in gateway.asked] == ["one", "two"]


async def test_4002_stops_with_an_error_behind_what_had_come() -> None:
    async with FakeGateway(says("0:1", end=closes(4002, "be gone"))) as gateway, client_of(gateway) as client:
        await asyncio.sleep(0.05)
        assert await take(client, 1) == ["0:1"]
        for _ in range(2):
            with pytest.raises(Disconnected, match="be gone"):
                await next_of(client)
        assert len(gateway.asked) == 1


@pytest.mark.parametrize("code", [1001, 4008, 4011])
async def test_an_orderly_end_is_followed_by_a_connection_at_once(code: int) -> None:
    slow = type(EAGER)(first_s=60, longest_s=60, steady_s=0)
    async with (
        FakeGateway(says("0:1", end=closes(code)), says("0:2")) as gateway,
        client_of(gateway, backoff=slow) as client,
    ):
        assert await take(client, 2) == ["0:1", "0:2"]


async def test_after_1008_it_comes_back_slowly() -> None:
    async with (
        FakeGateway(says("0:1", end=closes(1008)), says("0:2")) as gateway,
        client_of(gateway) as client,
    ):
        assert await take(client, 2) == ["0:1", "0:2"]
        assert gateway.asked[1].at - gateway.asked[0].at >= EAGER.policy_s


async def test_a_frame_that_is_too_large_stops_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.event("0:1", "x" * 5000)
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway, max_frame_bytes=4000) as client:
        with pytest.raises(ProtocolViolation, match="4000"):
            await next_of(client)


async def test_a_server_that_speaks_something_else_stops_it() -> None:
    async with FakeGateway(subprotocol=False) as gateway:
        with pytest.raises(ProtocolViolation, match=r"tidings\.v1"):
            async with client_of(gateway):
                pass


@pytest.mark.parametrize("first", ['{"type":"update","at":"0:1","data":1}', '{"type":"$later","data":{}}', "{", ""])
async def test_a_connection_that_begins_with_anything_but_a_welcome_is_left_and_backed_off_from(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def rude(peer: Peer) -> None:
        await peer.ws.send(first)
        await peer.stay()

    async with FakeGateway(rude, rude, says("0:1")) as gateway, client_of(gateway) as client:
        assert await take(client, 1) == ["0:1"]
        assert len(gateway.asked) == 3
    assert caplog.text.count("$welcome") == 2


async def test_a_node_that_drains_before_it_has_welcomed_is_left_as_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.send("$drain", {"reconnect_after_ms": 200})
        await peer.close(1001)

    async with (
        FakeGateway(script) as one,
        FakeGateway(says("0:6")) as two,
        client_of(one, two, position=f"0:5@{LOG}") as client,
    ):
        assert await take(client, 1) == ["0:6"]
        assert (len(one.asked), two.asked[0].cursor) == (1, "0:5")
        assert 0.2 <= two.asked[0].at - one.asked[0].at < 1


async def test_a_complaint_before_the_welcome_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.send("$error", {"reason": "frames are text"})
        await says("0:1")(peer)

    async with FakeGateway(script) as gateway, client_of(gateway) as client:
        assert await take(client, 1) == ["0:1"]
        assert len(gateway.asked) == 1
    assert "frames are text" in caplog.text


async def test_a_frame_that_is_none_is_told_again_and_again_and_never_passed() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.event("0:1", 1)
        await peer.event("here", 2)
        await peer.event("0:3", 3)
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway) as client:
        assert await take(client, 1) == [1]
        for _ in range(2):
            with pytest.raises(ProtocolViolation):
                await next_of(client)
        assert client.cursor == "0:1"


# Refusals


async def test_401_is_answered_with_a_new_token_once() -> None:
    tokens = iter(["old", "good"])

    async def token() -> str:
        return next(tokens)

    async with FakeGateway(Refusal(401, "token_expired")) as gateway, client_of(gateway, token=token):
        assert [asked.token for asked in gateway.asked] == ["old", "good"]


async def test_a_second_401_stops_it() -> None:
    async def token() -> str:
        return "bad"

    async with FakeGateway(Refusal(401, "invalid_token"), Refusal(401, "invalid_token")) as gateway:
        with pytest.raises(TokenRefused) as caught:
            async with client_of(gateway, token=token):
                pass
        assert (caught.value.status, caught.value.error, caught.value.reason) == (401, "invalid_token", "because")
        assert len(gateway.asked) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_that_stays_stops_it(status: int) -> None:
    async with FakeGateway(Refusal(status, "no")) as gateway:
        with pytest.raises(Refused) as caught:
            async with client_of(gateway):
                pass
        assert caught.value.status == status
        assert len(gateway.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for_up_to_the_bound(status: int) -> None:
    async with (
        FakeGateway(Refusal(status, "resume_rate", {"Retry-After": "3600"})) as gateway,
        client_of(gateway),
    ):
        assert EAGER.retry_after_s <= gateway.asked[1].at - gateway.asked[0].at < 2


async def test_an_answer_that_is_no_gateways_is_backed_off_from() -> None:
    async def token() -> str:
        return "t"

    refusals = [Refusal(502), Refusal(503, "", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), Refusal(500)]
    async with FakeGateway(*refusals) as gateway, client_of(gateway, token=token):
        assert len(gateway.asked) == 4


# Silence


async def test_a_dead_socket_is_noticed() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(heartbeat_s=0.1)
        await peer.event("0:1", "alive")
        peer.fall_silent()
        await peer.stay()

    async with (
        FakeGateway(script, says("0:2")) as gateway,
        client_of(gateway, silence_margin_s=0.1) as client,
    ):
        assert await take(client, 2) == ["alive", "0:2"]
        assert gateway.asked[1].at - gateway.asked[0].at >= 0.3


async def test_a_dead_socket_is_noticed_in_the_middle_of_a_frame() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(heartbeat_s=0.1)
        peer.fall_silent()
        peer.write_raw(b'\x81\x7e\x10\x00{"type":"update",')
        await peer.stay()

    async with (
        FakeGateway(script, says("0:1")) as gateway,
        client_of(gateway, silence_margin_s=0.1) as client,
    ):
        assert await take(client, 1) == ["0:1"]


async def test_pings_of_the_gateway_are_signs_of_life() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(heartbeat_s=0.2)
        peer.fall_silent()  # it hears nothing, so it answers nothing; but it pings
        for _ in range(30):
            peer.write_raw(b"\x89\x00")
            await asyncio.sleep(0.05)
        await peer.event("0:1", "still the first")
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway, silence_margin_s=0.1) as client:
        assert await take(client, 1) == ["still the first"]
        assert len(gateway.asked) == 1


async def test_a_quiet_gateway_that_answers_a_ping_is_alive() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(heartbeat_s=0.2)
        await asyncio.sleep(1.5)
        await peer.event("0:1", "still the first")
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway, silence_margin_s=0.1) as client:
        assert await take(client, 1) == ["still the first"]
        assert len(gateway.asked) == 1


async def test_a_program_that_is_slow_does_not_take_the_gateway_for_dead() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(heartbeat_s=0.1)
        for number in range(1, 31):
            await peer.event(f"0:{number}", [number, "x" * 100_000])  # more than one read of the socket takes
        await peer.stay()

    async with (
        FakeGateway(script) as gateway,
        client_of(gateway, silence_margin_s=0.1, buffer_frames=2) as client,
    ):
        events = await take(client, 1)
        await asyncio.sleep(1.5)
        events += await take(client, 29)
        assert [number for number, _ in events] == list(range(1, 31))
        await asyncio.sleep(0.1)
        assert len(gateway.asked) == 1


# A slow program


async def test_what_waits_is_bounded_and_the_socket_is_not_read_meanwhile() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.welcome()
        for number in range(1, 2001):
            await peer.event(f"0:{number}", "x" * 10_000)
            sent = number
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway, buffer_bytes=50_000) as client:
        await asyncio.sleep(0.5)
        held = sent
        assert client._buffer.bytes <= 50_000 + 10_100
        assert held < 1900, "20 MB went somewhere"
        await asyncio.sleep(0.3)
        assert sent == held
        assert len(await take(client, 2000)) == 2000
        assert client.cursor == "0:2000"


# A gap


class Refetch:
    """An on_resync that a test lets return or fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.go_on = asyncio.Event()
        self.failures = 0

    async def __call__(self, reason: str, cursor: str) -> None:
        self.calls.append((reason, cursor))
        if self.failures:
            self.failures -= 1
            raise OSError("the other service is away")
        await self.go_on.wait()


def gap(
    *places: str, cursor: str = "0:90", log: str = LOG, end: Callable[[Peer], Awaitable[None]] | None = None
) -> Any:
    """A script: the cursor is refused, events at `places` go on behind the gap."""

    async def script(peer: Peer) -> None:
        await peer.welcome(cursor, resumed=False)
        await peer.resync(cursor)
        for place in places:
            await peer.event(place, place)
        await (end or Peer.stay)(peer)

    return script


START = Position(LOG, "0:5")


async def test_events_behind_a_gap_wait_until_on_resync_has_returned() -> None:
    refetch = Refetch()
    async with (
        FakeGateway(gap("0:91")) as gateway,
        client_of(gateway, position=START, on_resync=refetch) as client,
    ):
        waiting = asyncio.create_task(next_of(client))
        await eventually(lambda: refetch.calls == [("expired", "0:90")])
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert client.position == START
        refetch.go_on.set()
        assert (await waiting).data == "0:91"
        assert client.cursor == "0:91"
    assert len(refetch.calls) == 1


async def test_events_before_a_gap_come_before_it() -> None:
    refetch = Refetch()
    refetch.go_on.set()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.event("0:6", "before")
        await peer.resync("0:1", "log_changed", log="log-2")
        await peer.event("0:2", "behind")
        await peer.stay()

    async with FakeGateway(script) as gateway, client_of(gateway, position=START, on_resync=refetch) as client:
        assert await take(client, 1) == ["before"]
        assert not refetch.calls
        assert await take(client, 1) == ["behind"]
        assert refetch.calls == [("log_changed", "0:1")]
        assert client.position == Position("log-2", "0:2")


async def test_a_program_that_dies_in_on_resync_meets_the_gap_again() -> None:
    refetch = Refetch()
    async with FakeGateway(gap("0:91"), gap("0:93", cursor="0:92")) as gateway:
        async with client_of(gateway, position=START, on_resync=refetch) as client:
            iterating = asyncio.create_task(next_or_end(client))
            await eventually(lambda: len(refetch.calls) == 1)
            saved = str(client.position)
        assert await iterating is None
        refetch.go_on.set()
        async with client_of(gateway, position=saved, on_resync=refetch) as client:
            assert await take(client, 1) == ["0:93"]
        assert [asked.cursor for asked in gateway.asked] == ["0:5", "0:5"]
        assert refetch.calls == [("expired", "0:90"), ("expired", "0:92")]


async def test_a_connection_lost_in_on_resync_comes_back_before_the_gap_and_it_is_called_again() -> None:
    refetch = Refetch()
    lose = asyncio.Event()

    async def wait_and_cut(peer: Peer) -> None:
        await lose.wait()
        peer.cut()

    async with (
        FakeGateway(gap("0:91", end=wait_and_cut), gap("0:96", cursor="0:95")) as gateway,
        client_of(gateway, position=START, on_resync=refetch) as client,
    ):
        waiting = asyncio.create_task(next_of(client))
        await eventually(lambda: len(refetch.calls) == 1)
        lose.set()
        # What came by the first connection is gone with the second one's welcome, and not before.
        await eventually(lambda: len(gateway.asked) == 2 and client.session is not None)
        assert gateway.asked[1].cursor == "0:5"
        refetch.go_on.set()
        assert (await waiting).data == "0:96"
        assert refetch.calls == [("expired", "0:90"), ("expired", "0:95")]
        assert client.cursor == "0:96"


async def test_connections_lost_in_each_on_resync_do_not_keep_it_from_coming_to_an_end() -> None:
    calls = 0

    async def slow_refetch(reason: str, cursor: str) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.3)

    async def for_a_while(peer: Peer) -> None:
        await asyncio.sleep(0.1)
        peer.cut()

    async def script(peer: Peer) -> None:
        """A gateway that holds what is beyond 0:90, and whose connections never last as long as the refetch."""
        if peer.asked.cursor == "0:5":
            await gap("0:91", end=for_a_while)(peer)
        else:
            await says("0:91", "0:92", end=for_a_while)(peer)

    async with (
        FakeGateway(*[script] * 50) as gateway,
        client_of(gateway, position=START, on_resync=slow_refetch) as client,
    ):
        assert await take(client, 2) == ["0:91", "0:92"]
        assert calls <= 2


async def test_an_on_resync_that_fails_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    refetch = Refetch()
    refetch.failures = 3
    refetch.go_on.set()
    async with (
        FakeGateway(gap("0:91")) as gateway,
        client_of(gateway, position=START, on_resync=refetch) as client,
    ):
        assert await take(client, 1) == ["0:91"]
        assert len(refetch.calls) == 4
        assert len(gateway.asked) == 1
    assert "the other service is away" in caplog.text


async def test_an_on_resync_that_fails_for_ever_does_not_hide_that_the_client_was_stopped() -> None:
    refetch = Refetch()
    refetch.failures = 1 << 60
    async with (
        FakeGateway(gap("0:91", end=closes(4002))) as gateway,
        client_of(gateway, position=START, on_resync=refetch) as client,
    ):
        for _ in range(2):
            with pytest.raises(Disconnected):
                await next_of(client)
        assert client.position == START


async def test_cancelling_the_iteration_does_not_cancel_on_resync() -> None:
    refetch = Refetch()
    async with (
        FakeGateway(gap("0:91")) as gateway,
        client_of(gateway, position=START, on_resync=refetch) as client,
    ):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(client), 0.05)
        refetch.go_on.set()
        assert await take(client, 1) == ["0:91"]
        assert len(refetch.calls) == 1


async def test_without_on_resync_the_gap_is_an_event_that_counts_when_the_next_is_asked_for() -> None:
    lose = asyncio.Event()

    async def wait_and_cut(peer: Peer) -> None:
        await lose.wait()
        peer.cut()

    async with (
        FakeGateway(gap("0:91", end=wait_and_cut), gap("0:96", cursor="0:95")) as gateway,
        client_of(gateway, position=START) as client,
    ):
        event = await next_of(client)
        assert isinstance(event, Resync)
        assert (event.type, event.reason, event.cursor, event.log) == ("$resync", "expired", "0:90", LOG)
        assert client.position == START
        lose.set()
        await eventually(lambda: len(gateway.asked) == 2 and client.session is not None)
        assert gateway.asked[1].cursor == "0:5"
        await asyncio.sleep(0.05)
        event = await next_of(client)
        assert isinstance(event, Resync)
        assert event.cursor == "0:95"
        assert await take(client, 1) == ["0:96"]
        assert client.cursor == "0:96"


async def test_a_connection_lost_between_welcome_and_resync_does_not_lose_the_gap() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("0:90", resumed=False)
        await asyncio.sleep(0.02)
        peer.cut()

    async with FakeGateway(script, gap("0:96")) as gateway, client_of(gateway, position=START) as client:
        assert isinstance(await next_of(client), Resync)
        assert [asked.cursor for asked in gateway.asked] == ["0:5", "0:5"]


# Tokens


async def test_a_new_token_is_shown_on_the_open_connection_before_the_old_one_ends() -> None:
    tokens = [jwt(0.6), jwt(600)]
    given = iter(tokens)

    async def token() -> str:
        return next(given)

    async with FakeGateway() as gateway, client_of(gateway, token=token):
        assert gateway.asked[0].token == tokens[0]
        await eventually(lambda: bool(gateway.heard))
        assert gateway.heard == [{"type": "$token", "data": {"token": tokens[1]}}]
        assert len(gateway.asked) == 1


async def test_a_token_function_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0
    last = jwt(600)

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked in (1, 3, 4):
            raise OSError("the login is away")
        return jwt(0.4) if asked == 2 else last

    async with FakeGateway() as gateway, client_of(gateway, token=token):
        await eventually(lambda: bool(gateway.heard))
        assert gateway.heard[0]["data"]["token"] == last
        assert asked == 5
    assert "the login is away" in caplog.text


async def test_a_token_that_was_rejected_is_asked_for_again_but_not_in_a_storm() -> None:
    async def token() -> str:
        return jwt(0.4 if not gateway.asked else 600)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        answered = 0
        while peer.ws.close_code is None:
            await asyncio.sleep(0.001)
            if answered < len(gateway.heard):
                answered += 1
                await peer.send("$error", {"reason": "$token: the token is another user's"})

    async with FakeGateway(script) as gateway, client_of(gateway, token=token):
        await eventually(lambda: len(gateway.heard) >= 2)
        await asyncio.sleep(0.5)
        assert 3 <= len(gateway.heard) <= 10


async def test_tokens_without_a_later_end_are_not_asked_for_in_a_storm() -> None:
    asked = 0
    only = jwt(1)

    async def token() -> str:
        nonlocal asked
        asked += 1
        return only

    async with FakeGateway() as gateway, client_of(gateway, token=token):
        await asyncio.sleep(1)
        assert asked < 15


async def test_a_token_function_that_says_stop_is_obeyed() -> None:
    given = iter([jwt(0.4)])

    async def token() -> str:
        try:
            return next(given)
        except StopIteration:
            raise TokenRefused(reason="logged out") from None

    async with FakeGateway() as gateway, client_of(gateway, token=token) as client:
        with pytest.raises(TokenRefused, match="logged out"):
            await next_of(client)


async def test_no_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="tidings_client")
    tokens = [jwt(0.4), jwt(600), jwt(601)]
    given = iter(tokens)

    async def token() -> str:
        return next(given)

    async with (
        FakeGateway(says("0:1"), Refusal(401)) as gateway,
        client_of(gateway, token=token) as client,
    ):
        await eventually(lambda: bool(gateway.heard))
        assert await take(client, 1) == ["0:1"]
    assert caplog.text
    assert not any(token.split(".")[1] in json.dumps(caplog.text) for token in tokens)
