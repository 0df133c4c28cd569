"""What the members of a chat are told about the chat itself."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tidings.messaging.context import chat_context
from tidings.messaging.domain.model import Actor, Chat, Member, UpdateType
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store.unit import Unit
from tidings.messaging.store.updates import add_update
from tidings.messaging.wire import Wire, update_data

__all__ = ["log_action", "tell"]


def tell(
    unit: Unit,
    chat: Chat,
    actor: Actor,
    who: Member,
    type: str,  # noqa: A002 - the name in the contract
    data: dict[str, Any],
    *,
    receivers: Sequence[str] | None = None,
) -> None:
    """Emit a modification about the chat.

    Args:
        chat: As it is after the change.
        who: The actor as a member.
        receivers: None: all members, the actor's own other devices included.
    """
    assert unit.now is not None
    unit.emit(
        Modification(
            chat_id=chat.id,
            type=type,
            receivers=chat.member_ids if receivers is None else receivers,
            data=data,
            context=chat_context(chat, who, actor.session, unit.now),
        )
    )


async def log_action(unit: Unit, chat: Chat, actor: Actor, who: Member, wire: Wire, action: str, **more: Any) -> Chat:
    """Note in the chat's sequence of updates what happened to the chat, and tell its members.

    Returns:
        The chat with the update's id as its newest.
    """
    assert unit.now is not None
    update = await add_update(
        unit.connection, chat.id, UpdateType.ACTION_LOG, actor.id, unit.now, content={"action": action, **more}
    )
    tell(unit, chat, actor, who, "update", update_data(update, wire))
    return msgspec.structs.replace(chat, last_update_id=update.update_id)
