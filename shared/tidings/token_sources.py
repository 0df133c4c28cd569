"""A token as it stands in one header's value: the same rules for every port of ours."""

import re
from typing import Final

__all__ = ["bearer", "from_cookie", "internal"]

_COOKIE: Final = re.compile(r'(?:^|;)\s*tidings_token=("?)([^";]*)\1\s*(?=;|$)')


def bearer(value: str) -> str:
    """Of `Authorization`: what follows the scheme Bearer; "" if it is another."""
    scheme, _, token = value.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def internal(value: str) -> str:
    """Of `X-Internal-Token`, with or without the scheme; "" if there is none."""
    token = bearer(value) or value.strip()
    return "" if token.lower() == "bearer" else token


def from_cookie(value: str) -> str:
    """Of `Cookie`: the one named tidings_token; "" without it."""
    match = _COOKIE.search(value)
    return match[2].strip() if match is not None else ""
