"""The `context` of a record: what edges of other protocols need to build any frame without asking a database.

Native clients never see it. It is built from the rows that the use case read anyway. Times are microseconds since 1970.

- Of every record about a chat: `at_us`, `actor`, `chat`, and `session` where the request came through a socket of ours.
- `message`: what an `update` is about, whole; `root`: the message whose comments became more or fewer, whole. `readers`
  in them: who read it and when.
- `receivers`: by user id, what differs from receiver to receiver. But for `marks_set`, not in chats over
  `MAX_LISTED_MEMBERS`, nor where it is over `MAX_RECEIVERS_BYTES`.
  - Of a new message, and of `marks_set` for the marker: `missed`, how many messages are unread, and if any are,
    `first_missed_no`, the number of the oldest in its chat.
  - Of `chat_created`, `group_info_updated`, `group_members_…` and of messages that are deleted: `missed`, and of the
    chat's last message `status` (read, unread, undelivered: of one's own how far it came with the others) or, in place
    of that, `last_hidden`: true, for who deleted that message for itself.
  - Of `marks_set` for authors: `message_no`, `update_id` and `client_message_id` of its newest message that was marked.
- `names`: beside `first_missed_no`, by number (as text, since it is a key): the client message id, or the uuid where
  the author gave none. Each once; where not all fit into `MAX_NAMES_BYTES`, those that most receivers wait for.
- `last_message`: beside `status`, what the chat shows as its newest message; null where nobody has written, or of the
  newest 1,000 all were deleted. Never of secret chats. Of `marks_set` it stands in the `receivers`, for who has read.
- `marks`: of `marks_set`, what is marked; `messages`: what was read, whole, as far as `commands.marks` shows it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from tidings.messaging.domain.entry import Newest, statuses
from tidings.messaging.domain.model import Attachment, Chat, Member, Message, User

__all__ = [
    "MAX_LISTED_MEMBERS",
    "MAX_NAMES_BYTES",
    "MAX_RECEIVERS_BYTES",
    "chat_context",
    "last_message_context",
    "listed_context",
    "message_context",
    "microseconds",
    "missed_context",
    "person",
]

Facts = dict[str, Any]

MAX_LISTED_MEMBERS: Final = 1_000
"""In larger chats a record says nothing about single receivers: it would grow with every one of them."""
MAX_RECEIVERS_BYTES: Final = 98_304
"""JSON of what differs from receiver to receiver: 1,000 with uuids for ids. With the names, the largest message and its
sender it must fit into one record, whatever others are called and called theirs."""
MAX_NAMES_BYTES: Final = 32_768
"""JSON of the names of oldest unread messages: 200 of the longest plain ones, 800 uuids."""

_SURELY_FIT: Final = 50
"""So many receivers are never over `MAX_RECEIVERS_BYTES`, with the longest ids of control characters."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_encode = msgspec.json.Encoder().encode


def microseconds(at: datetime) -> int:
    """Unix time, exact."""
    return (at - _EPOCH) // _MICROSECOND


def person(user: User) -> Facts:
    """A user, as shown to others."""
    return {
        "id": user.id,
        "number": user.number,
        "username": user.username,
        "name": user.name,
        "avatar": user.avatar,
    }


def chat_context(chat: Chat, actor: Member | User, session: str | None, at: datetime, **more: object) -> Facts:
    """What every record about a chat carries.

    Args:
        actor: Who caused it.
        session: The gateway session that the actor's request came through: an edge may leave that socket out.
        at: When it happened: the same for every receiver, and what clients order by.
        more: Further facts, such as `message` or `receivers`; left out where None.
    """
    about: Facts = {
        "id": str(chat.id),
        "number": chat.number,
        "kind": chat.kind.value,
        "room": chat.room,
        "name": chat.name,
        "photo": chat.photo,
        "admin_id": chat.admin_id,
        "creator_id": chat.creator_id,
        "created_us": microseconds(chat.created_at),
    }
    if not chat.kind.is_group:  # where each receiver's view is the other one
        about["members"] = [person(member.user) for member in chat.members]
    facts: Facts = {
        "at_us": microseconds(at),
        "actor": person(actor.user if isinstance(actor, Member) else actor),
        "chat": about,
    }
    if session is not None:
        facts["session"] = session
    facts.update((key, value) for key, value in more.items() if value is not None)
    return facts


