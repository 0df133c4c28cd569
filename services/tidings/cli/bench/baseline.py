"""The gateway that a Python user would write: what `tidings bench` compares with.

asyncio's own loop, one record at a time from aiokafka, `json` in and out, websockets' `broadcast()`, no compression,
no pings, no tokens, no limits. `python -m tidings.cli.bench.baseline BOOTSTRAP TOPIC PORT`; a client says who it is by
`?u=USER`. Prints `ready` once it reads the topic and accepts connections.
"""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

from aiokafka import AIOKafkaConsumer
from websockets.asyncio.server import ServerConnection, broadcast, serve

__all__ = ["main"]

connections: dict[str, set[ServerConnection]] = {}


async def connected(socket: ServerConnection) -> None:
    """One task per connection that only waits for its end."""
    assert socket.request is not None
    user = parse_qs(urlsplit(socket.request.path).query)["u"][0]
    mine = connections.setdefault(user, set())
    mine.add(socket)
    try:
        await socket.wait_closed()
    finally:
        mine.discard(socket)


async def consume(consumer: AIOKafkaConsumer) -> None:
    async for record in consumer:
        value = json.loads(record.value)
        frame = json.dumps({"type": value["type"], "data": value["data"]})
        broadcast([socket for user in value["receivers"] for socket in connections.get(user, ())], frame)


async def main(bootstrap: str, topic: str, port: int) -> None:
    # No group: every partition, from the end, nothing committed.
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest", enable_auto_commit=False
    )
    async with serve(connected, "127.0.0.1", port, ping_interval=None, compression=None):
        await consumer.start()
        for partition in consumer.assignment():
            await consumer.position(partition)
        print("ready", flush=True)
        await consume(consumer)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
