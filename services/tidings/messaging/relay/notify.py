"""Wake-ups between processes: whoever commits tells those who relay, by Postgres's NOTIFY.

Sent apart from the users' transactions and gathered, because commits that notify wait for one another. A wake-up may be
lost; the poll behind it finds what it was about.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import asyncpg
import structlog

from tidings.errors import DatabaseUnavailable
from tidings.messaging.relay.postgres import AWAY, connect

__all__ = ["CHANNEL", "Notifier"]

log = structlog.get_logger(__name__)

CHANNEL: Final = "outbox"
_GATHER_S: Final = 0.005
_CHECK_S: Final = 2.0
_RETRY_S: Final = 1.0
_ANSWER_S: Final = 5.0

_NOTIFY = "SELECT pg_notify($1, $2)"


class Notifier:
    """Tells other processes which shards have something new, and hears it from them.

    Args:
        on_news: Called with shards that may have new rows.
        on_change: Called when another process came or went, and when wake-ups may have been missed.
    """

    def __init__(self, dsn: str, *, on_news: Callable[[Collection[int]], None], on_change: Callable[[], None]) -> None:
        self._dsn = dsn
        self._on_news = on_news
        self._on_change = on_change
        self._due: set[str] = set()
        self._wanted = asyncio.Event()
        self._told = asyncio.Event()

    def send(self, shards: Iterable[int]) -> None:
        """Tell all processes, this one included: at once, or 5 ms after the one before. Cost: constant."""
        self._due.update(map(str, shards))
        self._wanted.set()

    def send_change(self) -> None:
        """Tell that this process comes or goes, so that nobody waits for the next look."""
        self._due.add("")
        self._told.clear()
        self._wanted.set()

    async def told(self, timeout_s: float) -> None:
        """Wait until the last `send_change` is told; without Postgres `timeout_s` for nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._told.wait()

    async def run(self) -> None:
        """Listen and tell until cancelled, through all outages."""
        failures = 0
        while True:
            connection = None
            try:
                connection = await connect(
                    self._dsn, "tidings-relay-notify", answer_s=_ANSWER_S, synchronous_commit="off"
                )
                await connection.add_listener(CHANNEL, self._heard)
                failures = 0
                self._on_change()
                await self._tell(connection)
            except (DatabaseUnavailable, *AWAY, TimeoutError, asyncpg.PostgresError) as error:
                failures += 1
                if failures & (failures - 1) == 0:
                    log.warning("relay_wake_ups_down", failures=failures, detail=str(error))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(_RETRY_S)

    async def _flush(self, connection: Any) -> None:
        """Send what is due, as one notification."""
        payload = ",".join(sorted(self._due))
        self._due.clear()
        self._wanted.clear()
        await connection.fetchval(_NOTIFY, CHANNEL, payload)
        if not self._due:
            self._told.set()

    async def _tell(self, connection: Any) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await self._wanted.wait()
            if not self._due:
                await connection.fetchval("SELECT 1")  # or a server that vanished would never be missed
                continue
            await self._flush(connection)
            await asyncio.sleep(_GATHER_S)

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        parts = str(payload).split(",")
        if "" in parts:
            self._on_change()
        if shards := [int(part) for part in parts if part.isdecimal()]:
            self._on_news(shards)
