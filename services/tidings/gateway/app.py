"""The gateway put together: settings in, sockets out, signals obeyed. The only place that knows everything."""

import asyncio
import gc
import os
import secrets
import signal
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
import uvloop

from tidings.admin_port import serve_admin
from tidings.clock import SystemClock
from tidings.config import GatewaySettings, JwtSettings, KafkaSettings, LogSettings, TopicSettings, load
from tidings.config import warnings as setting_warnings
from tidings.errors import ConfigError
from tidings.gateway.arrival import Arrival
from tidings.gateway.consumer import Consumer
from tidings.gateway.cursor_check import Log
from tidings.gateway.handshake import Gatekeeper, Policy
from tidings.gateway.log_edges import LogEdges
from tidings.gateway.log_watch import LogWatch
from tidings.gateway.node import SPARE_SOCKETS, Node, NodeLimits
from tidings.gateway.readback import ReadBack
from tidings.gateway.repeats import REPEAT_RECORDS, REPEAT_SECONDS
from tidings.gateway.resumes import ResumeLimits
from tidings.gateway.session import SessionLimits
from tidings.gateway.stats import Stats
from tidings.gateway.topic_check import check_topics
from tidings.gateway.workers import run_workers
from tidings.kafka.connection import aiokafka_options
from tidings.kafka.positions import History
from tidings.kafka.source import RecordSource
from tidings.kafka.topics import TopicIds
from tidings.log import setup as setup_log
from tidings.metrics import Metrics
from tidings.open_files import most_open_files
from tidings.ports import listen_on
from tidings.token_keys import TokenKeys
from tidings.tokens import verify

__all__ = ["Gateway", "run"]

log = structlog.get_logger(__name__)

_FILES_KEPT_FREE: Final = 192 + SPARE_SOCKETS
"""Of the limit of open files: brokers, the admin port, log, and sockets that are only told to go away."""
_BACKLOG: Final = 4096
_HOUSEKEEPING_S: Final = 5.0
_HISTORY: Final = History(age_s=2 * REPEAT_SECONDS, offsets=3 * REPEAT_RECORDS)
"""Half of it to know the ids that a record may repeat, the other half to resume from. Offsets have holes."""
_WARM_POLL_S: Final = 0.02
_TLS_SHUTDOWN_S: Final = 2.0
"""How long a closed connection waits for its peer's farewell; uvloop's own would be 30 seconds of an open file."""


