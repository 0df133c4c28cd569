"""The JavaScript client (clients/js) in Node and in Chromium against real gateways: every record once, in order."""

import asyncio
import functools
import http.server
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import pytest

from tests.integration.browser import Browser, find_chromium
from tests.integration.clients import Topics, token_for
from tests.integration.processes import ROOT, Gateway, GatewayFactory
from tests.integration.test_foreign_clients import need, node_major
from tidings.config import TopicSettings
from tidings.kafka.ladder import Broker

pytestmark = pytest.mark.kafka

PACKAGE = ROOT / "clients" / "js"
PROGRAM = "test/fixtures/follow"
PARTITIONS = 4
TIMEOUT_S = 30.0

Line = dict[str, Any]
Start = Callable[[Mapping[str, Any]], Any]


class Follower(Protocol):
    """A running client that tells what it sees."""

    async def lines(self) -> list[Line]: ...
    async def close(self) -> None:
        """End as the client's own `close()` does; what it says then is in `lines`."""

    def kill(self) -> None:
        """End without a word."""


class NodeFollower:
    """In a process of Node's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[Line] = []
        self._task = asyncio.create_task(self._gather())

    async def lines(self) -> list[Line]:
        return self._lines

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(TIMEOUT_S):
            assert await self._process.wait() == 0  # nothing keeps the program alive
            await self._task

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def _gather(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._lines.append(json.loads(line))


class PageFollower:
    """In a page of Chromium's."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def lines(self) -> list[Line]:
        found: list[Line] = await self._browser.run("window.lines ?? []")
        return found

    async def close(self) -> None:
        await self._browser.run("client.close()")

    def kill(self) -> None:
        pass  # the browser's context manager does


@asynccontextmanager
async def in_node(config: Mapping[str, Any], page: str) -> AsyncIterator[Follower]:
    command = [need("node")]
    if node_major(command[0]) < 22:
        command += ["--experimental-websocket", "--no-warnings"]
    command += [str(PACKAGE / f"{PROGRAM}.js"), json.dumps(config)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22
    )
    follower = NodeFollower(process)
    try:
        yield follower
    finally:
        follower.kill()
        await process.wait()


@asynccontextmanager
async def in_chromium(config: Mapping[str, Any], page: str) -> AsyncIterator[Follower]:
    if find_chromium() is None:
        pytest.skip("no chromium on the PATH")
    async with Browser() as browser:
        await browser.open(f"{page}/{PROGRAM}.html#{quote(json.dumps(config))}")
        yield PageFollower(browser)


