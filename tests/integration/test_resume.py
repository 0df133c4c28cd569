"""A client that shows its cursor gets exactly what it missed, on any node, and then takes part.

Everything runs twice: with the default window, and with none, so that all that was missed is read back from Kafka.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.integration.clients import TcpClient, Topics, bearer, receive_json, sse, upgrade_request, web_socket
from tests.integration.processes import Gateway, GatewayFactory
from tests.integration.producing import transaction
from tidings.contract.record import encode
from tidings.gateway.readback import READ_BYTES
from tidings.kafka.ladder import Broker

pytestmark = pytest.mark.kafka

V1 = "tidings.v1"
RESUMES = "tidings_gateway_resumes_total"
BIG_WINDOW, NO_WINDOW = 67_108_864, 0


@pytest.fixture(scope="module", params=[BIG_WINDOW, NO_WINDOW], ids=["window", "read-back"])
def node(request: pytest.FixtureRequest, nodes: GatewayFactory) -> Gateway:
    return nodes(window_bytes=request.param, max_resumes_per_user_per_min=0, ping_interval_s=1, idle_timeout_s=30)


@pytest.fixture
def user() -> str:
    return f"alice-{secrets.token_hex(4)}"


async def welcome(node: Gateway, user: str) -> tuple[str, str]:
    """Cursor and log of now."""
    async with web_socket(node, user, V1) as ws:
        data = (await receive_json(ws))["data"]
        return data["cursor"], data["log"]


def resume(node: Gateway, user: str, cursor: str, log: str, **options: Any) -> Any:
    return web_socket(node, user, V1, url=f"{node.ws_url}?cursor={cursor}&log={log}", **options)


async def resumed(ws: ClientConnection, count: int) -> list[Any]:
    """The welcome that says so, and the next frames."""
    greeting = await receive_json(ws)
    assert (greeting["type"], greeting["data"]["resumed"]) == ("$welcome", True), greeting
    return [await receive_json(ws) for _ in range(count)]


def moved(cursor: str, frames: Sequence[Any]) -> str:
    """The cursor after these frames."""
    positions = dict(entry.split(":") for entry in cursor.split(","))
    for frame in frames:
        partition, offset = frame["at"].split(":")
        assert int(offset) > int(positions[partition]), "a frame goes on from the cursor"
        positions[partition] = offset
    return ",".join(f"{partition}:{offset}" for partition, offset in positions.items())


def in_order(frames: Sequence[Any]) -> bool:
    """Each partition's own records are numbered upwards."""
    last: dict[str, int] = {}
    for frame in frames:
        partition = frame["at"].split(":")[0]
        if last.get(partition, -1) >= frame["data"]:
            return False
        last[partition] = frame["data"]
    return True


async def test_what_was_missed_comes_and_then_what_is_new(node: Gateway, records: Topics, user: str) -> None:
    cursor, log = await welcome(node, user)
    for number in range(40):
        records.send([user if number % 2 else "stranger", "somebody"], number, partition=number % 4)
    async with resume(node, user, cursor, log) as ws:
        frames = await resumed(ws, 20)
        assert sorted(frame["data"] for frame in frames) == list(range(1, 40, 2))
        assert in_order(frames)
        records.send([user], "live", partition=2)
        assert (await receive_json(ws))["data"] == "live"


async def test_the_missed_ones_came_from_where_they_should(node: Gateway, records: Topics, user: str) -> None:
    outcome = "window" if node.metric("tidings_gateway_window_bytes") else "readback"
    before = node.metric(RESUMES, outcome=outcome)
    async with web_socket(node, user, V1) as ws:
        start = (await receive_json(ws))["data"]
        cursor, log = start["cursor"], start["log"]
        records.send([user], 1)
        await receive_json(ws)
    async with resume(node, user, cursor, log) as ws:
        await resumed(ws, 1)
    assert node.metric(RESUMES, outcome=outcome) == before + 1


async def test_over_one_chain_of_cursors_nothing_is_lost_and_nothing_comes_twice(
    node: Gateway, records: Topics, user: str
) -> None:
    """While records keep coming, the client breaks off again and again at any frame."""
    cursor, log = await welcome(node, user)
    total = 600

    async def produce() -> None:
        for number in range(total):
            records.send([user], number, partition=number % 4, flush=number % 50 == 0)
            await asyncio.sleep(0.002)
        records.flush()

    producing = asyncio.create_task(produce())
    got: list[Any] = []
    breaks = 0
    while len(got) < total:
        async with resume(node, user, cursor, log) as ws:
            frames: list[Any] = []
            assert (await receive_json(ws))["data"]["resumed"]
            while len(frames) < 1 + breaks * 7 % 60 and len(got) + len(frames) < total:
                frames.append(await receive_json(ws))
        got += frames
        cursor = moved(cursor, frames)
        breaks += 1
    await producing
    assert sorted(frame["data"] for frame in got) == list(range(total))
    assert in_order(got)
    assert breaks > 10


