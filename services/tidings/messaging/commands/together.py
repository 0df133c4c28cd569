"""Messages that came at the same time, written in one transaction."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
import structlog

from tidings.errors import DatabaseUnavailable, DomainError
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.gathering import Gatherer
from tidings.messaging.commands.sending import Draft, Outgoing, send
from tidings.messaging.domain import rules
from tidings.messaging.domain.model import Actor, Chat, Kind
from tidings.messaging.store.answer import AnsweredBefore
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, update_data
from tidings.metrics import Metrics

__all__ = ["Letter", "Together"]

log = structlog.get_logger(__name__)

_REPEATS = (asyncpg.UniqueViolationError, AnsweredBefore)


class Letter(msgspec.Struct, frozen=True, gc=False):
    """What can be written without asking the database for more than its chat.

    Attributes:
        draft: Made once the chat is locked.
    """

    actor: Actor
    kind: Kind
    chat_id: UUID
    draft: Callable[[Chat], Draft]
    client_message_id: str | None
    record: Record | None


class Together:
    """Writes letters, those to different chats in one transaction: it costs about as much for ten as for one.

    Nothing waits here for a lock that another holds, and nothing is judged: whatever is not plainly written is the
    caller's to write alone. So no letter can hold up or spoil another.
    """

    def __init__(self, database: Database, wire: Wire, metrics: Metrics) -> None:
        self._database = database
        self._wire = wire
        self._alone = metrics.counter("tidings_messaging_written_alone_total")
        self._gather: Gatherer[Letter, Answer | None] = Gatherer(self._write, lambda letter: letter.chat_id, metrics)

    async def write(self, letter: Letter) -> Answer | None:
        """Write it with what else is there.

        Returns:
            The answer, or None if nothing of it was written: it would be refused, another holds its chat, or one of
            those that it was with broke the transaction. Write it alone then.
        Raises:
            DatabaseUnavailable: As `Database.run`, or too many wait.
        """
        answer = await self._gather(letter)
        if answer is None:
            self._alone.inc()
        return answer

    async def _write(self, letters: Sequence[Letter]) -> list[Answer | None]:
        async def work(unit: Unit) -> list[Answer | None]:
            chats = {chat.id: (chat, at) for chat, at in await unit.lock_free_chats([one.chat_id for one in letters])}
            outgoing: dict[int, Outgoing] = {}
            for place, letter in enumerate(letters):
                if letter.chat_id in chats:
                    with contextlib.suppress(DomainError):
                        outgoing[place] = _outgoing(letter, *chats[letter.chat_id])
            answers: list[Answer | None] = [None] * len(letters)
            if not outgoing:
                return answers
            updates = await send(unit, list(outgoing.values()), self._wire)
            for place, update in zip(outgoing, updates, strict=True):
                answer = answers[place] = update_data(update, self._wire)
                if (record := letters[place].record) is not None:
                    await record(unit, answer)
            return answers

        try:
            return await self._database.run(work)
        except DatabaseUnavailable:
            raise
        except _REPEATS:
            return [None] * len(letters)
        except Exception as error:
            log.warning("batch_undone", letters=len(letters), error=f"{type(error).__name__}: {error}")
            return [None] * len(letters)


def _outgoing(letter: Letter, chat: Chat, at: datetime) -> Outgoing:
    """Raises DomainError if it is refused."""
    rules.checked_kind(chat, letter.kind)
    who = rules.membership(chat, letter.actor.id)
    rules.must_be_open(chat)
    return Outgoing(chat, at, who, letter.actor.session, letter.draft(chat))
