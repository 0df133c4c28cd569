"""Chats for tests of pure rules, and what it means to be refused."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tidings.errors import DomainError
from tidings.messaging.domain.model import Chat, Kind, Member, User

__all__ = ["AT", "chat", "refused"]

AT = datetime(2026, 1, 1, tzinfo=UTC)


def chat(kind: Kind, *members: str, blocked: Iterable[str] = (), **more: Any) -> Chat:
    people = tuple(
        Member(user=User(id=member, number=number), joined_at=AT, blocked=member in blocked)
        for number, member in enumerate(members, 1)
    )
    return Chat(
        id=UUID(int=1),
        number=1,
        kind=kind,
        creator_id=members[0],
        admin_id=members[0] if kind.is_group else None,
        created_at=AT,
        members=people,
        **more,
    )


def refused(error: type[DomainError], code: str, rule: Callable[..., object], *args: object) -> DomainError:
    with pytest.raises(error) as caught:
        rule(*args)
    assert caught.value.code == code
    return caught.value
