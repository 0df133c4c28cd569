"""The hot path: messages into locked chats, in one statement."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import UpdateType
from tidings.messaging.store.database import Connection
from tidings.messaging.store.marks import Authored

__all__ = ["NewMessage", "Written", "expiry", "write_messages", "written_as"]

# One round trip for all of it: the chats' counters, the updates, the messages, the authors' marks (who writes has read
# all before it), and what the records tell the receivers about their oldest unread message. The chats are named once
# more as an array: of JSON the planner believes that it holds a hundred, and walks through all chats to find them.
_WRITE = """
WITH new AS (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS new (
    chat_id uuid, update_id bigint, type text, sender_id text, at timestamptz, content jsonb, expires_at timestamptz,
    id uuid, client_message_id text, parent_id uuid, reply_to uuid, forwarded_from uuid, text text,
    read_no bigint, delivered_no bigint, unread bigint[], look_back_to_no bigint)),
chat AS (
  UPDATE chats SET last_update_id = last_update_id + 1, last_message_no = last_message_no + 1,
    last_message_at = new.at, changed = pg_current_xact_id(), updated_at = new.at
  FROM new WHERE chats.id = ANY($2::uuid[]) AND chats.id = new.chat_id AND last_update_id = new.update_id - 1
  RETURNING chats.id AS chat_id, last_message_no AS message_no),
entry AS (
  INSERT INTO updates (chat_id, update_id, type, sender_id, created_at, content, expires_at)
  SELECT chat_id, update_id, type, sender_id, at, content, expires_at FROM new JOIN chat USING (chat_id)),
message AS (
  INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, client_message_id, parent_id, reply_to,
    forwarded_from, text, created_at, modified_at)
  SELECT id, chat_id, update_id, message_no, sender_id, client_message_id, parent_id, reply_to, forwarded_from, text,
    at, at FROM new JOIN chat USING (chat_id)
  RETURNING chat_id, number, message_no),
author AS (
  UPDATE members SET read_no = chat.message_no, delivered_no = chat.message_no, changed = pg_current_xact_id()
  FROM new JOIN chat USING (chat_id) WHERE members.chat_id = new.chat_id AND members.user_id = new.sender_id),
marked AS (
  INSERT INTO marks (chat_id, user_id, kind, from_no, up_to_no, marked_at)
  SELECT chat_id, sender_id, k.kind, k.from_no, message_no - 1, at
  FROM new JOIN chat USING (chat_id)
  CROSS JOIN LATERAL (VALUES ('read', new.read_no), ('delivered', new.delivered_no)) k (kind, from_no)
  WHERE k.from_no < message_no - 1
  ON CONFLICT DO NOTHING)
SELECT chat_id, message.number, message.message_no,
  (SELECT jsonb_object_agg(o.message_no, coalesce(o.client_message_id, o.id::text))
   FROM unnest(new.unread) AS unread (message_no)
   JOIN messages o ON o.chat_id = message.chat_id AND o.message_no = unread.message_no) AS names,
  (SELECT jsonb_agg(jsonb_build_array(a.sender_id, a.message_no, a.update_id, a.client_message_id)) FROM (
    SELECT DISTINCT ON (r.sender_id) r.sender_id, r.message_no, r.update_id, r.client_message_id
    FROM messages r WHERE r.chat_id = message.chat_id AND r.message_no > greatest(new.read_no, new.look_back_to_no)
    ORDER BY r.sender_id, r.message_no DESC) a) AS read_now
FROM message JOIN new USING (chat_id)
"""

# Nobody deletes it until the answer that shows it is kept: so the deletion finds that answer, and blanks it.
_WRITTEN = """
SELECT u.chat_id, u.update_id FROM messages m JOIN updates u ON u.chat_id = m.chat_id AND u.update_id = m.update_id
WHERE m.sender_id = $1 AND m.client_message_id = $2 FOR SHARE OF u
"""

_encode = msgspec.json.Encoder().encode
_decode_names = msgspec.json.Decoder(dict[int, str]).decode
_decode_authored = msgspec.json.Decoder(list[Authored]).decode


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be written into its chat.

    Attributes:
        update_id: The chat's last plus one.
        content: Of a secret update.
        parent_id: Of the message that it comments.
        read_no: The author's read mark as it was; messages of others beyond it are read by writing.
        delivered_no: As `read_no`.
        unread: Numbers of messages whose names are wanted.
        look_back_to_no: Of what the author read by writing, only later messages are looked at for `Written.read_now`.
    """

    chat_id: UUID
    update_id: int
    type: UpdateType
    sender_id: str
    at: datetime
    content: Mapping[str, Any]
    expires_at: datetime | None
    id: UUID
    client_message_id: str | None
    parent_id: UUID | None
    reply_to: UUID | None
    forwarded_from: UUID | None
    text: str
    read_no: int
    delivered_no: int
    unread: Sequence[int]
    look_back_to_no: int


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


async def write_messages(connection: Connection, new: Sequence[NewMessage]) -> list[Written]:
    """Write messages, their authors' marks and the chats' counters; one message a chat. The chats must be locked.

    Returns:
        For each message, in order.
    Raises:
        asyncpg.UniqueViolationError: An author gave that client message id to a message before.
    Cost: one round trip.
    """
    chats = [message.chat_id for message in new]
    rows = {row["chat_id"]: row for row in await connection.fetch(_WRITE, _encode(new).decode(), chats)}
    assert len(rows) == len(new), "a chat was not locked"
    return [_written(rows[message.chat_id]) for message in new]


def _written(row: Any) -> Written:
    names = {} if row["names"] is None else _decode_names(row["names"])
    read_now = () if row["read_now"] is None else _decode_authored(row["read_now"])
    return Written(row["number"], row["message_no"], names, read_now)


def expiry(at: datetime, seconds: int | None) -> datetime | None:
    """When something of that time ends; None: never, as also after the year 9999."""
    if seconds is None:
        return None
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return None


async def written_as(connection: Connection, sender_id: str, client_message_id: str) -> tuple[UUID, int] | None:
    """The chat and the update id of the message that its author gave that name; nobody deletes it until the commit."""
    row = await connection.fetchrow(_WRITTEN, sender_id, client_message_id)
    return None if row is None else (row["chat_id"], row["update_id"])
