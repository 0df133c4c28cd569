"""The messaging service put together: settings in, requests answered, modifications relayed, signals obeyed.

The only place that knows everything.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
import uvloop

from tidings.admin_port import serve_admin
from tidings.clock import SystemClock
from tidings.config import (
    JwtSettings,
    KafkaSettings,
    LogSettings,
    MessagingSettings,
    PostgresSettings,
    TopicSettings,
    load,
)
from tidings.config import warnings as setting_warnings
from tidings.errors import ConfigError, DatabaseUnavailable
from tidings.kafka.topics import TopicIds
from tidings.log import setup as setup_log
from tidings.messaging.expiry import Expiry
from tidings.messaging.health import Health
from tidings.messaging.http.app import HttpOptions, build
from tidings.messaging.http.connection import ConnectionLimits
from tidings.messaging.http.guard import Guard
from tidings.messaging.http.limits import Rates
from tidings.messaging.http.routes import Commands, all_routes
from tidings.messaging.http.server import HttpServer
from tidings.messaging.migrating import current
from tidings.messaging.relay.carrier import Batching
from tidings.messaging.relay.relay import Relay
from tidings.messaging.signals import SignalProducer
from tidings.messaging.store.database import Database, Pool
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.store.pool import close_pool, open_pool
from tidings.messaging.wire import Wire
from tidings.metrics import Metrics
from tidings.open_files import most_open_files
from tidings.ports import listen_on
from tidings.token_keys import TokenKeys
from tidings.tokens import verify

__all__ = ["Messaging", "run"]

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.5
_RETRY_MAX_S: Final = 5.0
_KAFKA_ANSWER_S: Final = 3.0
_CLEAN_EVERY_S: Final = 60.0
_CLEAN_BATCH: Final = 1_000
_FILES_KEPT_FREE: Final = 256
"""Of the limit of open files, beside the pool: relay, brokers, admin port, log, and sockets that are only refused."""
_LIMIT_STATUSES: Final = {
    408: "request_timeout",
    413: "body_too_large",
    429: "too_many_requests",
    503: "unavailable",
}


class Messaging:
    """One process of the service. `start`, then `serve` until something asks it to stop, then `stop`.

    Attributes:
        port, admin_port: As set; with 0 the free one that was taken.
    """

    def __init__(
        self,
        settings: MessagingSettings,
        postgres: PostgresSettings,
        kafka: KafkaSettings,
        topics: TopicSettings,
        jwt: JwtSettings,
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._kafka = kafka
        self._topics = topics
        self._jwt = jwt
        self.metrics = Metrics()
        self._keys = TokenKeys(jwt, self.metrics)
        self._health = Health(self._ask_version, self._ask_kafka)
        self._topic_ids = TopicIds(kafka)
        self._pool: Pool | None = None
        self._server: HttpServer | None = None
        self._background: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()
        self.port = settings.port
        self.admin_port = settings.admin_port
        self._publish_gauges()

    def not_ready(self) -> str | None:
        """Why not, in words; None once requests can be served, until it stops."""
        if self._stopping.is_set():
            return "draining"
        if not self._keys.known:
            return "no token keys yet"
        if fault := self._health.fault():
            return f"waiting for {fault}"
        return None if self._server is not None else "starting"

    async def start(self) -> None:
        """Listen on the admin port and, once Postgres and keys are there, for clients. Doesn't wait for Kafka.

        Raises:
            OSError: A port is taken.
        """
        settings = self._settings
        admin, self.admin_port = await serve_admin(
            settings.admin_host, settings.admin_port, self.metrics, self.not_ready
        )
        self._stack.push_async_callback(admin.cleanup)
        # Bound at once, so that a taken port shows now and not when Postgres is back.
        listening = listen_on(settings.host, settings.port)
        self._stack.callback(listening.close)
        self.port = int(listening.getsockname()[1])
        log.info("starting", port=self.port, admin_port=self.admin_port, wire=settings.wire, pid=os.getpid())
        self._in_background(self._health.run(), "health")
        await self._keys.start()
        self._stack.push_async_callback(self._keys.close)
        pool = self._pool = await self._open_pool()
        self._stack.push_async_callback(close_pool, pool)
        while self._health.postgres_fault is not None:
            await asyncio.sleep(_RETRY_S)
            await self._health.look_at_postgres()
        await self._open(pool, listening)
        gc.collect()
        gc.freeze()
        log.info("ready", port=self.port)

    async def serve(self) -> None:
        """Answer and relay until `ask_to_stop`; raises what broke if something does."""
        assert self._server is not None
        stopping = asyncio.create_task(self._stopping.wait())
        server = asyncio.create_task(self._server.wait_ended())
        try:
            done, _ = await asyncio.wait([stopping, server, *self._background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopping.cancel()
            server.cancel()

    def ask_to_stop(self) -> None:
        """Finish what is under way, then end. The second call does not wait for anything."""
        if self._stopping.is_set():
            log.warning("stopping_at_once")
            os._exit(0)
        self._stopping.set()
        log.info("draining", drain_s=self._settings.drain_s)

    async def stop(self) -> None:
        """Finish the requests under way, hand the relay's shards over, close what is open."""
        self._stopping.set()
        await self._stack.aclose()

    async def _open_pool(self) -> Pool:
        delay_s = _RETRY_S
        while True:
            try:
                return await open_pool(self._postgres)
            except DatabaseUnavailable as error:
                log.warning("postgres_away", reason=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)

    async def _open(self, pool: Pool, listening: socket.socket) -> None:
        """Everything that needs Postgres, from the relay to the first request."""
        settings = self._settings
        relay = Relay(
            self._postgres.dsn.get_secret_value(),
            self._kafka,
            self._topics.modifications,
            self.metrics,
            Batching(
                rows=settings.relay_batch_records,
                rows_bytes=settings.relay_batch_bytes,
                poll_s=settings.relay_poll_s,
            ),
        )
        await relay.start()
        self._stack.push_async_callback(relay.stop, settings.drain_s)
        signals = SignalProducer(self._kafka, self._topics.signals, self.metrics)
        self._stack.push_async_callback(asyncio.to_thread, signals.close)
        database = Database(pool, relay.wake, acquire_timeout_s=self._postgres.acquire_timeout_s)
        commands = Commands.on(database, Wire(settings.wire), signals, self.metrics)
        answers = Answers(database)
        self._in_background(self._clean(answers), "cleaning")
        expiry = Expiry(database, Wire(settings.wire), interval_s=settings.expiry_interval_s)
        self._in_background(expiry.run(), "expiry")
        api = build(
            all_routes(commands),
            guard=self._guard(commands),
            keeper=answers,
            options=HttpOptions(
                origins=settings.origins,
                forbidden_as_403=settings.forbidden_as_403,
                max_body_bytes=settings.max_body_bytes,
                body_timeout_s=settings.body_timeout_s,
                access_log=settings.access_log,
            ),
            observe=self._observe(),
        )
        self._server = HttpServer(api, listening, settings.drain_s, self._connection_limits(), self._refused)
        await self._server.start()
        self._stack.push_async_callback(self._server.stop)

    def _guard(self, commands: Commands) -> Guard:
        rules = self._jwt.rules()
        settings = self._settings
        return Guard(
            lambda token, now: verify(token, self._keys.current, rules, now),
            self._keys.refresh_for_unknown,
            Rates(settings.max_requests_per_s, settings.max_requests_burst),
            SystemClock(),
            commands.users.seen,
        )

    def _observe(self) -> Callable[[int, float], None]:
        took = self.metrics.histogram("tidings_messaging_request_seconds")

        def observe(status: int, took_s: float) -> None:
            took.observe(took_s)
            self.metrics.counter("tidings_messaging_requests_total", status=str(status)).inc()
            if reason := _LIMIT_STATUSES.get(status):
                self._refused(reason)

        return observe

    def _refused(self, reason: str) -> None:
        self.metrics.counter("tidings_messaging_refused_total", reason=reason).inc()

    def _connection_limits(self) -> ConnectionLimits:
        settings = self._settings
        files = most_open_files()
        allowed = max(1, files - _FILES_KEPT_FREE - self._postgres.pool_max)
        if settings.max_connections > allowed:
            log.warning("file_limit_below_connections", max_connections=settings.max_connections, open_files=files)
        return ConnectionLimits(
            header_timeout_s=settings.header_timeout_s,
            header_bytes=settings.max_header_bytes,
            body_timeout_s=settings.body_timeout_s,
            connections=min(settings.max_connections, allowed),
        )

    async def _clean(self, answers: Answers) -> None:
        """Forget kept answers that are too old, a batch at a time so that nobody waits for it."""
        wait_s = _CLEAN_EVERY_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                wait_s = _RETRY_S if await answers.clean(_CLEAN_BATCH) == _CLEAN_BATCH else _CLEAN_EVERY_S
            except DatabaseUnavailable as error:
                log.warning("cleaning_failed", reason=str(error))

    async def _ask_version(self) -> str | None:
        if self._pool is None:
            raise DatabaseUnavailable("no connection yet")
        async with Database(self._pool, lambda _: None, acquire_timeout_s=_KAFKA_ANSWER_S).connection() as connection:
            return await current(connection)

    async def _ask_kafka(self) -> object:
        return await asyncio.to_thread(self._topic_ids.ask, [self._topics.modifications], timeout_s=_KAFKA_ANSWER_S)

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.append(task)
        self._stack.push_async_callback(_cancelled, task)

    def _publish_gauges(self) -> None:
        def connections() -> Mapping[str, float]:
            if self._pool is None:
                return {}
            idle = self._pool.get_idle_size()
            return {"idle": idle, "used": self._pool.get_size() - idle}

        metrics = self.metrics
        metrics.on_scrape("tidings_messaging_ready", lambda: self.not_ready() is None)
        metrics.on_scrape("tidings_messaging_postgres_up", lambda: self._health.postgres_up)
        metrics.on_scrape("tidings_messaging_kafka_up", lambda: self._health.kafka_up)
        metrics.on_scrape("tidings_messaging_pool_connections", connections)
        metrics.on_scrape("tidings_messaging_connections", lambda: self._server.connections if self._server else 0)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run(
    settings: MessagingSettings,
    postgres: PostgresSettings,
    kafka: KafkaSettings,
    topics: TopicSettings,
    jwt: JwtSettings,
) -> int:
    service = Messaging(settings, postgres, kafka, topics, jwt)
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(service.start())

    def stop() -> None:
        service.ask_to_stop()
        starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await starting
        await service.serve()
    except asyncio.CancelledError:
        log.info("stopped_while_starting")
    except OSError as error:
        if starting.done() and starting.exception() is error:
            log.error("cannot_listen", reason=str(error))
            return 1
        raise
    finally:
        await service.stop()
    log.info("stopped")
    return 0


def run(environ: Mapping[str, str] | None = None) -> int:
    """The process `tidings messaging`: returns its exit code. Every wrong setting is told before anything listens."""
    try:
        settings, postgres, kafka, topics, jwt, logs = load(
            MessagingSettings, PostgresSettings, KafkaSettings, TopicSettings, JwtSettings, LogSettings, environ=environ
        )
    except ConfigError as error:
        flush_log = setup_log(LogSettings())
        for fault in error.faults:
            log.error("setting_refused", fault=fault)
        flush_log()
        return 2
    flush_log = setup_log(logs)
    for warning in setting_warnings():
        log.warning("setting_unknown", warning=warning)
    # Few of our objects form cycles; looking for them every 700 objects would cost more than it gives.
    gc.set_threshold(50_000, 20, 50)
    try:
        return uvloop.run(_run(settings, postgres, kafka, topics, jwt))
    finally:
        flush_log()
