"""One client's connection as uvicorn serves it, within limits: a request's head in time and size, connections in all.

Neither uvicorn nor httptools has such limits: `timeout_keep_alive` begins with a first answer and ends with the next
byte, and a head may be of any size. All that we know of uvicorn's inside is in this class.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import ClassVar, Final, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidings.messaging.http.problems import Refused, answer

__all__ = ["Connection", "ConnectionLimits"]

_FAREWELL_S: Final = 2.0
"""Closed at once, the kernel would answer what the client still sends with RST, and the refusal would be lost."""
_FAREWELLS: Final = 64
"""Sockets beyond the limit on which to refuse; who comes then is cut without an answer."""
_RETRY_S: Final = "1"

_Phase = Literal["head", "rest", "idle"]
"""What a client owes us while no request of its is under way: a head that it has begun (or never begun, on a new
connection); the rest of a body that was answered before it was there, or bytes that are nothing; or nothing at all."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What a client may take.

    Attributes:
        header_timeout_s: From the connect, or from the first byte of a further request, to the end of the headers.
        header_bytes: A request's target and headers, then 431.
        body_timeout_s: For the rest of a body that nobody waits for any more.
        connections: In all, then 503.
    """

    header_timeout_s: float = 10.0
    header_bytes: int = 16_384
    body_timeout_s: float = 30.0
    connections: int = 10_000


@dataclass(frozen=True)
class _Door:
    """What all connections of one server share."""

    limits: ConnectionLimits
    tell: Callable[[str], None]
    farewells: set["Connection"] = field(default_factory=set)
    """Those beyond the limit of connections; they count for nothing else."""


@dataclass(frozen=True, slots=True)
class _AnswerTransport:
    """What uvicorn needs of a transport to answer; it closes right behind an answer that ends the connection."""

    write: Callable[[bytes], None]
    is_closing: Callable[[], bool]
    close: Callable[[], None]


class _HeadTooLarge(Exception):
    """The way out of httptools' callback."""


class Connection(HttpToolsProtocol):
    """See the module. A deadline runs only while no request is under way: no handler is cut, however long it takes.

    Cost: one timer for a new connection, none for a further request that arrives in one piece.
    """

    _door: ClassVar[_Door]
    _deadline: asyncio.TimerHandle | None = None
    _phase: _Phase = "head"
    _in_head = False
    _complete = False
    """The last bytes that came ended a request."""
    _held = 0
    """Bytes that came and are neither a body's nor of a complete head: httptools keeps them, without a bound."""
    _fault = "bad_request"
    _due: str | None = None
    """Why no more is read; to be told once the requests before it are answered."""
    _leaving = False
    """Our side has ended; what still comes is dropped."""
    _answers: _AnswerTransport

    @classmethod
    def within(cls, limits: ConnectionLimits, tell: Callable[[str], None]) -> type["Connection"]:
        """The class to give to one server.

        Args:
            tell: Told of each refusal by a limit: the error type of the answer, or `no_request` for a client that was
                closed without one.
        """
        return type(cls.__name__, (cls,), {"_door": _Door(limits, tell)})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it; refuse it if there are too many."""
        super().connection_made(transport)
        self._answers = _AnswerTransport(transport.write, transport.is_closing, self._part)
        door = self._door
        if len(self.connections) - len(door.farewells) <= door.limits.connections:
            self._deadline = self.loop.call_later(door.limits.header_timeout_s, self._expire)
        elif len(door.farewells) < _FAREWELLS:
            door.farewells.add(self)
            self._refuse("too_many_connections")
        else:
            door.tell("too_many_connections")
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._disarm()
        self._door.farewells.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, start what is complete, and look at what is not."""
        if self._leaving or self._due is not None:
            return
        self._complete = False
        self._held += len(data)
        super().data_received(data)
        if self._held > self._door.limits.header_bytes and self._due is None:
            self._end("headers_too_large")
        self._look()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._complete = False
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._in_head = False
        self._held = 0
        # Counted here, too: a head that came with the end of another request was not counted as it came.
        if len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers]) > (
            self._door.limits.header_bytes
        ):
            self._fault = "headers_too_large"
            raise _HeadTooLarge
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Bytes of a body; who reads them bounds them."""
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        self._held = 0
        self._complete = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out; the client may be in the middle of its next request already."""
        if self._leaving:  # else uvicorn would go on to what was pipelined behind it
            return
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls in the middle of `data_received` when httptools gives up."""
        self._end(self._fault)

    def _end(self, code: str) -> None:
        """Read no more; refuse when what came before is answered: an answer out of turn would be taken for another."""
        self._due = code
        self._look()

    def _look(self) -> None:
        """Let the deadline be that of what the client owes us now."""
        if self._leaving or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._disarm()
            return
        if self._due is not None:
            self._refuse(self._due)
            return
        phase: _Phase = "head" if self._in_head else "idle" if self._complete else "rest"
        if phase == "idle":
            self._disarm()
            # uvicorn stops its own timer with any byte, and starts it with an answer only: not after a body that
            # came later than its answer.
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        elif self._deadline is None or phase != self._phase:
            self._disarm()
            limits = self._door.limits
            wait_s = limits.header_timeout_s if phase == "head" else limits.body_timeout_s
            self._deadline = self.loop.call_later(wait_s, self._expire)
        self._phase = phase

    def _expire(self) -> None:
        if self._in_head:
            self._refuse("request_timeout")
        else:
            self._door.tell("no_request")
            self.transport.abort()

    def _part(self) -> None:
        """The last answer is written: close, but not before the client, which may still send, has read it."""
        if self._complete:
            self.transport.close()
        elif not (self._leaving or self.transport.is_closing()):
            self._leave()

    def _refuse(self, code: str) -> None:
        """Answer and go."""
        if code != "bad_request":
            self._door.tell(code)
        self.transport.write(_refusal(code, self.server_state.default_headers))
        self._leave()

    def _leave(self) -> None:
        """End our side, and drop what still comes until the client has read the answer (see decision 0006)."""
        self._disarm()
        self._unset_keepalive_if_required()
        self._leaving = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self._deadline = self.loop.call_later(_FAREWELL_S, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _refusal(code: str, lines: list[tuple[bytes, bytes]]) -> bytes:
    told = answer(Refused(code, headers={"retry-after": _RETRY_S} if code == "too_many_connections" else None))
    own = {
        **told.headers,
        "content-length": str(len(told.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }
    head = [f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}".encode()]
    head += [name + b": " + value for name, value in lines]
    head += [f"{name}: {value}".encode("latin-1") for name, value in own.items()]
    return b"\r\n".join([*head, b"", told.body])