class Gateway:
    """One node. `start`, then `serve` until something asks it to stop, then `stop`.

    Args:
        port, admin_port: As set; 0 for any free one, then `port` and `admin_port` tell which.
    """

    def __init__(
        self,
        gateway: GatewaySettings,
        kafka: KafkaSettings,
        topics: TopicSettings,
        jwt: JwtSettings,
    ) -> None:
        self._settings = gateway
        self._kafka = kafka
        self._topics = topics
        self._clock = SystemClock()
        self.metrics = Metrics()
        stats = Stats(self.metrics)
        self._keys = TokenKeys(jwt, self.metrics)
        rules = jwt.rules()
        policy = Policy(
            origins=frozenset(gateway.origins),
            trusted_proxies=tuple(gateway.trusted_proxies),
            watch_expiry=jwt.expiry == "connected",
            compress=gateway.compress_min_bytes > 0,
        )
        gatekeeper = Gatekeeper(policy, lambda token, now: verify(token, self._keys.current, rules, now))
        self.node = Node(
            name=gateway.node,
            boot=secrets.token_hex(4),
            limits=_limits(gateway),
            gatekeeper=gatekeeper,
            refresh_keys=self._keys.refresh_for_unknown,
            clock=self._clock,
            stats=stats,
            compress_min_bytes=gateway.compress_min_bytes,
        )
        self._consumer = Consumer(self.node, stats, self._clock, topics.modifications)
        self._source = RecordSource(
            aiokafka_options(kafka),
            [topics.modifications, topics.signals],
            self._consumer,
            linger_s=gateway.linger_ms / 1000,
            metadata_max_age_s=gateway.metadata_max_age_s,
            history={topics.modifications: _HISTORY},
            replaced=self._replaced,
        )
        self._watch = LogWatch(
            self._topic_id, topics.modifications, lambda: self._source.reconnects, self._on_log_changed
        )
        self._topic_ids = TopicIds(kafka)
        self._older = ReadBack(
            self._source.cluster,
            topics.modifications,
            self.node.router.positions.__getitem__,
            self.node.router.repeats_of,
            gateway.max_readbacks,
            stats.read_back,
        )
        edges = LogEdges(
            self._source.cluster, topics.modifications, lambda: list(self.node.router.positions), self._clock
        )
        self.node.resumes.older = self._older
        self.node.resumes.log = Log(
            stale=lambda: self._source.connected and self._watch.stale,
            check=self._watch.check,
            find_partitions=self._source.look_for_partitions,
            ends=edges.ends,
            starts=edges.starts,
        )
        self._reading: asyncio.Task[None] | None = None
        self._caught_up = False
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()
        self._server: asyncio.Server | None = None
        self.port = gateway.port
        self.admin_port = gateway.admin_port
        self._publish_gauges()

    def not_ready(self) -> str | None:
        """Why not, in words; None once the node is caught up, until it drains."""
        if self.node.draining or self._stopping.is_set():
            return "draining"
        if not self._keys.known:
            return "no token keys yet"
        if not self._caught_up:
            return f"waiting for Kafka: {self._source.waiting_for or 'reading the newest records'}"
        return None

    async def start(self) -> None:
        """Listen on the admin port and, once Kafka and keys are there, for clients.

        Raises:
            OSError: A port is taken.
        """
        settings = self._settings
        admin, self.admin_port = await serve_admin(
            settings.admin_host, settings.admin_port, self.metrics, self.not_ready
        )
        self._stack.push_async_callback(admin.cleanup)
        # The clients' port is bound at once, so that a taken one shows now and not when Kafka is back.
        listening = listen_on(settings.host, settings.port, reuse_port=settings.workers > 1)
        self._stack.callback(listening.close)
        self.port = int(listening.getsockname()[1])
        log.info("starting", node=settings.node, port=self.port, admin_port=self.admin_port, pid=os.getpid())
        await self._keys.start()
        self._stack.push_async_callback(self._keys.close)
        await self._source.start()
        self._stack.push_async_callback(self._source.close)
        check_topics(self._kafka, self._topics)
        await self._watch.start()
        self.node.router.log = self._watch.tag
        await self._warm_up()
        tls = _tls(settings)
        self._server = await asyncio.get_running_loop().create_server(
            partial(Arrival, self.node),
            sock=listening,
            backlog=_BACKLOG,
            ssl=tls,
            # The connection's own deadline starts only once TLS stands.
            ssl_handshake_timeout=settings.handshake_timeout_s if tls is not None else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S if tls is not None else None,
        )
        self._caught_up = True
        # What lives now lives until the end: never walk it again when garbage is collected.
        gc.collect()
        gc.freeze()
        log.info("ready", node=settings.node, port=self.port, max_connections=self.node.limits.connections)

    async def serve(self) -> None:
        """Read and route until `ask_to_stop`; raises what broke if something does."""
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(self._keep_reading(), name="source"),
                tasks.create_task(self._watch.run(), name="log-watch"),
                tasks.create_task(self.node.resumes.run(), name="resumes"),
                tasks.create_task(self.node.run(), name="timers"),
                tasks.create_task(self._keep_house(), name="housekeeping"),
            ]
            await self._stopping.wait()
            await self._drain()
            for task in work:
                task.cancel()

    def ask_to_stop(self) -> None:
        """Drain, then end. The second call does not wait for anybody."""
        if self._stopping.is_set():
            log.warning("stopping_at_once")
            os._exit(0)
        self._stopping.set()

    async def stop(self) -> None:
        """Close what is open."""
        await self.node.stop()
        await self._stack.aclose()

    async def _drain(self) -> None:
        self.node.draining = True
        connections = len(self.node.registry)
        log.info("draining", connections=connections, drain_s=self._settings.drain_s)
        if self._server is not None:
            self._server.close()
        await self.node.drain(self._settings.drain_s)
        log.info("drained", connections_left=len(self.node.registry))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            self._consumer.tell_suppressed()
            self.node.window.expire()
            await self.node.resumes.look_at_waiting()

    async def _warm_up(self) -> None:
        """Read the newest records before anybody connects: to resume from, and to know their ids."""
        self._reading = asyncio.create_task(self._source.run(), name="source")
        self._stack.push_async_callback(_cancelled, self._reading)
        # The router's positions, not the source's: those move before what was fetched is handed over.
        routed = self.node.router.positions
        while any(routed.get(one.partition, 0) < end for one, end in self._source.ends_at_start.items()):
            done, _ = await asyncio.wait([self._reading], timeout=_WARM_POLL_S)
            for task in done:
                task.result()
        self.node.router.settle()
        self._consumer.warming = False

    async def _keep_reading(self) -> None:
        if self._reading is not None:
            await self._reading

    async def _topic_id(self) -> str | None:
        name = self._topics.modifications
        return (await asyncio.to_thread(self._topic_ids.ask, [name]))[name]

    async def _replaced(self) -> bool | None:
        return await self._watch.check()

    async def _on_log_changed(self, tag: str, another: bool) -> None:
        if another:
            await self._source.start_anew(self._topics.modifications, partial(self._consumer.replaced, tag))
            log.warning("topic_made_anew", topic=self._topics.modifications, log=tag)
            self._older.forget()
        else:
            self.node.router.log = tag
            log.info("topic_identified", topic=self._topics.modifications, log=tag)
        self.node.resync_all("log_changed")

    def _publish_gauges(self) -> None:
        node, source, metrics = self.node, self._source, self.metrics
        modifications = self._topics.modifications

        def lag() -> Mapping[str, float]:
            return {str(number): behind for (topic, number), behind in source.lag().items() if topic == modifications}

        metrics.on_scrape("tidings_gateway_connections", node.registry.protocols)
        metrics.on_scrape("tidings_gateway_handshakes_pending", lambda: node.handshakes)
        metrics.on_scrape("tidings_gateway_unsent_bytes", node.unsent_bytes)
        metrics.on_scrape("tidings_gateway_ready", lambda: self.not_ready() is None)
        metrics.on_scrape("tidings_gateway_kafka_up", lambda: source.connected)
        metrics.on_scrape("tidings_gateway_lag_records", lag)
        metrics.on_scrape("tidings_gateway_window_bytes", lambda: node.window.bytes)
        metrics.on_scrape("tidings_gateway_window_seconds", node.window.span_s)
        metrics.on_scrape("tidings_gateway_held_connections", lambda: node.registry.held)
        metrics.on_scrape("tidings_gateway_readback_cache_bytes", lambda: self._older.bytes)
        metrics.on_scrape("tidings_gateway_readbacks_pending", lambda: self._older.reading)


