"""The paths of people, marks, likes, typing, history and sync, from request to answer, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.messaging.shell import make_shell, opened, token
from tests.integration.messaging.world import ALICE, BOB, World
from tidings.messaging.commands.typing import Typing
from tidings.messaging.domain.model import Kind
from tidings.messaging.http import history, marks, sync, users
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers

Ask = Callable[..., Awaitable[Any]]


class Heard:
    """Signals that went nowhere."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str], str, dict[str, Any], dict[str, Any]]] = []

    def send(
        self,
        key: str,
        receivers: Sequence[str],
        type: str,  # noqa: A002
        data: dict[str, Any],
        context: dict[str, Any],
    ) -> bool:
        self.sent.append((key, list(receivers), type, data, context))
        return True


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def client(world: World, heard: Heard) -> AsyncIterator[httpx.AsyncClient]:
    routes = [
        *users.routes(world.users),
        *marks.routes(world.marks, world.likes, Typing(world.database, heard)),
        *history.routes(world.history),
        *sync.routes(world.sync),
    ]
    async with opened(
        make_shell(routes, keeper=Answers(world.database)), "alice", **{"tidings-session": "s-1"}
    ) as made:
        yield made


@pytest.fixture
def ask(client: httpx.AsyncClient) -> Ask:
    """`ask("GET", "/sync", since=…)`: the `data` of a good answer, else status and code."""

    async def request(
        method: str, path: str, body: Any = None, *, key: str | None = None, user: str = "alice", **query: Any
    ) -> Any:
        headers = {"authorization": f"Bearer {token(user)}"}
        if key is not None:
            headers["idempotency-key"] = key
        response = await client.request(method, f"/v1.0{path}", json=body, headers=headers, params=query)
        answer = response.json()
        return answer["data"] if response.status_code == 200 else (response.status_code, answer["error_type"])

    return request


async def test_a_user_looks_at_itself_and_others_and_changes_its_name(world: World, ask: Ask) -> None:
    await world.users.seen(ALICE)
    await world.users.seen(BOB)
    assert (await ask("PUT", "/users/me", {"name": "Alice", "username": "al"}))["name"] == "Alice"
    assert await ask("GET", "/users/alice") == await ask("GET", "/users/me")
    assert (await ask("GET", "/users/me"))["username"] == "al"
    assert await ask("PUT", "/users/me", {"username": "AL"}, user="bob") == (400, "username_taken")
    assert await ask("PUT", "/users/me", {"username": "a b"}) == (400, "validation_failed")
    assert await ask("PUT", "/users/me", {"name": 7}) == (400, "validation_failed")
    assert await ask("GET", "/users/nobody") == (404, "user_not_found")


async def test_marks_need_no_key_and_name_messages_in_each_way(world: World, ask: Ask) -> None:
    chat = await world.pair()
    for _ in range(3):
        await world.say(BOB, chat)
    path = f"/chat/{chat}/marks"
    one = await ask("POST", path, {"kind": "delivered", "up_to": 1})
    assert (one["up_to_message_no"], one["unread"]) == (1, 3)
    two = await ask("POST", path, {"kind": "read", "up_to": 2})
    assert (two["unread"], two["first_unread"]["update_id"]) == (1, 3)
    assert await ask("POST", path, {"kind": "read", "up_to": two["message_id"]}) == two
    assert (await ask("POST", path, {"kind": "read"}))["unread"] == 0
    for wrong in ({}, {"kind": "seen"}, {"kind": "read", "up_to": "x"}, {"kind": "read", "up_to": "z" * 36}):
        assert await ask("POST", path, wrong) == (400, "validation_failed"), wrong
    assert await ask("POST", path, {"kind": "read", "up_to": 4}) == (404, "message_not_found")
    assert await ask("POST", path, {"kind": "read"}, user="mallory") == (404, "chat_not_found")
    assert await ask("POST", "/chat/x/marks", {"kind": "read"}) == (400, "validation_failed")


