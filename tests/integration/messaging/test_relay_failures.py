"""Whatever happens to a relay, to Kafka or to Postgres: nothing is lost or overtakes, and repeats have the same id."""

import asyncio
import contextlib
import gc
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.integration.messaging.relaying import change, empty, make_chats, members, prove, until
from tests.integration.processes import ROOT, environment, topic_environment
from tidings.children import spawn
from tidings.config import KafkaSettings, TopicSettings
from tidings.errors import RecordTooBig
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.ladder import Broker
from tidings.messaging.domain.modification import shard_of
from tidings.messaging.migrating import migrate
from tidings.messaging.relay.locks import SILENCE_S, LockSession
from tidings.messaging.relay.notify import Notifier
from tidings.messaging.relay.producing import ProduceFailed, TransactionalProducer, shut_out
from tidings.messaging.relay.relay import Relay
from tidings.messaging.store.database import Database, Pool
from tidings.metrics import Metrics
from tidings.postgres.local import LocalPostgres

pytestmark = pytest.mark.kafka

TAKEN_OVER_S = 5.0

Process = "subprocess.Popen[bytes]"
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(postgres_dsn: str, kafka: Broker, topics: TopicSettings, tmp_path: Path) -> Iterator[Start]:
    """Starts relay processes: `start("kill", "after", "send")` one that dies there."""
    started: list[subprocess.Popen[bytes]] = []
    environ = environment(**kafka.environment(), **topic_environment(topics), TIDINGS_POSTGRES_DSN=postgres_dsn)
    environ["PYTHONPATH"] += f":{ROOT}"

    def begin(*fate: str) -> "subprocess.Popen[bytes]":
        with open(tmp_path / f"relay-{len(started)}.log", "wb") as out:
            process = spawn(
                [sys.executable, "-m", "tests.integration.messaging.relay_process", *fate],
                out=out,
                environ=environ,
                cwd=ROOT,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


@pytest.fixture
async def database(pool: Pool, postgres_dsn: str) -> AsyncIterator[Database]:
    """Units of work of a process without shards: it wakes the others by NOTIFY."""
    notifier = Notifier(postgres_dsn, on_news=lambda shards: None, on_change=lambda: None)
    task = asyncio.create_task(notifier.run())
    yield Database(pool, notifier.send, acquire_timeout_s=10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def ended(process: "subprocess.Popen[bytes]", timeout_s: float = 30) -> None:
    await until(lambda: process.poll() is not None, timeout_s)


async def frozen(process: "subprocess.Popen[bytes]", timeout_s: float = 30) -> None:
    """Wait until it has stopped itself."""
    status = Path(f"/proc/{process.pid}/stat")
    await until(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", timeout_s)


class Writing:
    """Changes to many chats at some pace, until the end of `async with`; how old the oldest row ever became."""

    def __init__(self, database: Database, chats: Sequence[UUID], *, pause_s: float = 0.01) -> None:
        self._database = database
        self._chats = chats
        self._pause_s = pause_s
        self._changes: list[asyncio.Future[None]] = []
        """The one under way; the end waits for it."""
        self._from = datetime.fromtimestamp(0, UTC)
        self.oldest_s = 0.0

    async def watch_from_now(self) -> None:
        """Look only at rows that are written from now on."""
        self._from = await self._database.pool.fetchval("SELECT clock_timestamp()")
        self.oldest_s = 0.0

    async def __aenter__(self) -> "Writing":
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, *self._changes, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _write(self) -> None:
        while True:
            # Shielded: a change that is cancelled in its commit would be one too few or too many for the proof.
            one = asyncio.ensure_future(
                change(self._database, random.choice(self._chats), times=random.choice((1, 1, 3)))
            )
            self._changes = [one]
            await asyncio.shield(one)
            await asyncio.sleep(self._pause_s)

    async def _watch(self) -> None:
        while True:
            age = await self._database.pool.fetchval(
                "SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM outbox"
                " WHERE created_at >= $1",
                self._from,
            )
            self.oldest_s = max(self.oldest_s, age or 0.0)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("when", "step", "repeated"),
    [
        ("after", "open", False),
        ("before", "send", False),
        ("after", "send", False),
        ("before", "commit", False),
        ("after", "commit", True),
        ("before", "forget", True),
        ("after", "forget", False),
    ],
)
async def test_killed_between_any_two_steps_nothing_is_lost_and_only_the_unforgotten_is_repeated(
    when: str,
    step: str,
    repeated: bool,
    pool: Pool,
    database: Database,
    start: Start,
    kafka: Broker,
    topics: TopicSettings,
) -> None:
    # All of one shard: another one of the same process could be at any step when it dies.
    chats = [chat for chat in await make_chats(pool, 64) if shard_of(str(chat)) == 0][:8]
    for chat in chats:
        await change(database, chat, times=5)
    await ended(start("kill", when, step))
    start()
    await until(empty(pool), 20)
    repeats = await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)
    assert (repeats > 0) == repeated


async def test_killed_at_random_again_and_again_also_while_taking_over_nothing_is_lost(
    pool: Pool, database: Database, start: Start, kafka: Broker, topics: TopicSettings
) -> None:
    """Often both are dead before a third is there, so that rows wait; for how long is the next test's matter."""
    chats = await make_chats(pool, 30)
    running = [start(), start()]
    await until(lambda: relaying(pool, 2))
    async with Writing(database, chats, pause_s=0.002):
        for _ in range(8):
            await asyncio.sleep(random.uniform(0.05, 1.5))
            victim = running.pop(random.randrange(len(running)))
            victim.kill()
            running.append(start())
            await until(lambda: relaying(pool, 2))
    await until(empty(pool), 20)
    await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)


