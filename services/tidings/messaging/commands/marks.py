"""Delivered and read: how far a member has come."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from tidings.errors import NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.telling import newest
from tidings.messaging.context import chat_context, last_message_context, message_context
from tidings.messaging.domain.entry import Mark, MarkKind
from tidings.messaging.domain.model import Actor, Chat, Member
from tidings.messaging.domain.modification import Modification
from tidings.messaging.domain.rules import membership
from tidings.messaging.listing import mark_data
from tidings.messaging.store.database import Database
from tidings.messaging.store.marks import (
    Authored,
    Marked,
    authors,
    covered_messages,
    covering_mark,
    find_marked,
    marks_over,
    set_marks,
)
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, time_of

__all__ = ["MAX_LOOKED_AT", "MAX_SHOWN", "MAX_SHOWN_BYTES", "MAX_TOLD", "Marks", "told"]

MAX_LOOKED_AT: Final = 1_000
"""Messages whose authors are looked up when a mark covers many at once."""
MAX_SHOWN: Final = 10
"""Of the messages that were read at once, so many are shown whole to clients of other protocols, the newest."""
MAX_SHOWN_BYTES: Final = 524_288
"""JSON of all of them: whatever files others sent, who reads them is not refused for a record that is too big."""
MAX_TOLD: Final = 100
"""In chats of more members not everybody is told of every mark."""

_encode = msgspec.json.Encoder().encode


class Marks:
    """The use case of marks."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def mark(
        self,
        actor: Actor,
        chat_id: UUID,
        kind: MarkKind,
        up_to: int | UUID | None = None,
        *,
        record: Record | None = None,
    ) -> Answer:
        """Mark a message and all before it as delivered to the actor, or as read by it.

        What was marked before keeps its time: a repeat is answered with that, and nobody is told. What is read is
        delivered too, at the same moment if it was not before, and only `read` is told. One's own messages are not
        marked: who writes has read what was before.

        Args:
            up_to: The message's uuid, or its update id (or that of an update after it); None: the newest.
        Raises:
            NotFound: `chat_not_found`; `message_not_found`: none such in this chat.
        Returns:
            The mark (`marked_at` null where no mark covers it: one's own message, one from before the actor joined, or
            an empty chat), the message, and what is unread now.
        """

        async def work(unit: Unit) -> Answer:
            chat = await unit.lock_chat(chat_id)
            member = membership(chat, actor.id)
            if isinstance(up_to, int) and not 0 < up_to <= chat.last_update_id:
                raise NotFound("message_not_found")
            marked = await find_marked(unit.connection, chat_id, up_to)
            if marked is None and up_to is not None:
                raise NotFound("message_not_found")
            answer = await self._mark(unit, chat, member, actor, kind, marked)
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)

    async def _mark(
        self, unit: Unit, chat: Chat, member: Member, actor: Actor, kind: MarkKind, marked: Marked | None
    ) -> Answer:
        assert unit.now is not None
        was = member.read_no if kind is MarkKind.READ else member.delivered_no
        no = 0 if marked is None else marked.message_no
        read_no = max(member.read_no, no) if kind is MarkKind.READ else member.read_no
        at: datetime | None = None
        # One's own messages are never beyond one's marks: writing moves them.
        advances = marked is not None and no > was
        if advances:
            at = unit.now
            await set_marks(unit, chat.id, actor.id, kind, no)
            await unit.touch_chat(chat.id)
        elif marked is not None:
            at = await covering_mark(unit.connection, chat.id, actor.id, kind, no)
        mark = Mark(
            chat_id=chat.id,
            user_id=actor.id,
            kind=kind,
            up_to_no=no,
            up_to_update_id=0 if marked is None else marked.update_id,
            marked_at=at or unit.now,
        )
        unread = max(0, chat.last_message_no - read_no)
        first = await find_marked(unit.connection, chat.id, message_no=read_no + 1) if unread else None
        if advances:
            wrote = await authors(unit.connection, chat.id, was, no, MAX_LOOKED_AT)
            own: Answer = {"missed": unread}
            more: Answer = {"messages": await _snapshots(unit, chat, mark, was)}
            if first is not None:
                own["first_missed_no"] = first.message_no
                more["names"] = {str(first.message_no): _name(first)}
            if kind is MarkKind.READ and not chat.kind.is_secret:
                own["last_message"] = last_message_context(await newest(unit, chat, viewer=actor.id))
            name = None if marked is None else _name(marked)
            unit.emit(told(chat, member, actor.session, mark, was, name, wrote, self._wire, own, **more))
        return mark_data(mark, self._wire) | {
            "marked_at": None if at is None else time_of(at, self._wire),
            "message_id": None if marked is None else str(marked.id),
            "client_message_id": None if marked is None else marked.client_message_id,
            "unread": unread,
            "first_unread": None if first is None else _named(first),
        }


