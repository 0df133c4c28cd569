"""What the HTTP shell does with good, bad and odd requests, whatever the commands are."""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm

from tests.integration.messaging.shell import CHAT, key_set, make_guard, make_shell, opened, token
from tidings.clock import ManualClock
from tidings.keys import KeySet
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.limits import Rates
from tidings.tokens import issue

BEGIN = "/v1.0/chat/personal"
SAY = f"/v1.0/chat/{CHAT}/text"
LOOK = f"/v1.0/chat/{CHAT}/update"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with opened(make_shell()) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) <= {"error_type", "error_message", "error_details"}
    assert body["error_message"]
    return response.status_code, body["error_type"]


# ---- routes and methods


async def test_success_is_200_in_an_envelope_for_every_method(client: httpx.AsyncClient) -> None:
    for response in (
        await client.post(SAY, json={"text": "hi"}),
        await client.get(LOOK, params={"from": 1}),
        await client.put("/v1.0/users/bob"),
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"data"}
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/v1.0", "/v1.0/nothing", "/v1.0/chat", "/schema/openapi.json", "/favicon.ico"])
async def test_an_unknown_path_is_404_with_a_problem_body_also_without_a_token(path: str) -> None:
    async with opened(make_shell(), user=None) as nobody:
        assert problem(await nobody.get(path)) == (404, "not_found")
        assert problem(await nobody.post(path, content=b"{")) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "TRACE", "NONSENSE"])
async def test_a_method_that_a_path_lacks_is_405_and_says_which_it_has(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, SAY)
    assert problem(response) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


async def test_head_is_get_without_its_body(client: httpx.AsyncClient) -> None:
    get, head = await client.get(LOOK, params={"from": 1}), await client.head(LOOK, params={"from": 1})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers
    missing = await client.head("/v1.0/nothing")
    assert (missing.status_code, missing.content) == (404, b"")


async def test_head_sends_no_byte_of_a_body() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(b"authorization", f"Bearer {token()}".encode())]
    path = "/v1.0/users/bob"
    scope = {"type": "http", "method": "HEAD", "path": path, "raw_path": path.encode(), "query_string": b""}
    await make_shell()({**scope, "headers": headers, "server": ("messaging.test", 80)}, receive, send)
    assert [message.get("status") for message in sent] == [200, *[None] * (len(sent) - 1)]
    assert b"".join(message.get("body", b"") for message in sent) == b""


async def test_options_needs_no_token_and_lists_the_methods() -> None:
    async with opened(make_shell(), user=None) as nobody:
        response = await nobody.options(SAY)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["allow"] == "OPTIONS, POST"
        assert (await nobody.options("/v1.0/users/bob")).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"
        assert problem(await nobody.options("/v1.0/nothing")) == (404, "not_found")