@pytest.fixture(params=[in_node, in_chromium], ids=["node", "chromium"])
def start(request: pytest.FixtureRequest, page: str) -> Start:
    """`async with start(config) as follower`."""
    return functools.partial(request.param, page=page)


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """A server with the package's files; its origin is not the gateway's."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=PACKAGE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def until(follower: Follower, condition: Callable[[list[Line]], Any], what: str) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition(await follower.lines())):
        assert time.monotonic() < deadline, (
            f"{what}: {[line for line in await follower.lines() if 'event' not in line]}"
        )
        await asyncio.sleep(0.05)
    return found


def events(lines: Sequence[Line]) -> list[Line]:
    return [line["event"] for line in lines if "event" in line]


def numbers(lines: Sequence[Line]) -> list[int]:
    return [event["data"] for event in events(lines)]


def last_state(lines: Sequence[Line]) -> Line:
    states = [line for line in lines if "state" in line]
    return states[-1] if states else {"state": "none"}


def opened(lines: Sequence[Line]) -> Line | None:
    state = last_state(lines)
    return state if state["state"] == "open" else None


def in_order(lines: Sequence[Line]) -> bool:
    """Within each partition."""
    by_partition: dict[str, list[int]] = {}
    for event in events(lines):
        by_partition.setdefault(event["at"].partition(":")[0], []).append(event["data"])
    return all(found == sorted(found) for found in by_partition.values())


class Writer:
    """Records with the numbers 0, 1, 2, … for one user, over all partitions, among records of others."""

    def __init__(self, topics: Topics, user: str) -> None:
        self._topics = topics
        self._user = user
        self.count = 0

    def put(self, count: int) -> None:
        for _ in range(count):
            self._topics.send(["stranger"], "not yours", partition=self.count % PARTITIONS, flush=False)
            self._topics.send([self._user], self.count, partition=self.count * 7 // 3 % PARTITIONS, flush=False)
            self.count += 1
        self._topics.flush()


@pytest.fixture
def writer(kafka: Broker, topics: TopicSettings) -> Writer:
    return Writer(Topics(kafka, topics), "alice")


def config(nodes: Sequence[Gateway], **more: Any) -> Line:
    return {"urls": [node.url for node in nodes], "tokens": [token_for("alice")], "position": None, **more}


async def test_exactly_once_over_restarts_of_both_nodes(
    gateway: GatewayFactory, writer: Writer, start: Start, page: str
) -> None:
    nodes = [gateway(origins=page, drain_s=1), gateway(origins=page, drain_s=1)]
    async with start(config(nodes)) as follower:
        there = (await until(follower, opened, "never open"))["url"]
        left, other = sorted(nodes, key=lambda node: urlsplit(node.url).netloc != urlsplit(there).netloc)
        writer.put(40)
        await until(follower, lambda lines: len(events(lines)) >= 40, "records before the restart")

        left.signal(signal.SIGTERM)
        writer.put(40)
        await asyncio.to_thread(left.wait)
        writer.put(40)
        await until(follower, lambda lines: len(events(lines)) >= 120, "records on the other node")
        assert urlsplit(opened(await follower.lines())["url"]).netloc == urlsplit(other.url).netloc  # type: ignore[index]

        other.signal(signal.SIGKILL)
        writer.put(40)
        port, admin = (urlsplit(address).port for address in (left.url, left.admin))
        await asyncio.to_thread(gateway, origins=page, port=port, admin_port=admin)
        writer.put(40)
        await until(follower, lambda lines: len(events(lines)) >= 200, "records on the node that came back")
        writer.put(1)
        await until(follower, lambda lines: len(events(lines)) >= 201, "a live record")

        lines = await follower.lines()
        assert sorted(numbers(lines)) == list(range(201))
        assert in_order(lines)
        assert not [line for line in lines if "resync" in line or "error" in line]
        assert [line["resumed"] for line in lines if line.get("state") == "open"][1:] == [True, True]
        assert 1001 in [line.get("code") for line in lines]
        await follower.close()
        assert (await follower.lines())[-1] == {"ended": True}


async def test_a_program_that_was_killed_goes_on_from_the_position_it_saved(
    gateway: GatewayFactory, writer: Writer, start: Start, page: str
) -> None:
    node = gateway(origins=page)
    async with start(config([node])) as follower:
        await until(follower, opened, "never open")
        writer.put(20)
        await until(follower, lambda lines: len(events(lines)) >= 20, "the first records")
        saved = [line for line in await follower.lines() if "event" in line][12]["position"]
        before = numbers(await follower.lines())[:13]
        follower.kill()
    writer.put(20)
    async with start(config([node], position=saved)) as follower:
        await until(follower, lambda lines: len(events(lines)) >= 27, "the rest")
        writer.put(1)
        await until(follower, lambda lines: len(events(lines)) >= 28, "a live record")
        assert sorted(before + numbers(await follower.lines())) == list(range(41))


@pytest.mark.parametrize(
    ("log", "cursor", "reason"),
    [(None, "0:x", "invalid"), (None, "0:999999", "ahead"), ("another", "0:0", "log_changed")],
)
async def test_a_position_that_leads_nowhere_is_followed_by_a_refetch_then_by_what_is_new(
    gateway: GatewayFactory, writer: Writer, start: Start, page: str, log: str | None, cursor: str, reason: str
) -> None:
    node = gateway(origins=page)
    if log is None:
        async with start(config([node])) as follower:
            await until(follower, opened, "never open")
            writer.put(1)
            await until(follower, events, "a record to learn the log's tag from")
            log = next(line for line in await follower.lines() if "event" in line)["position"]["log"]
    given = {"log": log, "cursor": cursor}
    async with start(config([node], position=given)) as follower:
        await until(follower, lambda lines: any("resync" in line for line in lines), "no refetch")
        first = writer.count
        writer.put(3)
        await until(follower, lambda lines: len(events(lines)) >= 3, "what is new")
        lines = await follower.lines()
        told = next(line for line in lines if "resync" in line)
        assert told["resync"] == reason
        assert told["position"] == given  # not moved before the refetch was done
        assert sorted(numbers(lines)) == [first, first + 1, first + 2]
        order = [next(iter(line)) for line in lines if {"resync", "refetched", "event"} & line.keys()]
        assert order == ["resync", "refetched", "event", "event", "event"]


async def test_a_token_is_renewed_and_one_that_is_refused_is_followed_by_another(
    gateway: GatewayFactory, writer: Writer, start: Start, page: str
) -> None:
    node = gateway(origins=page)
    tokens = [token_for("alice", 4), "e30.e30.nonsense", token_for("alice")]
    async with start(config([node], tokens=tokens)) as follower:
        session = (await until(follower, opened, "never open"))["session"]
        await until(follower, lambda lines: any(line.get("error") == "refused" for line in lines), "never refused")
        await asyncio.sleep(3)  # past the end of the first token
        writer.put(1)
        await until(follower, events, "a record")
        lines = await follower.lines()
        assert [line["error"] for line in lines if "error" in line] == ["refused"]
        assert [line.get("session") for line in lines if "state" in line] == [None, session]
