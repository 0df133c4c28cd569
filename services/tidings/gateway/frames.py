"""One record to one immutable frame per way of sending, encoded once and shared by every receiver."""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from tidings.gateway.cursor import format_event_id
from tidings.gateway.wsframes import deflate, text_frame

__all__ = [
    "Encoding",
    "Encodings",
    "control_payload",
    "sse_chunk",
    "sse_event",
]

_encode = msgspec.json.Encoder().encode


class Encoding(IntEnum):
    """How the bytes of a frame are made. A connection has one; all connections of one encoding share its frames."""

    PLAIN = 0
    V1 = 1
    SSE = 2
    PLAIN_DEFLATE = 3
    V1_DEFLATE = 4

    @property
    def protocol(self) -> str:
        """The `protocol` label of metrics."""
        return _PROTOCOLS[self]

    @property
    def resumable(self) -> bool:
        """Whether its clients know where they are in the log."""
        return self not in (Encoding.PLAIN, Encoding.PLAIN_DEFLATE)


_PROTOCOLS = {
    Encoding.PLAIN: "plain",
    Encoding.V1: "v1",
    Encoding.SSE: "sse",
    Encoding.PLAIN_DEFLATE: "plain",
    Encoding.V1_DEFLATE: "v1",
}


def control_payload(kind: str, data: msgspec.Struct) -> bytes:
    """The JSON of a control frame such as `$welcome`."""
    return _encode({"type": kind, "data": data})


def sse_event(payload: bytes, event_id: str | None) -> bytes:
    """One Server-Sent Event. Line breaks in the JSON (CR, LF, CRLF) become further `data:` lines."""
    if b"\r" in payload:
        payload = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    if event_id is None:
        return b"data: " + payload + b"\n\n"
    return b"id: " + event_id.encode() + b"\ndata: " + payload + b"\n\n"


def sse_chunk(body: bytes) -> bytes:
    """The bytes as one chunk of a chunked HTTP/1.1 answer."""
    return b"%x\r\n" % len(body) + body + b"\r\n"


class Encodings:
    """The frames of one record, each made when first asked for.

    Args:
        type_: The record's type; may be re-encoded.
        data: The record's data, spliced in byte for byte.
        at: `partition:next offset`, or None for what comes from `signals`.
        log: Tag of the topic's identity.
        positions: The node's cursor with this record included; read when an SSE frame is made, so not changed before.
        compress_min_bytes: Payloads shorter than this are not worth compressing.
    """

    __slots__ = ("_at", "_compress_min_bytes", "_data", "_frames", "_log", "_positions", "_type")

    def __init__(
        self,
        type_: str,
        data: bytes | memoryview,
        at: str | None,
        log: str,
        positions: Mapping[int, int],
        compress_min_bytes: int,
    ) -> None:
        self._type = _encode(type_)
        self._data = data
        self._at = at
        self._log = log
        self._positions = positions
        self._compress_min_bytes = compress_min_bytes
        self._frames: list[bytes | None] = [None, None, None, None, None]

    def frame(self, encoding: int) -> bytes:
        """The whole frame as it goes to the socket. The same object for every caller of one encoding."""
        frame = self._frames[encoding]
        if frame is None:
            frame = self._frames[encoding] = self._make(encoding)
        return frame

    def _make(self, encoding: int) -> bytes:
        match encoding:
            case Encoding.PLAIN:
                return text_frame(self._plain())
            case Encoding.V1:
                return text_frame(self._v1())
            case Encoding.SSE:
                event_id = None if self._at is None else format_event_id(self._log, self._positions)
                return sse_chunk(sse_event(self._plain(), event_id))
            case Encoding.PLAIN_DEFLATE:
                payload = self._plain()
                return deflate(payload) if len(payload) >= self._compress_min_bytes else self.frame(Encoding.PLAIN)
            case _:
                payload = self._v1()
                return deflate(payload) if len(payload) >= self._compress_min_bytes else self.frame(Encoding.V1)

    def _plain(self) -> bytes:
        return b"".join((b'{"type":', self._type, b',"data":', self._data, b"}"))

    def _v1(self) -> bytes:
        if self._at is None:
            return self._plain()
        return b"".join((b'{"type":', self._type, b',"at":"', self._at.encode(), b'","data":', self._data, b"}"))
