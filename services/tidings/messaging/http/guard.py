"""Who asks: from a request's headers to an actor, before anything of its body is read."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import ceil
from typing import Any, Final, NamedTuple

from litestar import Request

from tidings.clock import Clock
from tidings.errors import InvalidToken, UnknownKey
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.limits import Rates
from tidings.messaging.http.problems import Detail, Refused
from tidings.token_sources import bearer, from_cookie, internal
from tidings.tokens import Claims

__all__ = ["SLASH", "Found", "Guard", "actor_of", "find_token"]

SLASH: Final = "\udc2f"
"""Stands for a percent-encoded slash until the path is cut into its parts; no decoded path holds it by itself."""

_MAX_NAME_CHARS: Final = 256
_MAX_AVATAR_CHARS: Final = 4_096
_MAX_SESSION_CHARS: Final = 128
_KEPT_TOKENS: Final = 4_096
_KEPT_S: Final = 60.0
"""A key that its issuer takes back counts for so long at most."""


class Found(NamedTuple):
    """A token, and whether it stood in the cookie, which a browser sends along whichever page asks."""

    token: str
    in_cookie: bool


def find_token(headers: Iterable[tuple[bytes, bytes]]) -> Found:
    """The token from the first place that has one: Authorization, X-Internal-Token, the cookie tidings_token.

    Not from the query, where the gateway takes one too: that is for browsers' WebSocket and EventSource, which can set
    no header. Here every client can, and a path with a token in it would stand in logs, histories and Referer.

    Raises:
        InvalidToken: There is none.
    """
    second = third = ""
    for name, value in headers:
        if name == b"authorization":
            token = bearer(value.decode("latin-1"))
            if token:
                return Found(token, in_cookie=False)
        elif name == b"x-internal-token":
            second = second or internal(value.decode("latin-1"))
        elif name == b"cookie":
            third = third or from_cookie(value.decode("latin-1"))
    if not (second or third):
        raise InvalidToken("No token: send Authorization: Bearer, X-Internal-Token or the cookie tidings_token.")
    return Found(second or third, in_cookie=not second)


def actor_of(claims: Claims, session: str | None = None) -> Actor:
    """The user of a token, with the names that the token gives it, as far as they can be kept.

    Raises:
        InvalidToken: No row can hold such a user id.
    """
    if "\0" in claims.user:
        raise InvalidToken("the token's user claim has a NUL character")
    return Actor(
        id=claims.user,
        username=_text(claims.claims, _MAX_NAME_CHARS, "username", "preferred_username"),
        name=_text(claims.claims, _MAX_NAME_CHARS, "name"),
        avatar=_text(claims.claims, _MAX_AVATAR_CHARS, "avatar", "picture"),
        session=session,
    )


def _text(claims: Mapping[str, Any], limit: int, *names: str) -> str:
    for name in names:
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value.replace("\0", "").encode(errors="ignore").decode()[:limit]
    return ""


class Guard:
    """Lets requests in as somebody, as often as that one may ask.

    Args:
        verify: Token and Unix time to claims; raises `InvalidToken`.
        refresh_keys: Ask the issuer for newer keys; whether there are some.
        rates: Requests per user.
        clock: Both of its times are used.
        seen: Told of each actor before its request is done, so that its row exists.
    """

    def __init__(
        self,
        verify: Callable[[str, float], Claims],
        refresh_keys: Callable[[], Awaitable[bool]],
        rates: Rates,
        clock: Clock,
        seen: Callable[[Actor], Awaitable[None]],
    ) -> None:
        self._verify = verify
        self._refresh_keys = refresh_keys
        self._rates = rates
        self._clock = clock
        self._seen = seen
        # A signature costs more than all the rest of the shell.
        self._known: OrderedDict[str, tuple[Actor, float]] = OrderedDict()

    async def admit(
        self,
        request: "Request[Any, Any, Any]",
        may_use_cookie: Callable[[Iterable[tuple[bytes, bytes]]], bool],
    ) -> None:
        """Note in the request who asks, or raise why not.

        Args:
            may_use_cookie: Given the headers, whether a token of the cookie counts.
        Raises:
            InvalidToken: 401.
            Refused: 403 for the cookie in a request of a foreign page; 429, or 400 for headers that can't be used.
        """
        scope = request.scope
        found = find_token(scope["headers"])
        if found.in_cookie and not may_use_cookie(scope["headers"]):
            raise Refused("origin_refused")
        actor = await self._actor(found.token)
        # Before the rate is looked at, so that a refusal is logged with its user.
        scope["user"] = actor
        wait_s = self._rates.wait_s(actor.id, self._clock.monotonic())
        if wait_s:
            raise Refused("too_many_requests", headers={"retry-after": str(ceil(wait_s))})
        session = _header(scope["headers"], b"tidings-session")
        if session:
            if len(session) > _MAX_SESSION_CHARS or not session.isascii() or not session.isprintable():
                raise Refused(
                    "validation_failed",
                    details=[Detail("Tidings-Session", f"1 to {_MAX_SESSION_CHARS} printable ASCII characters")],
                )
            scope["user"] = Actor(
                id=actor.id, username=actor.username, name=actor.name, avatar=actor.avatar, session=session
            )
        params = scope["path_params"]
        if any(SLASH in value for value in params.values()):
            # The router keeps these values for the next request: they are not ours to change.
            scope["path_params"] = {name: value.replace(SLASH, "/") for name, value in params.items()}
            scope["path"] = scope["path"].replace(SLASH, "%2F")
        await self._seen(actor)

    async def _actor(self, token: str) -> Actor:
        now = self._clock.now()
        known = self._known.get(token)
        if known is not None and now < known[1]:
            return known[0]
        try:
            claims = self._verify(token, now)
        except UnknownKey:
            if not await self._refresh_keys():
                raise
            now = self._clock.now()
            claims = self._verify(token, now)
        actor = actor_of(claims)
        self._known[token] = (actor, min(claims.ends_at, now + _KEPT_S))
        self._known.move_to_end(token)
        if len(self._known) > _KEPT_TOKENS:
            self._known.popitem(last=False)
        return actor


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return ""
