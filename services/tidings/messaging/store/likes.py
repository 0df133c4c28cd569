"""Who likes a chat: present members only, as a like goes with its membership. Likes change under the chat's lock."""

from typing import Final
from uuid import UUID

from tidings.messaging.store.database import Connection

__all__ = ["toggle_like"]

_LIKE: Final = "INSERT INTO likes (chat_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
_UNLIKE: Final = "DELETE FROM likes WHERE chat_id = $1 AND user_id = $2"
_COUNT: Final = "SELECT count(*) FROM likes WHERE chat_id = $1"


async def toggle_like(connection: Connection, chat_id: UUID, user: str) -> tuple[bool, int]:
    """Like the chat, or no longer; returns whether the user likes it now, and how many do."""
    liked: bool | None = await connection.fetchval(_LIKE, chat_id, user)
    if not liked:
        await connection.execute(_UNLIKE, chat_id, user)
    return bool(liked), await connection.fetchval(_COUNT, chat_id)
