"""Where in a request a token may stand, and which place counts."""

from typing import Final

from websockets.datastructures import Headers

from tidings.errors import InvalidToken
from tidings.token_sources import bearer, from_cookie, internal

__all__ = ["BEARER_ENTRY", "find_token"]

BEARER_ENTRY: Final = "bearer."
"""What an entry of Sec-WebSocket-Protocol begins with that is a token, for browsers, which can set no header."""


def find_token(headers: Headers, query: dict[str, list[str]], *, cookies: bool = True) -> tuple[str, bool]:
    """The token from the first source that has one, and whether it counts at the handshake only.

    Args:
        cookies: Whether the cookie is one.
    Raises:
        InvalidToken: There is none.
    """
    for value in headers.get_all("Authorization"):
        token = bearer(value)
        if token:
            return token, False
    for value in headers.get_all("X-Internal-Token"):
        token = internal(value)
        if token:
            return token, True
    for value in headers.get_all("Sec-WebSocket-Protocol"):
        for entry in value.split(","):
            if entry.strip().startswith(BEARER_ENTRY) and len(entry.strip()) > len(BEARER_ENTRY):
                return entry.strip()[len(BEARER_ENTRY) :], False
    for value in headers.get_all("Cookie") if cookies else ():
        token = from_cookie(value)
        if token:
            return token, False
    token = next(iter(query.get("token", ())), "").strip()
    if token:
        return token, False
    raise InvalidToken("No token: send Authorization: Bearer, or see the README for the other places.")
