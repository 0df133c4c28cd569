"""Which pages of other origins may call, and with the cookie; and the header lines that tell their browsers so."""

from collections.abc import Collection, Iterable
from typing import Final

from tidings.origins import same_host

__all__ = ["Cors"]

Lines = list[tuple[bytes, bytes]]

_METHODS: Final = b"GET, HEAD, POST, PUT, DELETE"
_ASKED: Final = b"Authorization, Content-Type, Idempotency-Key, Tidings-Session, X-Internal-Token"
_SHOWN: Final = b"Retry-After, Idempotency-Replayed"
_KEPT_S: Final = b"600"
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """Args:
    origins: As in the Origin header; `*` for every page, but those that are not listed beside it can't use the cookie;
        none: only pages of the same host, which need no permission.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._every = "*" in origins
        self._listed = frozenset(origin.encode("latin-1") for origin in origins if origin != "*")

    def may_use_cookie(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request may go by the token of its cookie: no page sent it, or one of the same host or of the list.

        A browser sends cookies along whichever page asks, and asks beforehand only for what no form could send. So the
        header lines alone would let any page do what needs no header of its own.
        """
        origins = []
        hosts = []
        for name, value in headers:
            if name == b"origin":
                origins.append(value)
            elif name == b"host":
                hosts.append(value)
        if len(origins) != 1:
            return not origins
        (origin,) = origins
        return origin in self._listed or (
            len(hosts) == 1 and same_host(origin.decode("latin-1"), hosts[0].decode("latin-1"))
        )

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
            return ([_VARY] if self._listed else []), False
        listed = origin in self._listed
        if not (listed or self._every):
            return [_VARY], asks
        lines: Lines = [(b"access-control-expose-headers", _SHOWN)]
        if listed:
            lines += [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
        else:
            lines.append((b"access-control-allow-origin", b"*"))
        if self._listed:
            lines.append(_VARY)
        if asks:
            lines += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _ASKED),
                (b"access-control-max-age", _KEPT_S),
            ]
        return lines, asks