async def test_a_like_with_the_same_key_toggles_once(world: World, ask: Ask) -> None:
    chat = await world.pair()
    first = await ask("POST", f"/chat/{chat}/like", key="k1")
    assert first == {"chat_id": str(chat), "liked": True, "likes": 1}
    assert await ask("POST", f"/chat/{chat}/like", key="k1") == first
    assert (await ask("POST", f"/chat/{chat}/like", key="k2"))["liked"] is False
    assert await ask("POST", f"/chat/{chat}/like") == (400, "idempotency_key_missing")
    assert [record.type for record in await world.emitted()] == ["chat_liked", "chat_unliked"]


async def test_typing_is_told_to_the_others_at_once_and_kept_nowhere(world: World, ask: Ask, heard: Heard) -> None:
    chat = await world.pair()
    assert await ask("POST", f"/chat/{chat}/typing", {}) == {}
    assert await ask("POST", f"/chat/{chat}/typing", {"stop": True}) == {}
    (first, second) = heard.sent
    assert first[:4] == (str(chat), ["bob"], "typing", {"user_id": "alice", "chat_id": str(chat)})
    assert second[3] == {"user_id": "alice", "chat_id": str(chat), "stop": True}
    assert (first[4]["actor"]["id"], first[4]["session"]) == ("alice", "s-1")
    assert await world.emitted() == []
    assert await ask("POST", f"/chat/{uuid4()}/typing", {}) == (404, "chat_not_found")
    assert await ask("POST", f"/chat/{chat}/typing", {}, user="mallory") == (404, "chat_not_found")
    await world.chats.block(BOB, chat)
    assert await ask("POST", f"/chat/{chat}/typing", {}) == (400, "chat_blocked")
    assert len(heard.sent) == 2


async def test_history_is_asked_by_cursor_and_refuses_what_it_cannot_read(world: World, ask: Ask) -> None:
    chat = await world.pair()
    for number in range(5):
        await world.say(BOB, chat, str(number))
    path = f"/chat/{chat}/messages"

    async def texts(**query: Any) -> list[str]:
        return [message["content"]["text"] for message in (await ask("GET", path, **query))["messages"]]

    assert await texts() == ["0", "1", "2", "3", "4"]
    assert await texts(before=3, limit=1) == ["1"]
    assert await texts(after=2, by="message_no", limit=2) == ["2", "3"]
    assert await texts(parent="none", limit=1) == ["4"]
    for wrong in (
        {"limit": 0},
        {"limit": 501},
        {"limit": "x"},
        {"before": -1},
        {"before": 1, "after": 1},
        {"by": "age"},
        {"parent": "x"},
        {"after": 1 << 63},
    ):
        assert await ask("GET", path, **wrong) == (400, "invalid_query_param"), wrong
    assert await ask("GET", path, parent=str(uuid4())) == (404, "message_not_found")
    assert await ask("GET", path, user="mallory") == (404, "chat_not_found")


async def test_the_list_of_chats_goes_on_with_its_cursor(world: World, ask: Ask) -> None:
    for number in range(3):
        await world.group(ALICE, name=str(number))
    page = await ask("GET", "/chats", limit=2)
    rest = await ask("GET", "/chats", limit=2, cursor=page["next"])
    names = [chat["info"]["name"] for chat in [*page["chats"], *rest["chats"]]]
    assert (names, rest["next"]) == (["2", "1", "0"], None)
    for wrong in ({"limit": 201}, {"cursor": "x"}, {"cursor": "A" * 129}):
        assert await ask("GET", "/chats", **wrong) == (400, "invalid_query_param"), wrong


async def test_sync_goes_on_with_its_token(world: World, ask: Ask) -> None:
    chat = await world.pair()
    state = await ask("GET", "/sync", preview=0)
    assert [(shown["chat_id"], shown["newly_joined"]) for shown in state["chats"]] == [(str(chat), True)]
    said = await world.say(BOB, chat)
    await world.updates.delete_message(BOB, Kind.PERSONAL, chat, said["update_id"], "all")
    missed = await ask("GET", "/sync", since=state["next"])
    assert [update["type"] for update in missed["updates"]] == ["delete"]
    assert (UUID(missed["chats"][0]["chat_id"]), missed["chats"][0]["newly_joined"]) == (chat, False)
    for wrong in ("x", "", "A" * 600):
        assert await ask("GET", "/sync", since=wrong) == (400, "invalid_since"), wrong
    assert await ask("GET", "/sync", preview=21) == (400, "invalid_query_param")
