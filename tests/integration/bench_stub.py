"""A gateway for the tests of `tidings bench`: just enough of the contract to be measured, on the same settings.

Tokens are checked (HS and RS, by what the environment names), `data` is passed on as parsed and encoded again,
`/readyz` and `/metrics` answer. `TIDINGS_STUB_LOSE=N` drops every Nth delivery, to show that the bench sees a loss.
"""

import asyncio
import json
import os
from http import HTTPStatus

import jwt
from aiokafka import AIOKafkaConsumer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

ENV = os.environ
connections: dict[str, set[ServerConnection]] = {}
ready = asyncio.Event()


def check_token(connection: ServerConnection, request: Request) -> Response | None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    key, algorithm = ENV.get("TIDINGS_JWT_SECRET"), "HS256"
    if key is None:
        key, algorithm = ENV["TIDINGS_JWT_PUBLIC_KEY"], "RS256"
    try:
        connection.username = jwt.decode(token, key, [algorithm])["sub"]
    except jwt.InvalidTokenError:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "{}")
    return None


async def connected(connection: ServerConnection) -> None:
    mine = connections.setdefault(connection.username, set())
    mine.add(connection)
    try:
        await connection.wait_closed()
    finally:
        mine.discard(connection)


async def admin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    while (await reader.readline()).strip():
        pass
    count = sum(map(len, connections.values()))
    body = (
        "# TYPE tidings_gateway_connections gauge\n"
        f'tidings_gateway_connections{{protocol="native"}} {count}\n'
        "# TYPE tidings_gateway_flush_seconds histogram\n"
        'tidings_gateway_flush_seconds_bucket{le="0.001"} 3\n'
        'tidings_gateway_flush_seconds_bucket{le="+Inf"} 4\n'
        "tidings_gateway_flush_seconds_count 4\ntidings_gateway_flush_seconds_sum 0.01\n"
    ).encode()
    status = "503 Not ready" if b"readyz" in line and not ready.is_set() else "200 OK"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()
    writer.close()


async def main() -> None:
    lose, delivered = int(ENV.get("TIDINGS_STUB_LOSE", "0")), 0
    consumer = AIOKafkaConsumer(
        ENV["TIDINGS_MODIFICATIONS_TOPIC"], bootstrap_servers=ENV["TIDINGS_KAFKA_BOOTSTRAP_SERVERS"], group_id=None
    )
    port, admin_port = int(ENV["TIDINGS_GATEWAY_PORT"]), int(ENV["TIDINGS_GATEWAY_ADMIN_PORT"])
    async with (
        serve(connected, "127.0.0.1", port, process_request=check_token, compression=None, ping_interval=1),
        await asyncio.start_server(admin, "127.0.0.1", admin_port),
    ):
        await consumer.start()
        for partition in consumer.assignment():
            await consumer.position(partition)
        ready.set()
        async for record in consumer:
            value = json.loads(record.value)
            frame = json.dumps({"type": value["type"], "data": value["data"]}, separators=(",", ":"))
            for user in value["receivers"]:
                delivered += 1
                if lose and delivered % lose == 0:
                    continue
                for connection in connections.get(user, ()):
                    await connection.send(frame)


asyncio.run(main())