async def test_two_devices_at_different_cursors_each_get_their_own(node: Gateway, records: Topics, user: str) -> None:
    cursor, log = await welcome(node, user)
    for number in range(10):
        records.send([user], number)
    async with resume(node, user, cursor, log) as phone:
        first = await resumed(phone, 6)
        async with resume(node, user, moved(cursor, first[:4]), log) as laptop:
            assert [frame["data"] for frame in await resumed(laptop, 6)] == list(range(4, 10))
            records.send([user], 10)
            assert (await receive_json(laptop))["data"] == 10
        assert [(await receive_json(phone))["data"] for _ in range(5)] == list(range(6, 11))


async def test_server_sent_events_resume_by_the_last_id(node: Gateway, records: Topics, user: str) -> None:
    async with sse(node, user) as stream:
        await stream.event()
        records.send([user], 0)
        event = await stream.event()
        assert event.json["data"] == 0
    for number in range(1, 30):
        records.send([user], number, partition=number % 4)
    assert event.id is not None
    async with sse(node, user, Last_Event_ID=event.id) as stream:
        assert (await stream.event()).json["data"]["resumed"] is True
        missed = [await stream.event() for _ in range(29)]
        assert sorted(one.json["data"] for one in missed) == list(range(1, 30))
        middle = missed[14]
    assert middle.id is not None
    async with sse(node, user, Last_Event_ID=middle.id) as stream:
        await stream.event()
        rest = [await stream.event() for _ in range(14)]
        assert {one.json["data"] for one in rest} == {one.json["data"] for one in missed[15:]}


async def test_holes_of_aborted_transactions_and_one_left_open_are_passed(
    node: Gateway, records: Topics, kafka: Broker, user: str
) -> None:
    cursor, log = await welcome(node, user)
    topic = records.names.modifications
    records.send([user], 0, partition=1)
    with transaction(kafka.settings, topic, [encode([user], "update", "never")] * 5, partition=1) as client:
        client.abort_transaction(30)
    records.send([user], 1, partition=1)
    with transaction(kafka.settings, topic, [encode([user], "update", 2)], partition=1) as client:
        client.commit_transaction(30)
    async with resume(node, user, cursor, log) as ws:
        assert [frame["data"] for frame in await resumed(ws, 3)] == [0, 1, 2]
    with transaction(kafka.settings, topic, [encode([user], "update", 3)], partition=1) as client:
        records.send([user], 4, partition=1)
        async with resume(node, user, cursor, log) as ws:
            frames = await resumed(ws, 3)
            assert [frame["data"] for frame in frames] == [0, 1, 2], "nothing behind an open transaction"
        client.commit_transaction(30)
    async with resume(node, user, moved(cursor, frames), log) as ws:
        assert [frame["data"] for frame in await resumed(ws, 2)] == [3, 4]


async def test_an_id_that_stands_twice_reaches_a_client_once_before_after_and_across_the_resume(
    node: Gateway, records: Topics, user: str
) -> None:
    def put(number: int, identity: bytes) -> None:
        records.send([user], number, headers=[("id", identity)])

    mark = secrets.token_bytes(8)
    async with web_socket(node, user, V1) as ws:
        start = (await receive_json(ws))["data"]
        put(0, mark + b"a")
        put(1, mark + b"a")
        put(2, mark + b"b")
        seen = [await receive_json(ws) for _ in range(2)]
        assert [frame["data"] for frame in seen] == [0, 2]
    cursor = moved(start["cursor"], seen)
    put(3, mark + b"a")
    put(4, mark + b"c")
    put(5, mark + b"c")
    async with resume(node, user, cursor, start["log"]) as ws:
        put(6, mark + b"b")
        put(7, mark + b"d")
        assert [frame["data"] for frame in await resumed(ws, 2)] == [4, 7]
    async with resume(node, user, start["cursor"], start["log"]) as ws:
        assert [frame["data"] for frame in await resumed(ws, 4)] == [0, 2, 4, 7]


async def test_a_cursor_is_good_on_a_node_that_was_started_later(
    node: Gateway, nodes: GatewayFactory, records: Topics, user: str
) -> None:
    """Whatever happened before its start: the missed records, and the ids that they repeat."""
    cursor, log = await welcome(node, user)
    identity = [("id", secrets.token_bytes(8))]
    records.send([user], 0, headers=identity)
    async with resume(node, user, cursor, log) as ws:
        cursor = moved(cursor, await resumed(ws, 1))
    records.send([user], 1, headers=identity)
    records.send([user], 2)
    newcomer = nodes(window_bytes=int(node.metric("tidings_gateway_window_bytes") > 0) * BIG_WINDOW)
    records.send([user], 3, headers=identity)
    async with resume(newcomer, user, cursor, log) as ws:
        records.send([user], 4)
        assert [frame["data"] for frame in await resumed(ws, 2)] == [2, 4]
    newcomer.stop()