def message_context(
    message: Message, *, readers: Sequence[tuple[User, datetime]] | None = None, deleted: bool | None = None
) -> Facts:
    """A message as a complete snapshot, since some clients replace whole objects.

    Args:
        readers: Who read it and when, where that is known: for a new message nobody.
        deleted: Whether it is deleted, if another than its row says so.
    """
    facts = _quoted(message)
    facts |= {
        "chat_id": str(message.chat_id),
        "parent": None if message.parent is None else message.parent.number,
        "reply_to": None if message.reply_to is None else _quoted(message.reply_to),
        "attachments": [_attachment(attachment) for attachment in message.attachments],
        "comment_count": message.comment_count,
        "edited_us": None if message.edited_at is None else microseconds(message.edited_at),
        "modified_us": microseconds(message.modified_at),
        "forwarded": message.forwarded,
        "deleted": message.deleted_at is not None if deleted is None else deleted,
    }
    if readers is not None:
        facts["readers"] = [{"id": user.id, "number": user.number, "read_us": microseconds(at)} for user, at in readers]
    return facts


def _quoted(message: Message) -> Facts:
    return {
        "id": str(message.id),
        "number": message.number,
        "message_no": message.message_no,
        "update_id": message.update_id,
        "client_message_id": message.client_message_id,
        "text": message.text,
        "created_us": microseconds(message.created_at),
        "sender": person(message.sender),
    }


def _attachment(attachment: Attachment) -> Facts:
    return {
        "number": attachment.number,
        "file_id": str(attachment.file_id),
        "file_name": attachment.file_name,
        "mime_type": attachment.mime_type,
        "file_size": attachment.file_size,
        "file_url": attachment.file_url,
        "created_us": microseconds(attachment.created_at),
        "meta": attachment.meta,
    }


def missed_context(chat: Chat, message_no: int, sender_id: str, names: Mapping[int, str]) -> Facts:
    """The `receivers` and `names` of a new message: how many each has not read, this one included, and which is the
    oldest.

    Args:
        chat: As it was before the message.
        message_no: The new message's; the sender has read it.
        names: For message numbers, the client message id, or the uuid where the author gave none.
    Returns:
        Nothing in chats over `MAX_LISTED_MEMBERS`, or where `receivers` would be over `MAX_RECEIVERS_BYTES`.
    Cost: one walk over the members, about 1 µs for each.
    """
    if len(chat.members) > MAX_LISTED_MEMBERS:
        return {}
    receivers: dict[str, Facts] = {}
    waited_for: dict[int, int] = {}
    for member in chat.members:
        id_, first_no = member.user.id, member.read_no + 1
        if id_ == sender_id or first_no > message_no:
            receivers[id_] = {"missed": 0}
        else:
            receivers[id_] = {"missed": message_no - member.read_no, "first_missed_no": first_no}
            waited_for[first_no] = waited_for.get(first_no, 0) + 1
    return {"receivers": receivers, "names": _names(waited_for, names)} if _fit(receivers) else {}


def listed_context(chat: Chat, told: Collection[str], newest: Newest) -> Facts:
    """The `receivers` and the `last_message` of a change of a chat: how it looks in the lists of those who are told.

    Args:
        chat: As it is after the change.
    Returns:
        No `receivers` in chats over `MAX_LISTED_MEMBERS`, or where they would be over `MAX_RECEIVERS_BYTES`; no
        `last_message` of secret chats.
    Cost: one walk over the members.
    """
    facts: Facts = {}
    if not chat.kind.is_secret:
        facts["last_message"] = last_message_context(newest)
    if len(chat.members) > MAX_LISTED_MEMBERS:
        return facts
    reached = {} if newest.message is None else statuses(chat.members, newest.message)
    told = frozenset(told)
    receivers: dict[str, Facts] = {}
    for member in chat.members:
        if member.id in told:
            receivers[member.id] = {"missed": max(0, chat.last_message_no - member.read_no)}
            if member.id in newest.hidden_from:
                receivers[member.id]["last_hidden"] = True
            elif member.id in reached:
                receivers[member.id]["status"] = reached[member.id].value
    if _fit(receivers):
        facts["receivers"] = receivers
    return facts


def last_message_context(newest: Newest) -> Facts | None:
    """What a chat shows as its newest message; None: nothing."""
    return None if newest.message is None else _quoted(newest.message)


def _fit(receivers: Mapping[str, Facts]) -> bool:
    return len(receivers) <= _SURELY_FIT or len(_encode(receivers)) <= MAX_RECEIVERS_BYTES


def _names(waited_for: Mapping[int, int], names: Mapping[int, str]) -> dict[str, str]:
    """Those that are waited for, by how many each; where not all have room, those by most."""
    found: dict[str, str] = {}
    room_bytes = MAX_NAMES_BYTES
    for number in sorted(waited_for, key=waited_for.__getitem__, reverse=True):
        if (name := names.get(number)) is not None:
            room_bytes -= len(_encode(name)) + len(str(number)) + 4  # with quotes, colon and comma
            if room_bytes < 0:
                break
            found[str(number)] = name
    return found
