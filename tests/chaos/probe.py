"""A process of its own that measures how late records come to some clients of one node.

It produces the records, too: in the crowd's process a record would wait for the crowd's work before it is sent, and
that is no delay of the node's. What to do comes as JSON on the first line of standard input (`Order`). For each later
line there it prints what came since the line before, as JSON: milliseconds from production to arrival.
"""

import asyncio
import itertools
import json
import re
import sys
import threading
import time
from functools import partial
from typing import Final, cast

import msgspec
import uvloop
from confluent_kafka import Producer

from tests.chaos.wire import CLOSE, PING, PONG, TEXT, Frames, client_frame, request, take_head
from tidings.config import KafkaSettings
from tidings.kafka.connection import librdkafka_options

__all__ = ["Order", "main"]

_STAMP: Final = re.compile(rb'"t":(\d+)')


class _Listener(asyncio.Protocol):
    def __init__(self, token: str, delays_ms: list[float], welcomed: asyncio.Semaphore) -> None:
        self._token = token
        self._delays_ms = delays_ms
        self._welcomed = welcomed
        self._head: bytearray | None = bytearray()
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(request("/ws", self._token, upgrade=True))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._head is not None:
            self._head += data
            answer = take_head(self._head)
            if answer is None:
                return
            assert answer.status == 101, answer
            data, self._head = bytes(self._head), None
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                stamp = _STAMP.search(payload)
                if stamp is not None:
                    self._delays_ms.append((now - int(stamp[1])) / 1e6)
                elif b"$welcome" in payload:
                    self._welcomed.release()
            elif opcode == PING:
                self._transport.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                sys.exit("the node closed a connection that only listens")


class Order(msgspec.Struct):
    """What to measure.

    Attributes:
        tokens: Of the clients, by user id.
        rate: Records per second; each is for two of the users.
    """

    host: str
    port: int
    tokens: dict[str, str]
    bootstrap_servers: str
    topic: str
    rate: float


def produce(order: Order) -> None:
    """At an even pace, each record at once; for a thread."""
    producer = Producer(
        {**librdkafka_options(KafkaSettings(bootstrap_servers=order.bootstrap_servers)), "linger.ms": 0, "acks": "all"}
    )
    users = list(order.tokens)
    due = time.monotonic()
    for number in itertools.count():
        receivers = [users[number % len(users)], users[(number + 1) % len(users)]]
        # No number in it: these records are none of the recorder's.
        data = {"t": time.monotonic_ns()}
        producer.produce(
            order.topic, json.dumps({"receivers": receivers, "type": "u", "data": data}, separators=(",", ":"))
        )
        producer.poll(0)
        due += 1 / order.rate
        time.sleep(max(0.0, due - time.monotonic()))


async def measure(order: Order) -> None:
    loop = asyncio.get_running_loop()
    delays_ms: list[float] = []
    welcomed = asyncio.Semaphore(0)
    for token in order.tokens.values():
        make = partial(_Listener, token, delays_ms, welcomed)
        await loop.create_connection(make, order.host, order.port)
    for _ in order.tokens:
        await welcomed.acquire()
    threading.Thread(target=produce, args=(order,), daemon=True).start()
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        taken, delays_ms[:] = delays_ms[:], []
        print(json.dumps(taken), flush=True)


def main() -> None:
    uvloop.run(measure(msgspec.json.decode(sys.stdin.readline(), type=Order)))


if __name__ == "__main__":
    main()
