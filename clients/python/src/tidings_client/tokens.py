"""When a token has to be renewed, read from the token itself. Pure; signatures are the gateway's part."""

import base64
import json
from dataclasses import dataclass
from typing import Self

__all__ = ["HeldToken", "expiry"]


def expiry(token: str) -> float | None:
    """`exp` of a JWT in Unix seconds; None if it has none or is no JWT."""
    parts = token.split(".")
    try:
        payload = parts[1]
        exp = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return float(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) and abs(exp) < 1e15 else None


@dataclass(frozen=True, slots=True)
class HeldToken:
    """A token and when to ask for the next one, in Unix seconds.

    Attributes:
        renew_at: None if its end is not known.
    """

    text: str
    expires_at: float | None
    renew_at: float | None

    @classmethod
    def of(cls, text: str, now: float, margin_s: float) -> Self:
        """`margin_s` before its end, or half-way to it if that is later: short tokens are not renewed at once."""
        expires_at = expiry(text)
        if expires_at is None:
            return cls(text, None, None)
        return cls(text, expires_at, max(expires_at - margin_s, now + (expires_at - now) / 2))

    def due(self, now: float) -> bool:
        """Whether it is time to ask for the next one."""
        return self.renew_at is not None and now >= self.renew_at

    def ended(self, now: float) -> bool:
        """Whether its end has passed."""
        return self.expires_at is not None and now >= self.expires_at
