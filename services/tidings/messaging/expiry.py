"""The end of secret updates: deleted for all once their time is over, and their members told."""

import asyncio
import random
from typing import Final
from uuid import UUID

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

_LOOK: Final = 1_000
_AT_ONCE: Final = 20
"""Of one chat in one transaction, which keeps the chat locked."""


class Expiry:
    """Deletes what has ended, each once, however many processes do it: who has the chat's lock finds what is left.

    Args:
        interval_s: Between two looks; so late an update may end, and the time that the work takes.
    """

    def __init__(self, database: Database, wire: Wire, *, interval_s: float = 1.0) -> None:
        self._database = database
        self._wire = wire
        self._interval_s = interval_s

    async def run(self) -> None:
        """Look again and again until cancelled, through outages of Postgres."""
        failures = 0
        while True:
            try:
                if await self.sweep():
                    continue  # there may be more
                failures = 0
            except DatabaseUnavailable as error:
                failures += 1
                if failures & (failures - 1) == 0:
                    log.warning("expiry_failed", failures=failures, reason=str(error))
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> int:
        """Delete what has ended by now, of the longest ended 1,000; how many this process deleted.

        Raises:
            DatabaseUnavailable: Postgres did not answer; what is deleted stays so.
        """
        async with self._database.connection() as connection:
            await forget_in_deleted_chats(connection, _LOOK)
            chats = await chats_with_ended(connection, _LOOK)
        random.shuffle(chats)  # so that several processes seldom wait for the same chat
        return sum([await self._sweep_chat(chat) for chat in chats])

    async def _sweep_chat(self, chat_id: UUID) -> int:
        async def work(unit: Unit) -> int:
            chat = await unit.lock_chat(chat_id)
            assert unit.now is not None
            # The lock may have been waited for, so what has ended is what had when the transaction began.
            ended = await ended_in(unit.connection, chat_id, unit.now, _AT_ONCE)
            for update_id, sender_id in ended:
                await self._end(unit, chat, update_id, sender_id)
            return len(ended)

        try:
            return await self._database.run(work)
        except NotFound:
            return 0  # the chat was deleted meanwhile

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
