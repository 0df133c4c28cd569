"""What a fetch brought, from the source to the sockets."""

import asyncio
import time

from tests.gateway_fakes import LogEntry, Party, Transport, record
from tidings.gateway.consumer import Consumer
from tidings.gateway.stats import Stats
from tidings.kafka.fetch_session import Partition
from tidings.kafka.reader import Fetched

MODIFICATIONS = Partition("modifications", 0)


def consumer_of(party: Party) -> Consumer:
    consumer = Consumer(party.node, Stats(party.metrics), party.clock, MODIFICATIONS.topic)
    consumer.begin(MODIFICATIONS, 0, None)
    consumer.warming = False
    return consumer


def fetched(offset: int, *receivers: str) -> list[Fetched]:
    records = [LogEntry(offset + n, record([name])) for n, name in enumerate(receivers)]
    return [Fetched(MODIFICATIONS, records, offset + len(records), ())]


def frames(transport: Transport) -> int:
    return transport.sent.count(b'"data":1')


def test_a_frame_that_waits_for_a_second_one_leaves_soon_where_none_comes() -> None:
    async def scene() -> float:
        party = Party()
        alice = party.connect("alice")
        began = time.monotonic()
        await consumer_of(party).deliver(fetched(0, "alice"), more_in_s=0.01)
        assert frames(alice) == 0
        assert party.count("tidings_gateway_gathered_total") == 1
        for _ in range(1_000):
            await asyncio.sleep(0.001)
            if frames(alice):
                break
        return time.monotonic() - began

    assert 0.015 < asyncio.run(scene()) < 1


def test_a_node_at_ease_keeps_no_frame_for_later() -> None:
    async def scene() -> None:
        party = Party()
        alice, bob = party.connect("alice"), party.connect("bob")
        await consumer_of(party).deliver(fetched(0, "alice", "bob"), more_in_s=0.0)
        assert (frames(alice), frames(bob)) == (1, 1)
        assert party.count("tidings_gateway_gathered_total") == 0

    asyncio.run(scene())


def test_the_next_fetch_takes_along_what_waited() -> None:
    async def scene() -> None:
        party = Party()
        alice, bob = party.connect("alice"), party.connect("bob")
        consumer = consumer_of(party)
        await consumer.deliver(fetched(0, "alice"), more_in_s=60)
        await consumer.deliver(fetched(1, "alice", "bob"), more_in_s=60)
        assert (frames(alice), frames(bob)) == (2, 0)
        assert alice.writes == 2, "the head of the answer, and both frames"
        await consumer.deliver(fetched(3, "alice"), more_in_s=0.0)
        assert (frames(alice), frames(bob)) == (3, 1)

    asyncio.run(scene())
