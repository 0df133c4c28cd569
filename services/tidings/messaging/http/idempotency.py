"""Requests that may come twice and must take effect once: each POST has a key, and its first answer is kept.

The answer is written in the transaction of the work. So of two equal requests only one can commit, whichever was
first and however close they came; the other is undone and gets the answer that stands. Refusals are not kept: they had
no effect, and the same request is judged anew. Of a message that was deleted for all the answer stays, without content.
"""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final, Protocol
from uuid import UUID

from litestar import Response

from tidings.errors import DomainError
from tidings.messaging.commands import Answer, Record
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.problems import Detail, Refused
from tidings.messaging.http.replies import Reply, encoded, reply_bytes
from tidings.messaging.http.requests import Asked
from tidings.messaging.store.answer import AnsweredBefore, Kept, Stored
from tidings.messaging.store.unit import Unit

__all__ = ["HEADER", "MAX_KEY_CHARS", "Keeper", "Once"]

HEADER: Final = "Idempotency-Key"
MAX_KEY_CHARS: Final = 255
_STATUS: Final = 200
_ATTEMPTS: Final = 2
_REPLAYED: Final = {"idempotency-replayed": "true"}


class Keeper(Protocol):
    """Where answers are found again."""

    async def find(self, user: str, path: str, key: str) -> Stored | None: ...


class Once:
    """One POST with its key."""

    def __init__(self, keeper: Keeper, actor: Actor, path: str, key: str, request_hash: bytes) -> None:
        self._keeper = keeper
        self._place = (actor.id, path, key)
        self._hash = request_hash

    @classmethod
    async def of(cls, keeper: Keeper, actor: Actor, request: Asked) -> "Once":
        """That of a request.

        Raises:
            Refused: 400 if the key is missing or of no use.
        """
        key = request.headers.get(HEADER, "").strip()
        if not key:
            raise Refused("idempotency_key_missing")
        if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
            raise Refused(
                "validation_failed",
                details=[Detail(HEADER, f"1 to {MAX_KEY_CHARS} printable ASCII characters")],
            )
        digest = blake2b(request.scope["query_string"] + b"\n", digest_size=16)
        digest.update(await request.body())
        return cls(keeper, actor, request.scope["path"], key, digest.digest())

    async def __call__(self, work: Callable[[Record], Awaitable[Answer]]) -> Reply:
        """Do the work, unless it was done before: then answer what was answered.

        Args:
            work: Given the `record` that the command must call with its answer, inside its transaction.
        Raises:
            Refused: 409, the key came with another request.
        Cost: one row more in what the work writes; a repeat costs the undone work and one read.
        """
        body = b""

        async def record(unit: Unit, answer: Answer) -> None:
            nonlocal body
            body = encoded(answer)
            unit.keep(Kept(*self._place, Stored(self._hash, _STATUS, body), *_shown(answer)))

        for _ in range(_ATTEMPTS):
            body = b""
            try:
                answer = await work(record)
            except (AnsweredBefore, DomainError) as error:
                # A repeat often fails before it comes to its end: the chat exists already, by its own first try.
                stored = await self._keeper.find(*self._place)
                if stored is not None:
                    return self._again(stored)
                if isinstance(error, DomainError):
                    raise
            else:
                return reply_bytes(body or encoded(answer))
        raise Refused("idempotency_key_reused")

    def _again(self, stored: Stored) -> Reply:
        if stored.request_hash != self._hash:
            raise Refused("idempotency_key_reused")
        return Response(stored.body, status_code=stored.status, media_type="application/json", headers=_REPLAYED)


def _shown(answer: Answer) -> tuple[UUID, int] | tuple[None, None]:
    """The chat and the id of the update that the answer is, if it is one."""
    return (UUID(answer["chat_id"]), answer["update_id"]) if "update_id" in answer else (None, None)
