"""A user's budget of older records, as one replay draws on it."""

from tidings.clock import Clock
from tidings.gateway.allowance import Allowances
from tidings.gateway.replay import Replay

__all__ = ["Purse"]


class Purse:
    """The `Payer` of what one replay has read back, from what its user may have; see `Replay.owed_bytes`.

    Args:
        budgets: Of all users, in bytes; the purses of one user draw on the same.
        replay: Whose user pays; it keeps the account.
    """

    __slots__ = ("_budgets", "_clock", "_replay")

    def __init__(self, budgets: Allowances, clock: Clock, replay: Replay) -> None:
        self._budgets = budgets
        self._clock = clock
        self._replay = replay

    @property
    def left(self) -> float:
        """Bytes that the user may spend now. It may be below 0: a piece is paid for whole, when it is there."""
        now = self._clock.monotonic()
        return self._budgets.of(self._replay.user, now).left(now)

    def affords(self) -> bool:
        """Whether anything is left: one more piece may then be fetched, whatever its size."""
        return self.left > 0

    def pay(self, size: int) -> None:
        """A piece of that many bytes was fetched for the replay."""
        self._replay.fetched_bytes += size
        self.settle()

    def settle(self) -> None:
        """Charge what is owed."""
        now = self._clock.monotonic()
        owed = self._replay.owed_bytes
        self._replay.paid_bytes += owed
        self._budgets.of(self._replay.user, now).spend(owed, now)
