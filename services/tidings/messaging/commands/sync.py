"""Catching up: everything that an account missed, in pages."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from tidings.errors import InvalidInput
from tidings.messaging.commands import Answer
from tidings.messaging.commands.marks import MAX_TOLD
from tidings.messaging.domain.entry import Entry
from tidings.messaging.domain.model import Actor, Update
from tidings.messaging.domain.sync import MAX_PREVIEW, Place, Reached, Token
from tidings.messaging.listing import entry_data, mark_data, user_data
from tidings.messaging.store import sync as store
from tidings.messaging.store.database import Database
from tidings.messaging.store.entries import entries_of, latest_messages
from tidings.messaging.store.updates import kind_for
from tidings.messaging.wire import Wire, update_data

__all__ = ["MAX_CHATS", "MAX_PEOPLE", "MAX_UPDATES", "Sync"]

MAX_UPDATES: Final = 500
"""Of one page."""
MAX_CHATS: Final = 250
"""Of one page."""
MAX_PEOPLE: Final = 3_000
"""Members of the chats of one page, each with a name and two marks; chats with over `MAX_TOLD` count as one. A page
shows at least one chat."""

_NO_CHAT: Final = UUID(int=0)


class Sync:
    """The user-wide feed."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def read(self, actor: Actor, since: str | None = None, *, preview: int = 1) -> Answer:
        """What changed for the account since an earlier answer; without one, its current state.

        The answer: `chats` (those that changed, whole), `removed` (ids of chats that it is no longer in), `updates`
        (by chat, then update id), `marks`, `users` (whose names changed or are new), `next`, and whether there is
        `more`. While there is, ask again with `next` at once; the `next` of the last page is for the next time. All
        that was committed before a page was read is in the pages up to it or follows in one after it, also if
        transactions commit in another order than they began; some of it may come again. Updates apply by chat and
        update id, all else is state. A chat whose updates are too many for a page goes on in the next, in the order of
        the changes; a page may show fewer updates than fit, or none, where what changed may not be seen.

        Of chats with more than `MAX_TOLD` members there are no names and only the account's own marks: both would be
        as many as the members. Once there are no more than that, everyone's marks come.

        A chat is `newly_joined` if the membership began, or began again, after the token was given (without a token:
        always). Then the client can't have all that is older than these updates: drop what it kept of the chat and
        read that by range. Never missing; as other things it may come again, while a transaction from before the
        joining is still under way.

        Args:
            preview: Without `since`, so many newest messages of each chat, 0 to `MAX_PREVIEW`.
        Raises:
            InvalidInput: `invalid_since`: not a token, of another database, or of one that was set back since: begin
                without. `invalid_query_param`: `preview`.
        Cost: about twelve queries a page, which read what it shows and look through the account's chats; however much
            was missed, and whatever was done to a message.
        """
        if not 0 <= preview <= MAX_PREVIEW:
            raise InvalidInput("invalid_query_param", f"preview: 0 to {MAX_PREVIEW}")
        given = None if since is None else Token.of(since)
        async with store.snapshot(self._database) as at:
            token = Token(at.epoch, None, preview=preview) if given is None else given
            token.check(at.epoch, at.newest)
            if token.since is None:
                return await self._state(at, actor.id, token)
            return await self._changes(at, actor.id, token, token.since)

    async def _state(self, at: store.Snapshot, user: str, token: Token) -> Answer:
        # A page must show at least one chat whole.
        limit = min(MAX_CHATS, MAX_UPDATES // max(1, token.preview))
        chats, more = await self._chats(at, user, 0, token.place, limit)
        found = await entries_of(at.connection, user, chats)
        entries = _of_few_people(found)
        if len(entries) < len(found):
            chats, more = [entry.chat.id for entry in entries], True
        updates = await latest_messages(at.connection, user, chats, token.preview)
        marks = await store.changed_marks(at, user, {entry.chat.id: _wanted(entry, 0) for entry in entries}, MAX_TOLD)
        names = _named(entries) | ({user} if token.place is None else set())
        answer = self._answer(user, 0, entries, updates)
        answer["marks"] = [mark_data(mark, self._wire) for mark in marks]
        answer["users"] = [user_data(person) for person in await store.people(at.connection, list(names))]
        return _ended(answer, token, at.horizon, Place(chats[-1], None) if more else None)

    async def _changes(self, at: store.Snapshot, user: str, token: Token, since: int) -> Answer:
        chats, updates, end = await self._changed(at, user, since, token.place)
        # The last page may have ended within a chat: that one was shown, and its updates go on.
        begun = None if token.place is None or token.place.reached is None else token.place.chat_id
        found = await entries_of(at.connection, user, [chat for chat in chats if chat != begun])
        entries = _of_few_people(found)
        if len(entries) < len(found):
            end = Place(entries[-1].chat.id, None)
            updates = [update for update in updates if update.chat_id <= end.chat_id]
        new = [entry for entry in entries if entry.joined >= since]
        wanted = {entry.chat.id: _wanted(entry, since) for entry in entries}
        wanted |= {entry.chat.id: _wanted(entry, 0) for entry in new}
        marks = await store.changed_marks(at, user, wanted, MAX_TOLD)
        answer = self._answer(user, since, entries, updates)
        answer["marks"] = [mark_data(mark, self._wire) for mark in marks]
        people = await store.people(at.connection, list(_named(new)))
        if token.place is None:
            answer["removed"] = [str(chat) for chat in await store.removed_chats(at, user, since)]
            people += await store.changed_people(at, user, since)
        answer["users"] = [user_data(person) for person in {person.id: person for person in people}.values()]
        return _ended(answer, token, at.horizon, end)

    async def _changed(
        self, at: store.Snapshot, user: str, since: int, place: Place | None
    ) -> tuple[list[UUID], list[Update], Place | None]:
        """The next chats that changed, their updates, and where the page ends if there is more."""
        starts: dict[UUID, Reached | None] = {}
        if place is not None and place.reached is not None:
            starts = {place.chat_id: place.reached}
            # Mostly there is enough to go on with in that chat: then no other is looked for.
            if await kind_for(at.connection, place.chat_id, user) is not None:
                updates, end = await self._updates(at, user, since, [place.chat_id], starts)
                if end is not None:
                    return [place.chat_id], updates, end
        chats, more = await self._chats(at, user, since, place, MAX_CHATS)
        updates, end = await self._updates(at, user, since, chats, starts)
        if end is not None:
            return [chat for chat in chats if chat <= end.chat_id], updates, end
        return chats, updates, Place(chats[-1], None) if more else None

    async def _updates(
        self, at: store.Snapshot, user: str, since: int, chats: list[UUID], starts: Mapping[UUID, Reached | None]
    ) -> store.Changes:
        return await store.changed_updates(at, user, since, {chat: starts.get(chat) for chat in chats}, MAX_UPDATES)

    async def _chats(
        self, at: store.Snapshot, user: str, since: int, place: Place | None, limit: int
    ) -> tuple[list[UUID], bool]:
        """The next chats that changed, and whether there are more."""
        first = _NO_CHAT if place is None else place.chat_id
        chats = await store.changed_chats(at, user, since, first, limit + 2)
        if place is not None and place.reached is None and chats[:1] == [first]:
            del chats[0]
        return chats[:limit], len(chats) > limit

    def _answer(self, user: str, since: int, entries: list[Entry], updates: list[Update]) -> Answer:
        return {
            "chats": [
                entry_data(entry, user, self._wire) | {"newly_joined": entry.joined >= since} for entry in entries
            ],
            "removed": [],
            "updates": [update_data(update, self._wire) for update in updates],
            "marks": [],
            "users": [],
        }


def _of_few_people(entries: list[Entry]) -> list[Entry]:
    """The first of them, as many as a page may show."""
    people = 0
    for index, entry in enumerate(entries):
        people += len(entry.members) if len(entry.members) <= MAX_TOLD else 1
        if people > MAX_PEOPLE and index:
            return entries[:index]
    return entries


def _wanted(entry: Entry, since: int) -> store.Wanted:
    return store.Wanted(len(entry.members) <= MAX_TOLD, since)


def _named(entries: list[Entry]) -> set[str]:
    """Whose names are shown with these chats."""
    return {member for entry in entries if len(entry.members) <= MAX_TOLD for member in entry.members}


def _ended(answer: Answer, token: Token, horizon: int, place: Place | None) -> Answer:
    following = token.done(horizon) if place is None else token.further(place, horizon)
    return answer | {"next": following.text(), "more": place is not None}
