"""The route of catching up."""

from typing import Annotated
from uuid import UUID

from litestar.params import Parameter
from msgspec import Meta, Struct

from tidings.messaging.commands.sync import Sync
from tidings.messaging.domain.model import Actor
from tidings.messaging.domain.sync import MAX_PREVIEW
from tidings.messaging.http.answers import UPDATE, UpdateData
from tidings.messaging.http.history import LISTED_CHAT, ListedChatData
from tidings.messaging.http.marks import MarkData
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, read
from tidings.messaging.http.users import UserData

__all__ = ["routes"]


class SyncedChatData(ListedChatData, kw_only=True):
    """A chat as the asker sees it, and whether it is new to the asker."""

    newly_joined: Annotated[
        bool, Meta(description="My membership began, or began again, after `since`. Without `since`: true.")
    ]


class Missed(Struct):
    """A page of what the account missed. Updates apply by chat and update id; all else is state."""

    chats: Annotated[list[SyncedChatData], Meta(description="Those that changed, whole.")]
    removed: Annotated[list[UUID], Meta(description="Chats that are no more, or not mine any more.")]
    updates: Annotated[list[UpdateData], Meta(description="By chat, then by update id.")]
    marks: list[MarkData]
    users: Annotated[list[UserData], Meta(description="Those whose names changed or are new to the caller.")]
    next: Annotated[str, Meta(description="The next `since`: at once if there is more, else whenever needed.")]
    more: bool


def routes(sync: Sync) -> list[Handler]:
    """/sync"""

    @read(
        "/sync",
        tag="Reading back",
        example={
            "chats": [LISTED_CHAT | {"newly_joined": False}],
            "removed": [],
            "updates": [UPDATE],
            "marks": [],
            "users": [],
            "next": "lsQQp9V0ZQ",
            "more": False,
        },
        answer=Missed,
        problems=["invalid_since"],
    )
    async def get_sync(
        actor: Actor,
        since: Annotated[str | None, Parameter(description="The `next` of the answer before.")] = None,
        preview: Annotated[int, Parameter(ge=0, le=MAX_PREVIEW, description="Without `since`.")] = 1,
    ) -> Reply:
        """What my account missed.

        Without `since`: its current state, with the newest messages of each chat. Follow `next` while there is `more`.
        What the client has may come again; nothing that was committed before is left out, in whatever order
        transactions end. A chat that is `newly_joined` has older messages too: forget what the client kept of it, and
        read them by range. Without `since` every chat is.
        """
        return reply(await sync.read(actor, since, preview=preview))

    return [get_sync]
