"""The relay on real Postgres and real Kafka: what is committed reaches the topic, in each chat's order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import asyncpg
import pytest

from tests.integration.messaging.relaying import change, empty, in_kafka, make_chats, members, numbers, prove, until
from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka.ladder import Broker
from tidings.messaging.domain.modification import SHARDS, shard_of
from tidings.messaging.relay.notify import CHANNEL, Notifier
from tidings.messaging.relay.relay import Relay
from tidings.messaging.store.database import Database, Pool
from tidings.metrics import Metrics

pytestmark = pytest.mark.kafka

Start = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def start(postgres_dsn: str, kafka: Broker, topics: TopicSettings) -> AsyncIterator[Start]:
    """Starts relays, as if each were in a process of its own."""
    relays: list[Relay] = []

    async def begin(settings: KafkaSettings | None = None, metrics: Metrics | None = None) -> Relay:
        relay = Relay(postgres_dsn, settings or kafka.settings, topics.modifications, metrics or Metrics())
        relays.append(relay)
        await relay.start()
        return relay

    yield begin
    for relay in relays:
        await relay.stop(5)


def waking(pool: Pool, *relays: Relay) -> Database:
    """Units of work that wake these relays, as those of one process wake its own."""

    def wake(shards: set[int]) -> None:
        for relay in relays:
            relay.wake(shards)

    return Database(pool, wake, acquire_timeout_s=10)


async def test_each_chats_records_are_in_the_order_of_its_commits(
    pool: Pool, start: Start, kafka: Broker, topics: TopicSettings
) -> None:
    metrics = Metrics()
    database = waking(pool, await start(metrics=metrics))
    chats = await make_chats(pool, 20)
    # Many writers into each chat at once: only the chat's lock puts them in order.
    await asyncio.gather(*(change(database, chat, times=1 + turn % 3) for turn in range(15) for chat in chats))
    await until(empty(pool))
    assert await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats) == 0
    assert metrics.value("tidings_relay_records_total") == 20 * 30
    await until(lambda: metrics.value("tidings_outbox_pending") == 0)


async def test_a_record_has_the_chat_as_key_the_rows_id_as_header_and_its_bytes_as_value(
    pool: Pool, start: Start, kafka: Broker, topics: TopicSettings, database: Database
) -> None:
    (chat,) = await make_chats(pool, 1)
    await change(database, chat)
    (row,) = await pool.fetch("SELECT key, event_id, value FROM outbox")
    await start()
    await until(empty(pool))
    (record,) = in_kafka(kafka.settings, topics.modifications, topics.partitions)[str(chat)]
    assert (record.key, record.headers, record.value) == (
        str(chat).encode(),
        [("id", row["event_id"].encode())],
        row["value"],
    )


async def test_what_another_process_commits_is_relayed_at_once_and_not_at_the_next_poll(
    pool: Pool, start: Start
) -> None:
    first = await start()
    await until(lambda: len(first.shards) == SHARDS)
    second = await start()
    await until(lambda: len(first.shards) == len(second.shards) == SHARDS // 2)
    chats = await make_chats(pool, 30)
    foreign = next(chat for chat in chats if shard_of(str(chat)) in first.shards)
    database = waking(pool, second)
    await change(database, foreign)
    await until(empty(pool))
    delays = []
    for _ in range(10):
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await change(database, foreign)
        await until(empty(pool))
        delays.append(time.perf_counter() - began)
    assert sorted(delays)[5] < 0.3, delays  # the poll alone would take half a second on average


async def test_a_lost_wake_up_costs_a_poll_and_nothing_more(
    pool: Pool, start: Start, database: Database, kafka: Broker, topics: TopicSettings
) -> None:
    relay = await start()
    await until(lambda: len(relay.shards) == SHARDS)
    chats = await make_chats(pool, 12)
    for _ in range(2):  # the first time Kafka may still be making its own topics
        for chat in chats:
            await change(database, chat)  # wakes nobody
        began = time.monotonic()
        await until(empty(pool))
    assert time.monotonic() - began < 3
    assert await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats) == 0


async def test_processes_share_the_shards_and_each_shard_is_at_one_of_them(pool: Pool, start: Start) -> None:
    relays = [await start()]
    await until(lambda: len(relays[0].shards) == SHARDS)
    for count in (2, 3, 4, 5):
        relays.append(await start())
        most = -(-SHARDS // count)

        def fair(most: int = most) -> bool:
            sizes = [len(relay.shards) for relay in relays]
            return sum(sizes) == SHARDS and max(sizes) == most

        await until(fair)
        assert frozenset().union(*(relay.shards for relay in relays)) == frozenset(range(SHARDS))
    for relay in relays[1:]:
        await relay.stop(5)
    await until(lambda: len(relays[0].shards) == SHARDS)


async def test_a_stop_hands_over_at_once_and_writes_nothing_twice(
    pool: Pool, postgres_dsn: str, start: Start, kafka: Broker, topics: TopicSettings
) -> None:
    watching = await asyncpg.connect(postgres_dsn)  # the pool is the writers'
    first, second = await start(), await start()
    await until(lambda: len(first.shards) == len(second.shards) == SHARDS // 2)
    database = waking(pool, first, second)
    chats = await make_chats(pool, 12)
    writing = asyncio.gather(*(change(database, chat) for _ in range(50) for chat in chats))
    await asyncio.sleep(0.1)
    await first.stop(5)

    async def gone() -> bool:
        return await members(watching) == 1

    await until(gone, 1)  # and not when Postgres misses it
    await watching.close()
    await until(lambda: len(second.shards) == SHARDS)
    await writing
    await until(empty(pool))
    assert await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats) == 0


async def test_who_lost_its_lock_session_stops_and_takes_part_again(
    pool: Pool, start: Start, kafka: Broker, topics: TopicSettings
) -> None:
    metrics = Metrics()
    relay = await start(metrics=metrics)
    database = waking(pool, relay)
    chats = await make_chats(pool, 10)
    await until(lambda: len(relay.shards) == SHARDS)

    def lost_more_than(times: int) -> bool:
        return metrics.value("tidings_relay_failures_total", reason="lock") > times

    for turn in range(3):
        writing = asyncio.gather(*(change(database, chat) for _ in range(20) for chat in chats))
        await asyncio.sleep(0.05)
        ended = await pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'tidings-relay-locks' AND datname = current_database()"
        )
        assert ended == 1
        await until(partial(lost_more_than, turn))
        await writing
        await until(empty(pool))
    await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)


async def test_a_value_of_the_contracts_greatest_size_is_relayed_and_many_go_in_several_transactions(
    pool: Pool, start: Start, database: Database, kafka: Broker, topics: TopicSettings
) -> None:
    (chat,) = await make_chats(pool, 1)
    for _ in range(6):
        await change(database, chat, filling="x" * (1_048_576 - 200))
    await start()
    await until(empty(pool))
    records = in_kafka(kafka.settings, topics.modifications, topics.partitions)[str(chat)]
    assert numbers(records) == [1, 2, 3, 4, 5, 6]
    assert all(len(record.value or b"") > 1_048_000 for record in records)


async def test_wake_ups_for_other_processes_are_gathered(pool: Pool, postgres_dsn: str) -> None:
    heard: list[str] = []
    connected = asyncio.Event()
    notifier = Notifier(postgres_dsn, on_news=lambda shards: None, on_change=connected.set)
    task = asyncio.create_task(notifier.run())
    await connected.wait()
    async with pool.acquire() as connection:
        await connection.add_listener(CHANNEL, lambda *told: heard.append(str(told[3])))
        for turn in range(1_000):
            notifier.send({turn % SHARDS})
            if turn % 10 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: heard)
        await asyncio.sleep(0.1)
        await connection.reset()
    task.cancel()
    assert set(",".join(heard).split(",")) == {str(shard) for shard in range(SHARDS)}
    assert len(heard) < 200, "one in 5 ms, and not one for each commit"