async def test_a_killed_process_is_taken_over_by_another_within_5_s(
    pool: Pool, database: Database, start: Start, kafka: Broker, topics: TopicSettings
) -> None:
    chats = await make_chats(pool, 30)
    running = [start(), start()]
    async with Writing(database, chats, pause_s=0.002) as writing:
        at_work = await two_others_than(set(), pool)
        for which in (0, 1, 0, 0):
            await writing.watch_from_now()
            victim = running.pop(which)
            victim.kill()
            running.append(start())
            at_work = await two_others_than(at_work, pool)
            assert 0 < writing.oldest_s < TAKEN_OVER_S
    await until(empty(pool), 20)
    await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)


async def relaying(pool: Pool, count: int) -> bool:
    return await members(pool) == count


async def two_others_than(before: set[str], pool: Pool) -> set[str]:
    """Wait until two producers have a share each, not both of them as before."""
    found: set[str] = set()

    async def changed() -> bool:
        nonlocal found
        rows = await pool.fetch("SELECT DISTINCT producer FROM relay_shards WHERE producer IS NOT NULL")
        found = {row["producer"] for row in rows}
        return len(found) == 2 and found != before

    await until(changed)
    return found


@pytest.mark.parametrize(
    ("when", "step", "freeze_s"),
    [
        ("after", "open", 6.0),
        ("after", "send", 6.0),
        ("before", "commit", 6.0),
        ("after", "commit", 6.0),
        pytest.param("before", "commit", 30.0, marks=pytest.mark.slow),
        pytest.param("after", "commit", 30.0, marks=pytest.mark.slow),
    ],
)
async def test_a_frozen_process_is_taken_over_within_5_s_and_thawed_it_writes_nothing(
    when: str,
    step: str,
    freeze_s: float,
    pool: Pool,
    database: Database,
    start: Start,
    kafka: Broker,
    topics: TopicSettings,
) -> None:
    """Before the commit it has just verified that it holds the shard: only Kafka can refuse it then."""
    chats = await make_chats(pool, 20)
    start()
    await until(lambda: relaying(pool, 1))
    async with Writing(database, chats) as writing:
        victim = start("stop", when, step)
        await frozen(victim)
        await writing.watch_from_now()
        await asyncio.sleep(freeze_s)
        assert 1 < writing.oldest_s < TAKEN_OVER_S
    assert await members(pool) == 1
    await until(empty(pool))
    before = await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)
    victim.send_signal(signal.SIGCONT)
    await until(lambda: relaying(pool, 2))
    async with Writing(database, chats):
        await asyncio.sleep(2)
    await until(empty(pool))
    assert await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats) == before


async def test_no_producer_outlives_its_failure(free_port: Callable[[], int]) -> None:
    """librdkafka's threads say which ones are alive."""
    nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    gc.disable()  # what only the collector of cycles would free counts as alive
    try:
        before = threads()
        for _ in range(10):
            sink = TransactionalProducer(nowhere, "nothing", "nobody", transaction_s=0.3)
            with pytest.raises(ProduceFailed):
                await sink.open()
            sink.close()
        await until(lambda: threads() < before + 4, 5)
    finally:
        gc.enable()


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


