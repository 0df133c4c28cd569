"""The HTTP answers to clients that are not let in, and the header lines that let pages of other origins read them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from tidings.closing import CloseCode

__all__ = ["Origin", "Refused", "come_again", "cors", "refusal"]


class Origin(NamedTuple):
    """Where a page came from that may ask.

    Attributes:
        trusted: It is listed, or it is our own host: the user's cookies count, too.
    """

    value: str
    trusted: bool


class Refused(Exception):
    """A client that is not let in: an HTTP answer before any upgrade.

    Attributes:
        status: HTTP status.
        error: Short stable name, also the `reason` label of the metric.
        reason: One sentence for the client's developer.
        headers: Further header lines of the answer.
    """

    def __init__(
        self, status: HTTPStatus, error: str, reason: str, headers: Sequence[tuple[str, str]] = (), body: bool = True
    ) -> None:
        self.status = status
        self.error = error
        self.reason = reason
        self.headers = tuple(headers)
        self.body = body
        super().__init__(status, error, reason)


def refusal(refused: Refused, origin: Origin | None = None) -> bytes:
    """The whole HTTP answer, `{"error":…,"reason":…}`; the connection ends with it."""
    body = msgspec.json.encode({"error": refused.error, "reason": refused.reason}) if refused.body else b""
    lines = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}"]
    if refused.body:
        lines.append("Content-Type: application/json")
    if refused.status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Cache-Control: no-store")
    lines.append("Connection: close")
    lines.extend(f"{name}: {value}" for name, value in refused.headers)
    if origin is not None:
        lines.extend(f"{name}: {value}" for name, value in cors(origin))
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def come_again(retry_ms: int, origin: Origin | None = None) -> bytes:
    """The whole answer to a browser's `EventSource` that should ask again after that time, with its last event's id.

    Any other status would end it for good, whatever `Retry-After` says (HTML standard, section 9.2.3).
    """
    body = b'retry: %d\n\ndata: {"type":"$close","data":{"code":%d}}\n\n' % (retry_ms, CloseCode.GOING_AWAY)
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/event-stream; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if origin is not None:
        lines.extend(f"{name}: {value}" for name, value in cors(origin))
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def cors(origin: Origin) -> list[tuple[str, str]]:
    """Header lines of an answer that a page of that origin may read."""
    lines = [("Access-Control-Allow-Origin", origin.value), ("Vary", "Origin")]
    if origin.trusted:
        lines.append(("Access-Control-Allow-Credentials", "true"))
    return lines
