"""Web socket frames (RFC 6455, RFC 7692) as bytes: what the gateway sends, prebuilt; what clients send, parsed.

The opening handshake is websockets' Sans-I/O code (`handshake.py`). After it a connection needs far less than that
library's `ServerProtocol` keeps (4.8 KB each), so this module replaces it: outgoing frames are built once and shared by
all receivers, incoming ones pass through a parser that holds nothing while no message is half read.
"""

import codecs
import math
import zlib
from enum import IntEnum
from typing import Final, NamedTuple

from tidings.closing import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - no wheel for this platform
    from websockets.utils import apply_mask

__all__ = [
    "DEFLATE_WINDOW_BITS",
    "ClientEvent",
    "ClientFrames",
    "Opcode",
    "ProtocolViolation",
    "close_frame",
    "deflate",
    "ping_frame",
    "pong_frame",
    "text_frame",
]

DEFLATE_WINDOW_BITS: Final = 12
"""Window of every compressed message we send: 4 KiB covers a frame of chat and keeps a compressor at 32 KB, not 256."""

_DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"
_MAX_CONTROL_BYTES: Final = 125
_VALID_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Opcode(IntEnum):
    """Kinds of frame (RFC 6455, section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class ProtocolViolation(Exception):
    """What the client sent ends the connection.

    Attributes:
        code: The close code to send.
        reason: Short text for the close frame.
        events: What was complete before it in the same bytes, still to be obeyed.
    """

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        self.events: list[ClientEvent] = []
        super().__init__(code, reason)


class ClientEvent(NamedTuple):
    """A whole message or one control frame.

    Attributes:
        opcode: TEXT, BINARY, PING, PONG or CLOSE.
        payload: Unmasked and inflated. Text is checked to be UTF-8. Of CLOSE: the two code bytes and the reason.
    """

    opcode: int
    payload: bytes


def _head(opcode: int, length: int, *, compressed: bool = False) -> bytes:
    first = 0x80 | opcode | (0x40 if compressed else 0)
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return bytes((first, 126, length >> 8, length & 255))
    return bytes((first, 127)) + length.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """One complete, unmasked text frame around `payload` (UTF-8, not checked). Cost: one copy of the payload."""
    return _head(Opcode.TEXT, len(payload)) + payload


def deflate(payload: bytes) -> bytes:
    """One complete text frame, compressed without context: the same bytes serve every client that negotiated it.

    Cost: about 20 µs for a frame of chat, so compress once per record, never per receiver.
    """
    compressor = zlib.compressobj(level=1, wbits=-DEFLATE_WINDOW_BITS, memLevel=5)
    body = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    body = body.removesuffix(_DEFLATE_TAIL)
    return _head(Opcode.TEXT, len(body), compressed=True) + body


def ping_frame(payload: bytes = b"") -> bytes:
    """A ping; at most 125 bytes of payload."""
    return _head(Opcode.PING, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping with that payload."""
    return _head(Opcode.PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame can hold, at a character's edge."""
    text = reason.encode()[: _MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return _head(Opcode.CLOSE, 2 + len(text)) + code.to_bytes(2, "big") + text


class ClientFrames:
    """The receiving half of one web socket: bytes in, whole messages and control frames out.

    Args:
        max_message_bytes: A message over this (after inflating, fragments together) is refused with 1009 as soon as a
            header or the inflater shows it: no more than that is ever held.
        inflate: permessage-deflate was negotiated (without context takeover on the client's side).
    """

    __slots__ = (
        "_buffer",
        "_compressed",
        "_decoder",
        "_fragments",
        "_held_bytes",
        "_inflate",
        "_max_bytes",
        "_need",
        "_opcode",
        "taken",
    )

    def __init__(self, max_message_bytes: int, *, inflate: bool = False) -> None:
        self._max_bytes = max_message_bytes
        self._inflate = inflate
        self._buffer = bytearray()
        self._need = 0  # bytes without which the buffer can't be read any further
        self._opcode = 0  # of the fragmented message under way; 0 = none
        self._compressed = False
        self._fragments: list[bytes] | None = None
        self._held_bytes = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self.taken = 0
        """Whole frames in what was last fed, fragments included."""

    @property
    def held_bytes(self) -> int:
        """Bytes kept for an unfinished frame or message; at most the limit, a header and one control frame."""
        return len(self._buffer) + self._held_bytes

    def feed(self, data: bytes, most_frames: float = math.inf) -> list[ClientEvent]:
        """Take what the socket gave; return what is complete, in order.

        Args:
            most_frames: So many whole frames may be in it; the next one is a violation, and not looked into.
        Raises:
            ProtocolViolation: The first thing that breaks a rule; the parser must not be fed again.
        """
        self.taken = 0
        buffer = self._buffer
        if buffer:
            # Appended in place and looked at again only when it can be complete: a message that comes byte by byte
            # costs its length and not the square of it.
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        events: list[ClientEvent] = []
        try:
            self._parse(data, events, most_frames)
        except ProtocolViolation as violation:
            violation.events = events
            raise
        return events

    def _parse(self, data: bytes, events: list[ClientEvent], most_frames: float) -> None:
        position = 0
        end = len(data)
        self._need = 0
        while end - position >= 2:
            first = data[position]
            second = data[position + 1]
            length = second & 127
            start = position + 6
            if length == 126:
                start = position + 8
                if end < position + 4:
                    self._check_head(first, second, 0)
                    self._need = 4
                    break
                length = int.from_bytes(data[position + 2 : position + 4], "big")
            elif length == 127:
                start = position + 14
                if end < position + 10:
                    self._check_head(first, second, 0)
                    self._need = 10
                    break
                length = int.from_bytes(data[position + 2 : position + 10], "big")
            self._check_head(first, second, length)
            stop = start + length
            if end < stop:
                self._need = stop - position
                break
            self.taken += 1
            if self.taken > most_frames:
                raise ProtocolViolation(CloseCode.POLICY, "too many frames")
            payload = bytes(apply_mask(data[start:stop], data[start - 4 : start])) if length else b""
            event = self._take(first, payload)
            if event is not None:
                events.append(event)
                if event.opcode == Opcode.CLOSE:
                    return  # whatever follows a close frame is void
            position = stop
        if position < end:
            self._buffer += data[position:] if position else data

    def _check_head(self, first: int, second: int, length: int) -> None:
        opcode = first & 15
        if first & 0x30 or (first & 0x40 and not (self._inflate and opcode in (Opcode.TEXT, Opcode.BINARY))):
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        if not second & 0x80:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "client frames must be masked")
        if opcode >= 8:
            if opcode > 10:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "unknown opcode")
            if not first & 0x80:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if second & 127 > _MAX_CONTROL_BYTES:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "control frame over 125 bytes")
            return
        if opcode > 2:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if opcode == Opcode.CONTINUATION:
            if not self._opcode:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "continuation of nothing")
        elif self._opcode:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "a new message inside a fragmented one")
        if length + self._held_bytes > self._max_bytes:
            raise ProtocolViolation(CloseCode.TOO_BIG, f"message over {self._max_bytes} bytes")

    def _take(self, first: int, payload: bytes) -> ClientEvent | None:
        opcode = first & 15
        if opcode >= 8:
            if opcode == Opcode.CLOSE:
                _check_close(payload)
            return ClientEvent(opcode, payload)
        final = bool(first & 0x80)
        if opcode != Opcode.CONTINUATION:
            if final:
                return self._finish(opcode, payload, compressed=bool(first & 0x40))
            self._opcode = opcode
            self._compressed = bool(first & 0x40)
            self._fragments = []
            if opcode == Opcode.TEXT and not self._compressed:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        if self._fragments is None:  # pragma: no cover - _check_head refused it
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "continuation of nothing")
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from None
        self._fragments.append(payload)
        # An empty fragment costs the list a slot all the same: counted, so that a flood of them reaches the limit.
        self._held_bytes += max(len(payload), 1)
        if not final:
            return None
        whole = b"".join(self._fragments)
        checked, kind, compressed = self._decoder is not None, self._opcode, self._compressed
        self._opcode = 0
        self._held_bytes = 0
        self._fragments = self._decoder = None
        return ClientEvent(kind, whole) if checked else self._finish(kind, whole, compressed=compressed)

    def _finish(self, opcode: int, payload: bytes, *, compressed: bool) -> ClientEvent:
        if compressed:
            payload = self._inflated(payload)
        if opcode == Opcode.TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from None
        return ClientEvent(opcode, payload)

    def _inflated(self, payload: bytes) -> bytes:
        inflater = zlib.decompressobj(-15)
        try:
            whole = inflater.decompress(payload + _DEFLATE_TAIL, self._max_bytes + 1)
        except zlib.error:
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "damaged compression") from None
        if len(whole) > self._max_bytes:
            raise ProtocolViolation(CloseCode.TOO_BIG, f"message over {self._max_bytes} bytes")
        return whole


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if len(payload) == 1:
        raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _VALID_CLOSE_CODES and not 3000 <= code <= 4999:
        raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "invalid close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "close reason is not UTF-8") from None
