"""People who write in chats, as the tests of updates need them."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid4

from tests.integration.messaging.emitted import Emitted, take_emitted
from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.files import Files
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.messages import Messages
from tidings.messaging.commands.secrets import Secrets
from tidings.messaging.commands.updates import Updates
from tidings.messaging.domain.model import Actor, Kind, UpdateType
from tidings.messaging.store.database import Database
from tidings.messaging.wire import DeleteMode, Wire

__all__ = ["ANN", "BEN", "CAT", "SECRET", "STRANGER", "Speaking"]

ANN: Final = Actor(id="ann", session="ann-1")
BEN: Final = Actor(id="ben")
CAT: Final = Actor(id="cat")
STRANGER: Final = Actor(id="stranger")
SECRET: Final[dict[str, Any]] = {"payload": "aGk=", "initialization_vector": "AAAA", "key_hash": "AQID"}


class Speaking:
    """All commands on one database, and short ways to call them."""

    def __init__(self, database: Database, wire: Wire = Wire.SEED) -> None:
        self.database = database
        self.chats = Chats(database, wire)
        self.groups = Groups(database, wire)
        self.secrets = Secrets(database, wire)
        self.files = Files(database, wire)
        self.messages = Messages(database, wire)
        self.updates = Updates(database, wire)

    async def personal(self, *, secret: bool = False) -> UUID:
        """A new chat of Ann and Ben."""
        return UUID((await self.chats.create_personal(ANN, BEN.id, secret=secret))["chat_id"])

    async def group(self, *members: Actor, secret: bool = False) -> UUID:
        """A new group of Ann, Ben, Cat or the given; the first is its admin."""
        members = members or (ANN, BEN, CAT)
        ids = [member.id for member in members]
        return UUID((await self.groups.create(members[0], "Group", ids, secret=secret))["chat_id"])

    async def file(self, owner: Actor = ANN, *, name: str = "cat.jpg", size: int = 48_000) -> UUID:
        """A file whose facts are known."""
        file_id = uuid4()
        await self.files.put(
            owner, file_id, file_name=name, mime_type="image/jpeg", file_size=size, file_url=f"https://f.example/{name}"
        )
        return file_id

    async def say(self, actor: Actor, chat: UUID, text: str = "hi", kind: Kind = Kind.GROUP, **more: Any) -> int:
        """Write a text; returns its update id."""
        answer = await self.messages.send_text(actor, kind, chat, text, **more)
        update_id: int = answer["update_id"]
        return update_id

    async def show(self, actor: Actor, chat: UUID, kind: Kind = Kind.GROUP, **more: Any) -> int:
        """Show a new file; returns the update's id."""
        answer = await self.messages.send_file(actor, kind, chat, await self.file(actor), **more)
        update_id: int = answer["update_id"]
        return update_id

    async def whisper(self, actor: Actor, chat: UUID, kind: Kind = Kind.SECRET_PERSONAL, **more: Any) -> int:
        """Pass on a secret; returns its update id."""
        answer = await self.messages.send_secret(actor, kind, chat, **SECRET, **more)
        update_id: int = answer["update_id"]
        return update_id

    async def edit(self, actor: Actor, chat: UUID, message: int, text: str = "ho", kind: Kind = Kind.GROUP) -> Any:
        return await self.updates.edit_text(actor, kind, chat, message, text)

    async def react(
        self, actor: Actor, chat: UUID, message: int, reaction: str = "heart", kind: Kind = Kind.GROUP
    ) -> int:
        answer = await self.updates.react(actor, kind, chat, message, reaction)
        update_id: int = answer["update_id"]
        return update_id

    async def delete(
        self, actor: Actor, chat: UUID, message: int, mode: DeleteMode = "all", kind: Kind = Kind.GROUP
    ) -> Any:
        return await self.updates.delete_message(actor, kind, chat, message, mode)

    async def forward(
        self, actor: Actor, chat: UUID, message: int, source: UUID, type_: UpdateType = UpdateType.TEXT, **more: Any
    ) -> Any:
        return await self.messages.forward(actor, more.pop("kind", Kind.GROUP), chat, type_, message, source, **more)

    async def read(self, actor: Actor, chat: UUID, first: int = 1, last: int = 1_000_000) -> list[Mapping[str, Any]]:
        """The updates of a chat that the actor sees."""
        updates: list[Mapping[str, Any]] = (await self.updates.read(actor, chat, first, last))["updates"]
        return updates

    async def told(self, type_: str = "update") -> Emitted:
        """The one record of that type since the last call; the rest is forgotten."""
        (record,) = [record for record in await take_emitted(self.database) if record.type == type_]
        return record
