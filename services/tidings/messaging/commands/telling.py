"""What the members of a chat are told about the chat itself."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tidings.messaging.context import MAX_LISTED_MEMBERS, chat_context, listed_context
from tidings.messaging.domain.entry import Newest
from tidings.messaging.domain.model import Actor, Chat, Member, UpdateType
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store.messages import newest_message
from tidings.messaging.store.unit import Unit
from tidings.messaging.store.updates import add_update
from tidings.messaging.wire import Wire, update_data

__all__ = ["log_action", "newest", "tell"]


async def newest(unit: Unit, chat: Chat, *, viewer: str | None = None) -> Newest:
    """What the chat shows as its newest message; of a secret chat nothing.

    Args:
        viewer: As this member sees it; None: as all do, but for those who deleted it for themselves.
    Cost: one query; none in a chat without messages.
    """
    if chat.kind.is_secret or not chat.last_message_no:
        return Newest()
    listed = chat.member_ids if viewer is None and len(chat.members) <= MAX_LISTED_MEMBERS else ()
    return await newest_message(unit.connection, chat, viewer, listed)


def tell(
    unit: Unit,
    chat: Chat,
    actor: Actor,
    who: Member,
    type: str,  # noqa: A002 - the name in the contract
    data: dict[str, Any],
    *,
    receivers: Sequence[str] | None = None,
    listed: Newest | None = None,
) -> None:
    """Emit a modification about the chat.

    Args:
        chat: As it is after the change.
        who: The actor as a member.
        receivers: None: all members, the actor's own other devices included.
        listed: The chat's newest message, if it changed how the chat looks in lists: clients that replace whole
            entries need that one too, and how much each has not read.
    """
    assert unit.now is not None
    told = chat.member_ids if receivers is None else receivers
    context = chat_context(chat, who, actor.session, unit.now)
    if listed is not None:
        context |= listed_context(chat, told, listed)
    unit.emit(Modification(chat_id=chat.id, type=type, receivers=told, data=data, context=context))


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
