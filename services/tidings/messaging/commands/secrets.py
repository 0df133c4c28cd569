"""When what is written in a secret chat ends."""

from uuid import UUID

import msgspec

from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.telling import tell
from tidings.messaging.domain import rules
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store import chats as store
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, chat_data, chat_expiration_set

__all__ = ["Secrets"]


class Secrets:
    """The use cases of secret chats as such; what is written in them are updates."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def set_expiration(
        self,
        actor: Actor,
        chat_id: UUID,
        expiration_ns: int | None,
        *kinds: Kind,
        record: Record | None = None,
    ) -> Answer:
        """Let what is written from now on end after a time, or never.

        Args:
            expiration_ns: Nanoseconds; kept in whole seconds, the fraction cut. None: never.
            kinds: The kinds of chat that the caller means.
        Raises:
            NotFound: `chat_not_found`: none such of those kinds, or not a member.
            Forbidden: `sender_not_admin`: in a group the admin decides, among two people either one.
            InvalidInput: `invalid_expiration`: less than a second, or over 292 years.
        """
        expiration_s = rules.checked_expiration_s(expiration_ns)

        async def work(unit: Unit) -> Answer:
            chat = rules.checked_kind(await unit.lock_chat(chat_id), *kinds)
            rules.must_decide_expiration(chat, actor.id)
            who = rules.membership(chat, actor.id)
            await store.set_expiration(unit, chat.id, expiration_s)
            chat = msgspec.structs.replace(chat, expiration_s=expiration_s)
            data = chat_expiration_set(actor.id, chat.id, expiration_s)
            tell(unit, chat, actor, who, "chat_expiration_set", data)
            answer = chat_data(chat, self._wire)
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)
