"""People, their chats, and what they do in them: the use cases on one database, said shortly."""

from typing import Any
from uuid import UUID

from tests.integration.messaging.emitted import Emitted, take_emitted
from tests.integration.messaging.outcomes import id_of
from tidings.messaging.commands import Answer
from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.history import History
from tidings.messaging.commands.likes import Likes
from tidings.messaging.commands.marks import Marks
from tidings.messaging.commands.messages import Messages
from tidings.messaging.commands.sync import Sync
from tidings.messaging.commands.updates import Updates
from tidings.messaging.commands.users import Users
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire

__all__ = ["ALICE", "BOB", "CAROL", "MALLORY", "World"]

ALICE = Actor(id="alice", session="s-1")
BOB = Actor(id="bob")
CAROL = Actor(id="carol")
MALLORY = Actor(id="mallory")


class World:
    """All use cases on one database."""

    def __init__(self, database: Database, wire: Wire = Wire.SEED) -> None:
        self.database = database
        self.chats = Chats(database, wire)
        self.groups = Groups(database, wire)
        self.messages = Messages(database, wire)
        self.updates = Updates(database, wire)
        self.marks = Marks(database, wire)
        self.likes = Likes(database)
        self.history = History(database, wire)
        self.users = Users(database)
        self.sync = Sync(database, wire)

    async def pair(self, one: Actor = ALICE, other: Actor = BOB) -> UUID:
        """A personal chat; nothing of it is left in the outbox."""
        chat = id_of(await self.chats.create_personal(one, other.id))
        await self.emitted()
        return chat

    async def group(self, admin: Actor = ALICE, *others: Actor, name: str = "g") -> UUID:
        """A group; nothing of it is left in the outbox."""
        members = [admin.id, *(other.id for other in others)]
        chat = id_of(await self.groups.create(admin, name, members))
        await self.emitted()
        return chat

    async def say(self, actor: Actor, chat: UUID, text: str = "hi", **more: Any) -> Answer:
        """A text, whatever the kind of chat."""
        kind = await self.database.pool.fetchval("SELECT kind FROM chats WHERE id = $1", chat)
        return await self.messages.send_text(actor, Kind(kind), chat, text, **more)

    async def read(self, actor: Actor, chat: UUID, up_to: int | UUID | None = None) -> Answer:
        return await self.marks.mark(actor, chat, MarkKind.READ, up_to)

    async def emitted(self) -> list[Emitted]:
        """What waits in the outbox, which is empty afterwards."""
        return await take_emitted(self.database)

    async def pages(self, actor: Actor, since: str | None = None, **more: Any) -> list[Answer]:
        """All pages of a sync."""
        found = [await self.sync.read(actor, since, **more)]
        while found[-1]["more"]:
            found.append(await self.sync.read(actor, found[-1]["next"]))
        return found

    async def missed(self, actor: Actor, since: str | None = None, **more: Any) -> Answer:
        """All pages of a sync as one."""
        pages = await self.pages(actor, since, **more)
        whole: Answer = {name: [] for name in ("chats", "removed", "updates", "marks", "users")}
        for page in pages:
            for name, items in whole.items():
                items.extend(page[name])
        return whole | {"next": pages[-1]["next"], "more": False}
