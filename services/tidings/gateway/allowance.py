"""How much of something each user, or all together, may have: a rate, with some of it saved up."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

__all__ = ["Allowance", "Allowances", "Storm"]

_KEPT: Final = 65_536
"""Keys that are remembered; the one not asked for longest is forgotten, and has everything again."""


class Allowance:
    """One rate. Times are seconds of a clock that never goes back.

    Args:
        rate: Units that come back per second.
        burst: Units that may be saved up, and there are at the start.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, units: float, now: float) -> bool:
        """Spend that much if it is there."""
        if self.left(now) < units:
            return False
        self._left -= units
        return True

    def spend(self, units: float, now: float) -> None:
        """Note what was spent already; it may go below nothing."""
        self._left = self.left(now) - units

    def left(self, now: float) -> float:
        """What may be spent now."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)
        return self._left

    def wait_s(self, units: float, now: float) -> float:
        """Seconds until that much is there."""
        return max(0.0, (units - self.left(now)) / self._rate)


class Allowances:
    """The same rate for each key; remembers a bounded number of keys."""

    def __init__(self, rate: float, burst: float, limit: int = _KEPT) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._known: OrderedDict[Hashable, Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: Hashable, now: float) -> Allowance:
        """The allowance of one key."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Allowance(self._rate, self._burst, now)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known


class Storm:
    """Lets in so many per second, and tells the others over what time they should spread.

    Args:
        rate: Admissions per second; as many may come at once.
    """

    __slots__ = ("_admissions", "_rate", "_turned_away")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._admissions = Allowance(rate, max(1.0, rate), now)
        # Those who were turned away and are not back yet, as far as one can know: it drains at the rate of admissions.
        self._turned_away = Allowance(rate, 0.0, now)

    def admit(self, now: float) -> float | None:
        """None: come in. Else the seconds over which all who were turned away fit in."""
        if self._admissions.take(1, now):
            return None
        self._turned_away.spend(1, now)
        return -self._turned_away.left(now) / self._rate
