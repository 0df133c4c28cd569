"""What is done to messages after they were written, their files, who read them, and which is a chat's newest."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from tidings.messaging.domain.entry import Newest
from tidings.messaging.domain.model import Attachment, Chat, Message, User
from tidings.messaging.store.database import Connection

__all__ = [
    "LOOK_BACK",
    "attach",
    "blank",
    "change_comment_count",
    "files",
    "newest_message",
    "readers",
    "replace_text",
]

LOOK_BACK: Final = 1_000
"""Messages among which a chat's newest is looked for: the others are deleted ones."""

_ATTACH = """
INSERT INTO attachments (id, message_id, position, file_id, file_name, mime_type, file_size, file_url, meta, created_at)
SELECT gen_random_uuid(), $1, f.position, f.file_id, f.file_name, f.mime_type, f.file_size, f.file_url, f.meta, f.at
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::jsonb[], $8::timestamptz[])
  WITH ORDINALITY AS f (file_id, file_name, mime_type, file_size, file_url, meta, at, position)
ORDER BY f.position
RETURNING position, number
"""

_FILES = """
SELECT id, file_name, mime_type, file_size, file_url, created_at FROM files WHERE id = ANY($1::uuid[]) AND owner_id = $2
"""

# A member's marks do not overlap, so only the first that ends late enough can cover the message; where that one begins
# later, the member came later. Asked outside, so that no more than one row of a member is ever looked at.
_READERS = """
SELECT k.marked_at, u.id, u.number, u.username, u.name, u.avatar
FROM members m JOIN users u ON u.id = m.user_id
CROSS JOIN LATERAL (SELECT from_no, marked_at FROM marks WHERE chat_id = m.chat_id AND user_id = m.user_id
  AND kind = 'read' AND up_to_no >= $2 ORDER BY up_to_no LIMIT 1) k
WHERE m.chat_id = $1 AND m.left_at IS NULL AND m.read_no >= $2 AND m.user_id <> $3 AND k.from_no < $2
ORDER BY k.marked_at, u.number
"""

_NEWEST = """
SELECT m.id, m.number, m.chat_id, m.update_id, m.message_no, m.client_message_id, m.text, m.created_at, m.modified_at,
       u.id AS user_id, u.number AS user_number, u.username, u.name, u.avatar,
       ARRAY(SELECT d.user_id FROM deletions d WHERE d.chat_id = m.chat_id AND d.update_id = m.update_id
         AND d.user_id = ANY($4::text[])) AS hidden_from
FROM (
  SELECT * FROM messages WHERE chat_id = $1 AND message_no > $2 AND deleted_at IS NULL
    AND ($3::text IS NULL OR NOT EXISTS (SELECT FROM deletions d WHERE d.chat_id = messages.chat_id
      AND d.update_id = messages.update_id AND d.user_id = $3 OFFSET 0))
  ORDER BY message_no DESC LIMIT 1) m
JOIN users u ON u.id = m.sender_id
"""

_REPLACE = "UPDATE messages SET text = $2, edited_at = $3, modified_at = $3 WHERE id = $1"
_COMMENTS = """
UPDATE messages SET comment_count = comment_count + $2, modified_at = $3 WHERE id = $1 RETURNING comment_count
"""
_BLANK = """
WITH files AS (DELETE FROM attachments WHERE message_id = $1)
UPDATE messages SET text = '', modified_at = $2, deleted_at = $2 WHERE id = $1
"""

_encode = msgspec.json.Encoder().encode


async def readers(connection: Connection, message: Message) -> list[tuple[User, datetime]]:
    """Which present members read a message and when they first did, the earliest first.

    Its author is none of them, nor is who joined after it, however far that one has read since.

    Cost: one query; two rows looked up for each member.
    """
    rows = await connection.fetch(_READERS, message.chat_id, message.message_no, message.sender.id)
    return [
        (
            User(id=row["id"], number=row["number"], username=row["username"], name=row["name"], avatar=row["avatar"]),
            row["marked_at"],
        )
        for row in rows
    ]


async def newest_message(
    connection: Connection, chat: Chat, viewer: str | None = None, hidden_from: Sequence[str] = ()
) -> Newest:
    """The newest message of a chat that was not deleted: without what it answers, its files and whom it comments.

    Args:
        viewer: Nor deleted by this one for itself.
        hidden_from: Members of whom is asked whether they did so.
    Returns:
        None also if the newest `LOOK_BACK` were all deleted.
    Cost: one query, at most so many rows.
    """
    row = await connection.fetchrow(_NEWEST, chat.id, chat.last_message_no - LOOK_BACK, viewer, hidden_from)
    if row is None:
        return Newest()
    sender = User(
        id=row["user_id"],
        number=row["user_number"],
        username=row["username"],
        name=row["name"],
        avatar=row["avatar"],
    )
    message = Message(
        id=row["id"],
        number=row["number"],
        chat_id=row["chat_id"],
        update_id=row["update_id"],
        message_no=row["message_no"],
        sender=sender,
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        text=row["text"],
        client_message_id=row["client_message_id"],
    )
    return Newest(message=message, hidden_from=frozenset(row["hidden_from"]))


async def files(connection: Connection, ids: Iterable[UUID], owner: str) -> Mapping[UUID, Attachment]:
    """What is known of these files; the unknown, and those of others, are left out."""
    return {
        row["id"]: Attachment(
            file_id=row["id"],
            file_name=row["file_name"],
            mime_type=row["mime_type"],
            file_size=row["file_size"],
            file_url=row["file_url"],
            created_at=row["created_at"],
        )
        for row in await connection.fetch(_FILES, list(ids), owner)
    }


async def attach(connection: Connection, message_id: UUID, attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    """Write a message's files, in order; returns them with their numbers."""
    rows = await connection.fetch(
        _ATTACH,
        message_id,
        [attachment.file_id for attachment in attachments],
        [attachment.file_name for attachment in attachments],
        [attachment.mime_type for attachment in attachments],
        [attachment.file_size for attachment in attachments],
        [attachment.file_url for attachment in attachments],
        [_encode(attachment.meta).decode() for attachment in attachments],
        [attachment.created_at for attachment in attachments],
    )
    numbers = {row["position"]: row["number"] for row in rows}
    return tuple(
        msgspec.structs.replace(attachment, number=numbers[position])
        for position, attachment in enumerate(attachments, 1)
    )


async def replace_text(connection: Connection, message_id: UUID, text: str, at: datetime) -> None:
    """Write the new text of an edited message."""
    await connection.execute(_REPLACE, message_id, text, at)


async def change_comment_count(connection: Connection, message_id: UUID, by: int, at: datetime) -> int:
    """A comment came or went; returns how many there are now."""
    count: int = await connection.fetchval(_COMMENTS, message_id, by, at)
    return count


async def blank(connection: Connection, message_id: UUID, at: datetime) -> None:
    """Take text and files of a message away: it was deleted for all."""
    await connection.execute(_BLANK, message_id, at)
