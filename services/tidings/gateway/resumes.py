"""Connections that show a cursor: it is checked, what they missed is given to them in turn, then they take part."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from tidings.gateway.allowance import Allowances
from tidings.gateway.cursor import InvalidCursor
from tidings.gateway.cursor_check import CursorCheck, Log, parse_shown
from tidings.gateway.frames import Encoding, Encodings
from tidings.gateway.handshake import Accepted
from tidings.gateway.protocols.native import ResyncReason
from tidings.gateway.purse import Purse
from tidings.gateway.readback import READ_BYTES, Expired, OverBudget, Payer, ReadBack
from tidings.gateway.replay import Replay
from tidings.gateway.window import Segment, Window
from tidings.kafka.cluster import AWAY

if TYPE_CHECKING:
    from tidings.gateway.connection import Connection
    from tidings.gateway.node import Node

__all__ = ["ResumeLimits", "Resumes"]

log = structlog.get_logger(__name__)

STEP_BYTES: Final = 262_144
"""Written to one connection at once, then it is the next one's turn."""
STEP_EFFORT: Final = 1_000
"""Work for one connection at once, as `Replay.missed` counts it: one or two milliseconds."""
_TURN_S: Final = 0.003
"""Replaying goes on for this long before live records and other connections are looked after."""
_INSPECT_S: Final = 5.0
_RETRY_S: Final = 0.5
# Compressing for one receiver alone costs more than it saves; who negotiated it takes plain frames too.
_UNCOMPRESSED: Final = {int(Encoding.V1_DEFLATE): int(Encoding.V1)}
_FEW: Final = 32
"""So many who wait for the node are looked at after each slice of records."""


@dataclass(frozen=True, slots=True)
class ResumeLimits:
    """Limits on resuming; 0 means no limit but for `readback_bytes`.

    Attributes:
        per_s: Resumes that the node takes in per second; the others are told when to come again.
        per_user_per_min: And of one user per minute.
        readback_bytes: Of older records read from Kafka, or looked at in what was read for others, for one user per
            minute. 0: none is.
        readback_timeout_s: A resume may wait this long for such reads, all together.
    """

    per_s: float
    per_user_per_min: float
    readback_bytes: int
    readback_timeout_s: float


