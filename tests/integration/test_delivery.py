"""What is produced arrives: at every connection of every receiver, on every node, byte for byte, once."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.clients import (
    CLOSE,
    TEXT,
    TcpClient,
    Topics,
    counter,
    eventually,
    labelled,
    receive_json,
    sse,
    web_socket,
)
from tests.integration.processes import Gateway, GatewayFactory
from tests.vectors import load
from tests.vectors import records as record_vectors
from tidings.config import TopicSettings
from tidings.contract.record import encode
from tidings.gateway.cursor import format_event_id
from tidings.kafka.ladder import Broker

pytestmark = pytest.mark.kafka

RECORDS, CLOSES = "tidings_gateway_records_total", "tidings_gateway_closes_total"


@pytest.fixture(scope="module")
def node(nodes: GatewayFactory) -> Gateway:
    return nodes(ping_interval_s=1, idle_timeout_s=30, max_connections_per_user=0)


@pytest.fixture(scope="module")
def other_node(nodes: GatewayFactory) -> Gateway:
    return nodes(max_connections_per_user=0)


async def text_of(tcp: TcpClient) -> bytes:
    frame = await tcp.frame_after_pings()
    assert frame.opcode == TEXT, frame
    return frame.payload


@pytest.mark.parametrize("protocol", [None, "tidings.plain"])
async def test_plain_frames_are_type_and_data_and_nothing_else(
    node: Gateway, records: Topics, protocol: str | None
) -> None:
    async with await TcpClient.open(node) as tcp:
        headers = {"Sec_WebSocket_Protocol": protocol} if protocol else {}
        answer = await tcp.upgrade("plain", **headers)
        assert answer.headers.get("sec-websocket-protocol") == protocol
        records.send(["plain"], b'{ "b":1 , "a" : 1.50E+10,\n"c":"\\u00e9\\/\xc3\xa9" }', "any type/é")
        records.signal(["plain"], {"typing": True}, "typing")
        expected = '{"type":"any type/é","data":{ "b":1 , "a" : 1.50E+10,\n"c":"\\u00e9\\/é" }}'.encode()
        assert {await text_of(tcp), await text_of(tcp)} == {expected, b'{"type":"typing","data":{"typing": true}}'}


async def test_v1_begins_with_welcome_and_tells_positions(other_node: Gateway, records: Topics) -> None:
    node = other_node
    async with web_socket(node, "v1", "tidings.v1") as ws:
        assert ws.subprotocol == "tidings.v1"
        welcome = await receive_json(ws)
        assert welcome["type"] == "$welcome"
        data = welcome["data"]
        assert data.keys() == {"session", "node", "log", "cursor", "resumed", "heartbeat_s"}
        assert (data["resumed"], data["heartbeat_s"]) == (False, 25)
        assert data["node"].startswith("node-")
        assert data["log"]
        cursor = {int(one.split(":")[0]): int(one.split(":")[1]) for one in data["cursor"].split(",")}
        assert set(cursor) == {0, 1, 2, 3}
        for partition in (2, 0, 2, 3):
            records.send(["v1"], partition, partition=partition)
            assert json.loads(raw := await ws.recv()) == {
                "type": "update",
                "at": f"{partition}:{cursor[partition] + 1}",
                "data": partition,
            }
            assert raw == f'{{"type":"update","at":"{partition}:{cursor[partition] + 1}","data":{partition}}}'
            cursor[partition] += 1
        records.signal(["v1"], {"typing": True}, "typing")
        assert await receive_json(ws) == {"type": "typing", "data": {"typing": True}}
        async with web_socket(node, "v1", "tidings.v1") as second:
            again = (await receive_json(second))["data"]
            assert again["cursor"] == ",".join(f"{partition}:{cursor[partition]}" for partition in range(4))
            assert again["log"] == data["log"]
            assert again["session"] != data["session"]


async def test_both_nodes_name_the_same_log_and_cursor(node: Gateway, other_node: Gateway, records: Topics) -> None:
    records.send(["nobody"], 1)
    await eventually(lambda: not node.metric("tidings_gateway_lag_records"))
    await asyncio.sleep(0.3)
    welcomes = []
    for one in (node, other_node):
        async with web_socket(one, "same", "tidings.v1") as ws:
            welcomes.append((await receive_json(ws))["data"])
    assert welcomes[0]["log"] == welcomes[1]["log"]
    assert welcomes[0]["cursor"] == welcomes[1]["cursor"]
    assert (welcomes[0]["node"], welcomes[1]["node"]) == ("node-1", "node-2")


async def test_every_connection_of_every_receiver_on_both_nodes_gets_it_once_and_in_order(
    node: Gateway, other_node: Gateway, records: Topics
) -> None:
    many, each = 40, 25
    async with contextlib.AsyncExitStack() as stack:
        sockets: list[tuple[str, TcpClient]] = []
        for number in range(many):
            for one in (node, other_node):
                tcp = await stack.enter_async_context(await TcpClient.open(one))
                user = f"reader-{number % 4}"
                await tcp.upgrade(user)
                sockets.append((user, tcp))
        stranger = await stack.enter_async_context(await TcpClient.open(node))
        await stranger.upgrade("stranger")
        for number in range(each):
            # A receiver that is named twice, and one who is nowhere, change nothing.
            records.send([f"reader-{user}" for user in range(4)] + ["reader-0", "absent"], number, flush=False)
            records.send(["reader-2"], -number, flush=False)
        records.send([user for user, _ in sockets], "end")
        for user, tcp in sockets:
            got = []
            while (payload := json.loads(await text_of(tcp))["data"]) != "end":
                got.append(payload)
            both = [sign * number for number in range(each) for sign in (1, -1)]
            assert got == (both if user == "reader-2" else list(range(each)))
        assert await stranger.alive(), "and nothing else came"


def vectors() -> Iterator[tuple[str, list[str], bytes, str, bytes]]:
    """Name, receivers, value, and what a client must see of it."""
    for file in ("chakchat.json", "chakchat_code.json", "own.json"):
        for vector in load(file)["vectors"]:
            record = vector["record"]
            value = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
            data = json.dumps(record["data"], ensure_ascii=False, separators=(",", ":")).encode()
            yield f"{file}: {vector['name']}", record["receivers"], value, record["type"], data
    for accepted in record_vectors():
        if accepted.accepted is not None and accepted.reason is None and accepted.accepted.receivers:
            yield (
                accepted.name,
                accepted.accepted.receivers,
                accepted.value,
                accepted.accepted.type,
                accepted.accepted.data,
            )


async def test_every_vector_arrives_unchanged_everywhere(node: Gateway, other_node: Gateway, records: Topics) -> None:
    """Produced as it stands in the file, received by the first receiver over every protocol, byte for byte."""
    by_user: dict[str, list[tuple[str, bytes, str, bytes]]] = {}
    for name, receivers, value, type_, data in vectors():
        by_user.setdefault(receivers[0], []).append((name, value, type_, data))
    assert sum(map(len, by_user.values())) > 80
    for user, mine in by_user.items():
        async with contextlib.AsyncExitStack() as stack:
            plain = await stack.enter_async_context(await TcpClient.open(node))
            await plain.upgrade(user)
            v1 = await stack.enter_async_context(await TcpClient.open(other_node))
            await v1.upgrade(user, Sec_WebSocket_Protocol="tidings.v1")
            assert b"$welcome" in await text_of(v1)
            squeezed = await stack.enter_async_context(web_socket(node, user, compression="deflate"))
            events = await stack.enter_async_context(sse(node, user))
            assert (await events.event()).json["type"] == "$welcome"
            for name, value, type_, data in mine:
                records.put(value, partition=1)
                expected = b'{"type":' + json.dumps(type_, ensure_ascii=False).encode() + b',"data":' + data + b"}"
                assert await text_of(plain) == expected, name
                assert await squeezed.recv(decode=False) == expected, name
                with_position = await text_of(v1)
                assert re.sub(rb'"at":"1:\d+",', b"", with_position, count=1) == expected, name
                assert with_position != expected
                # The format has no carriage returns of its own: those between tokens arrive as line feeds.
                event = await events.event()
                assert event.data is not None
                assert event.data.encode() == expected.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), name


async def test_poison_between_good_records_is_counted_and_never_seen(node: Gateway, records: Topics) -> None:
    refused = [vector for vector in record_vectors() if vector.reason is not None]
    assert len({vector.reason for vector in refused}) > 15
    before = labelled(node, RECORDS)
    async with web_socket(node, "a", "tidings.v1") as ws, sse(node, "a") as events:
        await receive_json(ws)
        await events.event()
        for number, vector in enumerate(refused):
            records.put(vector.value, flush=False)
            records.send(["a"], number, flush=False)
        records.put(None, flush=False)
        records.send(["a"], "end")
        for expected in [*range(len(refused)), "end"]:
            assert (await receive_json(ws))["data"] == expected
            assert (await events.event()).json["data"] == expected
    after = labelled(node, RECORDS)
    assert after["poison"] - before.get("poison", 0) == len(refused)
    assert after["null"] - before.get("null", 0) == 1
    assert after["routed"] - before.get("routed", 0) == len(refused) + 1
    assert node.ready()
    told = [json.loads(line) for line in node.log.splitlines() if '"poison_record"' in line]
    assert {line["reason"] for line in told} == {vector.reason for vector in refused}
    assert all(line["topic"] == records.names.modifications and line["partition"] == 0 for line in told)
    assert len({line["offset"] for line in told}) == len(told)


async def test_poison_on_signals_is_skipped_too(node: Gateway, records: Topics) -> None:
    before = counter(node, RECORDS, "poison")
    async with web_socket(node, "b") as ws:
        for value in (b"no json", b"\xff", b"[]"):
            records.put(value, topic=records.names.signals)
        orders: list[Any] = [1, {"reason": 5}, {"session": {}}]
        for data in orders:  # they make no sense
            records.signal(["b"], data, "$disconnect")
        records.signal(["b"], {}, "$from-the-future")
        records.signal(["b"], 1, "typing")
        assert await receive_json(ws) == {"type": "typing", "data": 1}
    assert counter(node, RECORDS, "poison") == before + 3


async def test_a_repeated_id_is_delivered_once(node: Gateway, other_node: Gateway, records: Topics) -> None:
    before = counter(node, RECORDS, "repeat")
    async with web_socket(node, "once") as one, web_socket(other_node, "once") as other:
        records.put(b"poison", headers=[("id", b"m-2")])  # must not take the id away from the good record
        for number, id_ in ((1, b"m-1"), (2, b"m-1"), (3, b"m-2"), (4, b"m-1"), (5, b"m-3")):
            records.send(["once"], number, headers=[("id", id_), ("other", b"x")])
        records.send(["once"], 6, headers=[("id", b"m-1")], partition=1)  # ids are a partition's own
        records.send(["once"], 7, headers=[("id", b"")])
        records.send(["once"], 8, headers=[("id", b"")])  # an empty id is none
        for ws in (one, other):
            assert sorted([(await receive_json(ws))["data"] for _ in range(6)]) == [1, 3, 5, 6, 7, 8]
            await (await ws.ping())
    assert counter(node, RECORDS, "repeat") == before + 2


# What is measured on the way


async def test_what_is_delivered_is_measured(gateway: GatewayFactory, kafka: Broker, topics: TopicSettings) -> None:
    node, own = gateway(ping_interval_s=60), Topics(kafka, topics)
    deliveries, sent_bytes = "tidings_gateway_deliveries_total", "tidings_gateway_sent_bytes_total"
    window_s = "tidings_gateway_window_seconds"
    times = [
        "tidings_gateway_encode_seconds",
        "tidings_gateway_flush_seconds",
        "tidings_gateway_loop_delay_seconds",
    ]

    def observed() -> list[float]:
        return [node.metric(f"{name}_count") for name in times]

    async with (
        web_socket(node, "all") as plain,
        web_socket(node, "all") as second,
        web_socket(node, "all", "tidings.v1") as v1,
        sse(node, "all") as events,
        web_socket(node, "some", "tidings.v1") as other,
    ):
        for welcome in (await receive_json(v1), await receive_json(other), (await events.event()).json):
            assert welcome["type"] == "$welcome"
        assert labelled(node, deliveries) == {"plain": 0, "v1": 0, "sse": 0}
        assert node.metric(window_s) == 0
        before, bytes_before = observed(), node.metric(sent_bytes)
        own.send(["all", "some"], "x" * 1000)
        payloads = [await one.recv() for one in (plain, second, v1, other)] + [(await events.event()).data or ""]
        assert all("x" * 1000 in str(payload) for payload in payloads)
        await eventually(lambda: labelled(node, deliveries) == {"plain": 2, "v1": 2, "sse": 1})
        size = sum(map(len, payloads))
        await eventually(lambda: node.metric(sent_bytes) > bytes_before + size)
        assert node.metric(sent_bytes) < bytes_before + size + 5 * 100, "heads and places, and nothing twice"
        await eventually(lambda: all(now > then for now, then in zip(observed(), before, strict=True)))
        assert node.metric(window_s) == 0, "one record has no span"
        # By the broker's clock; of a partition only the last record's time counts.
        between = observed()
        await asyncio.sleep(1.2)
        own.send(["some"], 2, partition=1)
        assert (await receive_json(other))["data"] == 2
        await eventually(lambda: labelled(node, deliveries) == {"plain": 2, "v1": 3, "sse": 1})
        await eventually(lambda: all(now > then for now, then in zip(observed(), between, strict=True)))
        assert 1.1 < node.metric(window_s) < 10
        for name in times:
            assert 0 < node.metric(f"{name}_sum") < 60, name


# $disconnect


async def test_disconnect_ends_all_sessions_of_a_user_on_all_nodes(
    node: Gateway, other_node: Gateway, records: Topics
) -> None:
    before = counter(node, CLOSES, "4002")
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for one in (node, node, other_node):
            tcp = await stack.enter_async_context(await TcpClient.open(one))
            await tcp.upgrade("banned")
            sockets.append(tcp)
        events = await stack.enter_async_context(sse(node, "banned"))
        await events.event()
        spared = await stack.enter_async_context(await TcpClient.open(node))
        await spared.upgrade("spared")
        records.signal(["banned", "absent"], {"reason": "broke the rules"}, "$disconnect")
        for tcp in sockets:
            frame = await tcp.frame_after_pings()
            assert (frame.opcode, frame.payload) == (CLOSE, (4002).to_bytes(2, "big") + b"broke the rules")
        assert (await events.event()).json == {"type": "$close", "data": {"code": 4002}}
        with pytest.raises(EOFError):
            await events.block()
        assert await spared.alive()
    await eventually(lambda: counter(node, CLOSES, "4002") == before + 3)


async def test_disconnect_of_one_session_leaves_the_users_others(node: Gateway, records: Topics) -> None:
    async with (
        web_socket(node, "two-devices", "tidings.v1") as lost,
        web_socket(node, "two-devices", "tidings.v1") as kept,
        web_socket(node, "somebody", "tidings.v1") as stranger,
    ):
        session = (await receive_json(lost))["data"]["session"]
        await receive_json(kept)
        await receive_json(stranger)
        # A session is closed only if it is a receiver's own.
        records.signal(["somebody"], {"reason": "mistaken", "session": session}, "$disconnect")
        records.signal(["two-devices"], {"reason": "lost phone", "session": session}, "$disconnect")
        await asyncio.wait_for(lost.wait_closed(), 5)
        assert (lost.close_code, lost.close_reason) == (4002, "lost phone")
        records.send(["two-devices", "somebody"], "still here")
        assert (await receive_json(kept))["data"] == "still here"
        assert (await receive_json(stranger))["data"] == "still here"


async def test_disconnect_on_modifications_is_poison(node: Gateway, records: Topics) -> None:
    before = counter(node, RECORDS, "poison")
    async with web_socket(node, "safe") as ws:
        records.put(b'{"receivers":["safe"],"type":"$disconnect","data":{"reason":"x"}}')
        records.send(["safe"], 1)
        assert (await receive_json(ws))["data"] == 1
    assert counter(node, RECORDS, "poison") == before + 1


# Server-Sent Events


async def test_sse_is_what_a_browser_reads(node: Gateway, records: Topics) -> None:
    async with sse(node, "events") as events:
        headers = events.answer.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert "no-cache" in headers["cache-control"]
        first = await events.block()
        ((name, retry_ms),) = first.fields
        assert name == "retry"
        assert 1_000 <= int(retry_ms) <= 4_000
        welcome = await events.block()
        assert welcome.json["type"] == "$welcome"
        assert welcome.id is None
        positions = {int(k): int(v) for k, v in (one.split(":") for one in welcome.json["data"]["cursor"].split(","))}
        records.send(["events"], b'{\n"lines":\r\n[1,\r2]\n}', partition=2)
        event = await events.event()
        assert [name for name, _ in event.fields] == ["id", *["data"] * 5]
        assert event.json == {"type": "update", "data": {"lines": [1, 2]}}
        positions[2] += 1
        assert event.id == format_event_id(welcome.json["data"]["log"], positions)
        records.signal(["events"], 1, "typing")
        signalled = await events.event()
        assert signalled.id is None
        assert signalled.json == {"type": "typing", "data": 1}
        records.send(["events"], "x" * 600_000)
        long = await events.event()
        assert long.json["data"] == "x" * 600_000
        comment = await events.block(3)
        assert comment.data is None
        assert "" in {name for name, _ in comment.fields}, "a comment as heartbeat, within three ping intervals"
        assert {name for name, _ in comment.fields} <= {"", "id"}


async def test_sse_says_close_when_the_node_drains(nodes: GatewayFactory) -> None:
    leaving = nodes(drain_s=1)
    async with sse(leaving, "events") as events:
        await events.event()
        leaving.signal(signal.SIGTERM)
        assert (await events.event()).json == {"type": "$close", "data": {"code": 1001}}
        with pytest.raises(EOFError):
            await events.block()
    assert await asyncio.to_thread(leaving.wait) == 0


# permessage-deflate


@pytest.mark.parametrize("protocol", [None, "tidings.v1"])
async def test_compressing_clients_get_the_same(other_node: Gateway, records: Topics, protocol: str | None) -> None:
    node = other_node
    user = f"deflate-{protocol}"
    headers = {"Sec_WebSocket_Protocol": protocol} if protocol else {}
    async with (
        web_socket(node, user, protocol, compression="deflate") as squeezed,
        web_socket(node, user, protocol) as bare,
        await TcpClient.open(node) as raw,
    ):
        answer = await raw.upgrade(
            user, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits", **headers
        )
        assert "server_no_context_takeover" in answer.headers["sec-websocket-extensions"]
        if protocol:
            for ws in (squeezed, bare):
                await receive_json(ws)
            await raw.frame()
        texts: list[Any] = ["short", "long " * 2000, {"é": ["\u2028", "😀" * 500]}, "x" * 900_000]
        for text in texts:
            records.send([user], text)
            message = await squeezed.recv()
            assert message == await bare.recv()
            assert json.loads(message)["data"] == text
            frame = await raw.frame_after_pings()
            assert frame.compressed == (text != "short")
            if frame.compressed:
                assert len(frame.payload) < len(message) / 2
        # The client's own direction, with and without fragments.
        await squeezed.send("x" * 5000)
        await squeezed.send(["compressed ", "in ", "pieces"])
        if protocol:
            assert (await receive_json(squeezed))["type"] == "$error"
        await (await squeezed.ping())


async def test_a_client_with_a_small_window_is_served_uncompressed(node: Gateway, records: Topics) -> None:
    async with await TcpClient.open(node) as tcp:
        answer = await tcp.upgrade(
            "small-window", Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=9"
        )
        assert "sec-websocket-extensions" not in answer.headers
        records.send(["small-window"], "x" * 5000)
        assert json.loads(await text_of(tcp))["data"] == "x" * 5000


def test_encode_is_what_the_vectors_mean() -> None:
    """The tests above produce through `encode`: it must leave data alone."""
    assert encode(["a"], "t", b"1.50") == b'{"receivers":["a"],"type":"t","data":1.50}'
