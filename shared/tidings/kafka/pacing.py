"""How long to leave a broker alone between two fetches: next to nothing for a node at ease, longer for a busy one."""

import math
from typing import Final

__all__ = ["BUSY_SHARE", "EASY_S", "EASY_SHARE", "Load", "Pacer"]

EASY_S: Final = 0.00075
"""A round costs about 0.1 ms of CPU whatever it brings: on average even a node at ease asks no more often than this."""

CREDIT_S: Final = 0.05
"""What a node at ease did not ask it may make up for: as long as rounds are rarer than that, no record waits at all."""

BUSY_SHARE: Final = 0.42
"""A node that spends more of its time than this on records is busy: it takes the longest pause."""

EASY_SHARE: Final = 0.2
"""It is at ease again below this. Well under `BUSY_SHARE`, because a longer pause makes the same records cheaper."""

_MEMORY_S: Final = 0.5
"""Time constant of the average; a burst shorter than that changes nothing."""


class Load:
    """The share of its time that a node spends on records, of all its readers together.

    Args:
        now: Seconds, any clock that never goes back.
    """

    __slots__ = ("_at", "_share", "busy")

    def __init__(self, now: float) -> None:
        self._at = now
        self._share = 0.0
        self.busy = False

    def note(self, work_s: float, now: float) -> None:
        """A round of any reader was done at `now` and took so long."""
        elapsed_s = max(now - self._at, work_s, 1e-9)
        self._at = now
        weight = 1.0 - math.exp(-elapsed_s / _MEMORY_S)
        self._share += weight * (work_s / elapsed_s - self._share)
        if self._share > BUSY_SHARE:
            self.busy = True
        elif self._share < EASY_SHARE:
            self.busy = False


class Pacer:
    """Decides on the pause after each round of one reader.

    Records that arrive in a pause come in one fetch and leave in one write per connection, so a pause trades delay
    (half of it on average) for CPU; the busier the node, the more a write saved is worth.

    Args:
        limit_s: The longest pause; under `EASY_S` it is the only one.
        load: That of the node; each round is noted there.
        now: Seconds, as the load's.
    """

    __slots__ = ("_due", "_limit_s", "_load")

    def __init__(self, limit_s: float, load: Load, now: float) -> None:
        self._limit_s = limit_s
        self._load = load
        self._due = now

    def pause_s(self, work_s: float, now: float) -> float:
        """Seconds to wait from now on.

        Args:
            work_s: What routing and writing the round took.
            now: The moment at which that was done.
        """
        self._load.note(work_s, now)
        if self._load.busy:
            self._due = now
            return max(0.0, self._limit_s - work_s)
        # By a meter of rounds (GCRA): each fills it for EASY_S, and up to CREDIT_S of it may have been left empty.
        easy_s = min(self._limit_s, EASY_S)
        self._due = max(self._due, now - CREDIT_S) + easy_s
        return max(0.0, self._due - now)
