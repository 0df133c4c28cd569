"""What became of use cases: refused, done, several at once."""

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import pytest

from tidings.errors import DomainError
from tidings.messaging.commands import Answer
from tidings.messaging.store.database import Database

__all__ = ["changed", "code", "id_of", "outcomes"]


def id_of(answer: Answer) -> UUID:
    return UUID(answer["chat_id"])


async def code(work: Awaitable[Any], error: type[DomainError]) -> str:
    with pytest.raises(error) as caught:
        await work
    return caught.value.code


async def outcomes(*works: Awaitable[Any]) -> list[str]:
    """What became of things done at once: `done`, or the code of the refusal."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for outcome in found:
        if isinstance(outcome, BaseException) and not isinstance(outcome, DomainError):
            raise outcome
    return sorted(outcome.code if isinstance(outcome, DomainError) else "done" for outcome in found)


async def changed(database: Database, chat: UUID) -> tuple[int, dict[str, int]]:
    """The transactions that wrote the chat's row, and each member's, last."""
    row = await database.pool.fetchval("SELECT changed::text::bigint FROM chats WHERE id = $1", chat)
    rows = await database.pool.fetch(
        "SELECT user_id, changed::text::bigint AS changed FROM members WHERE chat_id = $1", chat
    )
    return row, {row["user_id"]: row["changed"] for row in rows}
