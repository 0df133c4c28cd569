"""The HTTP answers to clients that are not let in, and the header lines that let pages of other origins read them."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

__all__ = ["Refused", "cors", "refusal"]


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


def refusal(refused: Refused, origin: str | None = None) -> bytes:
    """The whole HTTP answer, `{"error":…,"reason":…}`; the connection ends with it."""
    body = msgspec.json.encode({"error": refused.error, "reason": refused.reason}) if refused.body else b""
    lines = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}"]
    if refused.body:
        lines.append("Content-Type: application/json")
    lines.append(f"Content-Length: {len(body)}")
    lines.append("Cache-Control: no-store")
    lines.append("Connection: close")
    lines.extend(f"{name}: {value}" for name, value in refused.headers)
    if origin is not None:
        lines.extend(f"{name}: {value}" for name, value in cors(origin))
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def cors(origin: str) -> list[tuple[str, str]]:
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    ]
