"""Routes of reading back: the messages of a chat, the list of chats."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar.params import Parameter
from msgspec import Struct

from tidings.errors import InvalidInput
from tidings.messaging.commands.history import MAX_CHATS, MAX_MESSAGES, By, History
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.answers import CHAT, UPDATE, ChatData, Time, UpdateData
from tidings.messaging.http.bodies import MAX_NUMBER
from tidings.messaging.http.marks import FirstUnreadData
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, read
from tidings.messaging.http.users import UserData

__all__ = ["LISTED_CHAT", "ListedChatData", "routes"]

Cursor = Annotated[int, Parameter(ge=0, le=MAX_NUMBER)] | None


class MessageData(UpdateData):
    """A message: the update, and its facts for edges of other protocols (times in microseconds)."""

    message: dict[str, Any]


class CoveringMarkData(Struct):
    """A mark, and the messages it covers: after `from_message_no`, up to `up_to_message_no`."""

    user_id: str
    kind: str
    from_message_no: int
    up_to_message_no: int
    marked_at: Time


class MessageList(Struct):
    """Messages in the order in which they were written."""

    messages: list[MessageData]
    marks: list[CoveringMarkData]
    more: bool


class ListedChatData(ChatData, kw_only=True):
    """A chat as the asker sees it."""

    number: int
    room: str
    last_message_no: int
    read_up_to_message_no: int
    unread: int
    first_unread: FirstUnreadData | None
    likes: int
    liked: bool
    last_message_status: str | None = None
    last_message: MessageData | None = None


class ListedChats(Struct):
    """A page of chats."""

    chats: list[ListedChatData]
    users: list[UserData]
    next: str | None


LISTED_CHAT: Final[dict[str, Any]] = CHAT | {
    "last_update_id": 7,
    "number": 1,
    "room": "",
    "last_message_no": 5,
    "read_up_to_message_no": 5,
    "unread": 0,
    "first_unread": None,
    "likes": 0,
    "liked": False,
    "last_message": None,
}


def routes(history: History) -> list[Handler]:
    """/chat/{chat_id}/messages and /chats."""

    @read(
        "/chat/{chat_id:str}/messages",
        tag="Reading back",
        example={"messages": [UPDATE | {"message": {}}], "marks": [], "more": False},
        answer=MessageList,
        problems=["chat_not_found", "message_not_found"],
        parameters={"chat_id": CHAT["chat_id"]},
    )
    async def get_messages(
        actor: Actor,
        chat_id: UUID,
        before: Cursor = None,
        after: Cursor = None,
        by: By = "update_id",
        limit: Annotated[int, Parameter(ge=1, le=MAX_MESSAGES)] = 50,
        parent: Annotated[str | None, Parameter(description="A message's uuid, or none.")] = None,
    ) -> Reply:
        """Messages of a chat, ascending.

        The newest, or those `before` or `after` a cursor, which is an update id, a message number of the chat or one of
        all chats (`by`), and not in the answer itself. `parent`: only the comments of a message; `none`: no comments.
        """
        return reply(
            await history.messages(
                actor, chat_id, before=before, after=after, by=by, limit=limit, parent=_parent(parent)
            )
        )

    @read(
        "/chats",
        tag="Reading back",
        example={"chats": [LISTED_CHAT], "users": [], "next": None},
        answer=ListedChats,
        name="list_chats_by_newest",
    )
    async def list_chats(
        actor: Actor,
        cursor: Annotated[str | None, Parameter(max_length=128)] = None,
        limit: Annotated[int, Parameter(ge=1, le=MAX_CHATS)] = 50,
    ) -> Reply:
        """My chats, the one with the newest message first.

        Each with its last message, how far that one came, and what I have not read.
        """
        return reply(await history.chats(actor, cursor=cursor, limit=limit))

    return [get_messages, list_chats]


def _parent(given: str | None) -> UUID | Literal["none"] | None:
    if given is None or given == "none":
        return given  # type: ignore[return-value]
    try:
        return UUID(given)
    except ValueError as error:
        raise InvalidInput("invalid_query_param", "parent: a message's uuid, or none") from error
