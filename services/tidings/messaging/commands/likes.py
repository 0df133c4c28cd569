"""Liking a chat."""

from uuid import UUID

from tidings.messaging.commands import Answer, Record
from tidings.messaging.context import chat_context
from tidings.messaging.domain.model import Actor
from tidings.messaging.domain.modification import Modification
from tidings.messaging.domain.rules import membership, must_be_open
from tidings.messaging.store.database import Database
from tidings.messaging.store.likes import toggle_like
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import chat_changed

__all__ = ["Likes"]


class Likes:
    """The use case of likes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def toggle(self, actor: Actor, chat_id: UUID, *, record: Record | None = None) -> Answer:
        """Like the chat, or no longer if the actor does. Each toggle is told to all members once.

        Raises:
            NotFound: `chat_not_found`.
            Forbidden: `chat_blocked`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await unit.lock_chat(chat_id)
            member = membership(chat, actor.id)
            must_be_open(chat)
            assert unit.now is not None
            liked, likes = await toggle_like(unit.connection, chat_id, actor.id)
            await unit.touch_chat(chat_id)
            unit.emit(
                Modification(
                    chat_id=chat_id,
                    type="chat_liked" if liked else "chat_unliked",
                    receivers=chat.member_ids,
                    data=chat_changed(actor.id, chat_id),
                    context=chat_context(chat, member, actor.session, unit.now, liked=liked, likes=likes),
                )
            )
            answer: Answer = {"chat_id": str(chat_id), "liked": liked, "likes": likes}
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)
