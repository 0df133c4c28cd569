"""The end of secret updates: deleted for all once their time is over, and their members told."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog

from tidings.errors import DatabaseUnavailable, NotFound
from tidings.messaging.context import chat_context, message_context
from tidings.messaging.domain.model import Chat, UpdateType
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store import updates as store
from tidings.messaging.store.database import Database
from tidings.messaging.store.expiry import chats_with_ended, ended_in, forget_in_deleted_chats
from tidings.messaging.store.messages import blank
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, update_data

__all__ = ["Expiry"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LOOK: Final = 1_000
_AT_ONCE: Final = 20
"""Of one chat in one transaction, which keeps the chat locked."""
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '1s'"
_PATIENCE_S: Final = 1.0
"""For all chats that were not free, before the others are looked at again; the last wait may end a second later."""
_HELD: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
"""What Postgres says of rows that others hold, while it may be well with the next chat's."""


class Expiry:
    """Deletes what has ended, each once, however many processes do it: who has the chat's lock finds what is left.

    A chat that somebody else has locked is passed over without waiting, and one in which something else is held after
    a second; the others go on. Only then is the lock waited for, a second or two for all that were passed over: one
    that many write to is never free, but has a queue. Whatever is held longer is there at the next look.

    Args:
        interval_s: Between two looks; so late an update may end, and the time that the work takes.
    """

    def __init__(self, database: Database, wire: Wire, *, interval_s: float = 1.0) -> None:
        self._database = database
        self._wire = wire
        self._interval_s = interval_s
        self._failures = 0

    async def run(self) -> None:
        """Look again and again until cancelled, through outages of Postgres."""
        while True:
            failures = self._failures
            try:
                if await self.sweep():
                    continue  # there may be more
                if self._failures == failures:
                    self._failures = 0
            except DatabaseUnavailable as error:
                self._failed(error)
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> int:
        """Delete what has ended by now, of the longest ended 1,000; how many this process deleted.

        Cost: two queries, four for each chat and about eight for each update; if a chat was passed over, one more and
            up to two seconds.

        Raises:
            DatabaseUnavailable: Postgres did not answer; what is deleted stays so.
        """
        await self._run(lambda unit: forget_in_deleted_chats(unit.connection, _LOOK), None)
        deleted = 0
        passed_over: list[UUID] = []
        locked: list[UUID] = []
        while True:
            async with self._database.connection() as connection:
                chats = await chats_with_ended(connection, _LOOK, passed_over)
            random.shuffle(chats)  # so that several processes seldom come upon the same chat
            found = {chat: await self._sweep_chat(chat) for chat in chats}
            deleted += sum(count or 0 for count in found.values())
            locked += [chat for chat, count in found.items() if count is None]
            nothing = [chat for chat, count in found.items() if not count]
            if not nothing:
                break
            passed_over += nothing  # or a chat in which very much has ended would hide the others as long as it is held
        begun = time.monotonic()
        for chat in locked:
            if time.monotonic() - begun < _PATIENCE_S:
                deleted += await self._sweep_chat(chat, wait=True) or 0
        return deleted

    async def _sweep_chat(self, chat_id: UUID, *, wait: bool = False) -> int | None:
        """How many were deleted; None: nobody has waited for the lock, and it is another's."""

        async def work(unit: Unit) -> int | None:
            if wait:
                chat = await unit.lock_chat(chat_id)
            elif free := await unit.lock_free_chats([chat_id]):
                ((chat, unit.now),) = free
            else:
                return None
            assert unit.now is not None
            ended = await ended_in(unit.connection, chat_id, unit.now, _AT_ONCE)
            for update_id, sender_id in ended:
                await self._end(unit, chat, update_id, sender_id)
            return len(ended)

        try:
            return await self._run(work, 0, chat_id=str(chat_id))
        except NotFound:
            return 0  # the chat was deleted meanwhile

    async def _run(self, work: Callable[[Unit], Awaitable[T]], in_vain: T, **where: str) -> T:
        """Do it in one transaction; `in_vain`: rows that it needs are held, which is told to nobody but the log."""

        async def patiently(unit: Unit) -> T:
            await unit.connection.execute(_LOCK_TIMEOUT)
            return await work(unit)

        try:
            return await self._database.run(patiently)
        except (DatabaseUnavailable, asyncpg.LockNotAvailableError) as error:
            if not isinstance(error, _HELD) and not isinstance(error.__cause__, _HELD):
                raise
            self._failed(error, **where)
            return in_vain

    def _failed(self, error: Exception, **where: str) -> None:
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            log.warning("expiry_failed", failures=self._failures, reason=str(error), **where)

    async def _end(self, unit: Unit, chat: Chat, update_id: int, sender_id: str) -> None:
        """As if its sender had deleted it for all."""
        assert unit.now is not None
        target = await store.target(unit.connection, chat.id, update_id, sender_id)
        assert target is not None
        assert target.message is not None
        gone = await store.deleted_for(unit.connection, chat.id, update_id)
        await store.delete_for_all(unit.connection, chat.id, update_id, sender_id, unit.now)
        await blank(unit.connection, target.message.id, unit.now)
        update = await store.add_update(
            unit.connection,
            chat.id,
            UpdateType.DELETE,
            sender_id,
            unit.now,
            target_update_id=update_id,
            deleted_mode="all",
        )
        message = msgspec.structs.replace(
            target.message, text="", attachments=(), modified_at=unit.now, deleted_at=unit.now
        )
        unit.emit(
            Modification(
                chat_id=chat.id,
                type="update",
                receivers=[member for member in chat.member_ids if member not in gone],
                data=update_data(update, self._wire),
                context=chat_context(
                    chat, target.message.sender, None, unit.now, message=message_context(message), expired=True
                ),
            )
        )
