"""Updates as they are read again: with their messages, newest edits and standing reactions, of any number of chats.

Whoever reads selects rows of `updates AS u` with `UPDATE_COLUMNS` where `VISIBLE` holds and gives them to `updates_of`.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Attachment, Message, Update, UpdateType, User
from tidings.messaging.store.database import Connection

__all__ = ["UPDATE_COLUMNS", "VISIBLE", "updates_of"]

UPDATE_COLUMNS: Final = (
    "u.chat_id, u.update_id, u.type, u.sender_id, u.created_at, u.target_update_id, u.deleted_mode,"
    " u.content::text AS content, u.deleted_at"
)

VISIBLE: Final = """
u.deleted_at IS NULL
AND (u.deleted_mode IS DISTINCT FROM 'only_me' OR u.sender_id = $1)
AND NOT EXISTS (SELECT FROM deletions d WHERE d.chat_id = u.chat_id AND d.user_id = $1 AND d.update_id = ANY(ARRAY[
  u.update_id, CASE WHEN u.type IN ('text_message_edited', 'reaction') THEN u.target_update_id END]) OFFSET 0)
"""
"""What a user ($1) may see: nothing that was deleted for all or for it, nor what was done to that, nor what others
deleted for themselves."""

# `OFFSET 0` keeps the planner from turning the lookups, one for each key, into a walk over the whole table.
_MESSAGES: Final = """
SELECT m.id, m.number, m.chat_id, m.update_id, m.message_no, m.sender_id, m.client_message_id, m.text, m.comment_count,
       m.forwarded_from IS NOT NULL AS forwarded, m.created_at, m.edited_at, m.modified_at, m.deleted_at,
       m.parent_id, m.reply_to
FROM unnest($1::uuid[], $2::bigint[]) AS k (chat_id, update_id),
LATERAL (SELECT * FROM messages WHERE chat_id = k.chat_id AND update_id = k.update_id OFFSET 0) m
"""

_NAMED: Final = """
SELECT m.id, m.number, m.chat_id, m.update_id, m.message_no, m.sender_id, m.client_message_id,
       CASE WHEN m.deleted_at IS NULL THEN m.text ELSE '' END AS text, m.comment_count,
       m.forwarded_from IS NOT NULL AS forwarded, m.created_at, m.edited_at, m.modified_at, m.deleted_at,
       NULL::uuid AS parent_id, NULL::uuid AS reply_to
FROM messages m WHERE m.id = ANY($1::uuid[])
"""

_SENDERS: Final = "SELECT id, number, username, name, avatar FROM users WHERE id = ANY($1::text[])"

_ATTACHMENTS: Final = """
SELECT message_id, file_id, file_name, mime_type, file_size, file_url, created_at, number, meta::text AS meta
FROM attachments WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, position
"""

# One edit of each, however many there were: who sees one of a message's edits sees them all. Each half has an index of
# its own, which knows nothing of older edits and of reactions that were taken back.
_ABOUT: Final = f"""
SELECT {UPDATE_COLUMNS}
FROM unnest($2::uuid[], $3::bigint[]) AS k (chat_id, update_id),
LATERAL (
  (SELECT * FROM updates
   WHERE chat_id = k.chat_id AND target_update_id = k.update_id AND type = 'text_message_edited'
   ORDER BY update_id DESC LIMIT 1)
  UNION ALL
  (SELECT * FROM updates
   WHERE chat_id = k.chat_id AND target_update_id = k.update_id AND type = 'reaction' AND deleted_at IS NULL OFFSET 0)
) u
WHERE {VISIBLE}
ORDER BY u.chat_id, u.update_id
"""  # noqa: S608

Key = tuple[UUID, int]


async def updates_of(connection: Connection, rows: Sequence[Any], user: str, *, nested: bool = True) -> list[Update]:
    """The updates of these rows, in their order, as the user sees them.

    Cost: at most five queries, however many they are; nested, of each message its newest edit and the reactions that
    stand, of which a user has at most one of each kind.

    Args:
        nested: With the newest edit and the reactions in each message, for a reader that does not see those updates
            anyway.
    """
    keys = [(row["chat_id"], row["update_id"]) for row in rows if UpdateType(row["type"]).is_message]
    messages = await _messages_of(connection, keys)
    edits: dict[Key, Update] = {}
    reactions: dict[Key, list[Update]] = {}
    if nested and keys:
        for row in await connection.fetch(_ABOUT, user, [key[0] for key in keys], [key[1] for key in keys]):
            about = (row["chat_id"], row["target_update_id"])
            if row["type"] == UpdateType.REACTION:
                reactions.setdefault(about, []).append(_update(row))
            else:
                edits[about] = _update(row)
    found = []
    for row in rows:
        key = row["chat_id"], row["update_id"]
        found.append(_update(row, messages.get(key), edits.get(key), reactions.get(key, ())))
    return found


async def _messages_of(connection: Connection, keys: Sequence[Key]) -> dict[Key, Message]:
    if not keys:
        return {}
    rows = await connection.fetch(_MESSAGES, [key[0] for key in keys], [key[1] for key in keys])
    ids = {row["id"] for row in rows}
    further = {row[column] for row in rows for column in ("parent_id", "reply_to")} - ids - {None}
    named = await connection.fetch(_NAMED, list(further)) if further else []
    senders = {
        row["id"]: User(**dict(row))
        for row in await connection.fetch(_SENDERS, list({row["sender_id"] for row in [*rows, *named]}))
    }
    attachments: dict[UUID, list[Attachment]] = {}
    for row in await connection.fetch(_ATTACHMENTS, list(ids)):
        facts = dict(row)
        facts["meta"] = msgspec.json.decode(facts["meta"])
        attachments.setdefault(facts.pop("message_id"), []).append(Attachment(**facts))
    plain = {row["id"]: _message(row, senders) for row in [*rows, *named]}
    found: dict[Key, Message] = {}
    for row in rows:
        message = plain[row["id"]]
        if row["parent_id"] is not None or row["reply_to"] is not None or row["id"] in attachments:
            message = msgspec.structs.replace(
                message,
                parent=plain.get(row["parent_id"]),
                reply_to=plain.get(row["reply_to"]),
                attachments=tuple(attachments.get(row["id"], ())),
            )
        found[row["chat_id"], row["update_id"]] = message
    return found


def _message(row: Any, senders: dict[str, User]) -> Message:
    return Message(
        id=row["id"],
        number=row["number"],
        chat_id=row["chat_id"],
        update_id=row["update_id"],
        message_no=row["message_no"],
        sender=senders[row["sender_id"]],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        text=row["text"],
        client_message_id=row["client_message_id"],
        forwarded=row["forwarded"],
        comment_count=row["comment_count"],
        edited_at=row["edited_at"],
        deleted_at=row["deleted_at"],
    )


def _update(
    row: Any, message: Message | None = None, edited: Update | None = None, reactions: Sequence[Update] = ()
) -> Update:
    return Update(
        chat_id=row["chat_id"],
        update_id=row["update_id"],
        type=UpdateType(row["type"]),
        sender_id=row["sender_id"],
        created_at=row["created_at"],
        target_update_id=row["target_update_id"],
        deleted_mode=row["deleted_mode"],
        content=msgspec.json.decode(row["content"]),
        message=message,
        edited=edited,
        reactions=reactions,
        deleted_at=row["deleted_at"],
    )
