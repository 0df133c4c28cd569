"""All use cases on one database, and all paths that lead to them."""

from dataclasses import dataclass
from typing import Self

from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.files import Files
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.history import History
from tidings.messaging.commands.likes import Likes
from tidings.messaging.commands.marks import Marks
from tidings.messaging.commands.messages import Messages
from tidings.messaging.commands.secrets import Secrets
from tidings.messaging.commands.sync import Sync
from tidings.messaging.commands.typing import Signals, Typing
from tidings.messaging.commands.updates import Updates
from tidings.messaging.commands.users import Users
from tidings.messaging.http import chats, history, marks, sync, updates, users
from tidings.messaging.http.routing import Handler
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire
from tidings.metrics import Metrics

__all__ = ["Commands", "all_routes"]


@dataclass(frozen=True)
class Commands:
    """Every use case."""

    chats: Chats
    files: Files
    groups: Groups
    history: History
    likes: Likes
    marks: Marks
    messages: Messages
    secrets: Secrets
    sync: Sync
    typing: Typing
    updates: Updates
    users: Users

    @classmethod
    def on(cls, database: Database, wire: Wire, signals: Signals, metrics: Metrics) -> Self:
        """All of them on one database."""
        return cls(
            chats=Chats(database, wire),
            files=Files(database, wire),
            groups=Groups(database, wire),
            history=History(database, wire),
            likes=Likes(database),
            marks=Marks(database, wire),
            messages=Messages(database, wire, metrics),
            secrets=Secrets(database, wire),
            sync=Sync(database, wire),
            typing=Typing(database, signals),
            updates=Updates(database, wire),
            users=Users(database),
        )


def all_routes(commands: Commands) -> list[Handler]:
    """Below /v1.0."""
    return [
        *chats.routes(commands),
        *updates.routes(commands),
        *history.routes(commands.history),
        *marks.routes(commands.marks, commands.likes, commands.typing),
        *users.routes(commands.users),
        *sync.routes(commands.sync),
    ]