def _limits(settings: GatewaySettings) -> NodeLimits:
    files = most_open_files()
    allowed = max(1, files - _FILES_KEPT_FREE)
    connections = settings.max_connections
    if connections is None:
        connections = allowed
    elif connections == 0 or connections > allowed:
        log.warning("file_limit_below_connections", max_connections=connections, open_files=files)
    return NodeLimits(
        connections=connections,
        connections_per_user=settings.max_connections_per_user,
        connections_per_address=settings.max_connections_per_address,
        header_bytes=settings.max_header_bytes,
        handshake_timeout_s=settings.handshake_timeout_s,
        message_bytes=settings.max_client_message_bytes,
        unsent_bytes=settings.max_unsent_bytes,
        slow_unsent_bytes=settings.slow_unsent_bytes,
        slow_after_s=settings.slow_after_s,
        unsent_total_bytes=settings.max_unsent_total_bytes,
        socket_send_buffer_bytes=settings.socket_send_buffer_bytes,
        window_bytes=settings.window_bytes,
        window_s=settings.window_s,
        session=SessionLimits(
            ping_interval_s=settings.ping_interval_s,
            idle_timeout_s=settings.idle_timeout_s,
            frames_per_s=settings.max_client_frames_per_s,
            frames_burst=settings.max_client_frames_burst,
        ),
        resume=ResumeLimits(
            per_s=settings.max_resumes_per_s,
            per_user_per_min=settings.max_resumes_per_user_per_min,
            readback_bytes=settings.max_readback_bytes,
            readback_timeout_s=settings.readback_timeout_s,
        ),
    )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    return context


async def _run(gateway: GatewaySettings, kafka: KafkaSettings, topics: TopicSettings, jwt: JwtSettings) -> int:
    node = Gateway(gateway, kafka, topics, jwt)
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(node.start())

    def stop() -> None:
        node.ask_to_stop()
        starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await starting
        await node.serve()
    except asyncio.CancelledError:
        log.info("stopped_while_starting")
    except OSError as error:
        if starting.done() and starting.exception() is error:
            log.error("cannot_listen", reason=str(error))
            return 1
        raise
    finally:
        await node.stop()
    log.info("stopped")
    return 0


def run(environ: Mapping[str, str] | None = None) -> int:
    """The process `tidings gateway`: returns its exit code. Every wrong setting is told before anything listens."""
    try:
        gateway, kafka, topics, jwt, logs = load(
            GatewaySettings, KafkaSettings, TopicSettings, JwtSettings, LogSettings, environ=environ
        )
    except ConfigError as error:
        flush_log = setup_log(LogSettings())
        for fault in error.faults:
            log.error("setting_refused", fault=fault)
        flush_log()
        return 2
    one = partial(_work, kafka=kafka, topics=topics, jwt=jwt, logs=logs)
    if gateway.workers > 1:
        return run_workers(gateway, one, partial(setup_log, logs))
    return one(gateway)


def _work(
    gateway: GatewaySettings, *, kafka: KafkaSettings, topics: TopicSettings, jwt: JwtSettings, logs: LogSettings
) -> int:
    flush_log = setup_log(logs)
    for warning in setting_warnings():
        log.warning("setting_unknown", warning=warning)
    # Garbage is cyclic only where connections end; looking for it every 700 objects would cost more than it gives.
    gc.set_threshold(50_000, 20, 50)
    try:
        return uvloop.run(_run(gateway, kafka, topics, jwt))
    finally:
        flush_log()
