"""When to come back after a connection has ended, or why not. Pure: takes `now` and chance, returns decisions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tidings_client.errors import Disconnected, ProtocolViolation, Refused, TokenRefused

__all__ = ["Backoff", "Retries", "Retry", "Silence"]

_NEVER_AGAIN: Final = {1002: "protocol error", 1003: "unsupported data", 1007: "invalid payload"}
_AT_ONCE: Final = frozenset({1001, 4001, 4008, 4011})
_SLOWLY: Final = frozenset({1008, 1009})
_TRANSIENT: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before coming back; all in seconds.

    After n failures in a row the wait is a random share of `first_s` x 2^n, `longest_s` at most ("full jitter": a fleet
    of clients that lost its node in one moment does not return in one).

    Attributes:
        first_s: Upper bound of the first wait.
        longest_s: Upper bound of all of them.
        steady_s: A connection that held this long after its welcome makes the count begin anew.
        policy_s: After 1008 and 1009, at least; up to one and a half times as long.
        retry_after_s: A gateway's `Retry-After` is obeyed up to this.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 10.0
    policy_s: float = 60.0
    retry_after_s: float = 120.0

    def wait_s(self, failures: int, chance: float) -> float:
        """`failures` so far, not counting the present one; `chance` from 0 to 1."""
        return min(self.longest_s, self.first_s * 2.0 ** min(failures, 64)) * chance


@dataclass(frozen=True, slots=True)
class Retry:
    """Come back after `delay_s`; first ask for a new token if `new_token`."""

    delay_s: float
    new_token: bool = False


class Retries:
    """What the end of a connection or of an attempt asks for. Each method either returns a `Retry` or raises the error
    to stop with.

    Args:
        can_renew: Whether another token can be had.
        random: Gives numbers from 0 to 1.
    """

    def __init__(self, backoff: Backoff, *, can_renew: bool, random: Callable[[], float]) -> None:
        self._backoff = backoff
        self._can_renew = can_renew
        self._random = random
        self._failures = 0
        self._token_refused = False
        self._welcomed_at: float | None = None
        self._drain_s: float | None = None

    def welcomed(self, now: float) -> None:
        """The gateway let us in."""
        self._welcomed_at = now
        self._token_refused = False

    def draining(self, reconnect_after_s: float) -> None:
        """The gateway said that it goes. However this connection ends, it is an orderly end."""
        self._drain_s = reconnect_after_s

    def closed(self, code: int | None, reason: str, now: float) -> Retry:
        """A connection has ended with the gateway's close code; None if it broke without one.

        Raises:
            Disconnected: 4002.
            TokenRefused: 4001, and there is no way to get another token.
            ProtocolViolation: 1002, 1003, 1007: coming back would bring the same.
        """
        if code == 4002:
            raise Disconnected(reason)
        if code == 4001 and not self._can_renew:
            raise TokenRefused(4001, "token_ended", reason)
        if code in _NEVER_AGAIN:
            raise ProtocolViolation(f"the gateway closed with {code} ({_NEVER_AGAIN[code]}): {reason}")
        if self._welcomed_at is not None and now - self._welcomed_at >= self._backoff.steady_s:
            self._failures = 0
        drain_s, self._drain_s, self._welcomed_at = self._drain_s, None, None
        orderly = code in _AT_ONCE or drain_s is not None
        # At once is only right once: a gateway that closes each connection at its beginning must not be stormed.
        delay_s = 0.0 if orderly and not self._failures else self._wait_s()
        self._failures += 1
        if code in _SLOWLY:
            delay_s = self._backoff.policy_s * (1 + self._random() / 2)
        elif drain_s is not None:
            delay_s = max(delay_s, min(drain_s, self._backoff.retry_after_s))
        return Retry(delay_s, new_token=code == 4001)

    def refused(self, status: int, error: str, reason: str, retry_after_s: float | None) -> Retry:
        """The handshake was answered with this HTTP status.

        Raises:
            TokenRefused: 401, the second time in a row or with no way to get another token.
            Refused: 403, 404 and whatever else will not change by waiting.
        """
        if status == 401:
            if self._token_refused or not self._can_renew:
                raise TokenRefused(status, error, reason)
            self._token_refused = True
            return Retry(0.0, new_token=True)
        if status < 500 and status not in _TRANSIENT:
            raise Refused(status, error, reason)
        retry = self.failed()
        if retry_after_s:
            return Retry(min(retry_after_s, self._backoff.retry_after_s))
        return retry

    def failed(self) -> Retry:
        """There was no connection, or none of use: nobody answered, or something else than was agreed, or no token
        could be had.
        """
        drain_s, self._drain_s, self._welcomed_at = self._drain_s, None, None
        retry = Retry(max(self._wait_s(), min(drain_s or 0.0, self._backoff.retry_after_s)))
        self._failures += 1
        return retry

    def _wait_s(self) -> float:
        return self._backoff.wait_s(self._failures, self._random())


@dataclass(slots=True)
class Silence:
    """Notices a dead socket: a gateway pings every `heartbeat_s`, so of a living one something is heard.

    Attributes:
        heartbeat_s: Of the gateway; 25 until it has told.
        margin_s: Twice the heartbeat and this is how long nothing may be heard.
    """

    margin_s: float
    heartbeat_s: float = 25.0

    def told(self, heartbeat_s: float) -> None:
        """From `$welcome`; 0 would mean that the gateway does not ping, then our own pings have to do."""
        if heartbeat_s > 0:
            self.heartbeat_s = heartbeat_s

    def look(self, now: float, heard_at: float, asked_at: float) -> float | Literal["ping", "dead"]:
        """How many seconds the silence may go on before it has to be looked at again; or that the gateway has to be
        asked now (`asked_at` is when that was done last); or that nobody is there.
        """
        ask_at = heard_at + self.heartbeat_s + self.margin_s / 2
        dead_at = heard_at + 2 * self.heartbeat_s + self.margin_s
        if now >= dead_at:
            return "dead"
        if now < ask_at:
            return ask_at - now
        return dead_at - now if asked_at >= ask_at else "ping"
