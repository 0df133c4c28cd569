"""Asks the program for tokens, in time and again."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tidings_client.errors import TidingsClientError
from tidings_client.tokens import HeldToken

__all__ = ["TokenKeeper", "TokenSource"]

TokenSource = str | Callable[[], Awaitable[str]]

log = logging.getLogger("tidings_client")

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_WALL_CLOCK_S: Final = 60.0
"""Long waits for a moment of the wall clock are cut into these: clocks are set, machines sleep."""
_LEAST_WAIT_S: Final = 0.1


class TokenKeeper:
    """The token in use. What the program's function raises is retried, a `TidingsClientError` is handed on.

    Args:
        margin_s: A token is renewed this long before its end.
        timeout_s: For each call of the function.
        wait_s: How long to wait after so many failures.
    Raises:
        ValueError: A fixed token that is none.
    """

    def __init__(self, source: TokenSource, margin_s: float, timeout_s: float, wait_s: Callable[[int], float]) -> None:
        self._source = _checked(source) if isinstance(source, str) else source
        self._margin_s = margin_s
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._held: HeldToken | None = None
        self._ended = False
        self._rejected = asyncio.Event()

    @property
    def can_renew(self) -> bool:
        """Whether another token can be had."""
        return not isinstance(self._source, str)

    def ended(self) -> None:
        """The gateway does not take the token any more: no connection without a new one."""
        self._ended = True

    def rejected(self) -> None:
        """The gateway did not take the token that was shown on the open connection."""
        self._rejected.set()

    async def for_connecting(self) -> str:
        """A token that is worth a try.

        Raises:
            Exception: What the function raised, or a TimeoutError or ValueError, and the old token will not do.
        """
        held, now = self._held, time.time()
        if held is None or self._ended or held.due(now):
            try:
                held = await self._ask()
            except TidingsClientError:
                raise
            except Exception as error:
                if held is None or self._ended or held.ended(now):
                    raise
                log.warning("no new token, the old one has to do: %r", error)
            else:
                self._held, self._ended = held, False
        return held.text

    async def keep_fresh(self, show: Callable[[str], Awaitable[None]]) -> None:
        """Show new tokens on an open connection, each before the last one ends, until cancelled."""
        if not self.can_renew or self._held is None:
            return
        self._rejected.clear()
        failures = 0
        due_at = self._held.renew_at
        while True:
            left_s = _WALL_CLOCK_S if due_at is None else min(due_at - time.time(), _WALL_CLOCK_S)
            try:
                async with asyncio.timeout(max(left_s, 0)):
                    await self._rejected.wait()
            except TimeoutError:
                if due_at is None or time.time() < due_at:
                    continue
                try:
                    new = await self._ask()
                    if not failures and _ends(new) <= _ends(self._held):
                        raise ValueError("the new token ends no later than the old one")
                except TidingsClientError:
                    raise
                except Exception as error:
                    log.warning("no new token: %r", error)
                else:
                    self._held, failures, due_at = new, 0, new.renew_at
                    await show(new.text)
                    continue
            self._rejected.clear()
            due_at = time.time() + max(_LEAST_WAIT_S, self._wait_s(failures))
            failures += 1

    async def _ask(self) -> HeldToken:
        if isinstance(self._source, str):
            text = self._source
        else:
            async with asyncio.timeout(self._timeout_s):
                text = _checked(await self._source())
        return HeldToken.of(text, time.time(), self._margin_s)


def _ends(token: HeldToken) -> float:
    return float("inf") if token.expires_at is None else token.expires_at


def _checked(text: str) -> str:
    text = text.strip()
    if not _TOKEN.fullmatch(text):
        raise ValueError("the token is empty or has characters that no token has")
    return text