async def test_slashes_too_many_do_no_harm(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1.0//chat/{CHAT}/update/?from=1")).status_code == 200


# ---- who asks


async def test_a_refused_token_is_401_before_the_body_is_looked_at() -> None:
    async with opened(make_shell(), user=None) as nobody:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": f"Bearer {token(ttl_s=-3_600)}"}):
            response = await nobody.post(SAY, content=b"{" * 2_000_000, headers=headers)
            assert problem(response) == (401, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_may_stand_in_the_internal_header_or_the_cookie() -> None:
    async with opened(make_shell(), user=None) as nobody:
        for headers in ({"x-internal-token": f"Bearer {token()}"}, {"cookie": f"tidings_token={token()}"}):
            response = await nobody.post(SAY, json={"text": "hi"}, headers=headers)
            assert response.json()["data"]["actor"] == "alice"


async def test_a_token_that_was_good_is_refused_once_its_time_is_over() -> None:
    clock = ManualClock(time.time())
    async with opened(make_shell(guard=make_guard(clock=clock)), user=None) as nobody:
        headers = {"authorization": f"Bearer {token(ttl_s=30)}"}
        assert (await nobody.get(LOOK, params={"from": 1}, headers=headers)).status_code == 200
        clock.advance(39)
        assert (await nobody.get(LOOK, params={"from": 1}, headers=headers)).status_code == 200
        clock.advance(2)
        assert problem(await nobody.get(LOOK, params={"from": 1}, headers=headers)) == (401, "unauthorized")


async def test_a_key_that_was_taken_back_counts_for_a_minute_at_most() -> None:
    clock = ManualClock(time.time())
    current = key_set()
    shell = make_shell(guard=make_guard(clock=clock, keys=lambda: current))
    async with opened(shell) as client:
        assert (await client.get(LOOK, params={"from": 1})).status_code == 200
        current = KeySet.from_secret("another secret of the same length", "x")
        clock.advance(61)
        assert problem(await client.get(LOOK, params={"from": 1})) == (401, "unauthorized")


async def test_a_key_that_is_not_known_yet_is_asked_for_once_before_the_refusal() -> None:
    private = generate_private_key(65537, 2048)
    key = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    later, faults = KeySet.from_jwks({"keys": [{**key, "kid": "k", "alg": "RS256"}]})
    assert not faults
    current, _ = KeySet.from_jwks({"keys": []})
    asked = 0

    async def refresh() -> bool:
        nonlocal current, asked
        asked += 1
        current = later
        return True

    shell = make_shell(guard=make_guard(keys=lambda: current, refresh=refresh))
    headers = {"authorization": f"Bearer {issue('alice', private, 60, time.time(), kid='k')}"}
    async with opened(shell, user=None) as nobody:
        assert (await nobody.get(LOOK, params={"from": 1}, headers=headers)).status_code == 200
        assert asked == 1


async def test_the_actor_is_seen_before_its_request_is_done_and_without_a_session() -> None:
    seen: list[Actor] = []

    async def note(actor: Actor) -> None:
        seen.append(actor)

    async with opened(make_shell(guard=make_guard(seen=note))) as client:
        await client.get(LOOK, params={"from": 1}, headers={"tidings-session": "s1"})
        await client.get("/v1.0/nothing")
        await client.options(LOOK)
    assert seen == [Actor(id="alice")]


async def test_the_session_header_belongs_to_its_request_alone(client: httpx.AsyncClient) -> None:
    response = await client.put("/v1.0/users/bob", headers={"tidings-session": "node.1/7"})
    assert response.json()["data"]["session"] == "node.1/7"
    assert (await client.put("/v1.0/users/bob")).json()["data"]["session"] is None
    for wrong in ("x" * 129, "é"):
        response = await client.put("/v1.0/users/bob", headers={b"tidings-session": wrong.encode("latin-1")})
        assert problem(response) == (400, "validation_failed")


# ---- bodies


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
async def test_a_body_is_json_whatever_its_content_type_says(client: httpx.AsyncClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    response = await client.post(SAY, content='{"text":"é"}'.encode(), headers=headers)
    assert response.json()["data"]["text"] == "é"


@pytest.mark.parametrize("body", [b"", b" ", b"{", b'{"text":"\xff"}', b"[" * 100_000, b'{"text":"a"} {}'])
async def test_what_is_no_json_is_422_once(client: httpx.AsyncClient, body: bytes) -> None:
    assert problem(await client.post(SAY, content=body)) == (422, "invalid_json")


async def test_wrong_types_are_400_with_the_field(client: httpx.AsyncClient) -> None:
    response = await client.post(SAY, json={"text": 5})
    assert problem(response) == (400, "validation_failed")
    assert response.json()["error_details"] == [{"field": "text", "message": "Expected `str`, got `int`"}]


async def test_an_optional_body_may_be_left_out_but_not_be_wrong(client: httpx.AsyncClient) -> None:
    path = f"/v1.0/chat/{CHAT}/typing"
    assert (await client.post(path)).json()["data"]["stop"] is False
    assert (await client.post(path, json={"stop": True})).json()["data"]["stop"] is True
    assert problem(await client.post(path, json={"stop": "true"})) == (400, "validation_failed")


@pytest.mark.limit("TIDINGS_MESSAGING_MAX_BODY_BYTES")
async def test_a_body_over_the_limit_is_413_announced_or_not() -> None:
    async with opened(make_shell(max_body_bytes=100)) as client:
        fits = b'{"text":"' + b"a" * 89 + b'"}'
        assert len(fits) == 100
        assert (await client.post(SAY, content=fits)).status_code == 200
        response = await client.post(SAY, content=fits + b" ")
        assert problem(response) == (413, "body_too_large")
        assert response.headers["connection"] == "close"

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield fits

        assert problem(await client.post(SAY, content=pieces())) == (413, "body_too_large")
        wrong = {"content-length": "9" * 5_000}
        assert problem(await client.post(SAY, content=fits, headers=wrong)) == (413, "body_too_large")


# ---- paths and queries


async def test_ids_in_paths_are_checked_with_chakchats_names(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1.0/chat/nonsense/update?from=1")
    assert problem(response) == (400, "validation_failed")
    assert response.json()["error_details"] == [{"field": "chatId", "message": "Invalid UUID"}]


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "1.5", "9223372036854775808", "1" * 5_000, "１"])
async def test_numbers_in_queries_are_checked(client: httpx.AsyncClient, value: str) -> None:
    response = await client.get(LOOK, params={"from": value})
    assert problem(response) == (400, "validation_failed")
    assert [detail["field"] for detail in response.json()["error_details"]] == ["from"]


async def test_a_missing_parameter_is_named(client: httpx.AsyncClient) -> None:
    response = await client.get(LOOK)
    assert problem(response) == (400, "validation_failed")
    assert response.json()["error_details"] == [{"field": "from", "message": "missing"}]


async def test_other_parameters_have_their_own_error_type(client: httpx.AsyncClient) -> None:
    assert problem(await client.get(LOOK, params={"from": 1, "preview": "x"})) == (400, "invalid_query_param")


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("a%20b", "a b"),
        ("%C3%A9", "é"),
        ("a%2Fb%2fc", "a/b/c"),
        ("a%252Fb", "a%2Fb"),
        ("a+b", "a+b"),
        ("%EF%BF%BD", "\ufffd"),
    ],
)
async def test_encoded_characters_of_an_id_mean_themselves(client: httpx.AsyncClient, written: str, user: str) -> None:
    for _ in range(2):
        assert (await client.put(f"/v1.0/users/{written}")).json()["data"]["user"] == user


