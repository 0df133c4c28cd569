"""Many rows at once, as use cases would have left them; made by Postgres itself."""

from tidings.messaging.store.database import Database

__all__ = ["fill"]

_USERS = (
    "INSERT INTO users (id, username, name) SELECT 'u' || n, 'user' || n, 'User ' || n FROM generate_series(1, $1) n"
)

_CHATS = """
INSERT INTO chats (id, kind, creator_id, admin_id, name, last_update_id, last_message_no, last_message_at)
SELECT gen_random_uuid(), 'group', 'u1', 'u1', 'group ' || n, $2, $2, now() FROM generate_series(1, $1) n
"""

_MEMBERS = """
INSERT INTO members (chat_id, user_id, read_no, delivered_no)
SELECT c.id, 'u' || CASE WHEN k = 1 THEN 1 ELSE 2 + (c.number * 7 + k * 13) % ($1::bigint - 1) END, $3, $3
FROM chats c, generate_series(1, $2::int) k ON CONFLICT DO NOTHING
"""

_UPDATES = """
INSERT INTO updates (chat_id, update_id, type, sender_id)
SELECT id, n, 'text_message', 'u1' FROM chats, generate_series(1, $1) n
"""

_MESSAGES = """
INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, text)
SELECT gen_random_uuid(), chat_id, update_id, update_id, sender_id, 'message ' || update_id FROM updates
"""

_MARKS = """
INSERT INTO marks (chat_id, user_id, kind, from_no, up_to_no, marked_at)
SELECT chat_id, user_id, kind, 0, read_no, now()
FROM members, (VALUES ('read'), ('delivered')) k (kind) WHERE read_no > 0
"""


async def fill(database: Database, *, users: int, chats: int, members: int, messages: int, unread: int = 2) -> None:
    """Groups of which `u1` is in every one, with up to `members` others and so many messages each."""
    async with database.connection() as connection:
        await connection.execute(_USERS, users)
        await connection.execute(_CHATS, chats, messages)
        await connection.execute(_MEMBERS, users, members, max(0, messages - unread))
        await connection.execute(_UPDATES, messages)
        await connection.execute(_MESSAGES)
        await connection.execute(_MARKS)
    async with database.connection() as connection:
        await connection.execute("ANALYZE")
