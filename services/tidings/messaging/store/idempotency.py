"""The answers to requests that may come again: reading, blanking and forgetting them. Each is written with its work's
results.
"""

from collections.abc import Sequence
from typing import Any, Final

from tidings.messaging.store.answer import Stored
from tidings.messaging.store.database import Connection, Database
from tidings.messaging.store.results import KEPT

__all__ = ["Answers", "blank_answers"]

# What stays is what `wire.update_data` shows of a message that was deleted: who sent it when, in its usual shape, and
# which other messages it names.
_BLANK: Final = """
UPDATE idempotency AS kept SET body = (
  SELECT convert_to(jsonb_set(answer, '{data,content}', CASE
    WHEN gone.type = 'secret_update' THEN (SELECT jsonb_object_agg(name, '') FROM jsonb_object_keys(content) AS name)
    WHEN gone.type = 'text_message' THEN content - 'attachments' || '{"text": ""}'
    WHEN content ? 'file' THEN content - 'attachments' || jsonb_build_object('file',
      nothing || jsonb_build_object('created_at', answer #> '{data,created_at}'))
    ELSE content - 'attachments' || nothing END)::text, 'UTF8')
  FROM (SELECT convert_from(kept.body, 'UTF8')::jsonb AS answer) AS stored,
  LATERAL (SELECT answer #> '{data,content}' AS content, jsonb_build_object(
    'file_id', '00000000-0000-0000-0000-000000000000', 'file_name', '', 'mime_type', '', 'file_size', 0, 'file_url', ''
    ) AS nothing) AS parts)
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS gone (chat_id, update_id, type)
WHERE kept.chat_id = gone.chat_id AND kept.update_id = gone.update_id
"""
_SHOW_CONTENT: Final = ("text_message", "file", "secret_update")

_FIND: Final = """
SELECT request_hash, status, body FROM idempotency
WHERE user_id = $1 AND path = $2 AND key = $3 AND created_at >= now() - $4::interval
"""

_CLEAN: Final = """
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM idempotency WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT $2
  FOR UPDATE SKIP LOCKED))
"""


async def blank_answers(connection: Connection, deleted: Sequence[Any]) -> None:
    """Take the content of deleted messages out of the answers that show them: no row has it any more, and no repeat
    gets it.

    Belongs into the transaction of the deletion, as a statement of its own: only so does it see the answers of those
    for whom the deletion waited (`writing.written_as`).

    Args:
        deleted: Rows with `chat_id`, `update_id` and `type`; what is no message is left out.
    Cost: one round trip if there are messages.
    """
    rows = [row for row in deleted if row["type"] in _SHOW_CONTENT]
    if rows:
        await connection.execute(_BLANK, *([row[name] for row in rows] for name in ("chat_id", "update_id", "type")))


class Answers:
    """By user, path and key; for 24 hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, user: str, path: str, key: str) -> Stored | None:
        """The committed answer, if there is one."""
        async with self._database.connection() as connection:
            row: Any = await connection.fetchrow(_FIND, user, path, key, KEPT)
        return None if row is None else Stored(row["request_hash"], row["status"], row["body"])

    async def clean(self, limit: int = 1_000) -> int:
        """Delete some of the answers that are too old, oldest first; returns how many.

        Several processes may clean at once.
        """
        async with self._database.connection() as connection:
            done = await connection.execute(_CLEAN, KEPT, limit)
        return int(done.rpartition(" ")[2])
