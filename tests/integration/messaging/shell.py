"""The HTTP shell around commands that only say what they were asked: for tests of the shell itself."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import httpx
from litestar.params import QueryParameter

from tests.integration.processes import SECRET
from tidings.clock import Clock, SystemClock
from tidings.errors import Conflict, DatabaseUnavailable, Forbidden
from tidings.keys import KeySet
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.app import Api, HttpOptions, build
from tidings.messaging.http.bodies import MAX_NUMBER, NewPersonal, PathUser, TextMessage, Typing
from tidings.messaging.http.guard import Guard
from tidings.messaging.http.idempotency import Keeper, Once
from tidings.messaging.http.limits import Rates
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, change, create, read, remove
from tidings.messaging.store.answer import AnsweredBefore, Kept, Stored
from tidings.tokens import TokenRules, issue, verify

__all__ = ["CHAT", "MemoryKeeper", "key_set", "make_guard", "make_shell", "opened", "routes", "token"]

CHAT = "0b8f7c3e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"


class MemoryKeeper:
    """Keeps answers as long as it lives; nothing is ever rolled back."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Stored] = {}

    def keep(self, answer: Kept) -> None:
        """As `Unit.keep`, but what stands already is told at once."""
        if self.kept.setdefault((answer.user, answer.path, answer.key), answer.stored) is not answer.stored:
            raise AnsweredBefore

    async def find(self, user: str, path: str, key: str) -> Stored | None:
        return self.kept.get((user, path, key))


def routes(unit: Any) -> list[Handler]:
    """One of each form; POSTs keep their answers in `unit`."""
    times = 0

    @create("/chat/personal", tag="Chats", body=NewPersonal("bob"), example={}, problems=("chat_already_exists",))
    async def begin(actor: Actor, once: Once, data: NewPersonal) -> Reply:
        """Begin."""

        async def work(record: Any) -> dict[str, Any]:
            nonlocal times
            if data.member_id == "taken":
                raise Conflict("chat_already_exists")
            times += 1
            answer = {"times": times, "actor": actor.id, "member": data.member_id}
            await record(unit, answer)
            return answer

        return await once(work)

    @create("/chat/{chat_id:str}/text", tag="Chats", body=TextMessage("hi"), example={})
    async def say(actor: Actor, chat_id: UUID, data: TextMessage) -> Reply:
        """Say."""
        return reply({"actor": actor.id, "chat": chat_id, "text": data.text})

    @create("/chat/{chat_id:str}/typing", tag="Chats", example={})
    async def type_(chat_id: UUID, data: Typing | None = None) -> Reply:
        """Type."""
        return reply({"chat": chat_id, "stop": (data or Typing()).stop})

    @read("/chat/{chat_id:str}/update", tag="Chats", example={})
    async def updates(
        chat_id: UUID,
        from_: Annotated[int, QueryParameter(name="from", ge=1, le=MAX_NUMBER)],
        preview: Annotated[int | None, QueryParameter(name="preview", ge=0)] = None,
    ) -> Reply:
        """Look."""
        return reply({"chat": chat_id, "from": from_, "preview": preview})

    @change("/users/{user_id:str}", tag="Users", example={})
    async def name(actor: Actor, user_id: PathUser) -> Reply:
        """Name."""
        return reply({"user": user_id, "session": actor.session})

    @read("/users/{user_id:str}", tag="Users", example={})
    async def person(user_id: PathUser) -> Reply:
        """Who."""
        return reply({"user": user_id})

    @remove("/users/{user_id:str}", tag="Users", example={})
    async def unname(user_id: PathUser) -> Reply:
        """Unname."""
        return reply({"user": user_id})

    @remove("/broken/{how:str}", tag="Users", example={}, problems=("sender_not_admin",))
    async def break_(how: str) -> Reply:
        """Break."""
        raise {
            "bug": RuntimeError("password=hunter2"),
            "away": DatabaseUnavailable("10.0.0.5"),
            "forbidden": Forbidden("sender_not_admin"),
        }[how]

    return [begin, say, type_, updates, name, person, unname, break_]


def key_set() -> KeySet:
    return KeySet.from_secret(SECRET, "TIDINGS_JWT_SECRET")


async def _unseen(_: Actor) -> None: ...


async def _no_newer_keys() -> bool:
    return False


def make_guard(
    *,
    rates: Rates | None = None,
    clock: Clock | None = None,
    seen: Callable[[Actor], Awaitable[None]] = _unseen,
    refresh: Callable[[], Awaitable[bool]] = _no_newer_keys,
    keys: Callable[[], KeySet] = key_set,
) -> Guard:
    return Guard(
        lambda text, now: verify(text, keys(), TokenRules(), now),
        refresh,
        Rates(0, 0) if rates is None else rates,
        clock or SystemClock(),
        seen,
    )


def make_shell(
    handlers: list[Handler] | None = None,
    *,
    guard: Guard | None = None,
    keeper: Keeper | None = None,
    observe: Callable[[int, float], None] | None = None,
    **options: Any,
) -> Api:
    memory = MemoryKeeper()
    return build(
        routes(memory) if handlers is None else handlers,
        guard=guard or make_guard(),
        keeper=keeper or memory,
        options=HttpOptions(**options),
        observe=observe,
    )


def token(user: str = "alice", *, ttl_s: float = 3_600, name: str | None = None) -> str:
    return issue(user, SECRET, ttl_s, time.time(), name=name)


def opened(app: Any, user: str | None = "alice", **headers: str) -> httpx.AsyncClient:
    """A client of the application, without a socket; as a user, or as nobody."""
    own = {"authorization": f"Bearer {token(user)}"} if user is not None else {}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://messaging.test", headers={**own, **headers}
    )
