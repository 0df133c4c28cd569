"""A connection to a broker on which fetches go and nothing else: aiokafka opens it, here it is taken over.

aiokafka's way of an answer goes through a stream, a task and a timer of its own, which costs more than all else that a
fetch does here (`docs/decisions/0002-own-fetch-loop.md`).

Layout of the frames: https://kafka.apache.org/protocol (request header 1, response header 0).
"""

import asyncio
import struct
from io import BytesIO
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import CorrelationIdError, KafkaConnectionError, KafkaError, RequestTimedOutError

from tidings.kafka.fetch_codec import FetchAnswer, LeaderFetchRequest

__all__ = ["FetchConnection"]

_HEAD: Final = struct.Struct(">ihhi")
_ANSWER_HEAD: Final = struct.Struct(">ii")
_LAST_ID: Final = 2**31 - 1
_LARGEST_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""A broker sends a batch whole, and none is nearly as large: what claims to be is no answer."""


class FetchConnection(asyncio.Protocol):
    """One fetch at a time, in whatever security aiokafka has negotiated.

    Args:
        opened: Connected and authenticated, and nothing under way on it. aiokafka closes it, and is told when it broke.
        timeout_s: An answer that takes longer breaks the connection.
    """

    def __init__(self, opened: AIOKafkaConnection, timeout_s: float) -> None:
        self._opened = opened
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = opened._writer.transport
        self._streams: asyncio.Protocol = opened._protocol
        self._versions = opened._versions
        name = opened._client_id.encode()
        self._client_id = struct.pack(">h", len(name)) + name
        self._last_id = 0
        self._asked_at = 0.0
        self._answer: asyncio.Future[Any] | None = None
        self._codec: Any = None
        self._parts: list[bytes] = []
        self._here_bytes = 0
        self._whole_bytes = _ANSWER_HEAD.size  # until that is here nobody knows
        self._watch: asyncio.TimerHandle | None = None
        self.is_open = True
        self._transport.set_protocol(self)

    async def fetch(self, request: LeaderFetchRequest) -> Any:
        """Send it and wait for the answer. Whoever stops waiting breaks the connection.

        Raises:
            RequestTimedOutError, KafkaConnectionError, CorrelationIdError: No good answer; the connection is closed.
            IncompatibleBrokerVersion: The broker speaks no version that will do.
        """
        if not self.is_open:
            raise KafkaConnectionError(f"connection to {self._opened.host}:{self._opened.port} is closed")
        if self._answer is not None:
            raise RuntimeError("a fetch is under way on this connection")
        question = request.prepare(self._versions)
        self._codec = question.RESPONSE_TYPE
        self._last_id = self._last_id + 1 if self._last_id < _LAST_ID else 1
        body = question.encode()
        name = self._client_id
        head = _HEAD.pack(_HEAD.size - 4 + len(name) + len(body), question.API_KEY, question.API_VERSION, self._last_id)
        self._asked_at = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_at(self._asked_at + self._timeout_s, self._check_late)
        answer = self._answer = self._loop.create_future()
        self._transport.write(head + name + body)
        try:
            return await answer
        except asyncio.CancelledError:
            self._break(CloseReason.SHUTDOWN, None)
            raise

    def data_received(self, data: bytes) -> None:
        """Called by the transport with a piece of an answer."""
        self._parts.append(data)
        self._here_bytes += len(data)
        if self._here_bytes < self._whole_bytes:
            return
        if len(self._parts) > 1:
            data = b"".join(self._parts)
            self._parts = [data]
        length, answer_id = _ANSWER_HEAD.unpack_from(data)
        self._whole_bytes = length + 4
        if answer_id != self._last_id or not 4 <= length <= _LARGEST_ANSWER_BYTES or len(data) > self._whole_bytes:
            self._break(CloseReason.OUT_OF_SYNC, CorrelationIdError(f"{length} bytes are no answer to {self._last_id}"))
        elif len(data) == self._whole_bytes:
            self._parts.clear()
            self._here_bytes = 0
            self._whole_bytes = _ANSWER_HEAD.size
            self._settle(memoryview(data)[_ANSWER_HEAD.size :])

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        self._streams.connection_lost(exc)
        self._break(CloseReason.CONNECTION_BROKEN, exc)

    def _settle(self, payload: memoryview) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.cancelled():
            self._break(CloseReason.OUT_OF_SYNC, CorrelationIdError("an answer that nobody has asked for"))
            return
        try:
            decoded = self._codec.decode(payload if self._codec is FetchAnswer else BytesIO(payload))
        except Exception as error:  # whatever a schema of aiokafka raises
            self._answer = answer
            self._break(CloseReason.OUT_OF_SYNC, error)
        else:
            answer.set_result(decoded)

    def _check_late(self) -> None:
        """Is the answer late? One timer that is rarely set anew, not one for each fetch."""
        self._watch = None
        if self._answer is None:
            return
        due = self._asked_at + self._timeout_s
        if self._loop.time() < due:
            self._watch = self._loop.call_at(due, self._check_late)
        else:
            self._break(CloseReason.CONNECTION_TIMEOUT, RequestTimedOutError())

    def _break(self, reason: CloseReason, why: BaseException | None) -> None:
        """Close, once, and tell whoever waits."""
        if not self.is_open:
            return
        self.is_open = False
        self._parts.clear()
        if self._watch is not None:
            self._watch.cancel()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            if isinstance(why, KafkaError):
                answer.set_exception(why)
            else:
                cause = "" if why is None else f": {why!r}"
                error = KafkaConnectionError(f"connection to {self._opened.host}:{self._opened.port} broke{cause}")
                error.__cause__ = why
                answer.set_exception(error)
        self._opened.close(reason=reason, exc=why)
