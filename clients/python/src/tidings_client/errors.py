"""Every error that the client raises on purpose; none of them is retried by the client itself.

    TidingsClientError
    ├── Refused               the gateway said no to the handshake, and would say it again
    │   └── TokenRefused      and it was the token, also a new one
    ├── Disconnected          an operator ended the session (4002)
    ├── ProtocolViolation     the other side does not speak `tidings.v1`, or says that we do not
    ├── InvalidPosition       a saved position that no client wrote (also a ValueError)
    └── InvalidState          a bug of the caller (also an AssertionError)

`SyncFailed` stands apart: raised in `on_resync` it stops nothing, the callback is called again.

What passes by itself (a network, a node that goes, a limit that was reached) is no error: the client comes back.
"""

__all__ = [
    "Disconnected",
    "InvalidPosition",
    "InvalidState",
    "ProtocolViolation",
    "Refused",
    "SyncFailed",
    "TidingsClientError",
    "TokenRefused",
]


class TidingsClientError(Exception):
    """The root: whatever is caught as this was raised by the client on purpose."""


class Refused(TidingsClientError):
    """The gateway does not let this client in, and trying again would not help.

    Attributes:
        status: HTTP status, or the close code that said so.
        error: Short stable name of the gateway's answer; "" if there was none.
        reason: One sentence for people; never the token.
    """

    def __init__(self, status: int, error: str = "", reason: str = "") -> None:
        self.status = status
        self.error = error
        self.reason = reason
        super().__init__(status, error, reason)

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.status), self.error, self.reason and f"({self.reason})"]))


class TokenRefused(Refused):
    """No token that could be had was accepted.

    A token callback may raise it itself, to stop the client: the user has logged out.
    """

    def __init__(self, status: int = 401, error: str = "", reason: str = "") -> None:
        super().__init__(status, error, reason)


class Disconnected(TidingsClientError):
    """An operator ended the session and does not want it back.

    Attributes:
        reason: What the operator gave as reason; may be empty.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"an operator ended the session: {self.reason}" if self.reason else "an operator ended the session"


class ProtocolViolation(TidingsClientError):
    """The two sides do not understand each other: a wrong address, a wrong version, or a defect."""


class InvalidPosition(TidingsClientError, ValueError):
    """A text that is no saved position or no cursor."""


class InvalidState(TidingsClientError, AssertionError):
    """A method was called when it must not be: a bug of the caller."""


class SyncFailed(Exception):
    """The messaging service gave no page.

    Attributes:
        status: HTTP status; 0 if it was not reached.
        error: Short stable name of its answer, such as `unauthorized`, or `unreachable`, `not_a_page`; may be empty.
        reason: One sentence for people; never the token.
    """

    def __init__(self, status: int, error: str = "", reason: str = "") -> None:
        self.status = status
        self.error = error
        self.reason = reason
        super().__init__(status, error, reason)

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.status), self.error, self.reason and f"({self.reason})"]))
