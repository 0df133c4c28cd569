"""Octets of a client's side, cheap because thousands of clients share a process: requests, frames, events. Pure."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["CLOSE", "PING", "TEXT", "Answer", "Delivered", "Events", "Frames", "client_frame", "delivered", "request"]

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_DELIVERED: Final = re.compile(rb'\{"type":"u",(?:"at":"(\d+):(\d+)",)?"data":\{"n":(\d+)[,}]')
"""A record's frame as a node must write it: type, `at` and the bytes of the data, in this order."""


class Answer(NamedTuple):
    """The head of an HTTP answer."""

    status: int
    headers: dict[str, str]


class Delivered(NamedTuple):
    """A record's frame. Without `at`, as in Server-Sent Events, partition and next offset are -1."""

    number: int
    partition: int
    next_offset: int


def delivered(payload: bytes) -> Delivered | None:
    """The record of a frame; None: another kind of frame."""
    match = _DELIVERED.match(payload)
    if match is None:
        return None
    partition, next_offset, number = match.groups()
    if partition is None:
        return Delivered(int(number), -1, -1)
    return Delivered(int(number), int(partition), int(next_offset))


def request(path: str, token: str, *lines: str, upgrade: bool) -> bytes:
    """The head of a GET request; with `upgrade` of a `tidings.v1` handshake without compression."""
    head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", *lines]
    if upgrade:
        head += [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: tidings.v1",
        ]
    return "\r\n".join([*head, "", ""]).encode()


def take_head(buffer: bytearray) -> Answer | None:
    """Remove a whole HTTP head from the front; None: more has to come."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    del buffer[: end + 4]
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A control frame as a client sends it; a mask of zeros leaves the payload as it is."""
    return bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload


class Frames:
    """Cuts a stream of a server's web socket frames: unmasked, never fragmented, never compressed."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that is whole now.

        Raises:
            ValueError: A frame that this client did not agree to.
        """
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        try:
            while end - at >= 2:
                first, size = buffer[at], buffer[at + 1]
                start = at + 2
                if size == 126:
                    if end - at < 4:
                        break
                    size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
                elif size == 127:
                    if end - at < 10:
                        break
                    size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
                elif size > 127:
                    raise ValueError("the node masked a frame")
                if not first & 0x80 or first & 0x70:
                    raise ValueError(f"a frame begins with {first:#x}")
                if end - start < size:
                    break
                at = start + size
                yield first & 15, buffer[start:at]
        finally:
            self._buffer = buffer[at:]


class Events:
    """Cuts the chunked body of `/sse` into events: id (None: it has none) and data (empty: none)."""

    def __init__(self) -> None:
        self._chunks = bytearray()
        self._text = b""

    def feed(self, data: bytes) -> Iterator[tuple[str | None, bytes]]:
        """Each event that is whole now; comments and `retry:` alone count as one without either."""
        self._unchunk(data)
        *blocks, self._text = self._text.split(b"\n\n")
        for block in blocks:
            id_: str | None = None
            lines: list[bytes] = []
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    lines.append(line[6:])
                elif line.startswith(b"id: "):
                    id_ = line[4:].decode()
            yield id_, b"\n".join(lines)

    def _unchunk(self, data: bytes) -> None:
        chunks = self._chunks
        chunks += data
        while (line_end := chunks.find(b"\r\n")) >= 0:
            size = int(chunks[:line_end], 16)
            if len(chunks) < line_end + 2 + size + 2:
                return
            self._text += bytes(chunks[line_end + 2 : line_end + 2 + size])
            del chunks[: line_end + 2 + size + 2]
