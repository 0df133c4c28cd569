"""Somebody types: told to the others at once or never, kept nowhere."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from tidings.errors import NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.context import chat_context
from tidings.messaging.domain.model import Actor
from tidings.messaging.domain.rules import membership, must_be_open
from tidings.messaging.store.chats import find_chat
from tidings.messaging.store.database import Database

__all__ = ["Signals", "Typing"]


class Signals(Protocol):
    """The way to the topic `signals`."""

    def send(
        self,
        key: str,
        receivers: Sequence[str],
        type: str,  # noqa: A002 - the name in the contract
        data: dict[str, Any],
        context: dict[str, Any],
    ) -> bool: ...


class Typing:
    """The use case of typing."""

    def __init__(self, database: Database, signals: Signals) -> None:
        self._database = database
        self._signals = signals

    async def type(self, actor: Actor, chat_id: UUID, *, stop: bool = False) -> Answer:
        """Tell the other members that the actor types, or no longer does. Lost while Kafka is away.

        Raises:
            NotFound: `chat_not_found`.
            Forbidden: `chat_blocked`.
        """
        async with self._database.connection() as connection:
            chat = await find_chat(connection, chat_id, actor.id)
            if chat is None:
                raise NotFound("chat_not_found")
            at = await connection.fetchval("SELECT now()")
        must_be_open(chat)
        member = membership(chat, actor.id)
        data: dict[str, Any] = {"user_id": actor.id, "chat_id": str(chat_id)}
        if stop:
            data["stop"] = True
        others = [id_ for id_ in chat.member_ids if id_ != actor.id]
        self._signals.send(str(chat_id), others, "typing", data, chat_context(chat, member, actor.session, at))
        return {}
