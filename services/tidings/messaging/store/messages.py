"""What is done to messages after they were written, their files, and who read them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Attachment, Message, User
from tidings.messaging.store.database import Connection

__all__ = [
    "attach",
    "blank",
    "change_comment_count",
    "files",
    "readers",
    "replace_text",
]


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

# For each member the first mark that covers the message.
_READERS = """
SELECT k.marked_at, u.id, u.number, u.username, u.name, u.avatar
FROM members m JOIN users u ON u.id = m.user_id
CROSS JOIN LATERAL (SELECT marked_at FROM marks WHERE chat_id = m.chat_id AND user_id = m.user_id AND kind = 'read'
  AND up_to_no >= $2 ORDER BY up_to_no LIMIT 1) k
WHERE m.chat_id = $1 AND m.left_at IS NULL AND m.read_no >= $2 AND m.user_id <> $3
ORDER BY k.marked_at, u.number
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
    """Which present members read a message and when they first did, the earliest first; its author is none of them."""
    rows = await connection.fetch(_READERS, message.chat_id, message.message_no, message.sender.id)
    return [
        (
            User(id=row["id"], number=row["number"], username=row["username"], name=row["name"], avatar=row["avatar"]),
            row["marked_at"],
        )
        for row in rows
    ]


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
