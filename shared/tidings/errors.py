"""Every error that Tidings raises on purpose.

The branch alone decides what happens next:

    TidingsError
    ├── ConfigError              a setting is wrong: told at once, exit before anything listens
    ├── ContractError            a record is poison: counted, never retried, dead-lettered
    │   ├── MalformedRecord
    │   └── RecordTooBig
    ├── HandshakeError           a client is refused: an HTTP status or a close code
    │   ├── InvalidToken
    │   │   ├── TokenExpired
    │   │   └── UnknownKey
    │   └── OriginRefused
    ├── DomainError              the caller's fault, with a stable code: answered
    │   ├── NotFound
    │   ├── Forbidden
    │   ├── Conflict
    │   └── InvalidInput
    ├── DependencyError          something we need is away: retried with backoff
    │   ├── BrokerUnavailable
    │   └── DatabaseUnavailable
    └── InvalidState             our own bug (also an AssertionError)

A slow subscriber and a drain are verdicts that carry a close code, not exceptions.
"""

from collections.abc import Sequence

__all__ = [
    "BrokerUnavailable",
    "ConfigError",
    "Conflict",
    "ContractError",
    "DatabaseUnavailable",
    "DependencyError",
    "DomainError",
    "Forbidden",
    "HandshakeError",
    "InvalidInput",
    "InvalidState",
    "InvalidToken",
    "MalformedRecord",
    "NotFound",
    "OriginRefused",
    "RecordTooBig",
    "TidingsError",
    "TokenExpired",
    "UnknownKey",
]


class TidingsError(Exception):
    """The root: whatever is caught as this was raised by Tidings on purpose."""


class ConfigError(TidingsError):
    """Settings that can't be used.

    Attributes:
        faults: One line each, beginning with the variable's name. All faults of one start are in one error.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class ContractError(TidingsError):
    """A record that no reader may accept.

    Attributes:
        reason: One of `tidings.contract.record.REASONS`; stable, used as a metric label and dead letter header.
        detail: What was seen, for people; never the record's content.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class MalformedRecord(ContractError):
    """The value is not a record: not the JSON, not the shape, or a reserved name."""


class RecordTooBig(ContractError):
    """The value, or a list or name in it, is over a limit of the contract."""


class HandshakeError(TidingsError):
    """A client that is not let in.

    Attributes:
        code: Short stable name, the `error` of the JSON answer.
        reason: One sentence for the client's developer; never the token.
    """

    code = "refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class InvalidToken(HandshakeError):
    """The token is missing, malformed, wrongly signed, or its claims are not accepted."""

    code = "invalid_token"


class TokenExpired(InvalidToken):
    """The token was good and has ended (leeway included)."""

    code = "token_expired"


class UnknownKey(InvalidToken):
    """The token names a key that the key set does not hold (yet)."""

    code = "unknown_key"


class OriginRefused(HandshakeError):
    """The browser page that asks is not of an allowed origin."""

    code = "origin_refused"


class DomainError(TidingsError):
    """A request that the rules refuse.

    Attributes:
        code: Stable name, part of the answer.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class NotFound(DomainError):
    """The thing named does not exist, or the caller may not know that it does."""


class Forbidden(DomainError):
    """The caller may know the thing, but not do this with it."""


class Conflict(DomainError):
    """The state changed or is already as asked."""


class InvalidInput(DomainError):
    """The request itself is wrong."""


class DependencyError(TidingsError):
    """A service that we need did not answer; worth another try."""


class BrokerUnavailable(DependencyError):
    """Kafka can't be reached, or not yet in the state that we need."""


class DatabaseUnavailable(DependencyError):
    """Postgres can't be reached."""


class InvalidState(TidingsError, AssertionError):
    """A method was called when it must not be: a bug of the caller, never of a user."""
