"""The connections of one node together: who may come in, what is due when, who is behind, and how all of them leave."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tidings.clock import Clock
from tidings.closing import CloseCode
from tidings.gateway.admission import Admission, refused_for_now
from tidings.gateway.drain import WAVE_S, waves
from tidings.gateway.greeting import heartbeat
from tidings.gateway.handshake import Accepted, Gatekeeper
from tidings.gateway.protocols.native import ResyncReason
from tidings.gateway.registry import Registry
from tidings.gateway.resumes import ResumeLimits, Resumes
from tidings.gateway.router import Disconnect, Routed, Router, Subscriber
from tidings.gateway.session import SessionLimits
from tidings.gateway.stats import Stats
from tidings.gateway.timers import TimerWheel
from tidings.gateway.turnstile import Turnstile
from tidings.gateway.window import Window

if TYPE_CHECKING:
    from tidings.gateway.arrival import Arrival
    from tidings.gateway.connection import Connection
    from tidings.gateway.farewell import Farewell
    from tidings.gateway.outlet import Outlet

__all__ = ["SPARE_SOCKETS", "Node", "NodeLimits"]

TICK_S: Final = 0.05
"""Resolution of every deadline of a connection. Short, so that the pings of 10,000 connections come 20 at a time and no
record waits behind a hundred of them."""

SPARE_SOCKETS: Final = 64
"""Sockets beyond the connection limit that may be open at once, to tell those who come too many that they are."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Limits on connections; 0 means no limit wherever a number may be 0. See `GatewaySettings` for each."""

    connections: int
    connections_per_user: int
    connections_per_address: int
    header_bytes: int
    handshake_timeout_s: float
    message_bytes: int
    unsent_bytes: int
    slow_unsent_bytes: int
    slow_after_s: float
    unsent_total_bytes: int
    socket_send_buffer_bytes: int
    window_bytes: int
    window_s: float
    session: SessionLimits
    resume: ResumeLimits


