"""People: known from their first request on, called what they choose."""

from collections import OrderedDict
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from tidings.errors import NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.context import microseconds, person
from tidings.messaging.domain.model import Actor, User
from tidings.messaging.domain.modification import Modification
from tidings.messaging.domain.profile import checked_profile, claimed
from tidings.messaging.listing import user_data
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.store.users import change_user, find_user, near, see_user

__all__ = ["MAX_KNOWN", "Users"]

MAX_KNOWN: Final = 100_000
"""So many people are remembered as having a row; about 300 bytes each."""


class Users:
    """The use cases about people."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, Actor] = OrderedDict()

    async def seen(self, actor: Actor) -> None:
        """Make sure that the actor has a row, as it must before its request is done.

        What its token calls it fills what is empty; what it chose here stays, and what it took away stays away. A
        username that cannot be one, or that another has, is left out.

        Cost: a lookup in memory once the actor was seen with the same names; else one statement.
        """
        facts = msgspec.structs.replace(actor, username=claimed(actor.username), session=None)
        if self._known.get(actor.id) == facts:
            self._known.move_to_end(actor.id)
            return
        try:
            await self._database.run(lambda unit: self._see(unit, facts))
        except asyncpg.UniqueViolationError:
            await self._database.run(lambda unit: self._see(unit, msgspec.structs.replace(facts, username="")))
        self._known[actor.id] = facts
        self._known.move_to_end(actor.id)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def me(self, actor: Actor) -> Answer:
        """Who the actor is here."""
        return await self.get(actor, actor.id)

    async def get(self, actor: Actor, id_: str) -> Answer:
        """A person, whoever asks.

        Raises:
            NotFound: `user_not_found`.
        """
        async with self._database.connection() as connection:
            user = await find_user(connection, id_)
        if user is None:
            raise NotFound("user_not_found")
        return user_data(user)

    async def change(
        self,
        actor: Actor,
        *,
        username: str | None = None,
        name: str | None = None,
        avatar: str | None = None,
        record: Record | None = None,
    ) -> Answer:
        """Call the actor something else; None: as before, "": nothing, whatever its later tokens say. Its own devices
        and all who share a chat with it learn of it.

        Raises:
            InvalidInput: `validation_failed`.
            Conflict: `username_taken`, in whatever case its letters are.
        """
        checked_profile(username, name, avatar)

        async def work(unit: Unit) -> Answer:
            user = await change_user(unit.connection, actor.id, username, name, avatar)
            await self._tell(unit, user, actor.session)
            answer = user_data(user)
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)

    async def _see(self, unit: Unit, actor: Actor) -> None:
        seen = await see_user(unit.connection, actor)
        if seen is not None and not seen[1]:
            # Somebody named it before it came: those know it without a name.
            await self._tell(unit, seen[0], None)

    async def _tell(self, unit: Unit, user: User, session: str | None) -> None:
        """The row is locked, so what is told of one person comes in the order of the commits."""
        at: datetime = await unit.connection.fetchval("SELECT now()")
        context = {"at_us": microseconds(at), "actor": person(user)}
        if session is not None:
            context["session"] = session
        data = user_data(user)
        del data["number"]
        unit.emit(
            Modification(
                key=user.id,
                type="user_updated",
                receivers=[user.id, *await near(unit.connection, user.id)],
                data=data,
                context=context,
            )
        )
