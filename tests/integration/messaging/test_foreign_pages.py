"""A page of another origin can't act with the cookie that the browser sends along; every route of the service."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute

from tests.integration.messaging.shell import CHAT, make_shell, opened, token
from tests.integration.messaging.world import ALICE, BOB, World
from tidings.messaging.http.app import Api
from tidings.messaging.http.routes import Commands, all_routes
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.wire import Wire
from tidings.metrics import Metrics

LISTED = "https://chat.example"
FOREIGN = "https://evil.example"
OWN = "http://messaging.test"
SAY = f"/v1.0/chat/{CHAT}/text"
REFUSED = (403, "origin_refused")


class Heard:
    """Typing that was told to somebody."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, *told: Any) -> bool:
        self.sent.append(told)
        return True


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def api(database: Database, heard: Heard) -> Api:
    """The whole service, which lists one page."""
    commands = Commands.on(database, Wire.SEED, heard, Metrics())
    return make_shell(all_routes(commands), keeper=Answers(database), origins=[LISTED])


@pytest.fixture
async def page(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """What a browser sends for a script or a form of a foreign page: no header that would make it ask beforehand."""
    async with opened(
        api, user=None, cookie=f"tidings_token={token()}", origin=FOREIGN, **{"content-type": "text/plain"}
    ) as made:
        yield made


def outcome(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    return response.status_code, body.get("error_type", "")


def operations(api: Api) -> list[tuple[str, str]]:
    """Method and path of everything below /v1.0, with something put in for each parameter."""
    return [
        (method, re.sub(r"\{chat_id[^}]*\}|\{file_id[^}]*\}", CHAT, re.sub(r"\{(?!chat|file)[^}]*\}", "7", route.path)))
        for route in api.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/v1.0/")
        for method in sorted(route.methods - {"OPTIONS", "HEAD"})
    ]


async def test_no_route_takes_the_cookie_of_a_foreign_page(api: Api, page: httpx.AsyncClient) -> None:
    found = operations(api)
    assert {method for method, _ in found} == {"GET", "POST", "PUT", "DELETE"}
    assert len(found) > 50
    answers = {
        (method, path): outcome(await page.request(method, path, content=b'{"kind":"read"}')) for method, path in found
    }
    assert {place: answer for place, answer in answers.items() if answer != REFUSED} == {}


async def test_a_foreign_page_sets_no_mark_and_types_nothing(
    database: Database, page: httpx.AsyncClient, heard: Heard
) -> None:
    world = World(database)
    chat = await world.pair(ALICE, BOB)
    await world.say(BOB, chat)
    await world.emitted()
    for path, body in (("marks", b'{"kind":"read"}'), ("typing", b"{}")):
        assert outcome(await page.post(f"/v1.0/chat/{chat}/{path}", content=body)) == REFUSED
    assert await database.pool.fetchval("SELECT max(read_no) FROM members WHERE user_id = 'alice'") == 0
    assert (await world.emitted(), heard.sent) == ([], [])


async def test_the_refusal_is_a_problem_that_names_the_setting(page: httpx.AsyncClient) -> None:
    response = await page.post(f"/v1.0/chat/{CHAT}/typing", content=b"{}")
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error_type", "error_message"}
    assert "TIDINGS_MESSAGING_ORIGINS" in response.json()["error_message"]


async def asked(origins: list[str], *headers: tuple[str, str]) -> tuple[int, str]:
    """What becomes of a request that the shell's command would grant."""
    async with opened(make_shell(origins=origins), user=None) as client:
        return outcome(await client.post(SAY, content=b'{"text":"hi"}', headers=list(headers)))


COOKIE = ("cookie", f"tidings_token={token()}")


@pytest.mark.parametrize(
    ("origins", "origin"),
    [
        ([], OWN),
        ([], OWN + ":80"),
        ([LISTED], OWN),
        ([LISTED], LISTED),
        (["*"], OWN),
        (["*", LISTED], LISTED),
    ],
)
async def test_a_page_of_the_same_host_or_of_the_list_may_use_the_cookie(origins: list[str], origin: str) -> None:
    assert await asked(origins, COOKIE, ("origin", origin)) == (200, "")


@pytest.mark.parametrize(
    ("origins", "origin"),
    [
        ([], FOREIGN),
        ([], OWN + ":8080"),
        ([], "null"),
        ([], ""),
        ([], "http://messaging.test.evil.example"),
        ([], "http://[messaging.test"),
        ([LISTED], FOREIGN),
        ([LISTED], LISTED + ":8443"),
        ([LISTED], "http://chat.example"),
        (["*"], FOREIGN),
        (["*"], "*"),
        (["*", LISTED], FOREIGN),
    ],
)
async def test_other_pages_may_not_also_where_every_page_may_call(origins: list[str], origin: str) -> None:
    assert await asked(origins, COOKIE, ("origin", origin)) == REFUSED
    # Its user gave it a token: then it is nobody's cookie that decides.
    assert await asked(origins, ("authorization", f"Bearer {token()}"), COOKIE, ("origin", origin)) == (200, "")
    assert await asked(origins, ("x-internal-token", token()), COOKIE, ("origin", origin)) == (200, "")


async def test_two_origins_or_two_hosts_are_nobody_s(api: Api) -> None:
    assert await asked([LISTED], COOKIE, ("origin", LISTED), ("origin", LISTED)) == REFUSED
    assert await asked([], COOKIE, ("origin", OWN), ("host", "messaging.test"), ("host", "messaging.test")) == REFUSED


async def test_without_an_origin_it_is_no_page_and_the_cookie_counts() -> None:
    assert await asked([], COOKIE) == (200, "")


async def test_a_listed_page_may_read_the_answer_also_where_every_page_may_call() -> None:
    async with opened(make_shell(origins=["*", LISTED]), user=None, cookie=COOKIE[1]) as client:
        listed = await client.post(SAY, content=b'{"text":"hi"}', headers={"origin": LISTED})
        foreign = await client.post(SAY, content=b'{"text":"hi"}', headers={"origin": FOREIGN})
    assert listed.headers["access-control-allow-origin"] == LISTED
    assert listed.headers["access-control-allow-credentials"] == "true"
    assert foreign.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in foreign.headers
    assert listed.headers["vary"] == foreign.headers["vary"] == "Origin"
