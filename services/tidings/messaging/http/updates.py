"""Paths of what is written in chats, and of what is done to it."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Protocol, TypeVar
from uuid import UUID

from litestar.params import QueryParameter

from tidings.messaging.commands import Record
from tidings.messaging.commands.messages import Messages
from tidings.messaging.commands.updates import Updates
from tidings.messaging.domain.model import Actor, Kind, UpdateType
from tidings.messaging.domain.writing import Reference, reference
from tidings.messaging.http.answers import UPDATE, UpdateData, UpdateList
from tidings.messaging.http.bodies import (
    AttachedFile,
    FileMessage,
    Forward,
    MessageRef,
    Reaction,
    SecretUpdate,
    TextEdit,
    TextMessage,
)
from tidings.messaging.http.idempotency import Once
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, change, create, read, remove
from tidings.messaging.wire import delete_mode

__all__ = ["Commands", "routes"]

_TAG: Final = "updates"
_FILE_ID: Final = UUID("7bed2b32-01ac-43a6-abd7-fe037de495c4")
_CHAT_ID: Final = UUID("0b8f7c3e-1c2d-4e5f-8a9b-0c1d2e3f4a5b")
_EDITED: Final = UPDATE | {
    "update_id": 8,
    "type": "text_message_edited",
    "content": {"message_id": 7, "new_text": "ho"},
}
_REACTED: Final = UPDATE | {"update_id": 9, "type": "reaction", "content": {"reaction": "heart", "message_id": 7}}
_DELETED: Final = UPDATE | {"update_id": 10, "type": "delete", "content": {"deleted_id": 7, "deleted_mode": "all"}}
_FILE: Final = UPDATE | {
    "type": "file",
    "content": {
        "file_id": str(_FILE_ID),
        "file_name": "cat.jpg",
        "mime_type": "image/jpeg",
        "file_size": 48_000,
        "file_url": "https://files.example/cat.jpg",
        "message_id": 7,
    },
}
_SECRET_PARTS: Final = {"payload": "aGk=", "initialization_vector": "AAAA", "key_hash": "AQID"}
_SECRET: Final = UPDATE | {"type": "secret_update", "content": _SECRET_PARTS}

_CLOSED: Final = ("chat_not_found", "chat_blocked")
_WRITE: Final = (*_CLOSED, "message_not_found", "update_deleted", "client_message_id_reused")

F = TypeVar("F", bound=Callable[..., Any])


class Commands(Protocol):
    """The use cases that these paths call."""

    @property
    def messages(self) -> Messages: ...

    @property
    def updates(self) -> Updates: ...


def routes(commands: Commands) -> list[Handler]:
    """All of them."""
    found = [_range(commands)]
    for kind in (Kind.PERSONAL, Kind.GROUP):
        found += _writing(commands, kind)
        found += _changing(commands, kind)
    for kind in (Kind.SECRET_PERSONAL, Kind.SECRET_GROUP):
        found += _secret(commands, kind)
    return found


def _range(commands: Commands) -> Handler:
    @read(
        "/chat/{chat_id:str}/update",
        tag=_TAG,
        example={"updates": [UPDATE]},
        answer=UpdateList,
        problems=["chat_not_found"],
        parameters={"from": 1, "to": 100},
    )
    async def read_updates(
        actor: Actor,
        chat_id: UUID,
        first: Annotated[int, QueryParameter(name="from", description="The first update id.")],
        last: Annotated[int, QueryParameter(name="to", description="The last update id, included.")],
    ) -> Reply:
        """Read a chat's updates again.

        Ascending, at most 1,000 of them; `next_from` then says where to go on. Left out is what was deleted for all or
        for the caller, and what others deleted for themselves.
        """
        return reply(await commands.updates.read(actor, chat_id, first, last))

    return read_updates


def _writing(commands: Commands, kind: Kind) -> list[Handler]:
    path = f"/chat/{kind}/{{chat_id:str}}/update"

    @create(
        f"{path}/message/text",
        tag=_TAG,
        example=UPDATE,
        answer=UpdateData,
        body=TextMessage("hi", client_message_id="c1"),
        problems=(*_WRITE, "text_empty", "too_many_characters", "file_not_found"),
    )
    @_named(kind)
    async def send_text(actor: Actor, once: Once, chat_id: UUID, data: TextMessage) -> Reply:
        """Write a text, with files or as a comment if wanted."""
        reply_to, parent = _reference(data.reply_to, "reply_to"), _reference(data.parent, "parent")
        attachments = _attachments(data)

        def work(record: Record) -> Any:
            return commands.messages.send_text(
                actor,
                kind,
                chat_id,
                data.text,
                reply_to=reply_to,
                parent=parent,
                attachments=attachments,
                client_message_id=data.client_message_id,
                record=record,
            )

        return await once(work)

    @create(
        f"{path}/message/file",
        tag=_TAG,
        example=_FILE,
        answer=UpdateData,
        body=FileMessage(_FILE_ID),
        problems=(*_WRITE, "file_not_found"),
    )
    @_named(kind)
    async def send_file(actor: Actor, once: Once, chat_id: UUID, data: FileMessage) -> Reply:
        """Show a file whose facts are known."""
        reply_to, parent = _reference(data.reply_to, "reply_to"), _reference(data.parent, "parent")

        def work(record: Record) -> Any:
            return commands.messages.send_file(
                actor,
                kind,
                chat_id,
                data.file_id,
                reply_to=reply_to,
                parent=parent,
                client_message_id=data.client_message_id,
                record=record,
            )

        return await once(work)

    def forward(type_: UpdateType, name: str, example: Mapping[str, Any]) -> Handler:
        @create(
            f"{path}/{name}/forward",
            tag=_TAG,
            example=example,
            answer=UpdateData,
            body=Forward(7, _CHAT_ID),
            problems=_WRITE,
        )
        @_named(kind, type_)
        async def forward(actor: Actor, once: Once, chat_id: UUID, data: Forward) -> Reply:
            """Copy a message from another chat of one's own."""
            message = reference(data.message, "message")

            def work(record: Record) -> Any:
                return commands.messages.forward(
                    actor,
                    kind,
                    chat_id,
                    type_,
                    message,
                    data.from_chat_id,
                    client_message_id=data.client_message_id,
                    record=record,
                )

            return await once(work)

        return forward

    texts = forward(UpdateType.TEXT, "text-message", UPDATE)
    files = forward(UpdateType.FILE, "file-message", _FILE)
    return [send_text, send_file, texts, files]


