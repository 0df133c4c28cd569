"""Whether a cursor leads anywhere: at once where the node knows it, else by asking the brokers about the topic."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tidings.gateway.cursor import parse_cursor, parse_event_id
from tidings.gateway.frames import Encoding
from tidings.gateway.handshake import Accepted
from tidings.gateway.protocols.native import ResyncReason
from tidings.gateway.router import Router
from tidings.gateway.stats import Stats
from tidings.gateway.window import Window

__all__ = ["CursorCheck", "Log", "parse_shown"]

_AHEAD_TRIES: Final = 4
_AHEAD_WAIT_S: Final = 0.5
"""A new leader may not know for a moment how far its log is committed."""


@dataclass(frozen=True, slots=True)
class Log:
    """What is asked of the topic itself. The functions raise what `AWAY` names when no broker answers.

    Attributes:
        stale: Whether the brokers were away since it was last asked whether the topic is still the same.
        check: Ask that.
        find_partitions: See whether partitions were added, and start to read them.
        ends: The ends of all partitions that the node reads, as a reader of committed records sees them.
        starts: The first offsets that they still hold.
    """

    stale: Callable[[], bool]
    check: Callable[[], Awaitable[bool | None]]
    find_partitions: Callable[[], Awaitable[None]]
    ends: Callable[[], Awaitable[Mapping[int, int]]]
    starts: Callable[[], Awaitable[Mapping[int, int]]]


class CursorCheck:
    """Judges cursors: a log's tag, and per partition the next offset that a client needs; one not named counts as 0.

    Args:
        router: How far the node has come, and in which log.
        window: What of it is in memory.
        stats: Told of each cursor that was looked for in the window.
    """

    def __init__(self, router: Router, window: Window, stats: Stats) -> None:
        self._router = router
        self._window = window
        self._stats = stats

    def good_at_once(self, tag: str, positions: Mapping[int, int], log: Log | None) -> bool:
        """Whether the cursor lies between the window's start and the node's positions: nobody need be asked. False says
        nothing against it. Cost: linear in the partitions."""
        known = self._router.positions
        good = (
            tag == self._router.log
            and not (log is not None and log.stale())
            and positions.keys() <= known.keys()
            and all(
                (self._window.start(partition) or 0) <= positions.get(partition, 0) <= position
                for partition, position in known.items()
            )
        )
        if good:
            self._stats.window_lookup("hit")
        return good

    async def fault(
        self, tag: str, positions: Mapping[int, int], log: Log | None, *, reads_back: bool
    ) -> ResyncReason | None:
        """Ask the brokers what is wrong with the cursor; None: nothing is. Partitions that it names and the node does
        not know are looked for first.

        A cursor that is ahead of the brokers' ends is asked about again, for 1.5 s in all. Let the caller set a limit
        on the whole, and see afterwards whether the node's log is still the same.

        Args:
            log: None: there is nobody to ask, only the tag is judged.
            reads_back: Whether the node can read what is older than the window; else such a cursor is over `budget`.
        Raises:
            One of `AWAY`.
        """
        router = self._router
        if log is None:
            return "log_changed" if tag != router.log else None
        if tag != router.log or log.stale():
            await log.check()
        if tag != router.log:
            return "log_changed"
        if not positions.keys() <= router.positions.keys():
            await log.find_partitions()
            if not positions.keys() <= router.positions.keys():
                return "invalid"
        for attempt in range(_AHEAD_TRIES):
            ahead = [number for number, offset in positions.items() if offset > router.positions.get(number, 0)]
            ends = await log.ends() if ahead else {}
            if all(positions[number] <= ends.get(number, 0) for number in ahead):
                break
            if attempt == _AHEAD_TRIES - 1:
                return "ahead"
            await asyncio.sleep(_AHEAD_WAIT_S)
        old = [number for number in router.positions if positions.get(number, 0) < (self._window.start(number) or 0)]
        self._stats.window_lookup("miss" if old else "hit")
        if old:
            starts = await log.starts()
            if any(positions.get(number, 0) < starts.get(number, 0) for number in old):
                return "expired"
            if not reads_back:
                return "budget"
        return None


def parse_shown(accepted: Accepted) -> tuple[str, dict[int, int]]:
    """Log and positions that a client shows, in the form of its protocol.

    Raises:
        InvalidCursor: No gateway gave that out.
    """
    if accepted.encoding is Encoding.SSE and not accepted.log:
        return parse_event_id(accepted.cursor)
    return accepted.log, parse_cursor(accepted.cursor)
