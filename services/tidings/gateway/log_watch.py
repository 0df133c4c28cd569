"""Which life of the topic the offsets belong to: its id, asked for now and then and whenever it may have changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tidings.errors import DependencyError
from tidings.kafka.cluster import AWAY

__all__ = ["LOG_POLL_S", "LogWatch"]

log = logging.getLogger(__name__)

LOG_POLL_S: Final = 5.0


class LogWatch:
    """Polls the topic's id; a topic that was deleted and made anew has another one.

    Args:
        ask: The topic's id; None where the broker has none or there is no such topic just now.
        fallback: The tag where the broker knows no ids: the topic's name, the best that can be known of it.
        reconnects: How often the brokers came back so far: what was asked before the last time may not hold.
        on_change: Called with the new tag when it is another one, and with whether the topic is another one too; False
            when its id is known for the first time. May raise what `AWAY` names, then it is called again.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[str | None]],
        fallback: str,
        reconnects: Callable[[], int],
        on_change: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._ask = ask
        self._fallback = fallback
        self._reconnects = reconnects
        self._on_change = on_change
        self._checked_at_reconnects = 0
        self._checking: asyncio.Task[bool | None] | None = None
        self._identified = False
        self.tag = ""
        """Opaque to clients; safe in a URL and without a dot."""

    @property
    def stale(self) -> bool:
        """Whether the brokers were away since the id was asked for."""
        return self._checked_at_reconnects != self._reconnects()

    async def start(self) -> None:
        """Ask for the first time; without an answer the name stands for the id."""
        self._checked_at_reconnects = self._reconnects()
        found = None
        try:
            found = await self._ask()
        except DependencyError as error:
            log.warning("the topic's id is not known, its name stands for it: %s", error)
        self._identified = found is not None
        self.tag = _tag(found or self._fallback)

    async def check(self) -> bool | None:
        """Ask now; those who ask at once share one question.

        Returns:
            Whether the topic is another one now; None: nobody answered.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check(), name="log-check")
        return await asyncio.shield(self._checking)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(LOG_POLL_S)
            await self.check()

    async def _check(self) -> bool | None:
        reconnects = self._reconnects()
        try:
            found = await self._ask()
            if found is not None and _tag(found) != self.tag:
                # Where its name stood for it, nothing says that it is another one: what was read of it holds.
                before, self.tag, another = self.tag, _tag(found), self._identified
                try:
                    await self._on_change(self.tag, another)
                except AWAY:
                    self.tag = before
                    raise
                self._identified = True
                self._checked_at_reconnects = reconnects
                return another
        except (DependencyError, *AWAY) as error:
            log.warning("the topic's id can't be asked for now: %s", error)
            return None
        self._checked_at_reconnects = reconnects
        return False


def _tag(name: str) -> str:
    # Kafka writes ids in base64; a name may hold dots, which separate the parts of an event id.
    return name.replace("+", "-").replace("/", "_").replace(".", "~")
