"""One connection's life by the clock: pings, silence, the token's end, and how much a client may send."""

import math
from dataclasses import dataclass
from enum import Enum

from tidings.closing import CloseCode

__all__ = ["Due", "Session", "SessionLimits"]


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What every session of a node is held to.

    Attributes:
        ping_interval_s: A ping this often; each is also the moment at which silence is noticed.
        idle_timeout_s: Nothing received for this long: 4011. 0: never.
        frames_per_s: Client frames a session may send on average, control frames and fragments included. 0: no limit.
        frames_burst: And at once.
    """

    ping_interval_s: float
    idle_timeout_s: float
    frames_per_s: float
    frames_burst: int


class Due(Enum):
    """What a deadline asks for when no close code does."""

    NOTHING = "nothing"
    PING = "ping"


class Session:
    """The state that outlives no connection. All times are seconds of one clock that never goes back.

    Args:
        number: Counts the sessions of this node since its start.
        user: User id.
        expires_at: When the token ends, or None if it is not watched.
        now: The moment of the handshake.
    """

    __slots__ = ("_allowance", "_allowance_at", "_ping_at", "_seen_at", "due_at", "expires_at", "number", "user")

    def __init__(self, number: int, user: str, expires_at: float | None, now: float, limits: SessionLimits) -> None:
        self.number = number
        self.user = user
        self.expires_at = expires_at
        self._seen_at = now
        # The first ping comes early by a share that differs from session to session (golden ratio: evenly spread), so
        # that thousands that connected in one second are not pinged in one.
        self._ping_at = now + limits.ping_interval_s * (1 - 0.5 * (number * 0.6180339887498949 % 1))
        self._allowance = float(limits.frames_burst)
        self._allowance_at = now
        self.due_at = self._next_due()
        """When `on_due` must be called next."""

    def on_bytes(self, now: float) -> None:
        """The client sent something: it is alive."""
        self._seen_at = now

    def alive_at(self, moment: float) -> None:
        """There was another sign of life at that moment, perhaps not the latest."""
        self._seen_at = max(self._seen_at, moment)

    def may_send(self, now: float, limits: SessionLimits) -> float:
        """How many frames the client may send at this moment."""
        if not limits.frames_per_s:
            return math.inf
        allowance = self._allowance + (now - self._allowance_at) * limits.frames_per_s
        self._allowance = min(allowance, float(limits.frames_burst))
        self._allowance_at = now
        return self._allowance

    def sent(self, frames: int) -> None:
        """The client sent that many, no more than it may."""
        self._allowance -= frames

    def renew(self, expires_at: float) -> None:
        """A new token was shown. The caller enters the session into its wheel again: `due_at` may be earlier now."""
        self.expires_at = expires_at
        self.due_at = self._next_due()

    def on_due(self, now: float, limits: SessionLimits) -> Due | CloseCode:
        """What to do at `due_at`; sets the next one. Called too early it says `NOTHING`."""
        if self.expires_at is not None and now >= self.expires_at:
            return CloseCode.TOKEN_ENDED
        if now < self._ping_at:
            self.due_at = self._next_due()
            return Due.NOTHING
        if limits.idle_timeout_s and now - self._seen_at >= limits.idle_timeout_s:
            return CloseCode.IDLE
        self._ping_at = now + limits.ping_interval_s
        self.due_at = self._next_due()
        return Due.PING

    def _next_due(self) -> float:
        return self._ping_at if self.expires_at is None else min(self._ping_at, self.expires_at)
