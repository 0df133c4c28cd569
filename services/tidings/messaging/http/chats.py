"""Paths of chats: begun, changed, ended and read; and of the facts of files, which a group's photo needs."""

from typing import Annotated, Final, Protocol
from uuid import UUID

from litestar.params import QueryParameter
from msgspec import Struct

from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.files import Files
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.secrets import Secrets
from tidings.messaging.domain.limits import MAX_PREVIEW
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.http import groups
from tidings.messaging.http.answers import CHAT, NOTHING, ChatData, ChatList, Nothing, Time
from tidings.messaging.http.bodies import Expiration, FileFacts, NewPersonal
from tidings.messaging.http.idempotency import Once
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, change, create, read, remove

__all__ = ["Commands", "FileData", "routes"]

_TAG: Final = "chats"
_FILE_ID: Final = UUID("7bed2b32-01ac-43a6-abd7-fe037de495c4")
_HOUR_NS: Final = 3_600_000_000_000
_SECRET: Final = CHAT | {"type": "secret_personal", "info": {"expiration": None}}
_PATHS: Final = {
    Kind.PERSONAL: "/chat/personal",
    Kind.GROUP: "/chat/group",
    Kind.SECRET_PERSONAL: "/chat/personal/secret",
    Kind.SECRET_GROUP: "/chat/group/secret",
}
_FACTS: Final = FileFacts("cat.jpg", "image/jpeg", 48_000, "https://files.example/cat.jpg")
_FILE: Final = {
    "file_id": str(_FILE_ID),
    "file_name": _FACTS.file_name,
    "mime_type": _FACTS.mime_type,
    "file_size": _FACTS.file_size,
    "file_url": _FACTS.file_url,
    "created_at": "2025-12-04T17:00:00.000000Z",
}

_ADMINS: Final = ("chat_not_found", "sender_not_admin")

LastUpdateId = Annotated[
    bool, QueryParameter(name="enableLastUpdateID", description="With the id of the newest update.")
]
Preview = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=MAX_PREVIEW,
        description="With so many of the newest messages, and all updates after the oldest of them.",
    ),
]


class FileData(Struct):
    """Facts of a file."""

    file_id: UUID
    file_name: str
    mime_type: str
    file_size: int
    file_url: str
    created_at: Time


class Commands(Protocol):
    """The use cases that these paths call."""

    @property
    def chats(self) -> Chats: ...

    @property
    def groups(self) -> Groups: ...

    @property
    def secrets(self) -> Secrets: ...

    @property
    def files(self) -> Files: ...


def routes(commands: Commands) -> list[Handler]:
    """All of them."""
    found = [*_reading(commands.chats), *_blocking(commands.chats), _file(commands.files)]
    found += [_delete(commands.chats, kind) for kind in Kind]
    found += [_new_personal(commands.chats, kind) for kind in (Kind.PERSONAL, Kind.SECRET_PERSONAL)]
    found.append(_delete_with_mode(commands.chats))
    # Clients in the field set a secret group's expiration by the path that says personal.
    found.append(_expiration(commands.secrets, Kind.SECRET_PERSONAL, Kind.SECRET_GROUP))
    found.append(_expiration(commands.secrets, Kind.SECRET_GROUP))
    return [*found, *groups.routes(commands.groups)]


def _reading(chats: Chats) -> list[Handler]:
    @read("/chat/all", tag=_TAG, example={"chats": [CHAT]}, answer=ChatList)
    async def list_chats(actor: Actor, last_update_id: LastUpdateId = False, preview: Preview = None) -> Reply:
        """All my chats, the one with the newest message first.

        A preview in many chats is cut: 20,000 updates in one answer, shared out evenly.
        """
        return reply(await chats.list_all(actor, last_update_id=last_update_id, preview=preview))

    @read("/chat/{chat_id:str}", tag=_TAG, example=CHAT, answer=ChatData, problems=["chat_not_found"])
    async def get_chat(
        actor: Actor, chat_id: UUID, last_update_id: LastUpdateId = False, preview: Preview = None
    ) -> Reply:
        """One of my chats."""
        return reply(await chats.get(actor, chat_id, last_update_id=last_update_id, preview=preview))

    return [list_chats, get_chat]


