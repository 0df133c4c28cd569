"""The hot path: one message into a locked chat, in one statement."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Update
from tidings.messaging.store.database import Connection
from tidings.messaging.store.marks import Authored

__all__ = ["Written", "write_message", "written_as"]

# One round trip for all of it: the chat's counters, the update, the message, the author's marks (who writes has read
# all before it), and what the record tells the receivers about their oldest unread message.
_WRITE = """
WITH chat AS (
  UPDATE chats SET last_update_id = last_update_id + 1, last_message_no = last_message_no + 1, last_message_at = $5,
    changed = pg_current_xact_id(), updated_at = $5
  WHERE id = $1 AND last_update_id = $2::bigint - 1 RETURNING last_message_no),
entry AS (
  INSERT INTO updates (chat_id, update_id, type, sender_id, created_at, content, expires_at)
  SELECT $1, $2, $3, $4, $5, $6::jsonb, $7 FROM chat),
message AS (
  INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, client_message_id, parent_id, reply_to,
    forwarded_from, text, created_at, modified_at)
  SELECT $8, $1, $2, last_message_no, $4, $9, $10, $11, $12, $13, $5, $5 FROM chat RETURNING number, message_no),
author AS (
  UPDATE members SET read_no = chat.last_message_no, delivered_no = chat.last_message_no,
    changed = pg_current_xact_id()
  FROM chat WHERE members.chat_id = $1 AND members.user_id = $4),
marked AS (
  INSERT INTO marks (chat_id, user_id, kind, from_no, up_to_no, marked_at)
  SELECT $1, $4, k.kind, k.from_no, chat.last_message_no - 1, $5
  FROM chat, (VALUES ('read', $14::bigint), ('delivered', $15::bigint)) k (kind, from_no)
  WHERE k.from_no < chat.last_message_no - 1
  ON CONFLICT DO NOTHING)
SELECT message.number, message.message_no,
  (SELECT jsonb_object_agg(o.message_no, coalesce(o.client_message_id, o.id::text))
   FROM messages o WHERE o.chat_id = $1 AND o.message_no = ANY($16::bigint[])) AS names,
  (SELECT jsonb_agg(jsonb_build_array(a.sender_id, a.message_no, a.update_id, a.client_message_id)) FROM (
    SELECT DISTINCT ON (r.sender_id) r.sender_id, r.message_no, r.update_id, r.client_message_id
    FROM messages r WHERE r.chat_id = $1 AND r.message_no > greatest($14::bigint, $17::bigint)
    ORDER BY r.sender_id, r.message_no DESC) a) AS read_now
FROM message
"""

_WRITTEN = """
SELECT m.chat_id, m.update_id FROM messages m WHERE m.sender_id = $1 AND m.client_message_id = $2
"""

_encode = msgspec.json.Encoder().encode
_decode_names = msgspec.json.Decoder(dict[int, str]).decode
_decode_authored = msgspec.json.Decoder(list[Authored]).decode


class Written(NamedTuple):
    """What the database gave a new message.

    Attributes:
        names: Of the messages asked for, by their number in the chat: client message id, or uuid where there is none.
        read_now: Whose messages the author had not marked as read and has now, each with the newest one.
    """

    number: int
    message_no: int
    names: Mapping[int, str]
    read_now: Sequence[Authored]


async def write_message(
    connection: Connection,
    update: Update,
    *,
    message_id: UUID,
    text: str = "",
    client_message_id: str | None = None,
    parent: UUID | None = None,
    reply_to: UUID | None = None,
    forwarded_from: UUID | None = None,
    read_no: int,
    delivered_no: int,
    expires_in_s: int | None = None,
    unread: Sequence[int] = (),
    look_back_to_no: int = 0,
) -> Written:
    """Write a message, the author's marks and the chat's counters. The chat must be locked.

    Args:
        update: Its id is the chat's last plus one.
        read_no: The author's read mark as it was; messages of others beyond it are read by writing.
        delivered_no: As `read_no`.
        unread: Numbers of messages whose names are wanted.
        look_back_to_no: Of what the author read by writing, only later messages are looked at for `read_now`.
    Raises:
        asyncpg.UniqueViolationError: The author gave that client message id to a message before.
    Cost: one round trip.
    """
    row = await connection.fetchrow(
        _WRITE,
        update.chat_id,
        update.update_id,
        update.type.value,
        update.sender_id,
        update.created_at,
        _encode(update.content).decode(),
        None if expires_in_s is None else _after(update.created_at, expires_in_s),
        message_id,
        client_message_id,
        parent,
        reply_to,
        forwarded_from,
        text,
        read_no,
        delivered_no,
        unread,
        look_back_to_no,
    )
    assert row is not None, "the chat was not locked"
    names = {} if row["names"] is None else _decode_names(row["names"])
    read_now = () if row["read_now"] is None else _decode_authored(row["read_now"])
    return Written(row["number"], row["message_no"], names, read_now)


def _after(at: datetime, seconds: int) -> datetime | None:
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:  # after the year 9999: never
        return None


async def written_as(connection: Connection, sender_id: str, client_message_id: str) -> tuple[UUID, int] | None:
    """The chat and the update id of the message that its author gave that name."""
    row = await connection.fetchrow(_WRITTEN, sender_id, client_message_id)
    return None if row is None else (row["chat_id"], row["update_id"])