def told(
    chat: Chat,
    member: Member,
    session: str | None,
    mark: Mark,
    after_no: int,
    name: str | None,
    wrote: Sequence[Authored],
    wire: Wire,
    own: dict[str, Any],
    **more: Any,
) -> Modification:
    """What is told of a mark that advanced.

    In a small chat all members learn of it; in one over `MAX_TOLD` members only those who wrote what was marked, and
    the marker's own devices: with every member's every mark told to every member, a busy group would do little else.

    Args:
        member: Who marked.
        after_no: The mark as it was before.
        name: Of the message up to which it goes: its client message id, or its uuid.
        wrote: Whose messages the mark covers, each with the newest one.
        own: For the marker: what it has not read now, and what the chat shows as its newest message.
        more: Further facts, such as `messages`: those that were read, with all who read them, for clients that replace
            whole messages. Reads that writing implies come without: their rows would cost the writer queries, and where
            clients replace whole messages, writing is not reading. Whatever changes a message next tells its readers.
    """
    receivers = {
        author.user_id: {
            "message_no": author.message_no,
            "update_id": author.update_id,
            "client_message_id": author.client_message_id,
        }
        for author in wrote
        if author.user_id != member.id and chat.member(author.user_id) is not None
    }
    told = chat.member_ids if len(chat.members) <= MAX_TOLD else [member.id, *receivers]
    about = {
        "kind": mark.kind.value,
        "from_message_no": after_no,
        "up_to_message_no": mark.up_to_no,
        "client_message_id": name,
    }
    return Modification(
        chat_id=chat.id,
        type="marks_set",
        receivers=told,
        data=mark_data(mark, wire),
        context=chat_context(
            chat,
            member,
            session,
            mark.marked_at,
            marks=about,
            receivers=receivers | {member.id: own},
            **more,
        ),
    )


async def _snapshots(unit: Unit, chat: Chat, mark: Mark, after_no: int) -> list[dict[str, Any]] | None:
    """The newest messages that were read now, in order, each with everybody who has read it; as many as fit."""
    if mark.kind is not MarkKind.READ or chat.kind.is_secret or len(chat.members) > MAX_TOLD:
        return None
    first_no = max(after_no, mark.up_to_no - MAX_SHOWN) + 1
    messages = await covered_messages(unit.connection, chat.id, mark.user_id, first_no - 1, mark.up_to_no)
    rows = [
        row
        for row in await marks_over(unit.connection, chat.id, first_no, mark.up_to_no, 2 * MAX_TOLD * MAX_SHOWN)
        if row["kind"] == MarkKind.READ
    ]
    people = {member.id: member.user for member in chat.members}
    shown: list[dict[str, Any]] = []
    room_bytes = MAX_SHOWN_BYTES
    for message in reversed(messages):
        readers = [
            (people[row["user_id"]], row["marked_at"])
            for row in rows
            if row["from_no"] < message.message_no <= row["up_to_no"] and row["user_id"] != message.sender.id
        ]
        facts = message_context(message, readers=readers)
        room_bytes -= len(_encode(facts))
        if room_bytes < 0:
            break
        shown.append(facts)
    return shown[::-1]


def _name(message: Marked) -> str:
    return str(message.id) if message.client_message_id is None else message.client_message_id


def _named(message: Marked) -> Answer:
    return {
        "message_id": str(message.id),
        "update_id": message.update_id,
        "message_no": message.message_no,
        "client_message_id": message.client_message_id,
    }