def _new_personal(chats: Chats, kind: Kind) -> Handler:
    @create(
        _PATHS[kind],
        tag=_TAG,
        name=f"create_{kind}_chat",
        example=_SECRET if kind.is_secret else CHAT,
        answer=ChatData,
        body=NewPersonal("bob"),
        problems=["chat_with_myself", "chat_already_exists"],
    )
    async def create_personal(actor: Actor, once: Once, data: NewPersonal) -> Reply:
        """Begin the one chat of this kind that two people have.

        A personal one is blocked as their last one was when it was deleted.
        """
        return await once(
            lambda record: chats.create_personal(actor, data.member_id, secret=kind.is_secret, record=record)
        )

    return create_personal


def _blocking(chats: Chats) -> list[Handler]:
    @change(
        "/chat/personal/{chat_id:str}/block",
        tag=_TAG,
        example=CHAT | {"info": {"blocked_by": ["alice"]}},
        answer=ChatData,
        problems=["chat_not_found", "already_blocked"],
    )
    async def block_chat(actor: Actor, chat_id: UUID) -> Reply:
        """Let nobody write to a personal chat.

        Both may block; the chat is open again when neither does.
        """
        return reply(await chats.block(actor, chat_id))

    @change(
        "/chat/personal/{chat_id:str}/unblock",
        tag=_TAG,
        example=CHAT,
        answer=ChatData,
        problems=["chat_not_found", "already_unblocked"],
    )
    async def unblock_chat(actor: Actor, chat_id: UUID) -> Reply:
        """Take my own block back."""
        return reply(await chats.unblock(actor, chat_id))

    return [block_chat, unblock_chat]


def _delete(chats: Chats, kind: Kind) -> Handler:
    @remove(
        _PATHS[kind] + "/{chat_id:str}",
        tag=_TAG,
        name=f"delete_{kind}_chat",
        example=NOTHING,
        answer=Nothing,
        problems=_ADMINS if kind.is_group else ["chat_not_found"],
    )
    async def delete_chat(actor: Actor, chat_id: UUID) -> Reply:
        """End a chat for all its members: of two people by either one, a group by its admin."""
        return reply(await chats.delete(actor, chat_id, kind))

    return delete_chat


def _delete_with_mode(chats: Chats) -> Handler:
    @remove(
        _PATHS[Kind.SECRET_PERSONAL] + "/{chat_id:str}/{mode:str}",
        tag=_TAG,
        name="delete_secret_personal_chat_with_mode",
        example=NOTHING,
        answer=Nothing,
        problems=["chat_not_found"],
    )
    async def delete_chat(actor: Actor, chat_id: UUID, mode: str) -> Reply:
        """End a secret chat for both, whatever the mode says."""
        return reply(await chats.delete(actor, chat_id, Kind.SECRET_PERSONAL))

    return delete_chat


def _expiration(secrets: Secrets, *kinds: Kind) -> Handler:
    @change(
        _PATHS[kinds[0]] + "/{chat_id:str}/expiration",
        tag=_TAG,
        name=f"set_{kinds[0]}_expiration",
        example=_SECRET | {"info": {"expiration": _HOUR_NS}},
        answer=ChatData,
        body=Expiration(_HOUR_NS),
        problems=[*_ADMINS, "invalid_expiration"],
    )
    async def set_expiration(actor: Actor, chat_id: UUID, data: Expiration) -> Reply:
        """Let what is written from now on end after a time, in nanoseconds; null: never.

        Whole seconds are kept. Of two people either one decides, in a group the admin.
        """
        return reply(await secrets.set_expiration(actor, chat_id, data.expiration, *kinds))

    return set_expiration


def _file(files: Files) -> Handler:
    @change(
        "/files/{file_id:str}",
        tag="files",
        example=_FILE,
        answer=FileData,
        body=_FACTS,
        problems=["file_too_big", "not_file_owner"],
        parameters={"file_id": str(_FILE_ID)},
    )
    async def put_file(actor: Actor, file_id: UUID, data: FileFacts) -> Reply:
        """Tell the facts of a file of mine, whose bytes are elsewhere.

        Needed before it can be sent or shown as a photo. Told again they are replaced, for what is sent from then on.
        """
        return reply(
            await files.put(
                actor,
                file_id,
                file_name=data.file_name,
                mime_type=data.mime_type,
                file_size=data.file_size,
                file_url=data.file_url,
            )
        )

    return put_file