async def test_a_process_that_vanishes_from_the_network_loses_its_shards_too(pool: Pool, postgres_dsn: str) -> None:
    """Its session ends by silence alone, whatever TCP believes."""
    lost: list[bool] = []
    session = await LockSession.open(postgres_dsn, "nobody", lambda: lost.append(True))
    assert await session.take(0)
    began = time.monotonic()
    await until(lambda: lost, 10)
    assert SILENCE_S - 0.1 < time.monotonic() - began < TAKEN_OVER_S - 1
    assert await members(pool) == 0


async def test_while_kafka_is_down_rows_are_kept_and_told_and_then_drain_in_order(
    pool: Pool, postgres_dsn: str, kafka_factory: Callable[..., ApacheKafka], topic_settings: TopicSettings
) -> None:
    await outage(pool, postgres_dsn, kafka_factory(), topic_settings, 14)


@pytest.mark.slow
async def test_while_kafka_is_down_for_minutes_rows_are_kept_and_told_and_then_drain_in_order(
    pool: Pool, postgres_dsn: str, kafka_factory: Callable[..., ApacheKafka], topic_settings: TopicSettings
) -> None:
    await outage(pool, postgres_dsn, kafka_factory(), topic_settings, 150)


async def outage(pool: Pool, dsn: str, cluster: ApacheKafka, names: TopicSettings, outage_s: float) -> None:
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    await asyncio.to_thread(kafka_topics.create, settings, names)
    metrics = Metrics()
    relay = Relay(dsn, settings, names.modifications, metrics)
    database = Database(pool, relay.wake, acquire_timeout_s=10)
    await relay.start()
    try:
        chats = await make_chats(pool, 10)
        await change(database, chats[0])
        await until(empty(pool))
        async with Writing(database, chats):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cluster.brokers[0].kill)
            began = time.monotonic()
            await asyncio.sleep(outage_s)
            slowest = 0.0
            for _ in range(20):
                asked = time.monotonic()
                await change(database, random.choice(chats))
                slowest = max(slowest, time.monotonic() - asked)
            assert slowest < 1.0, "who commits does not wait for Kafka"
            assert metrics.value("tidings_outbox_pending") > 100
            assert metrics.value("tidings_outbox_oldest_seconds") > time.monotonic() - began - 3
            assert metrics.value("tidings_relay_failures_total", reason="kafka") > 0
            await asyncio.to_thread(cluster.brokers[0].start)
        await until(empty(pool), 30)
        await until(lambda: metrics.value("tidings_outbox_oldest_seconds") == 0)
        fenced = metrics.value("tidings_relay_failures_total", reason="fenced")
        assert fenced == 0, "a producer that was given up shut out its successor"
        await prove(pool, settings, names.modifications, names.partitions, chats)
    finally:
        await relay.stop(5)


async def test_while_postgres_is_gone_the_relay_waits_and_goes_on(
    postgres_factory: Callable[..., LocalPostgres], kafka: Broker, topics: TopicSettings
) -> None:
    server = postgres_factory(fast=False)  # what it acknowledged it knows again
    dsn = server.dsn
    await asyncio.to_thread(migrate, dsn)
    relay = Relay(dsn, kafka.settings, topics.modifications, Metrics())
    await relay.start()
    try:
        chats: list[UUID] = []
        for _ in range(2):
            pool = await asyncpg.create_pool(dsn, min_size=1, max_size=5)
            chats += await make_chats(pool, 3)
            database = Database(pool, relay.wake, acquire_timeout_s=10)
            await asyncio.gather(*(change(database, chat) for chat in chats for _ in range(20)))
            server.kill()
            pool.terminate()
            await asyncio.sleep(1)
            await asyncio.to_thread(server.start)
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=5)
        await until(empty(pool), 20)
        await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)
        await pool.close()
    finally:
        await relay.stop(5)


async def test_what_a_crashed_postgres_forgot_of_the_relays_work_is_produced_again_with_the_same_ids_in_order(
    postgres_factory: Callable[..., LocalPostgres], kafka: Broker, topics: TopicSettings
) -> None:
    """No deletion waits for the disk, so a server that crashes has rows again that are in Kafka already."""
    server = postgres_factory(fast=False, settings={"wal_writer_delay": "10s"})  # forgets ten seconds, not one
    dsn = server.dsn
    await asyncio.to_thread(migrate, dsn)
    relay = Relay(dsn, kafka.settings, topics.modifications, Metrics())
    await relay.start()
    try:
        chats: list[UUID] = []
        for _ in range(2):  # the server may just have written, once
            async with asyncpg.create_pool(dsn, min_size=1, max_size=5) as pool:
                chats += await make_chats(pool, 1)
                for chat in chats:
                    await change(Database(pool, relay.wake, acquire_timeout_s=10), chat, times=20)
                await until(empty(pool), 20)
                server.kill()
                pool.terminate()
            await asyncio.to_thread(server.start)
        async with asyncpg.create_pool(dsn, min_size=1, max_size=5) as pool:
            await until(empty(pool), 20)
            await change(Database(pool, relay.wake, acquire_timeout_s=10), chats[0], times=20)
            await until(empty(pool), 20)
            assert await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats) > 0
    finally:
        await relay.stop(5)