def _changing(commands: Commands, kind: Kind) -> list[Handler]:
    path = f"/chat/{kind}/{{chat_id:str}}/update"

    @change(
        f"{path}/message/text/{{update_id:str}}",
        tag=_TAG,
        example=UPDATE | {"content": {"text": "ho", "edited": _EDITED}},
        answer=UpdateData,
        body=TextEdit("ho"),
        problems=(
            *_CLOSED,
            "message_not_found",
            "user_not_sender",
            "update_deleted",
            "text_empty",
            "too_many_characters",
        ),
        parameters={"update_id": "7"},
    )
    @_named(kind)
    async def edit_text(actor: Actor, chat_id: UUID, update_id: str, data: TextEdit) -> Reply:
        """Replace the text of one's own message."""
        message = reference(update_id, "updateId")
        return reply(await commands.updates.edit_text(actor, kind, chat_id, message, data.text))

    @remove(
        f"{path}/message/{{update_id:str}}/{{mode:str}}",
        tag=_TAG,
        example=_DELETED,
        answer=UpdateData,
        problems=(*_CLOSED, "message_not_found", "update_deleted", "invalid_delete_mode"),
        parameters={"update_id": "7", "mode": "all"},
    )
    @_named(kind)
    async def delete_message(actor: Actor, chat_id: UUID, update_id: str, mode: str) -> Reply:
        """Take a message away, for `all` (`for_all`) or `only_me` (`for_deletion_sender`)."""
        message, for_whom = reference(update_id, "updateId"), delete_mode(mode)
        return reply(await commands.updates.delete_message(actor, kind, chat_id, message, for_whom))

    @create(
        f"{path}/reaction",
        tag=_TAG,
        example=_REACTED,
        answer=UpdateData,
        body=Reaction("heart", 7),
        problems=(*_CLOSED, "message_not_found", "update_deleted", "invalid_reaction_type"),
    )
    @_named(kind)
    async def react(actor: Actor, once: Once, chat_id: UUID, data: Reaction) -> Reply:
        """React to a message."""
        message = reference(data.message_id, "message_id")
        return await once(
            lambda record: commands.updates.react(actor, kind, chat_id, message, data.reaction, record=record)
        )

    @remove(
        f"{path}/reaction/{{update_id:str}}",
        tag=_TAG,
        example=_DELETED,
        answer=UpdateData,
        problems=(*_CLOSED, "reaction_not_found", "reaction_not_from_user", "update_deleted"),
        parameters={"update_id": "9"},
    )
    @_named(kind)
    async def delete_reaction(actor: Actor, chat_id: UUID, update_id: str) -> Reply:
        """Take one's own reaction back."""
        reaction = reference(update_id, "updateId")
        return reply(await commands.updates.delete_reaction(actor, kind, chat_id, reaction))

    return [edit_text, delete_message, react, delete_reaction]


def _secret(commands: Commands, kind: Kind) -> list[Handler]:
    path = f"/chat/{kind.removeprefix('secret_')}/secret/{{chat_id:str}}/update/secret"

    @create(
        path,
        tag=_TAG,
        example=_SECRET,
        answer=UpdateData,
        body=SecretUpdate(**_SECRET_PARTS),
        problems=["chat_not_found", "too_many_characters", "client_message_id_reused"],
    )
    @_named(kind)
    async def send(actor: Actor, once: Once, chat_id: UUID, data: SecretUpdate) -> Reply:
        """Pass on what only the members can read."""

        def work(record: Record) -> Any:
            return commands.messages.send_secret(
                actor,
                kind,
                chat_id,
                payload=data.payload,
                initialization_vector=data.initialization_vector,
                key_hash=data.key_hash,
                client_message_id=data.client_message_id,
                record=record,
            )

        return await once(work)

    @remove(
        f"{path}/{{update_id:str}}",
        tag=_TAG,
        example=_DELETED,
        answer=UpdateData,
        problems=["chat_not_found", "secret_update_not_found", "update_deleted"],
        parameters={"update_id": "7"},
    )
    @_named(kind)
    async def delete(actor: Actor, chat_id: UUID, update_id: str) -> Reply:
        """Take a secret update away from everybody; any member may."""
        secret = reference(update_id, "updateId")
        return reply(await commands.updates.delete_secret(actor, kind, chat_id, secret))

    return [send, delete]


def _named(*words: str) -> Callable[[F], F]:
    """A name of its own for each kind of chat: the operations of OpenAPI have none in common."""

    def rename(function: F) -> F:
        function.__name__ = "_".join([function.__name__, *words])
        return function

    return rename


def _reference(value: MessageRef | None, field: str) -> Reference | None:
    return None if value is None else reference(value, field)


def _attachments(data: TextMessage) -> Mapping[UUID, Mapping[str, Any]]:
    return {
        item.file_id if isinstance(item, AttachedFile) else item: item.meta if isinstance(item, AttachedFile) else {}
        for item in data.attachments
    }
