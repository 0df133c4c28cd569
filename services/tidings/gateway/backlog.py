"""One connection's unsent frames, counted in bytes, and the verdict when there are too many.

A backlog exists only while its socket takes no more; a connection that keeps up has none.
"""

from collections import deque
from enum import Enum

__all__ = ["Backlog", "Verdict"]


class Verdict(Enum):
    """What becomes of the connection."""

    KEEP = "keep"
    CLOSE_SLOW = "close_slow"


class Backlog:
    """Frames that wait for one socket, in order.

    Args:
        limit_bytes: More than this unsent and the connection is too slow at once. 0: no limit.
        slow_bytes: More than this unsent is too slow once nothing has left for `slow_after_s`. 0: no limit.
        slow_after_s: See `slow_bytes`.
        now: Seconds, any clock that never goes back.

    The socket's own unsent bytes (what the transport took but the kernel did not) count too and are told at each call.
    """

    __slots__ = (
        "_frames",
        "_last_unsent",
        "_limit_bytes",
        "_slow_after_s",
        "_slow_bytes",
        "bytes",
        "progress_at",
        "refilling",
    )

    def __init__(self, limit_bytes: int, slow_bytes: int, slow_after_s: float, now: float) -> None:
        self._frames: deque[bytes] = deque()
        self._limit_bytes = limit_bytes
        self._slow_bytes = slow_bytes
        self._slow_after_s = slow_after_s
        self.progress_at = now
        """When the socket last took something, as far as it was told."""
        self._last_unsent = 0
        self.bytes = 0
        """Bytes that wait here (the transport's own not included)."""
        self.refilling = False
        """Frames are being moved to the transport right now."""

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: bytes, transport_bytes: int) -> Verdict:
        """Queue one encoded frame; nothing is written yet. The same object may wait in thousands of backlogs.

        Returns:
            `KEEP`, or `CLOSE_SLOW` as soon as more than `limit_bytes` are unsent.
        """
        self._frames.append(frame)
        self.bytes += len(frame)
        if self._limit_bytes and self.bytes + transport_bytes > self._limit_bytes:
            return Verdict.CLOSE_SLOW
        return Verdict.KEEP

    def take(self, at_most_bytes: int) -> list[bytes]:
        """Remove frames from the front: at least one if there is one, then while they fit."""
        frames = self._frames
        taken: list[bytes] = []
        size = 0
        while frames and (not taken or size + len(frames[0]) <= at_most_bytes):
            frame = frames.popleft()
            size += len(frame)
            taken.append(frame)
        self.bytes -= size
        return taken

    def progressed(self, now: float) -> None:
        """The socket took something."""
        self.progress_at = now

    def check(self, now: float, transport_bytes: int) -> Verdict:
        """Look at the connection again, about once a second while it is behind."""
        if transport_bytes < self._last_unsent:
            self.progress_at = now
        self._last_unsent = transport_bytes
        unsent = self.bytes + transport_bytes
        if self._slow_bytes and unsent > self._slow_bytes and now - self.progress_at >= self._slow_after_s:
            return Verdict.CLOSE_SLOW
        return Verdict.KEEP
