"""The paths of what is written in chats, from request to answer, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.shell import make_shell, opened, token
from tests.integration.messaging.speaking import ANN, BEN, SECRET, Speaking
from tidings.messaging.http import updates
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.wire import message_uuid

Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


@pytest.fixture
async def client(people: Speaking) -> AsyncIterator[httpx.AsyncClient]:
    shell = make_shell(updates.routes(people), keeper=Answers(people.database))
    async with opened(shell, "ann", **{"tidings-session": "s-1"}) as client:
        yield client


@pytest.fixture
def ask(client: httpx.AsyncClient) -> Ask:
    """`ask("PUT", "/chat/…", body)`: the `data` of a good answer, else status and code."""

    async def request(method: str, path: str, body: Any = None, *, key: str | None = None, user: str = "ann") -> Any:
        headers = {"authorization": f"Bearer {token(user)}"}
        if method == "POST":
            headers["idempotency-key"] = key or str(uuid4())
        response = await client.request(method, f"/v1.0{path}", json=body, headers=headers)
        answer = response.json()
        return answer["data"] if response.status_code == 200 else (response.status_code, answer["error_type"])

    return request


@pytest.mark.parametrize("kind", ["personal", "group"])
async def test_every_path_of_a_plain_chat(people: Speaking, ask: Ask, kind: str) -> None:
    chat = await (people.personal() if kind == "personal" else people.group())
    path = f"/chat/{kind}/{chat}/update"
    file = await people.file()

    said = await ask("POST", f"{path}/message/text", {"text": "hi", "reply_to": None, "client_message_id": "c1"})
    assert (said["update_id"], said["content"]) == (1, {"text": "hi", "client_message_id": "c1"})
    body = {"text": "", "attachments": [str(file), {"file_id": str(await people.file()), "meta": {"width": 1}}]}
    shown = await ask("POST", f"{path}/message/text", body)
    assert [item["meta"] for item in shown["content"]["attachments"]] == [{}, {"width": 1}]
    answer = await ask("POST", f"{path}/message/file", {"file_id": str(file), "reply_to": 1})
    assert answer["content"]["reply_to"] == str(message_uuid(chat, 1))
    comment = await ask("POST", f"{path}/message/text", {"text": "ok", "parent": str(message_uuid(chat, 1))})
    assert comment["content"]["parent"] == str(message_uuid(chat, 1))
    edited = await ask("PUT", f"{path}/message/text/1", {"text": "ho"})
    assert edited["content"]["edited"]["content"] == {"message_id": 1, "new_text": "ho"}
    reaction = await ask("POST", f"{path}/reaction", {"reaction": "heart", "message_id": 1})
    assert reaction["content"] == {"reaction": "heart", "message_id": 1}
    taken = await ask("DELETE", f"{path}/reaction/{reaction['update_id']}")
    assert taken["content"] == {"deleted_id": reaction["update_id"], "deleted_mode": "all"}
    text = await ask("POST", f"{path}/text-message/forward", {"message": 1, "from_chat_id": str(chat)})
    assert text["content"] == {"text": "ho", "forwarded": True}
    copy = await ask("POST", f"{path}/file-message/forward", {"message": 3, "from_chat_id": str(chat)})
    assert copy["content"]["file_id"] == str(file)
    for update_id, mode, answered in (
        (1, "for_all", "all"),
        (2, "all", "all"),
        (3, "for_deletion_sender", "only_me"),
        (message_uuid(chat, 4), "only_me", "only_me"),
    ):
        deleted = await ask("DELETE", f"{path}/message/{update_id}/{mode}")
        assert deleted["content"]["deleted_mode"] == answered
    found = await ask("GET", f"/chat/{chat}/update?from=1&to=100")
    # Gone: what was deleted (1 to 4), the edit of 1 (5), and the reaction taken back (6).
    assert [update["update_id"] for update in found["updates"]] == [7, 8, 9, 10, 11, 12, 13]


@pytest.mark.parametrize("kind", ["personal", "group"])
async def test_every_path_of_a_secret_chat(people: Speaking, ask: Ask, kind: str) -> None:
    chat = await (people.personal(secret=True) if kind == "personal" else people.group(secret=True))
    path = f"/chat/{kind}/secret/{chat}/update/secret"
    sent = await ask("POST", path, SECRET)
    assert (sent["type"], sent["content"]) == ("secret_update", SECRET)
    deleted = await ask("DELETE", f"{path}/1", user="ben")
    assert deleted["content"] == {"deleted_id": 1, "deleted_mode": "all"}


async def test_the_request_s_session_is_told_so_that_an_edge_can_leave_it_out(people: Speaking, ask: Ask) -> None:
    chat = await people.group()
    await take_emitted(people.database)
    await ask("POST", f"/chat/group/{chat}/update/message/text", {"text": "hi"})
    assert (await people.told()).context["session"] == "s-1"


async def test_what_is_forwarded_may_be_named_by_the_client_and_is_written_once_whatever_the_key(
    people: Speaking, ask: Ask
) -> None:
    source, chat, other = await people.group(), await people.group(), await people.group()
    text, file = await people.say(BEN, source), await people.show(BEN, source)
    for name, message in (("text", text), ("file", file)):
        path = f"update/{name}-message/forward"
        body = {"message": message, "from_chat_id": str(source), "client_message_id": f"c-{name}"}
        first = await ask("POST", f"/chat/group/{chat}/{path}", body)
        assert (first["content"]["client_message_id"], first["content"]["forwarded"]) == (f"c-{name}", True)
        assert await ask("POST", f"/chat/group/{chat}/{path}", body) == first
        refused = await ask("POST", f"/chat/group/{other}/{path}", body)
        assert refused == (400, "client_message_id_reused")
        for wrong in ("", "x" * 129, 7):
            answer = await ask("POST", f"/chat/group/{chat}/{path}", body | {"client_message_id": wrong})
            assert answer == (400, "validation_failed")
        unnamed = await ask("POST", f"/chat/group/{chat}/{path}", body | {"client_message_id": None})
        assert "client_message_id" not in unnamed["content"]
    assert len(await people.read(ANN, chat)) == 4


async def test_a_request_that_comes_twice_is_written_once(people: Speaking, ask: Ask) -> None:
    chat = await people.group()
    path = f"/chat/group/{chat}/update/message/text"
    first = await ask("POST", path, {"text": "hi"}, key="k")
    assert await ask("POST", path, {"text": "hi"}, key="k") == first
    assert len(await people.read(ANN, chat)) == 1
    # By two names at once: the key decides, and the client's own name for it as well.
    named = await ask("POST", path, {"text": "ho", "client_message_id": "c1"}, key="k2")
    assert await ask("POST", path, {"text": "ho", "client_message_id": "c1"}, key="k2") == named
    assert await ask("POST", path, {"text": "ho", "client_message_id": "c1"}, key="k3") == named
    assert len(await people.read(ANN, chat)) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "message/text", {"text": ""}, (400, "text_empty")),
        ("POST", "message/text", {"text": "a" * 2001}, (400, "too_many_characters")),
        ("POST", "message/text", {"text": 7}, (400, "validation_failed")),
        ("POST", "message/text", {}, (400, "validation_failed")),
        ("POST", "message/text", {"text": "hi", "reply_to": 99}, (404, "message_not_found")),
        ("POST", "message/text", {"text": "hi", "reply_to": 0}, (400, "validation_failed")),
        ("POST", "message/text", {"text": "hi", "reply_to": "x" * 36}, (400, "validation_failed")),
        ("POST", "message/file", {"file_id": str(UUID(int=1))}, (404, "file_not_found")),
        ("POST", "message/file", {"file_id": "x"}, (400, "validation_failed")),
        ("PUT", "message/text/99", {"text": "hi"}, (404, "message_not_found")),
        ("PUT", "message/text/zero", {"text": "hi"}, (400, "validation_failed")),
        ("PUT", "message/text/1", {"text": "hi"}, (400, "user_not_sender")),
        ("POST", "reaction", {"reaction": "smile", "message_id": 1}, (400, "invalid_reaction_type")),
        ("DELETE", "message/1/everybody", None, (400, "invalid_delete_mode")),
        ("DELETE", "message/99999999999999999999/all", None, (400, "validation_failed")),
        ("DELETE", "reaction/1", None, (404, "reaction_not_found")),
        ("POST", "text-message/forward", {"message": 1, "from_chat_id": str(UUID(int=1))}, (404, "chat_not_found")),
    ],
)
async def test_refusals_have_chakchats_codes(
    people: Speaking, ask: Ask, method: str, path: str, body: Any, expected: tuple[int, str]
) -> None:
    chat = await people.group()
    await people.say(BEN, chat)
    assert await ask(method, f"/chat/group/{chat}/update/{path}", body) == expected


async def test_a_chat_id_that_is_no_uuid_and_one_that_is_nobody_s_are_told_apart(ask: Ask) -> None:
    assert await ask("GET", "/chat/x/update?from=1&to=2") == (400, "validation_failed")
    assert await ask("GET", f"/chat/{UUID(int=1)}/update?from=1&to=2") == (404, "chat_not_found")


@pytest.mark.parametrize("query", ["", "from=1", "to=1", "from=a&to=1", "from=1&to=99999999999999999999"])
async def test_a_range_needs_two_numbers(people: Speaking, ask: Ask, query: str) -> None:
    chat = await people.group()
    assert await ask("GET", f"/chat/{chat}/update?{query}") == (400, "validation_failed")