class Resumes:
    """All connections of a node that are not where it is. They are held: nothing is routed to them meanwhile.

    In one event loop "everything missed is written, now take part" is one step, and that is where gaplessness comes
    from. A connection whose cursor is ahead of the node waits here until the node has come as far.
    """

    def __init__(self, node: "Node", window: Window, limits: ResumeLimits) -> None:
        self._node = node
        self._window = window
        self._limits = limits
        self._check = CursorCheck(node.router, window, node.stats)
        self._budgets = Allowances(limits.readback_bytes / 60, limits.readback_bytes)
        self._ready: deque[Connection] = deque()
        self._waiting: set[Connection] = set()
        self._reading: dict[Connection, asyncio.Task[None]] = {}
        self._moved = False
        self._work = asyncio.Event()
        self.log: Log | None = None
        self.older: ReadBack | None = None

    # From the cursor to a replay

    def begin(self, connection: "Connection", accepted: Accepted) -> None:
        """Decide on the cursor, at once if the brokers need not be asked. The connection is held and not greeted."""
        since = self._node.clock.monotonic()
        try:
            tag, positions = parse_shown(accepted)
        except InvalidCursor:
            self._refuse(connection, "invalid")
            return
        if self._check.good_at_once(tag, positions, self.log):
            self._start(connection, Replay(connection.user, positions, since))
            return
        connection.answer()  # the brokers may take a while
        self._node.spawn(self._inspect(connection, tag, positions, since))

    async def _inspect(self, connection: "Connection", tag: str, positions: dict[int, int], since: float) -> None:
        reason: ResyncReason | None = None
        reads_back = bool(self._limits.readback_bytes) and self.older is not None
        try:
            async with asyncio.timeout(_INSPECT_S):
                reason = await self._check.fault(tag, positions, self.log, reads_back=reads_back)
        except (TimeoutError, *AWAY) as error:
            # The brokers do not answer. What can't be checked is believed: records are only ever read from the log.
            log.warning("cursor_not_checked", reason=repr(error))
        if not connection.held:
            return
        if tag != self._node.router.log:
            reason = "log_changed"  # made anew meanwhile: whatever was found out is of the old one
        if reason is not None:
            self._refuse(connection, reason)
        else:
            self._start(connection, Replay(connection.user, positions, since))

    def _start(self, connection: "Connection", replay: Replay) -> None:
        connection.welcome_back(replay)
        self.ready(connection)  # in its turn: many may come at once

    def _refuse(self, connection: "Connection", reason: ResyncReason) -> None:
        self._node.stats.resumed(reason)
        connection.resync(reason)

    # From the replay to taking part

    def ready(self, connection: "Connection") -> None:
        """The connection's socket takes bytes again, or there may be something new for it."""
        self._ready.append(connection)
        self._work.set()

    def routed(self) -> None:
        """The node went on: those who wait for it may have got nearer. Many are looked at only with `tick`."""
        self._moved = True
        if len(self._waiting) <= _FEW:
            self.tick()

    def tick(self) -> None:
        """Call it every few hundredths of a second."""
        if self._moved and self._waiting:
            self._ready.extend(self._waiting)
            self._waiting.clear()
            self._work.set()
        self._moved = False

    def forget(self, connection: "Connection") -> None:
        """The connection is gone, or needs nothing more."""
        self._waiting.discard(connection)
        reading = self._reading.pop(connection, None)
        if reading is not None:
            reading.cancel()

    async def run(self) -> None:
        """Serve those who are ready until cancelled."""
        while True:
            await self._work.wait()
            self.turn()
            await asyncio.sleep(0)  # live records and other connections come between two turns

    def turn(self) -> bool:
        """Serve those who are ready, one after another, for a moment. Returns whether there are more."""
        clock = self._node.clock
        ends_at = clock.monotonic() + _TURN_S
        while self._ready and clock.monotonic() <= ends_at:
            self._step(self._ready.popleft())
        if not self._ready:
            self._work.clear()
        return bool(self._ready)

    async def look_at_waiting(self) -> None:
        """See whether those who wait for the node wait for something that will come, and close what nobody reads any
        more. Call it every few seconds."""
        if self.older is not None:
            self.older.close_idle(self._node.clock.monotonic())
        waiting = [connection for connection in self._waiting if connection.replay is not None]
        if self.log is None or not waiting:
            return
        known = self._node.router.positions
        try:
            if any(
                not connection.replay.positions.keys() <= known.keys() for connection in waiting if connection.replay
            ):
                await self.log.find_partitions()
            ends = await self.log.ends()
        except AWAY:
            return
        for connection in waiting:
            replay = connection.replay
            if replay is None or replay.from_live:
                continue
            if not replay.positions.keys() <= known.keys():
                self._refuse(connection, "invalid")
            elif any(offset > max(ends.get(number, 0), known[number]) for number, offset in replay.positions.items()):
                self._refuse(connection, "ahead")

    def _step(self, connection: "Connection") -> None:
        """Give a connection its next records, as many as one turn allows."""
        replay = connection.replay
        if replay is None or replay.reading or not connection.takes_bytes:
            return  # gone, or it comes back when what it waits for is there
        router = self._node.router
        frames: list[bytes] = []
        size = 0
        full = False
        for partition, offset, record in replay.missed(self._window, router.positions, self._older, STEP_EFFORT):
            made = Encodings(
                record.type,
                record.data,
                f"{partition}:{offset + 1}",
                router.log,
                replay.positions,
                router.compress_min_bytes,
            )
            frame = made.frame(_UNCOMPRESSED.get(connection.encoding, connection.encoding))
            frames.append(frame)
            size += len(frame)
            if size >= STEP_BYTES:
                full = True
                break
        if replay.owed_bytes:  # charged at once, whatever becomes of the connection
            self._purse(replay).settle()
        if frames:
            self._node.stats.replayed(connection.encoding, len(frames), size)
            connection.write(b"".join(frames))
            if connection.replay is not replay:
                return  # its socket broke
        if replay.wants and replay.from_live:
            # The window has left behind a client that was too slow. Its next connection reads Kafka, within limits.
            connection.give_up("outrun", "too far behind")
        elif replay.wants and not full:
            replay.reading = True
            self._reading[connection] = asyncio.ensure_future(self._read_back(connection, replay))
            self._node.spawn(self._reading[connection])
        elif replay.met(router.positions):
            if not replay.from_live:
                self._node.stats.resumed("readback" if replay.read_back else "window")
                self._node.stats.resume_s.observe(self._node.clock.monotonic() - replay.since)
            connection.take_part()
        elif full or replay.behind(router.positions):
            self.ready(connection)
        else:
            self._waiting.add(connection)

    def _purse(self, replay: Replay) -> Purse:
        return Purse(self._budgets, self._node.clock, replay)

    def _older(self, partition: int, offset: int) -> Segment | None:
        return None if self.older is None else self.older.find(partition, offset)

    async def _read_back(self, connection: "Connection", replay: Replay) -> None:
        clock = self._node.clock
        replay.read_back = True
        reason: ResyncReason | None = None
        started = clock.monotonic()
        purse = self._purse(replay)
        try:
            if self.older is None or not purse.affords():
                reason = "budget"
            else:
                async with asyncio.timeout(self._limits.readback_timeout_s - replay.waited_s):
                    async with asyncio.TaskGroup() as reads:
                        for partition, offset in self._next_reads(self.older, replay.wants, purse.left):
                            reads.create_task(_read_older(self.older, partition, offset, purse))
        except* Expired:
            reason = "expired"
        except* (OverBudget, TimeoutError):
            reason = "budget"
        finally:
            self._reading.pop(connection, None)
        replay.waited_s += clock.monotonic() - started
        replay.reading = False
        if connection.replay is not replay:
            return
        if reason is not None:
            self._refuse(connection, reason)
        else:
            self.ready(connection)

    @staticmethod
    def _next_reads(older: ReadBack, wants: list[tuple[int, int]], left: float) -> list[tuple[int, int]]:
        # As many at once as the budget would still bear if each brought as much as it may; of the dear ones one by one,
        # so that nobody keeps the room of some while waiting for that of others.
        at_hand = [want for want in wants if older.at_hand(*want)]
        return at_hand[: max(1, int(left // READ_BYTES))] or wants[:1]


async def _read_older(older: ReadBack, partition: int, offset: int, payer: Payer) -> None:
    while True:
        try:
            return await older.read(partition, offset, payer)
        except AWAY as error:
            log.warning("read_back_failed", partition=partition, offset=offset, reason=repr(error))
            await asyncio.sleep(_RETRY_S)
