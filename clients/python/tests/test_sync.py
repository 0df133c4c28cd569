"""Fetching what was missed, against a messaging service that misbehaves on purpose."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tidings_client import Page, SyncFailed, sync

Answer = tuple[int, Any]
EMPTY: dict[str, Any] = {"chats": [], "removed": [], "updates": [], "marks": [], "users": []}
INVALID: Answer = (400, {"error_type": "invalid_since", "error_message": "ask without it"})


class Asked:
    """What came: path, query and token of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.tokens: list[str] = []


@contextmanager
def service(*answers: Answer | Callable[[], Answer]) -> Iterator[Asked]:
    """Answers each request with the next one: a status, and bytes or what becomes `data` or a refusal."""
    asked = Asked()
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.paths.append(parts.path)
            asked.queries.append({name: values[0] for name, values in parse_qs(parts.query).items()})
            asked.tokens.append(self.headers["Authorization"])
            answer = left.pop(0)
            status, what = answer() if callable(answer) else answer
            body = what if isinstance(what, bytes) else json.dumps({"data": what} if status == 200 else what).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", asked.url + "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


def page(next_: str, *, more: bool = False, **parts: Any) -> Answer:
    return 200, EMPTY | parts | {"next": next_, "more": more}


async def pages(asked: Asked, **options: Any) -> list[Page]:
    options = {"token": "a.b.c", "timeout_s": 5.0, **options}
    return [shown async for shown in sync(asked.url, **options)]


async def failure(asked: Asked, **options: Any) -> SyncFailed:
    with pytest.raises(SyncFailed) as caught:
        await pages(asked, **options)
    return caught.value


async def test_pages_are_followed_to_the_last_one() -> None:
    with service(page("t2", more=True, updates=[{"update_id": 1}]), page("t3", removed=["c"])) as asked:
        first, last = await pages(asked, since="t1")
    assert (first.updates, first.more, first.whole) == ([{"update_id": 1}], True, False)
    assert (last.removed, last.next, last.more, last.whole) == (["c"], "t3", False, False)
    assert asked.queries == [{"since": "t1"}, {"since": "t2"}]
    assert asked.paths == ["/v1.0/sync"] * 2
    assert asked.tokens == ["Bearer a.b.c"] * 2


async def test_without_since_the_pages_are_the_whole_state() -> None:
    with service(page("t1", more=True), page("t2")) as asked:
        shown = await pages(asked, preview=3)
    assert [part.whole for part in shown] == [True, True]
    assert asked.queries == [{"preview": "3"}, {"since": "t1"}]


async def test_a_since_that_the_service_does_not_know_becomes_the_whole_state() -> None:
    with service(INVALID, page("t1", chats=[{}])) as asked:
        (shown,) = await pages(asked, since="old")
    assert (shown.whole, shown.chats) == (True, [{}])
    assert asked.queries == [{"since": "old"}, {"preview": "1"}]
    with service(INVALID, INVALID) as asked:
        assert (await failure(asked, since="old")).error == "invalid_since"


async def test_a_token_function_is_asked_for_each_page() -> None:
    tokens = iter(["one ", "two"])

    async def token() -> str:
        return next(tokens)

    with service(page("t1", more=True), page("t2")) as asked:
        await pages(asked, token=token)
    assert asked.tokens == ["Bearer one", "Bearer two"]


async def test_refusals_say_what_the_service_said() -> None:
    with service((401, {"error_type": "unauthorized", "error_message": "Unauthorized."})) as asked:
        refused = await failure(asked)
    assert (refused.status, refused.error, refused.reason) == (401, "unauthorized", "Unauthorized.")
    assert str(refused) == "401 unauthorized (Unauthorized.)"
    for body in (b"<html>", b"[1]", b'{"error_type"', b""):
        with service((502, body)) as asked:
            assert (await failure(asked)).status == 502


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"data":{}}', b'{"data":[]}', b"x", b"\xff", b"[" * 100_000, b'{"data":{"next":1}}']
)
async def test_what_is_no_page_is_refused(body: bytes) -> None:
    with service((200, body)) as asked:
        assert (await failure(asked)).error == "not_a_page"


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    with service((302, b""), page("t1")) as asked:
        assert (await failure(asked)).status == 302
    assert asked.paths == ["/v1.0/sync"]


async def test_a_service_that_does_not_get_on_is_not_asked_for_ever() -> None:
    with service(page("t1", more=True), page("t1", more=True)) as asked:
        assert (await failure(asked)).error == "no_progress"


async def test_a_service_that_is_away_is_said_to_be() -> None:
    with service() as asked:
        pass
    away = await failure(asked)
    assert (away.status, away.error) == (0, "unreachable")


async def test_half_an_answer_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = Asked()
        asked.url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            for half in (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"nonsense\r\n\r\n"):
                peer, _ = server.accept()
                with peer:
                    peer.recv(65_536)
                    peer.sendall(half)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        for _ in range(2):
            assert (await failure(asked)).error in ("unreachable", "not_a_page")
        thread.join(5)


async def test_a_silent_service_takes_no_longer_than_the_time_limit() -> None:
    release = threading.Event()

    def wait() -> Answer:
        release.wait(10)
        return page("t1")

    with service(wait) as asked:
        try:
            assert (await failure(asked, timeout_s=0.2)).error == "unreachable"
        finally:
            release.set()


@pytest.mark.parametrize("url", ["", "ftp://a.example", "a.example", "https://u:p@a.example", "file:///etc/passwd"])
async def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError):
        await anext(aiter(sync(url, token="t")))


async def test_a_path_of_ones_own_is_kept() -> None:
    with service(page("t1")) as asked:
        asked.url += "/api/messaging/v1.0/sync?tenant=1"
        await pages(asked, since="t0")
    assert asked.paths == ["/api/messaging/v1.0/sync"]
    assert asked.queries == [{"tenant": "1", "since": "t0"}]