async def test_a_record_the_broker_refuses_stays_first_is_told_and_stops_its_own_shard_only(
    pool: Pool, postgres_dsn: str, kafka: Broker, topic_settings: TopicSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shard stands still rather than leave a hole; mended, it goes on in order."""
    topic = topic_settings.modifications
    admin = AdminClient(librdkafka_options(kafka.settings))
    created = admin.create_topics([NewTopic(topic, 4, 1, config={"max.message.bytes": "20000"})])
    await asyncio.to_thread(created[topic].result)
    metrics = Metrics()
    relay = Relay(postgres_dsn, kafka.settings, topic, metrics)
    database = Database(pool, relay.wake, acquire_timeout_s=10)
    chats = await make_chats(pool, 16)
    stuck, others = chats[0], [chat for chat in chats if shard_of(str(chat)) != shard_of(str(chats[0]))]
    await relay.start()
    try:
        await change(database, stuck)
        await change(database, stuck, filling="x" * 50_000)
        await change(database, stuck)
        for _ in range(3):
            refused = metrics.value("tidings_relay_failures_total", reason="refused")
            await asyncio.gather(*(change(database, chat) for chat in others))

            async def only_the_stuck_waits() -> bool:
                waiting = await pool.fetch("SELECT DISTINCT key FROM outbox")
                return [row["key"] for row in waiting] == [str(stuck)]

            await until(only_the_stuck_waits)
            await until(partial(failed_more_often, metrics, "refused", refused))
        assert await pool.fetchval("SELECT count(*) FROM outbox") >= 2
        assert "relay_failed" in capsys.readouterr().out
        entry = ConfigEntry("max.message.bytes", "4194304", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        altered = admin.incremental_alter_configs([resource])
        await asyncio.to_thread(altered[resource].result)
        await until(empty(pool))
        await prove(pool, kafka.settings, topic, 4, chats)
    finally:
        await relay.stop(5)


def failed_more_often(metrics: Metrics, reason: str, times: float) -> bool:
    return metrics.value("tidings_relay_failures_total", reason=reason) > times


def relayed_more(metrics: Metrics, records: float) -> bool:
    return metrics.value("tidings_relay_records_total") > records


async def test_who_is_shut_out_while_it_lives_begins_anew_and_nothing_is_lost(
    pool: Pool, postgres_dsn: str, kafka: Broker, topics: TopicSettings
) -> None:
    """As when it gave a shard back without knowing what had become of its last transaction."""
    metrics = Metrics()
    relay = Relay(postgres_dsn, kafka.settings, topics.modifications, metrics)
    database = Database(pool, relay.wake, acquire_timeout_s=10)
    chats = await make_chats(pool, 10)
    await relay.start()
    try:
        await change(database, chats[0])
        await until(empty(pool))
        async with Writing(database, chats, pause_s=0.002) as writing:
            for times in range(3):
                name = await pool.fetchval("SELECT DISTINCT producer FROM relay_shards")
                await shut_out(kafka.settings, topics.modifications, name)
                await until(partial(failed_more_often, metrics, "fenced", times))
                relayed = metrics.value("tidings_relay_records_total")
                await until(partial(relayed_more, metrics, relayed))
        await until(empty(pool))
        assert writing.oldest_s < TAKEN_OVER_S
    finally:
        await relay.stop(5)
    assert await pool.fetchval("SELECT count(producer) FROM relay_shards") == 0, "nobody need be shut out"
    await prove(pool, kafka.settings, topics.modifications, topics.partitions, chats)


async def test_what_readers_would_refuse_never_reaches_the_outbox(pool: Pool, database: Database) -> None:
    (chat,) = await make_chats(pool, 1)
    with pytest.raises(RecordTooBig):
        await change(database, chat, filling="x" * 1_048_576)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0
    assert await pool.fetchval("SELECT last_update_id FROM chats WHERE id = $1", chat) == 0