async def test_an_id_with_a_slash_is_no_other_path(client: httpx.AsyncClient) -> None:
    assert problem(await client.put("/v1.0%2Fusers/bob")) == (404, "not_found")
    assert problem(await client.put("/v1.0/users/a/b")) == (404, "not_found")


@pytest.mark.parametrize("path", ["/v1.0/users/a%00", "/v1.0/users/%ff", "/v1.0/users/%ED%A0%AF", f"{LOOK}?from=%00"])
async def test_what_can_be_no_text_is_refused(client: httpx.AsyncClient, path: str) -> None:
    assert problem(await client.put(path)) == (400, "validation_failed")


async def test_a_users_id_has_a_length(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1.0/users/" + "a" * 256)).status_code == 200
    response = await client.put("/v1.0/users/" + "a" * 257)
    assert problem(response) == (400, "validation_failed")
    assert response.json()["error_details"][0]["field"] == "userId"


# ---- limits


@pytest.mark.limit("TIDINGS_MESSAGING_MAX_REQUESTS_PER_S", "TIDINGS_MESSAGING_MAX_REQUESTS_BURST")
async def test_a_user_over_its_rate_is_429_with_the_time_to_wait_and_others_are_not() -> None:
    clock = ManualClock(time.time())
    shell = make_shell(guard=make_guard(rates=Rates(0.5, 3), clock=clock))
    async with opened(shell) as alice, opened(shell, "bob") as bob:
        assert [(await alice.put("/v1.0/users/x")).status_code for _ in range(3)] == [200] * 3
        response = await alice.put("/v1.0/users/x")
        assert problem(response) == (429, "too_many_requests")
        assert response.headers["retry-after"] == "2"
        assert (await bob.put("/v1.0/users/x")).status_code == 200
        clock.advance(2)
        assert (await alice.put("/v1.0/users/x")).status_code == 200


async def test_all_paths_share_one_rate() -> None:
    clock = ManualClock(time.time())
    async with opened(make_shell(guard=make_guard(rates=Rates(1, 3), clock=clock))) as client:
        responses = [
            await client.put("/v1.0/users/x"),
            await client.get("/v1.0/users/x"),
            await client.post(SAY, json={"text": "hi"}),
            await client.get(LOOK, params={"from": 1}),
        ]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]


