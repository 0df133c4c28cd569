"""How many requests each user may make: a rate, with some of it saved up."""

from collections import OrderedDict
from typing import Final

__all__ = ["Rates"]

_KEPT: Final = 65_536


class Rates:
    """One rate for each user. Times are seconds of a clock that never goes back.

    Kept per user is only the moment at which its allowance is whole again; of more than `kept` users the one that asked
    longest ago is forgotten, and has all of it again.

    Args:
        per_s: Requests that come back per second; 0: no limit.
        burst: Requests that may come at once after a rest.
    """

    def __init__(self, per_s: float, burst: int, *, kept: int = _KEPT) -> None:
        self._each_s = 1 / per_s if per_s else 0.0
        self._saved_s = burst * self._each_s
        self._kept = kept
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def wait_s(self, user: str, now: float) -> float:
        """Take one request: 0 if it may be made now, else after how many seconds (and none is taken)."""
        if not self._each_s:
            return 0.0
        whole_at = max(self._whole_at.get(user, now), now) + self._each_s
        over_s = whole_at - now - self._saved_s
        if over_s > 1e-9:
            return over_s
        self._whole_at[user] = whole_at
        self._whole_at.move_to_end(user)
        if len(self._whole_at) > self._kept:
            self._whole_at.popitem(last=False)
        return 0.0
