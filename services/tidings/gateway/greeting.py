"""Control frames as the bytes of a connection's encoding: the first ones, and those told later."""

from collections.abc import Mapping
from typing import Final

from tidings.gateway.cursor import format_cursor, format_event_id
from tidings.gateway.frames import Encoding, sse_chunk, sse_event
from tidings.gateway.protocols import native
from tidings.gateway.wsframes import ping_frame, text_frame

__all__ = ["control_frame", "greeting", "heartbeat", "place"]

_SSE_RETRY_MS: Final = (1_000, 4_000)
_GOLDEN: Final = 0.6180339887498949


def control_frame(encoding: int, payload: bytes) -> bytes:
    """The JSON of a control frame as it goes to the socket."""
    return sse_chunk(sse_event(payload, None)) if encoding == Encoding.SSE else text_frame(payload)


def greeting(encoding: int, welcome: bytes, number: int) -> bytes:
    """What a client gets first, if it is not one of plain mode, who get nothing.

    Args:
        number: Of the session. Browsers come back to an event stream after just the time that they were told, so those
            of a node that is gone would all come back at once: neighbours are told very different times.
    """
    if encoding == Encoding.SSE:
        least_ms, most_ms = _SSE_RETRY_MS
        retry_ms = least_ms + int((most_ms - least_ms) * (number * _GOLDEN % 1))
        return sse_chunk(b"retry: %d\n\n" % retry_ms) + control_frame(encoding, welcome)
    return control_frame(encoding, welcome)


def place(encoding: int, log: str, positions: Mapping[int, int]) -> bytes:
    """For Server-Sent Events the id that goes with the cursor just told: a client that breaks off before the first
    record comes back to it. Others have read the cursor in the frame."""
    if encoding != Encoding.SSE:
        return b""
    return sse_chunk(b"id: " + format_event_id(log, positions).encode() + b"\n\n")


def heartbeat(encoding: int, log: str, positions: Mapping[int, int]) -> bytes:
    """A ping, with a cursor for those who can resume. The client was given everything up to that cursor."""
    if encoding == Encoding.SSE:
        return sse_chunk(b": \nid: " + format_event_id(log, positions).encode() + b"\n\n")
    if encoding in (Encoding.V1, Encoding.V1_DEFLATE):
        return ping_frame() + text_frame(native.checkpoint(format_cursor(positions)))
    return ping_frame()
