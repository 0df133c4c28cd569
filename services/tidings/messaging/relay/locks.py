"""The lock session: one Postgres connection whose advisory locks say which process relays which shard.

A lock is held exactly as long as its session lives. The server ends a session that was silent for `SILENCE_S`, whether
the process is dead, cut off or frozen; a live one asks something every `HEARTBEAT_S`.

Beside each lock stands the name of the producer that the shard is written with, changed only under that lock and by its
session: so whoever takes the shard over knows whom to shut out of Kafka first.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, Self

import asyncpg
import msgspec

from tidings.errors import DatabaseUnavailable
from tidings.messaging.relay.postgres import AWAY, connect

__all__ = ["HEARTBEAT_S", "SILENCE_S", "LockSession", "Shares"]

SILENCE_S: Final = 2.5
HEARTBEAT_S: Final = 0.5
_ANSWER_S: Final = 2.0

_MEMBERS: Final = 0x7469_6D00
_SHARDS: Final = 0x7469_6D01
"""First halves of the keys of our advisory locks. They are seen in one database only."""

_JOIN = "SELECT pg_advisory_lock_shared($1::int, 0), pg_backend_pid()"
_VIEW = """
SELECT classid::bigint AS kind, objid::bigint AS shard, pid FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint IN ($1, $2)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_TAKE = "SELECT pg_try_advisory_lock($1::int, $2::int)"
_GIVE = "SELECT pg_advisory_unlock($1::int, $2::int)"
_HELD = "SELECT 1"

_PREDECESSORS = """
SELECT DISTINCT producer FROM relay_shards WHERE shard = ANY($1::smallint[]) AND producer <> $2
"""
_ENTER = """
INSERT INTO relay_shards (shard, producer) SELECT shard, $2 FROM unnest($1::smallint[]) AS held (shard)
ON CONFLICT (shard) DO UPDATE SET producer = excluded.producer
"""
_LEAVE = "UPDATE relay_shards SET producer = NULL WHERE shard = ANY($1::smallint[]) AND producer = $2"


class Shares(msgspec.Struct, frozen=True):
    """Who is there and holds what, in the words of `sharing.share`.

    Attributes:
        me: This session among the members.
    """

    me: int
    members: frozenset[int]
    holders: dict[int, int]


class LockSession:
    """A member of those who relay, and the shards that it holds. Made by `open`; after an error it is of no more use.

    Any of its methods raises DatabaseUnavailable once the session is lost, and with it all its locks.

    Attributes:
        name: Of this process's producer.
    """

    def __init__(self, connection: Any, name: str) -> None:
        self._connection = connection
        self.name = name
        self._turn = asyncio.Lock()
        self._me = 0

    @classmethod
    async def open(cls, dsn: str, name: str, on_loss: Callable[[], None]) -> Self:
        """Connect and become a member, so far without shards.

        Args:
            name: Of the producer that writes what is held by this session. The process's sessions may have the same,
                one after the other, if each begins with a producer that was opened anew.
            on_loss: Called when the connection ends, for whatever reason.
        """
        connection = await connect(
            dsn,
            "tidings-relay-locks",
            answer_s=_ANSWER_S,
            idle_session_timeout=f"{SILENCE_S * 1000:.0f}",
        )
        session = cls(connection, name)
        connection.add_termination_listener(lambda _: on_loss())
        try:
            row = await session._ask(_JOIN, _MEMBERS)
            session._me = row["pg_backend_pid"]
        except BaseException:
            session.abandon()
            raise
        return session

    async def shares(self) -> Shares:
        """Members and holders at this moment. Call it every `HEARTBEAT_S`: it also keeps the session alive."""
        rows = await self._all(_VIEW, _MEMBERS, _SHARDS)
        return Shares(
            self._me,
            frozenset(row["pid"] for row in rows if row["kind"] == _MEMBERS),
            {row["shard"]: row["pid"] for row in rows if row["kind"] == _SHARDS},
        )

    async def take(self, shard: int) -> bool:
        """Hold the shard from now on; False while another does. Ask once: locks of one session add up."""
        row = await self._ask(_TAKE, _SHARDS, shard)
        return bool(row["pg_try_advisory_lock"])

    async def give(self, shard: int) -> None:
        """Let another have it. Nothing of the shard may be under way here."""
        await self._ask(_GIVE, _SHARDS, shard)

    async def predecessors(self, shards: Collection[int]) -> list[str]:
        """Names of the producers that these shards may still be written with; ours is not among them."""
        return [row["producer"] for row in await self._all(_PREDECESSORS, list(shards), self.name)]

    async def enter(self, shards: Collection[int]) -> None:
        """Note that our producer writes these shards, before it does; they must be held, and their predecessors out."""
        await self._all(_ENTER, list(shards), self.name)

    async def leave(self, shards: Collection[int]) -> None:
        """Note that nothing of our producer's can be under way for these shards, so that it need not be shut out."""
        await self._all(_LEAVE, list(shards), self.name)

    async def verify(self) -> None:
        """Return if at some moment since the call the session, and so each lock taken, was still there."""
        await self._ask(_HELD)

    async def close(self) -> None:
        """Leave; the locks are free when this returns, or within `SILENCE_S`."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._connection.close()
        except (*AWAY, TimeoutError):
            self.abandon()

    def abandon(self) -> None:
        """End the connection without a word."""
        self._connection.terminate()

    async def _ask(self, statement: str, *arguments: object) -> Any:
        return (await self._all(statement, *arguments))[0]

    async def _all(self, statement: str, *arguments: object) -> Any:
        # Shielded: broken off in the middle the session would be of no more use, and its last words are still to come.
        return await asyncio.shield(self._fetch(statement, *arguments))

    async def _fetch(self, statement: str, *arguments: object) -> Any:
        try:
            async with self._turn:
                return await self._connection.fetch(statement, *arguments)
        except (*AWAY, TimeoutError, asyncpg.PostgresError) as error:
            self.abandon()
            raise DatabaseUnavailable(f"the lock session is lost: {type(error).__name__}: {error}") from error
