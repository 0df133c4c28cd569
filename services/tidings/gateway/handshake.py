"""A client's first bytes to a decision: let in (as whom, by which protocol) or refused (HTTP status and why)."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn
from urllib.parse import parse_qs

from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidUpgrade,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from tidings.errors import InvalidToken, UnknownKey
from tidings.gateway.frames import Encoding
from tidings.gateway.refusals import Origin, Refused, cors
from tidings.gateway.token_sources import BEARER_ENTRY, find_token
from tidings.gateway.wsframes import DEFLATE_WINDOW_BITS
from tidings.origins import same_host
from tidings.tokens import Claims

__all__ = ["Accepted", "Gatekeeper", "Policy", "parse_request", "unauthorized", "watched_until"]

SUBPROTOCOL_PLAIN: Final = Subprotocol("tidings.plain")
SUBPROTOCOL_V1: Final = Subprotocol("tidings.v1")
_ANY_PAGE: Final = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Accepted:
    """A client that may come in, if the limits on connections allow it too.

    Attributes:
        user: User id.
        address: Client's address, seen through trusted proxies.
        encoding: How its frames are made.
        inflate: The client may compress what it sends.
        expires_at: Unix time at which the token ends, or None if it was asked for at the handshake only.
        cursor: What the client resumes from, as given; "" if nothing.
        log: The log tag that goes with it.
        response: The head that opens the stream.
    """

    user: str
    address: str
    encoding: Encoding
    inflate: bool
    expires_at: float | None
    cursor: str
    log: str
    response: bytes


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide.

    Attributes:
        origins: Allowed origins of browser pages, `*` for all (but those not listed without cookies); empty: only the
            host that was asked.
        trusted_proxies: Peers whose X-Forwarded-For is believed.
        watch_expiry: Close connections when their token ends.
        compress: Negotiate permessage-deflate with clients that offer it.
    """

    origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()
    watch_expiry: bool = True
    compress: bool = True


def parse_request(head: bytes) -> Request:
    """One complete HTTP request head (up to and with the empty line).

    Raises:
        Refused: 400 what is no HTTP/1.1 request, 431 a line over 8 KiB or more than 128 headers.
    """
    reader = StreamReader()
    reader.feed_data(head)
    reader.feed_eof()
    parser = Request.parse(reader.read_line)
    try:
        next(parser)
    except StopIteration as done:
        request: Request = done.value
        return request
    except (RequestLineTooLong, HeaderLineTooLong, TooManyHeaders):
        raise Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header_too_big",
            "A line of the request or their number is too big.",
        ) from None
    except NotImplementedError:
        raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "A request here has no body.") from None
    except (EOFError, ValueError, UnicodeError):
        pass
    raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "This is no HTTP/1.1 request.")


