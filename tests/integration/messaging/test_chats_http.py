"""The paths of chats, from request to answer, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.messaging.emitted import emitted, take_emitted
from tests.integration.messaging.shell import make_shell, opened, token
from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.files import Files
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.secrets import Secrets
from tidings.messaging.http import chats
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.wire import Wire

Ask = Callable[..., Awaitable[httpx.Response]]

HOUR_NS = 3600 * 10**9
FACTS = {"file_name": "p.png", "mime_type": "image/png", "file_size": 7, "file_url": "https://files.example/p.png"}


@pytest.fixture
async def ask(database: Database) -> AsyncIterator[Ask]:
    """`ask("alice", "PUT", "/chat/…", body)`: a POST gets a new Idempotency-Key unless one is given."""

    commands = SimpleNamespace(
        chats=Chats(database, Wire.SEED),
        groups=Groups(database, Wire.SEED),
        secrets=Secrets(database, Wire.SEED),
        files=Files(database, Wire.SEED),
    )
    api = make_shell(chats.routes(commands), keeper=Answers(database))
    async with opened(api, None) as client:

        async def request(user: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
            sent = {
                "authorization": f"Bearer {token(user)}",
                **{name.replace("_", "-"): headers[name] for name in headers},
            }
            if method == "POST":
                sent.setdefault("idempotency-key", str(uuid4()))
            return await client.request(method, f"/v1.0{path}", json=body, headers=sent)

        yield request


async def done(answer: Awaitable[httpx.Response]) -> Any:
    response = await answer
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"data"}
    return response.json()["data"]


async def refused(answer: Awaitable[httpx.Response]) -> tuple[int, str]:
    response = await answer
    return response.status_code, response.json()["error_type"]


async def test_a_personal_chat_from_its_beginning_to_its_end(database: Database, ask: Ask) -> None:
    made = await done(ask("alice", "POST", "/chat/personal", {"member_id": "bob"}, tidings_session="s-1"))
    chat = made["chat_id"]
    (record,) = await take_emitted(database)
    assert record.context["session"] == "s-1"
    assert await done(ask("bob", "GET", f"/chat/{chat}")) == made
    blocked = await done(ask("bob", "PUT", f"/chat/personal/{chat}/block"))
    assert blocked["info"]["blocked_by"] == ["bob"]
    assert await done(ask("bob", "PUT", f"/chat/personal/{chat}/unblock")) == made
    assert await done(ask("alice", "DELETE", f"/chat/personal/{chat}")) == {}
    assert await refused(ask("alice", "GET", f"/chat/{chat}")) == (404, "chat_not_found")
    assert [record.type for record in await emitted(database)] == ["chat_blocked", "chat_unblocked", "chat_deleted"]


@pytest.mark.parametrize("end", ["", "/all", "/for_deletion_sender", "/whatever"])
async def test_a_secret_chat_ends_with_whatever_mode(ask: Ask, end: str) -> None:
    chat = (await done(ask("alice", "POST", "/chat/personal/secret", {"member_id": "bob"})))["chat_id"]
    assert await done(ask("bob", "DELETE", f"/chat/personal/secret/{chat}{end}")) == {}
    assert await refused(ask("alice", "GET", f"/chat/{chat}")) == (404, "chat_not_found")


@pytest.mark.parametrize("path", ["/chat/group", "/chat/group/secret"])
async def test_a_group_from_its_beginning_to_its_end(database: Database, ask: Ask, path: str) -> None:
    made = await done(ask("alice", "POST", path, {"name": "g", "members": ["alice", "bob"], "unknown": 1}))
    chat = made["chat_id"]
    renamed = await done(ask("alice", "PUT", f"{path}/{chat}", {"name": "h", "description": "about"}))
    assert (renamed["info"]["name"], renamed["info"]["description"]) == ("h", "about")
    added = await done(ask("alice", "PUT", f"{path}/{chat}/member/carol"))
    assert added["members"] == ["alice", "bob", "carol"]
    gone = await done(ask("bob", "DELETE", f"{path}/{chat}/member/bob"))
    assert gone["members"] == ["alice", "carol"]
    photo = uuid4()
    await done(ask("alice", "PUT", f"/files/{photo}", FACTS))
    shown = await done(ask("alice", "PUT", f"{path}/{chat}/photo", {"photo_id": str(photo)}))
    assert shown["info"]["group_photo"] == FACTS["file_url"]
    assert (await done(ask("alice", "DELETE", f"{path}/{chat}/photo")))["info"]["group_photo"] is None
    assert await done(ask("alice", "DELETE", f"{path}/{chat}")) == {}
    assert [record.type for record in await emitted(database)] == [
        *("chat_created", "group_info_updated", "update"),
        *("chat_created", "group_members_added", "update"),
        *("group_members_removed", "update"),
        *("group_info_updated", "group_info_updated", "chat_deleted"),
    ]


async def test_taking_a_photo_away_may_come_with_a_body_or_without(ask: Ask) -> None:
    group = (await done(ask("alice", "POST", "/chat/group", {"name": "g", "members": ["alice"]})))["chat_id"]
    photo = uuid4()
    await done(ask("alice", "PUT", f"/files/{photo}", FACTS))
    bodies: list[Any] = [None, {}]
    for body in bodies:
        await done(ask("alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": str(photo)}))
        await done(ask("alice", "DELETE", f"/chat/group/{group}/photo", body))


async def test_the_expiration_of_secret_chats(ask: Ask) -> None:
    pair = (await done(ask("alice", "POST", "/chat/personal/secret", {"member_id": "bob"})))["chat_id"]
    group = {"name": "g", "members": ["alice", "bob"]}
    many = (await done(ask("alice", "POST", "/chat/group/secret", group)))["chat_id"]
    for user, path in (
        ("bob", f"/chat/personal/secret/{pair}/expiration"),
        ("alice", f"/chat/group/secret/{many}/expiration"),
        ("alice", f"/chat/personal/secret/{many}/expiration"),  # as clients in the field do
    ):
        answer = await done(ask(user, "PUT", path, {"expiration": HOUR_NS}))
        assert answer["info"]["expiration"] == HOUR_NS
        answer = await done(ask(user, "PUT", path, {"expiration": None}))
        assert answer["info"]["expiration"] is None
    for path in (f"/chat/group/secret/{many}/expiration", f"/chat/personal/secret/{many}/expiration"):
        assert await refused(ask("bob", "PUT", path, {"expiration": HOUR_NS})) == (400, "sender_not_admin")
    path = f"/chat/group/secret/{pair}/expiration"
    assert await refused(ask("alice", "PUT", path, {"expiration": HOUR_NS})) == (404, "chat_not_found")
    path = f"/chat/personal/secret/{pair}/expiration"
    assert await refused(ask("alice", "PUT", path, {"expiration": 1})) == (400, "invalid_expiration")
    assert await refused(ask("alice", "PUT", path, {"expiration": "24h"})) == (400, "validation_failed")


async def test_a_list_of_chats_with_what_was_asked_for(ask: Ask) -> None:
    group = await done(ask("alice", "POST", "/chat/group", {"name": "g", "members": ["alice", "bob"]}))
    await done(ask("alice", "PUT", f"/chat/group/{group['chat_id']}", {"name": "h", "description": ""}))
    (plain,) = (await done(ask("bob", "GET", "/chat/all")))["chats"]
    assert set(plain) == {"chat_id", "created_at", "type", "members", "info"}
    (full,) = (await done(ask("bob", "GET", "/chat/all?enableLastUpdateID=true&preview=3")))["chats"]
    assert full == plain | {"last_update_id": 1, "update_preview": []}
    assert full == await done(ask("bob", "GET", f"/chat/{group['chat_id']}?enableLastUpdateID=true&preview=3"))
    assert plain == (await done(ask("bob", "GET", "/chat/all?enableLastUpdateID=false")))["chats"][0]


@pytest.mark.parametrize("query", ["preview=x", "preview=-1", "preview=101", "enableLastUpdateID=maybe"])
async def test_a_query_that_makes_no_sense_is_refused(ask: Ask, query: str) -> None:
    for path in ("/chat/all", f"/chat/{uuid4()}"):
        response = await ask("alice", "GET", f"{path}?{query}")
        assert (response.status_code, response.json()["error_type"]) == (400, "invalid_query_param")
        assert [detail["field"] for detail in response.json()["error_details"]] == [query.partition("=")[0]]


async def test_every_refusal_of_chats_has_its_status_and_its_name(ask: Ask) -> None:
    pair = (await done(ask("alice", "POST", "/chat/personal", {"member_id": "bob"})))["chat_id"]
    group = (await done(ask("alice", "POST", "/chat/group", {"name": "g", "members": ["alice", "bob"]})))["chat_id"]
    big, foreign, text = (str(uuid4()) for _ in range(3))
    await done(ask("alice", "PUT", f"/files/{big}", FACTS | {"file_size": 1 << 30}))
    await done(ask("alice", "PUT", f"/files/{text}", FACTS | {"mime_type": "text/plain"}))
    await done(ask("bob", "PUT", f"/files/{foreign}", FACTS))
    expected: list[tuple[int, str, str, str, str, Any]] = [
        (400, "chat_with_myself", "alice", "POST", "/chat/personal", {"member_id": "alice"}),
        (400, "chat_with_myself", "alice", "POST", "/chat/personal/secret", {"member_id": "alice"}),
        (400, "chat_already_exists", "alice", "POST", "/chat/personal", {"member_id": "bob"}),
        (400, "chat_already_exists", "bob", "POST", "/chat/personal", {"member_id": "alice"}),
        (400, "already_unblocked", "alice", "PUT", f"/chat/personal/{pair}/unblock", None),
        (404, "chat_not_found", "mallory", "PUT", f"/chat/personal/{pair}/block", None),
        (404, "chat_not_found", "alice", "PUT", f"/chat/personal/{group}/block", None),
        (404, "chat_not_found", "alice", "DELETE", f"/chat/personal/{group}", None),
        (404, "chat_not_found", "alice", "DELETE", f"/chat/group/{pair}", None),
        (404, "chat_not_found", "alice", "DELETE", f"/chat/group/secret/{group}", None),
        (404, "chat_not_found", "alice", "GET", f"/chat/{uuid4()}", None),
        (400, "validation_failed", "alice", "GET", "/chat/no-uuid", None),
        (400, "validation_failed", "alice", "PUT", "/chat/personal/no-uuid/block", None),
        (400, "validation_failed", "alice", "POST", "/chat/personal", {"member_id": 7}),
        (400, "validation_failed", "alice", "POST", "/chat/personal", {"member_id": ""}),
        (400, "validation_failed", "alice", "POST", "/chat/personal", {}),
        (400, "validation_failed", "alice", "POST", "/chat/group", {"name": "g", "members": "alice"}),
        (400, "group_name_empty", "alice", "POST", "/chat/group", {"name": "", "members": ["alice"]}),
        (400, "group_name_too_long", "alice", "POST", "/chat/group", {"name": "é" * 26, "members": ["alice"]}),
        (400, "admin_not_member", "alice", "POST", "/chat/group", {"name": "g", "members": ["bob"]}),
        (400, "admin_not_member", "alice", "POST", "/chat/group/secret", {"name": "g", "members": []}),
        (400, "group_name_empty", "alice", "PUT", f"/chat/group/{group}", {"name": "", "description": ""}),
        (400, "group_name_too_long", "alice", "PUT", f"/chat/group/{group}", {"name": "x" * 51, "description": ""}),
        (
            *(400, "group_description_too_long", "alice", "PUT", f"/chat/group/{group}"),
            {"name": "g", "description": "x" * 301},
        ),
        (400, "sender_not_admin", "bob", "PUT", f"/chat/group/{group}", {"name": "g", "description": ""}),
        (400, "sender_not_admin", "bob", "DELETE", f"/chat/group/{group}", None),
        (400, "sender_not_admin", "bob", "PUT", f"/chat/group/{group}/member/carol", None),
        (400, "sender_not_admin", "bob", "DELETE", f"/chat/group/{group}/member/alice", None),
        (400, "sender_not_admin", "bob", "DELETE", f"/chat/group/{group}/photo", None),
        (400, "user_already_member", "alice", "PUT", f"/chat/group/{group}/member/bob", None),
        (400, "user_not_member", "alice", "DELETE", f"/chat/group/{group}/member/carol", None),
        (400, "member_is_admin", "alice", "DELETE", f"/chat/group/{group}/member/alice", None),
        (400, "group_photo_empty", "alice", "DELETE", f"/chat/group/{group}/photo", None),
        (400, "invalid_photo", "alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": big}),
        (400, "invalid_photo", "alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": text}),
        (404, "file_not_found", "alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": foreign}),
        (404, "file_not_found", "alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": str(uuid4())}),
        (400, "validation_failed", "alice", "PUT", f"/chat/group/{group}/photo", {"photo_id": "p"}),
        (400, "not_file_owner", "alice", "PUT", f"/files/{foreign}", FACTS),
        (400, "file_too_big", "alice", "PUT", f"/files/{uuid4()}", FACTS | {"file_size": (1 << 30) + 1}),
    ]
    for status, code, user, method, path, body in expected:
        assert await refused(ask(user, method, path, body)) == (status, code), (user, method, path, body)
    await done(ask("alice", "PUT", f"/chat/personal/{pair}/block"))
    assert await refused(ask("alice", "PUT", f"/chat/personal/{pair}/block")) == (400, "already_blocked")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/personal", {"member_id": "bob"}),
        ("/chat/personal/secret", {"member_id": "bob"}),
        ("/chat/group", {"name": "g", "members": ["alice"]}),
        ("/chat/group/secret", {"name": "g", "members": ["alice"]}),
    ],
)
async def test_a_chat_that_is_begun_twice_with_one_key_is_begun_once(
    database: Database, ask: Ask, path: str, body: Any
) -> None:
    answers = await asyncio.gather(*(done(ask("alice", "POST", path, body, idempotency_key="k")) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert len(await emitted(database)) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM chats") == 1


async def test_a_member_may_have_any_characters_in_its_id(ask: Ask) -> None:
    group = (await done(ask("alice", "POST", "/chat/group", {"name": "g", "members": ["alice"]})))["chat_id"]
    for path, user in (("a%2Fb", "a/b"), ("%C3%A9%20x", "é x"), ("a%3Fb%23", "a?b#"), ("secret", "secret")):
        assert user in (await done(ask("alice", "PUT", f"/chat/group/{group}/member/{path}")))["members"]
        assert user not in (await done(ask("alice", "DELETE", f"/chat/group/{group}/member/{path}")))["members"]
    too_long = ask("alice", "PUT", f"/chat/group/{group}/member/{'x' * 257}")
    assert await refused(too_long) == (400, "validation_failed")
