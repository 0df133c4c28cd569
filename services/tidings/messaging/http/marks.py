"""Routes of what members do besides writing: marks, likes, typing."""

from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct

from tidings.errors import InvalidInput
from tidings.messaging.commands.likes import Likes
from tidings.messaging.commands.marks import Marks
from tidings.messaging.commands.typing import Typing
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor
from tidings.messaging.http import bodies
from tidings.messaging.http.answers import Nothing, Time
from tidings.messaging.http.idempotency import Once
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, create

__all__ = ["FirstUnreadData", "LikeData", "MarkData", "MarkedData", "routes"]

_CHAT_ID: Final = "0b8f7c3e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"
_MARKED: Final[dict[str, Any]] = {
    "chat_id": _CHAT_ID,
    "user_id": "alice",
    "kind": "read",
    "up_to_message_no": 5,
    "up_to_update_id": 7,
    "marked_at": "2025-12-04T17:00:00.000000Z",
    "message_id": "6f9619ff-8b86-5011-b42d-00cf4fc964ff",
    "client_message_id": None,
    "unread": 0,
    "first_unread": None,
}


class FirstUnreadData(Struct):
    """The oldest message that is not read."""

    message_id: UUID
    update_id: int
    message_no: int
    client_message_id: str | None


class MarkData(Struct):
    """How far a member is."""

    chat_id: UUID
    user_id: str
    kind: Annotated[str, Meta(description="delivered or read")]
    up_to_message_no: int
    up_to_update_id: int
    marked_at: Annotated[
        Time | None,
        Meta(description="Null where no mark covers it: one's own message, one from before one joined, or none."),
    ]


class MarkedData(MarkData):
    """A mark that was asked for, and what is unread now."""

    message_id: UUID | None
    client_message_id: str | None
    unread: int
    first_unread: FirstUnreadData | None


class LikeData(Struct):
    """Whether I like the chat now."""

    chat_id: UUID
    liked: bool
    likes: int


def routes(marks: Marks, likes: Likes, typing: Typing) -> list[Handler]:
    """/chat/{chat_id}/marks, /like and /typing."""

    @create(
        "/chat/{chat_id:str}/marks",
        tag="Marks",
        example=_MARKED,
        answer=MarkedData,
        body=bodies.Mark(kind="read", up_to=7),
        problems=["chat_not_found", "message_not_found"],
        parameters={"chat_id": _CHAT_ID},
    )
    async def mark(actor: Actor, chat_id: UUID, data: bodies.Mark) -> Reply:
        """A message and all before it were delivered to me, or read by me.

        The first time counts: a repeat is answered with it and changes nothing, so it needs no Idempotency-Key. What is
        read is delivered. Members get `marks_set`.
        """
        return reply(await marks.mark(actor, chat_id, MarkKind(data.kind), _reference(data.up_to)))

    @create(
        "/chat/{chat_id:str}/like",
        tag="Marks",
        example={"chat_id": _CHAT_ID, "liked": True, "likes": 1},
        answer=LikeData,
        problems=["chat_not_found", "chat_blocked"],
        parameters={"chat_id": _CHAT_ID},
    )
    async def toggle_like(actor: Actor, chat_id: UUID, once: Once) -> Reply:
        """Like the chat, or no longer.

        Members get `chat_liked` or `chat_unliked`.
        """
        return await once(lambda record: likes.toggle(actor, chat_id, record=record))

    @create(
        "/chat/{chat_id:str}/typing",
        tag="Marks",
        example={},
        answer=Nothing,
        body=bodies.Typing(),
        problems=["chat_not_found", "chat_blocked"],
        parameters={"chat_id": _CHAT_ID},
    )
    async def type_in(actor: Actor, chat_id: UUID, data: bodies.Typing) -> Reply:
        """I type, or no longer.

        Told to the others at once or never; needs no Idempotency-Key.
        """
        return reply(await typing.type(actor, chat_id, stop=data.stop))

    return [mark, toggle_like, type_in]


def _reference(given: int | str | None) -> int | UUID | None:
    if not isinstance(given, str):
        return given
    try:
        return UUID(given)
    except ValueError as error:
        raise InvalidInput("validation_failed", "up_to: a message's uuid, or an update id") from error