async def test_requests_that_no_token_vouches_for_use_up_nobodys_rate() -> None:
    shell = make_shell(guard=make_guard(rates=Rates(1, 2), clock=ManualClock(time.time())))
    async with opened(shell, user=None) as nobody, opened(shell) as alice:
        for _ in range(5):
            await nobody.put("/v1.0/users/x")
        assert (await alice.put("/v1.0/users/x")).status_code == 200


# ---- errors of ours


async def test_a_bug_is_500_and_logged_but_not_told(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        response = await client.delete("/v1.0/broken/bug")
    assert problem(response) == (500, "internal")
    assert "hunter2" not in response.text
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["request_failed"]


async def test_a_database_that_is_away_is_503_and_worth_another_try(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1.0/broken/away")
    assert problem(response) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"


async def test_a_missing_permission_is_403_only_if_the_setting_asks(client: httpx.AsyncClient) -> None:
    assert problem(await client.delete("/v1.0/broken/forbidden")) == (400, "sender_not_admin")
    async with opened(make_shell(forbidden_as_403=True)) as strict:
        assert problem(await strict.delete("/v1.0/broken/forbidden")) == (403, "sender_not_admin")


# ---- keys of requests


async def test_a_post_needs_a_key(client: httpx.AsyncClient) -> None:
    assert problem(await client.post(BEGIN, json={"member_id": "bob"})) == (400, "idempotency_key_missing")
    for key in (" ", "\t"):
        headers = {"idempotency-key": key}
        assert (
            problem(await client.post(BEGIN, json={"member_id": "bob"}, headers=headers))[1]
            == "idempotency_key_missing"
        )
    for wrong in ("x" * 256, "é", "a\tb"):
        headers = {"idempotency-key": wrong.encode("latin-1")}  # type: ignore[dict-item]
        response = await client.post(BEGIN, json={"member_id": "bob"}, headers=headers)
        assert problem(response) == (400, "validation_failed")


async def test_the_same_request_gets_its_first_answer_byte_for_byte(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    first = await client.post(BEGIN, json={"member_id": "bob"}, headers=headers)
    again = await client.post(BEGIN, json={"member_id": "bob"}, headers=headers)
    assert (first.status_code, first.json()["data"]["times"]) == (200, 1)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers


async def test_a_key_with_another_body_or_query_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    await client.post(BEGIN, json={"member_id": "bob"}, headers=headers)
    for path, member in ((BEGIN, "carol"), (BEGIN, "taken"), (f"{BEGIN}?x=1", "bob")):
        response = await client.post(path, json={"member_id": member}, headers=headers)
        assert problem(response) == (409, "idempotency_key_reused")


async def test_keys_belong_to_their_user() -> None:
    shell = make_shell()
    headers = {"idempotency-key": "k"}
    async with opened(shell) as alice, opened(shell, "bob") as bob:
        first = await alice.post(BEGIN, json={"member_id": "carol"}, headers=headers)
        second = await bob.post(BEGIN, json={"member_id": "carol"}, headers=headers)
    assert (first.json()["data"]["actor"], second.json()["data"]["actor"]) == ("alice", "bob")


async def test_a_refusal_is_not_kept(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    for _ in range(2):
        response = await client.post(BEGIN, json={"member_id": "taken"}, headers=headers)
        assert problem(response) == (400, "chat_already_exists")
    assert (await client.post(BEGIN, json={"member_id": "bob"}, headers=headers)).status_code == 200


# ---- pages of other origins


async def test_refusals_can_be_read_by_allowed_pages_too() -> None:
    async with opened(make_shell(origins=["https://chat.example"]), user=None, origin="https://chat.example") as page:
        for path in (SAY, "/v1.0/nothing", "/v1.0/users/%00"):
            assert (await page.post(path)).headers["access-control-allow-origin"] == "https://chat.example"


async def test_a_browsers_question_beforehand_needs_no_token() -> None:
    async with opened(make_shell(origins=["https://chat.example"]), user=None) as page:
        asks = {"origin": "https://chat.example", "access-control-request-method": "POST"}
        response = await page.options(SAY, headers=asks)
        assert (response.status_code, response.content) == (204, b"")
        assert "POST" in response.headers["access-control-allow-methods"]
        response = await page.options(SAY, headers={**asks, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers


# ---- what is told of requests


async def test_every_answer_is_observed_with_its_status() -> None:
    observed: list[tuple[int, float]] = []
    async with opened(make_shell(observe=lambda status, took_s: observed.append((status, took_s)))) as client:
        await client.put("/v1.0/users/bob")
        await client.get("/v1.0/nothing")
        await client.get("/v1.0/users/%00")
        await client.delete("/v1.0/broken/bug")
    assert [status for status, _ in observed] == [200, 404, 400, 500]
    assert all(0 < took_s < 5 for _, took_s in observed)


async def test_the_access_log_tells_user_path_and_status_but_no_token_and_no_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with structlog.testing.capture_logs() as logs:
        async with opened(make_shell(access_log=True)) as client:
            await client.get(LOOK, params={"from": 1, "token": token()})
    line = next(log for log in logs if log["event"] == "request")
    assert (line["user"], line["path"], line["status"], line["method"]) == ("alice", LOOK, 200, "GET")
    assert token().split(".")[0] not in str(logs)


# ---- the description


async def test_the_description_is_openapi_with_examples_and_refusals(client: httpx.AsyncClient) -> None:
    async with opened(make_shell(), user=None) as nobody:
        response = await nobody.get("/schema")
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document["openapi"].startswith("3.1")
    operation = document["paths"]["/v1.0/chat/personal"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["example"] == {"member_id": "bob"}
    assert [one["name"] for one in operation["parameters"]] == ["Idempotency-Key"]
    assert "chat_already_exists" in str(operation["responses"]["400"])
    assert operation["responses"]["401"] == {"$ref": "#/components/responses/Refused401"}
    assert operation["security"] == [{"bearer": []}]
    for reference in re.findall(r"'\$ref': '#/([^']+)'", str(document)):
        found = document
        for step in reference.split("/"):
            found = found[step]


async def test_the_descriptions_examples_fit_its_schemas(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema")).json()
    for path in document["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "example" in content:
                    jsonschema.validate(content["example"], {**content["schema"], "components": document["components"]})


async def test_the_description_keeps_bounds_inside_of_unions(client: httpx.AsyncClient) -> None:
    reply_to = (await client.get("/schema")).json()["components"]["schemas"]["TextMessage"]["properties"]["reply_to"]
    assert {"type": "integer", "minimum": 1, "maximum": 9223372036854775807} in reply_to["anyOf"]


async def test_browsers_get_the_description_as_a_page_without_scripts(client: httpx.AsyncClient) -> None:
    for path, accept in (("/schema/", "*/*"), ("/schema", "text/html,application/xhtml+xml")):
        response = await client.get(path, headers={"accept": accept})
        assert response.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        for part in ("/v1.0/chat/personal", "chat_already_exists", "&quot;bob&quot;", "Idempotency-Key"):
            assert part in response.text
        assert "<script" not in response.text
