"""Which pages of other origins may call, and the header lines that tell their browsers so."""

from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["Cors"]

Lines = list[tuple[bytes, bytes]]

_METHODS: Final = b"GET, HEAD, POST, PUT, DELETE"
_ASKED: Final = b"Authorization, Content-Type, Idempotency-Key, Tidings-Session, X-Internal-Token"
_SHOWN: Final = b"Retry-After, Idempotency-Replayed"
_KEPT_S: Final = b"600"
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """Args:
    origins: As in the Origin header; `*` for every page, which then can't use the cookie; none: only pages of the
        same host, which need no permission.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._every = "*" in origins
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    def lines(self, headers: Iterable[tuple[bytes, bytes]], method: str) -> tuple[Lines, bool]:
        """Header lines for the answer to a request, and whether the request was a browser's question beforehand, which
        is answered with 204 and nothing else."""
        origin = b""
        asks = False
        for name, value in headers:
            if name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                asks = method == "OPTIONS"
        if not origin:
            return ([_VARY] if self._origins and not self._every else []), False
        if not (self._every or origin in self._origins):
            return [_VARY], asks
        lines: Lines = [(b"access-control-expose-headers", _SHOWN)]
        if self._every:
            lines.append((b"access-control-allow-origin", b"*"))
        else:
            lines += [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                _VARY,
            ]
        if asks:
            lines += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _ASKED),
                (b"access-control-max-age", _KEPT_S),
            ]
        return lines, asks
