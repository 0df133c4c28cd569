"""How often the same thing may be logged: a poisoned topic must not fill the disk."""

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["LogLimiter"]


@dataclass
class _Window:
    ends: float
    admitted: int = 0
    suppressed: int = 0


class LogLimiter:
    """At most `limit` lines per key and interval, then their number: a poisoned topic must not fill the disk.

    Pure: the caller passes the time. At most `max_keys` keys are remembered; beyond, new ones share a single window.
    """

    def __init__(self, limit: int = 5, interval_s: float = 60.0, max_keys: int = 1_000) -> None:
        self._limit = limit
        self._interval_s = interval_s
        self._max_keys = max_keys
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, key: Hashable, now: float) -> bool:
        """Whether this line may be logged; if not, it is counted. Cost: one dictionary lookup."""
        window = self._windows.get(key)
        if window is None and len(self._windows) >= self._max_keys:
            key = None
            window = self._windows.get(key)
        if window is None or (now >= window.ends and not window.suppressed):
            window = self._windows[key] = _Window(now + self._interval_s)
        if window.admitted < self._limit:
            window.admitted += 1
            return True
        window.suppressed += 1
        return False

    def summaries(self, now: float) -> list[tuple[Hashable, int]]:
        """Keys whose interval is over, with how many lines were held back; each is told once. Call it now and then.

        The key that stands for those beyond `max_keys` is None.
        """
        over = [(key, window) for key, window in self._windows.items() if now >= window.ends]
        for key, _ in over:
            del self._windows[key]
        return [(key, window.suppressed) for key, window in over if window.suppressed]