async def test_10_000_missed_records_come_in_order(node: Gateway, records: Topics, user: str) -> None:
    cursor, log = await welcome(node, user)
    for number in range(10_000):
        records.send([user], number, partition=number % 4, flush=False)
    records.flush()
    async with resume(node, user, cursor, log) as ws:
        frames = await resumed(ws, 10_000)
    assert sorted(frame["data"] for frame in frames) == list(range(10_000))
    assert in_order(frames)


@pytest.mark.parametrize(
    ("cursor", "log", "reason"),
    [
        ("0:1,0:2,1:0,2:0,3:0", None, "invalid"),
        ("nonsense", None, "invalid"),
        ("0:-1", None, "invalid"),
        ("0:99999999999999999999", None, "invalid"),
        ("0:0,1:0,2:0,3:0,9:0", None, "invalid"),
        ("0:0,1:0,2:0,3:0", "another", "log_changed"),
        ("0:0,1:0,2:0,3:0", "", "log_changed"),
        ("0:9000000000000000000,1:0,2:0,3:0", None, "ahead"),
    ],
)
async def test_a_cursor_that_leads_nowhere_is_refused_and_the_client_is_live(
    node: Gateway, records: Topics, user: str, cursor: str, log: str | None, reason: str
) -> None:
    now, tag = await welcome(node, user)
    async with resume(node, user, cursor, tag if log is None else log) as ws:
        greeting, resync = await receive_json(ws), await receive_json(ws)
        assert (greeting["type"], greeting["data"]["resumed"]) == ("$welcome", False)
        assert resync == {"type": "$resync", "data": {"reason": reason, "log": tag, "cursor": now}}
        records.send([user], "live")
        assert (await receive_json(ws))["data"] == "live"
    assert node.metric(RESUMES, outcome=reason) >= 1


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_READBACK_BYTES")
async def test_one_that_asks_for_the_oldest_record_for_ever_gets_a_bounded_share_of_the_log(
    nodes: GatewayFactory, records: Topics, user: str
) -> None:
    """Also one that shows another old cursor each time, and is gone before it could be charged."""
    for number in range(16_000):
        records.send(["somebody"], "x" * 1_000, partition=number % 4, flush=False)
    records.flush()
    budget = 2 * READ_BYTES  # a piece is paid for whole, and the batch before what is missed may fill one
    node = nodes(window_bytes=0, max_readback_bytes=budget, max_resumes_per_user_per_min=0)
    now, log = await welcome(node, user)
    began = time.monotonic()
    for since in (0, 2_048):
        for partition in range(4):
            cursor = re.sub(rf"\b{partition}:\d+", f"{partition}:{since}", now)
            async with resume(node, user, cursor, log) as ws:
                await receive_json(ws)
    reasons = []
    for _ in range(10):
        async with resume(node, user, "0:0", log) as ws:
            frame = await receive_json(ws)
            while frame["type"] not in ("$resync", "update"):
                frame = await receive_json(ws)
            reasons.append(frame["data"]["reason"])
    assert reasons == ["budget"] * 10
    allowed = budget * (1 + (time.monotonic() - began) / 60)
    assert node.metric("tidings_gateway_readback_bytes_total") <= allowed + 4 * READ_BYTES, "max_readbacks under way"
    other = f"bob-{user}"
    cursor, _ = await welcome(node, other)
    records.send([other], "mine")
    async with resume(node, other, cursor, log) as ws:
        assert (await resumed(ws, 1))[0]["data"] == "mine", "nobody else pays for it"
    node.stop()


@pytest.mark.limit("TIDINGS_GATEWAY_READBACK_TIMEOUT_S")
async def test_a_read_back_that_takes_too_long_ends_in_a_resync(
    nodes: GatewayFactory, records: Topics, user: str
) -> None:
    for number in range(3_000):
        records.send(["somebody"], "x" * 1_000, partition=number % 4, flush=False)
    records.flush()
    node = nodes(window_bytes=0, readback_timeout_s=0.001)
    _, log = await welcome(node, user)
    async with resume(node, user, "0:0", log) as ws:
        while (frame := await receive_json(ws))["type"] != "$resync":
            pass
        assert frame["data"]["reason"] == "budget"
        records.send([user], "live")
        assert (await receive_json(ws))["data"] == "live"
    node.stop()


async def test_a_storm_is_told_when_to_come_again_before_the_upgrade(
    nodes: GatewayFactory, records: Topics, user: str
) -> None:
    node = nodes(max_resumes_per_s=5)
    cursor, log = await welcome(node, user)
    statuses = []
    for number in range(15):
        async with await TcpClient.open(node) as tcp:
            path = f"/ws?cursor={cursor}&log={log}"
            head = upgrade_request(path, bearer(f"u{number}") | {"Sec-WebSocket-Protocol": V1})
            answer = await tcp.ask(head)
            statuses.append(answer.status)
            if answer.status == 503:
                assert answer.error == "resume_rate"
                assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert statuses.count(101) < 10
    assert node.metric("tidings_gateway_refused_total", reason="resume_rate") == statuses.count(503) > 0
    node.stop()
