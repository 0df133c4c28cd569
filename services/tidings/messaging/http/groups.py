"""Paths of groups: begun, named, joined and left."""

from typing import Any, Final
from uuid import UUID

from tidings.messaging.commands.groups import Groups
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.http.answers import CHAT, ChatData
from tidings.messaging.http.bodies import GroupInfo, NewGroup, PathUser, Photo
from tidings.messaging.http.idempotency import Once
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, change, create, remove

__all__ = ["routes"]

_TAG: Final = "chats"
_FILE_ID: Final = UUID("7bed2b32-01ac-43a6-abd7-fe037de495c4")
_INFO: Final = {"admin_id": "alice", "name": "Book club", "description": "Thursdays", "group_photo": None}
_SHOWN: Final = _INFO | {"group_photo": "https://files.example/cat.jpg"}
_EXAMPLES: Final[dict[Kind, dict[str, Any]]] = {
    Kind.GROUP: CHAT | {"type": "group", "info": _INFO},
    Kind.SECRET_GROUP: CHAT | {"type": "secret_group", "info": _INFO | {"expiration": None}},
}
_PATHS: Final = {Kind.GROUP: "/chat/group", Kind.SECRET_GROUP: "/chat/group/secret"}

_NAME: Final = ("group_name_empty", "group_name_too_long", "group_description_too_long")
_ADMINS: Final = ("chat_not_found", "sender_not_admin")


def routes(groups: Groups) -> list[Handler]:
    """All of them."""
    found = []
    for kind in _PATHS:
        found += [_new_group(groups, kind), _info(groups, kind), *_members(groups, kind), *_photo(groups, kind)]
    return found


def _new_group(groups: Groups, kind: Kind) -> Handler:
    @create(
        _PATHS[kind],
        tag=_TAG,
        name=f"create_{kind}_chat",
        example=_EXAMPLES[kind],
        answer=ChatData,
        body=NewGroup("Book club", ["alice", "bob"], "Thursdays"),
        problems=[*_NAME, "admin_not_member", "too_many_members"],
    )
    async def create_group(actor: Actor, once: Once, data: NewGroup) -> Reply:
        """Begin a group. I am its admin, and must be among its members."""
        return await once(
            lambda record: groups.create(
                actor,
                data.name,
                data.members,
                description=data.description,
                room=data.room,
                secret=kind.is_secret,
                record=record,
            )
        )

    return create_group


def _info(groups: Groups, kind: Kind) -> Handler:
    @change(
        _PATHS[kind] + "/{chat_id:str}",
        tag=_TAG,
        name=f"set_{kind}_info",
        example=_EXAMPLES[kind],
        answer=ChatData,
        body=GroupInfo("Book club", "Thursdays"),
        problems=[*_ADMINS, *_NAME],
    )
    async def set_info(actor: Actor, chat_id: UUID, data: GroupInfo) -> Reply:
        """Replace a group's name and description."""
        return reply(await groups.set_info(actor, chat_id, kind, data.name, data.description))

    return set_info


def _members(groups: Groups, kind: Kind) -> list[Handler]:
    path = _PATHS[kind] + "/{chat_id:str}/member/{member_id:str}"

    @change(
        path,
        tag=_TAG,
        name=f"add_{kind}_member",
        example=_EXAMPLES[kind],
        answer=ChatData,
        problems=[*_ADMINS, "user_already_member", "too_many_members"],
        parameters={"member_id": "bob"},
    )
    async def add_member(actor: Actor, chat_id: UUID, member_id: PathUser) -> Reply:
        """Add a user, who may read all that was written before."""
        return reply(await groups.add_member(actor, chat_id, kind, member_id))

    @remove(
        path,
        tag=_TAG,
        name=f"remove_{kind}_member",
        example=_EXAMPLES[kind],
        answer=ChatData,
        problems=[*_ADMINS, "member_is_admin", "user_not_member"],
        parameters={"member_id": "bob"},
    )
    async def remove_member(actor: Actor, chat_id: UUID, member_id: PathUser) -> Reply:
        """Remove a member, or leave."""
        return reply(await groups.remove_member(actor, chat_id, kind, member_id))

    return [add_member, remove_member]


def _photo(groups: Groups, kind: Kind) -> list[Handler]:
    path = _PATHS[kind] + "/{chat_id:str}/photo"

    @change(
        path,
        tag=_TAG,
        name=f"set_{kind}_photo",
        example=_EXAMPLES[kind] | {"info": _SHOWN},
        answer=ChatData,
        body=Photo(_FILE_ID),
        problems=[*_ADMINS, "file_not_found", "invalid_photo"],
    )
    async def set_photo(actor: Actor, chat_id: UUID, data: Photo) -> Reply:
        """Show a file of mine as the group's photo: a jpeg, png, webp, gif, heif or heic of at most 2 MiB."""
        return reply(await groups.set_photo(actor, chat_id, kind, data.photo_id))

    @remove(
        path,
        tag=_TAG,
        name=f"delete_{kind}_photo",
        example=_EXAMPLES[kind],
        answer=ChatData,
        problems=[*_ADMINS, "group_photo_empty"],
    )
    async def delete_photo(actor: Actor, chat_id: UUID) -> Reply:
        """Show no photo any more."""
        return reply(await groups.delete_photo(actor, chat_id, kind))

    return [set_photo, delete_photo]