class Gatekeeper:
    """Decides on parsed requests.

    Args:
        policy: The settings.
        verify: Token and Unix time to claims; raises `InvalidToken`.
    """

    def __init__(self, policy: Policy, verify: Callable[[str, float], Claims]) -> None:
        self._policy = policy
        self._verify = verify
        # One negotiator serves all handshakes: it keeps nothing of a request that matters to the next one.
        self._negotiator = ServerProtocol(
            extensions=[
                ServerPerMessageDeflateFactory(
                    server_no_context_takeover=True,
                    client_no_context_takeover=True,
                    server_max_window_bits=DEFLATE_WINDOW_BITS,
                )
            ]
            if policy.compress
            else None,
            select_subprotocol=_select_subprotocol,
        )

    def check(self, token: str, now: float) -> Claims:
        """A token on its own, for renewal. Raises `InvalidToken`, of which `UnknownKey` may change with time."""
        return self._verify(token, now)

    def allowed_origin(self, request: Request) -> Origin | None:
        """The Origin header, if there is one and it is allowed.

        Raises:
            Refused: 403.
        """
        origins = request.headers.get_all("Origin")
        if not origins:
            return None
        if len(origins) == 1:
            (origin,) = origins
            hosts = request.headers.get_all("Host")
            listed = origin in self._policy.origins and origin != _ANY_PAGE
            if listed or (len(hosts) == 1 and same_host(origin, hosts[0])):
                return Origin(origin, trusted=True)
            if _ANY_PAGE in self._policy.origins:
                return Origin(origin, trusted=False)
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "origin_refused",
            "Pages of this origin are not allowed; TIDINGS_GATEWAY_ORIGINS lists those that are.",
        )

    def decide(self, request: Request, peer: str, now: float) -> Accepted:
        """Judge one request.

        Args:
            request: As parsed.
            peer: The socket's other end.
            now: Unix time in seconds.
        Raises:
            Refused: Everything but an unknown key.
            UnknownKey: The token names a key that is not (yet) known: fetch keys, then decide again.
        Cost: 40 µs and one signature check.
        """
        path, _, query = request.path.partition("?")
        if path == "/ws":
            return self._web_socket(request, parse_qs(query), peer, now)
        if path == "/sse":
            return self._sse(request, parse_qs(query), peer, now)
        raise Refused(HTTPStatus.NOT_FOUND, "not_found", "Nothing here: the paths are /ws and /sse.")

    def _web_socket(self, request: Request, query: dict[str, list[str]], peer: str, now: float) -> Accepted:
        _only_get(request)
        origin = self.allowed_origin(request)
        negotiator = self._negotiator
        try:
            accept, extensions, subprotocol = negotiator.process_request(request)
        except InvalidUpgrade:
            raise Refused(
                HTTPStatus.UPGRADE_REQUIRED,
                "upgrade_required",
                "This path is a web socket: connect with a web socket client, or use /sse.",
                [("Upgrade", "websocket"), ("Connection", "Upgrade")],
            ) from None
        except InvalidHandshake as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "bad_handshake", f"{error}.") from None
        claims, at_handshake_only = self._authenticate(request, query, origin, now)
        encoding = Encoding.V1 if subprotocol == SUBPROTOCOL_V1 else Encoding.PLAIN
        deflate = extensions is not None and _fits(negotiator)
        if deflate:
            encoding = Encoding.V1_DEFLATE if encoding is Encoding.V1 else Encoding.PLAIN_DEFLATE
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        ]
        if deflate:
            lines.append(f"Sec-WebSocket-Extensions: {extensions}")
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        return Accepted(
            user=claims.user,
            address=self._address(request.headers, peer),
            encoding=encoding,
            inflate=deflate,
            expires_at=self._expiry(claims, at_handshake_only, now),
            cursor=_first(query, "cursor"),
            log=_first(query, "log"),
            response="\r\n".join([*lines, "", ""]).encode("latin-1"),
        )

    def _sse(self, request: Request, query: dict[str, list[str]], peer: str, now: float) -> Accepted:
        origin = self.allowed_origin(request)
        if request.method == "OPTIONS" and origin is not None:
            raise Refused(
                HTTPStatus.NO_CONTENT,
                "preflight",
                "",
                [
                    ("Access-Control-Allow-Methods", "GET"),
                    ("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control"),
                    ("Access-Control-Max-Age", "600"),
                ],
                body=False,
            )
        _only_get(request)
        if request.protocol != "HTTP/1.1":
            raise Refused(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http_version", "The stream needs HTTP/1.1 (chunked answers)."
            )
        claims, at_handshake_only = self._authenticate(request, query, origin, now)
        lines = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/event-stream; charset=utf-8",
            "Cache-Control: no-cache, no-transform",
            "X-Accel-Buffering: no",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ]
        if origin is not None:
            lines.extend(f"{name}: {value}" for name, value in cors(origin))
        last_event_id = next(iter(request.headers.get_all("Last-Event-ID")), "")
        return Accepted(
            user=claims.user,
            address=self._address(request.headers, peer),
            encoding=Encoding.SSE,
            inflate=False,
            expires_at=self._expiry(claims, at_handshake_only, now),
            cursor=last_event_id or _first(query, "cursor"),
            log="" if last_event_id else _first(query, "log"),
            response="\r\n".join([*lines, "", ""]).encode("latin-1"),
        )

    def _authenticate(
        self, request: Request, query: dict[str, list[str]], origin: Origin | None, now: float
    ) -> tuple[Claims, bool]:
        """Whose request it is, and whether the token counts at the handshake only."""
        try:
            # A browser sends cookies along whichever page asks, so a page that anybody may have made shows none.
            cookies = origin is None or origin.trusted
            token, at_handshake_only = find_token(request.headers, query, cookies=cookies)
            return self._verify(token, now), at_handshake_only
        except UnknownKey:
            raise
        except InvalidToken as error:
            unauthorized(error)

    def _expiry(self, claims: Claims, at_handshake_only: bool, now: float) -> float | None:
        if at_handshake_only or not self._policy.watch_expiry:
            return None
        return watched_until(claims, now)

    def _address(self, headers: Headers, peer: str) -> str:
        if not self._policy.trusted_proxies or not self._trusted(peer):
            return peer
        hops = [hop.strip() for value in headers.get_all("X-Forwarded-For") for hop in value.split(",")]
        for hop in reversed(hops):
            try:
                ipaddress.ip_address(hop)
            except ValueError:
                return peer  # whoever wrote that is not believed any further
            if not self._trusted(hop):
                return hop
            peer = hop
        return peer

    def _trusted(self, address: str) -> bool:
        try:
            parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped  # how a socket that listens on `::` names an IPv4 peer
        return any(parsed in network for network in self._policy.trusted_proxies)


def watched_until(claims: Claims, now: float) -> float:
    """When a connection with that token ends.

    Let in by the leeway alone: then the leeway is what is left, or the connection would end as it begins.
    """
    return claims.expires_at if claims.expires_at > now else claims.ends_at


def unauthorized(error: InvalidToken) -> NoReturn:
    """Raise the HTTP answer to a refused token."""
    raise Refused(
        HTTPStatus.UNAUTHORIZED, error.code, error.reason, [("WWW-Authenticate", 'Bearer realm="tidings"')]
    ) from None


def _only_get(request: Request) -> None:
    if request.method != "GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET.", [("Allow", "GET")])


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    for subprotocol in offered:
        if subprotocol in (SUBPROTOCOL_V1, SUBPROTOCOL_PLAIN):
            return subprotocol
    if all(subprotocol.startswith(BEARER_ENTRY) for subprotocol in offered):
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "subprotocol_missing",
            "A token is offered as the only subprotocol and is never echoed, so a browser would fail:"
            " offer tidings.v1 or tidings.plain beside it.",
        )
    raise Refused(
        HTTPStatus.BAD_REQUEST,
        "subprotocol_unknown",
        "None of the subprotocols offered is known here: tidings.v1, tidings.plain.",
    )


def _first(query: dict[str, list[str]], name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def _fits(negotiator: ServerProtocol) -> bool:
    """Whether our shared compressed frames suit what was negotiated: a client may ask for a smaller window."""
    return all(
        isinstance(extension, PerMessageDeflate) and extension.local_max_window_bits == DEFLATE_WINDOW_BITS
        for extension in negotiator.extensions
    )