class Node:
    """What connections share. Everything runs on one event loop thread; only `drain` and `run` wait.

    Args:
        name: The node's name, told to clients.
        boot: Tells this start of the node from others; the first part of session ids.
        refresh_keys: Asked when a token names an unknown key; returns in bounded time. Then the token is judged again.
    """

    def __init__(
        self,
        *,
        name: str,
        boot: str,
        limits: NodeLimits,
        gatekeeper: Gatekeeper,
        refresh_keys: Callable[[], Awaitable[bool]],
        clock: Clock,
        stats: Stats,
        compress_min_bytes: int,
    ) -> None:
        self.name = name
        self.boot = boot
        self.limits = limits
        self.gatekeeper = gatekeeper
        self.refresh_keys = refresh_keys
        self.clock = clock
        self.stats = stats
        self.registry: Registry[Subscriber] = Registry()
        self.window = Window(limits.window_bytes, limits.window_s)
        self.router = Router(self.registry, compress_min_bytes, self.window)
        self.resumes = Resumes(self, self.window, limits.resume)
        self._admission = Admission(limits, self.registry, clock.monotonic())
        self.wheel: TimerWheel[Connection | Arrival | Farewell] = TimerWheel(TICK_S, clock.monotonic())
        self.blocked: set[Outlet] = set()
        """Connections whose socket takes no more for now."""
        self.gathering: list[Subscriber] = []
        """Connections with one frame, not written yet, that may leave together with the next."""
        self.backlog_bytes = 0
        """Bytes in all backlogs together."""
        self.sockets = 0
        """Open sockets: handshakes and closing ones included."""
        self.handshakes = 0
        self.expendable: dict[Arrival, None] = {}
        """Sockets that have not asked yet, and those that were refused: the longest there first."""
        self._cut = 0
        """Of them those that were cut and are not gone yet."""
        self.turnstile = Turnstile()
        self.draining = False
        self._sessions = 0
        self._heartbeats: dict[int, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    def next_session(self) -> int:
        self._sessions += 1
        return self._sessions

    def admit(self, accepted: Accepted) -> None:
        """Let a client in or not.

        Raises:
            Refused: 503 draining, and what `Admission` refuses.
        """
        if self.draining:
            raise refused_for_now(
                HTTPStatus.SERVICE_UNAVAILABLE, "draining", "This node is going down: try another.", 1, 1
            )
        self._admission.check(accepted, self.clock.monotonic())

    def socket_closed(self) -> None:
        """A transport is gone."""
        self.sockets -= 1
        if not self.sockets:
            self._empty.set()

    def has_room(self) -> bool:
        """Whether a further socket may stay.

        Where even those kept free for refusals are taken, the one that has been silent for longest makes room: whoever
        opens many and says nothing keeps nobody out.
        """
        if not self.limits.connections or self.sockets - self._cut <= self.limits.connections + SPARE_SOCKETS:
            return True
        if not self.expendable or self._cut >= SPARE_SOCKETS:
            return False
        self._cut += 1
        next(iter(self.expendable)).make_room()
        return True

    def made_room(self) -> None:
        """A socket that was cut is gone."""
        self._cut -= 1

    def unsent_bytes(self) -> int:
        """Bytes that clients have not taken yet: backlogs and what transports hold of blocked sockets."""
        return self.backlog_bytes + sum(connection.transport_bytes for connection in self.blocked)

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something of a connection that has to wait; cancelled when the node stops."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def write(self, routed: Routed, *, gather: bool = False) -> None:
        """One write per connection; then see that all backlogs together stay under their limit.

        Args:
            gather: See `Routed.write`. Call this, or `write_gathered`, again soon.
        """
        self.gathering = routed.write(self.gathering, gather=gather)
        if self.limits.unsent_total_bytes and self.backlog_bytes > self.limits.unsent_total_bytes:
            self._relieve()

    def write_gathered(self) -> None:
        """Nothing came for those who wait for more: write what they have."""
        self.write(Routed())

    def routed(self) -> None:
        """A slice of records was routed and written."""
        self.resumes.routed()

    def resync_all(self, reason: ResyncReason) -> None:
        """The chain of cursors that clients hold ends here, for all who hold one. Whose cursor is still being looked at
        may hold a good one."""
        for subscriber in list(self.registry):
            if subscriber.greeted:
                subscriber.resync(reason)

    def draining_backlogs(self) -> bool:
        """Whether a connection that takes bytes is far behind."""
        now = self.clock.monotonic()
        return any(connection.catches_up(now) for connection in self.blocked)

    def disconnect(self, orders: Iterable[Disconnect]) -> None:
        """Obey the operator's orders."""
        for order in orders:
            order.subscriber.close(CloseCode.DISCONNECTED, order.reason)

    def heartbeat(self, encoding: int) -> bytes:
        """A ping, with the node's cursor for those who can resume; one object for all who get it in one tick.

        A connection that is not blocked was given everything up to that cursor.
        """
        frame = self._heartbeats.get(encoding)
        if frame is None:
            frame = self._heartbeats[encoding] = heartbeat(encoding, self.router.log, self.router.positions)
        return frame

    def tick(self, now: float) -> None:
        """Everything that is due. Cost: what is due, and one look at each blocked connection."""
        self._heartbeats.clear()
        for connection in self.wheel.due(now):
            connection.on_due(now)
        for outlet in list(self.blocked):
            outlet.check_progress(now)
        self.resumes.tick()
        # What transports hold is looked at here only: asking each blocked one at each batch would cost too much.
        if self.limits.unsent_total_bytes and self.unsent_bytes() > self.limits.unsent_total_bytes:
            self._relieve()

    async def run(self) -> None:
        """Keep time until cancelled; how late each tick comes is the loop's delay."""
        due = self.clock.monotonic() + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - self.clock.monotonic()))
            now = self.clock.monotonic()
            self.stats.loop_delay_s.observe(max(0.0, now - due))
            self.tick(now)
            due = max(due + TICK_S, now)

    async def drain(self, drain_s: float) -> None:
        """Tell all connections to go (1001), in waves over `drain_s`; returns when they are gone or that is over."""
        self.draining = True
        ends_at = self.clock.monotonic() + drain_s
        leaving = list(self.registry)
        random.shuffle(leaving)
        plan = waves(len(leaving), drain_s)
        for index, size in enumerate(plan):
            if index:
                await asyncio.sleep(WAVE_S)
            for subscriber in leaving[:size]:
                subscriber.leave()
            del leaving[:size]
        if self.sockets:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), max(0.0, ends_at - self.clock.monotonic()))

    async def stop(self) -> None:
        """End what still waits for anything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _relieve(self) -> None:
        # The largest first: whoever is furthest behind gains least from waiting on. A tenth below the limit, so that
        # the next batch does not sort everybody again.
        unsent = {connection: connection.backlog_bytes + connection.transport_bytes for connection in self.blocked}
        left, goal = sum(unsent.values()), self.limits.unsent_total_bytes * 9 // 10
        for connection in sorted(unsent, key=unsent.__getitem__, reverse=True):
            if left <= goal:
                return
            left -= unsent[connection]
            connection.give_up("process_unsent", "the node's unsent bytes are at their limit")
