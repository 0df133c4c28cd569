"""Clients that are not ours: each gets the text message of the written contract, produced with kcat.

What they got is also held against schemas/asyncapi.json.
"""

import asyncio
import functools
import http.server
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jsonschema
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.integration.browser import Browser, find_chromium
from tests.integration.processes import ROOT, Gateway, GatewayFactory
from tests.integration.receiving import token
from tests.vectors import load
from tidings.config import TopicSettings
from tidings.kafka.ladder import Broker

pytestmark = pytest.mark.kafka

HERE = Path(__file__).parent / "foreign"
TEXT_MESSAGE = next(one for one in load("chakchat.json")["vectors"] if one["name"] == "update.text_message")["record"]
USER = TEXT_MESSAGE["receivers"][0]
SPACED = json.dumps(TEXT_MESSAGE["data"], ensure_ascii=False, separators=(" , ", ":  "))
"""As no encoder would write it: clients get these very bytes."""
LONG = json.dumps({"text": "a long one: " + "tidings " * 200})
"""Over 512 bytes: compressed for those who negotiated it."""
PLAIN_FRAME = f'{{"type":"update","data":{SPACED}}}'


def record(data: str) -> str:
    return f'{{"receivers":["{USER}"],"type":"update","data":{data}}}'


def need(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"no {tool} on the PATH")
    return path


def kcat(kafka: Broker, topics: TopicSettings, *values: str) -> None:
    """One record for each value, all with the chat's id as key, hence in one partition."""
    command = [need("kcat"), "-P", "-b", kafka.bootstrap_servers, "-t", topics.modifications, "-K", "|"]
    lines = "".join(f"{TEXT_MESSAGE['data']['chat_id']}|{value}\n" for value in values)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


ASYNCAPI = json.loads((ROOT / "schemas" / "asyncapi.json").read_bytes())


def matches(message: str, frame: Any) -> bool:
    """Whether the frame is what the AsyncAPI document says of that message."""
    payload = ASYNCAPI["components"]["messages"][message]["payload"]
    return bool(jsonschema.Draft202012Validator({**payload, "components": ASYNCAPI["components"]}).is_valid(frame))


async def test_kcat_to_the_websockets_library_in_plain_mode(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    nodes = [gateway(), gateway()]
    headers = {"Authorization": f"Bearer {token(USER)}"}
    async with (
        connect(nodes[0].ws_url, additional_headers=headers, proxy=None) as first,
        connect(nodes[1].ws_url, additional_headers=headers, proxy=None, compression=None) as second,
    ):
        await asyncio.to_thread(kcat, kafka, topics, record(SPACED), record(LONG))
        for socket in (first, second):
            assert await asyncio.wait_for(socket.recv(), 10) == PLAIN_FRAME
            assert await asyncio.wait_for(socket.recv(), 10) == f'{{"type":"update","data":{LONG}}}'
    assert matches("frame", json.loads(PLAIN_FRAME))


async def test_kcat_to_the_websockets_library_with_positions(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    node = gateway()
    async with connect(
        node.ws_url, subprotocols=[Subprotocol("tidings.v1"), Subprotocol(f"bearer.{token(USER)}")], proxy=None
    ) as socket:
        assert socket.subprotocol == "tidings.v1"
        welcome = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert matches("control.welcome", welcome)
        await asyncio.to_thread(kcat, kafka, topics, record(SPACED))
        frame = await asyncio.wait_for(socket.recv(), 10)
        assert isinstance(frame, str)
        assert matches("positionedFrame", json.loads(frame))
        assert frame.endswith(f',"data":{SPACED}}}')
        await socket.send('{"type":"hello"}')
        assert matches("control.error", json.loads(await asyncio.wait_for(socket.recv(), 10)))
        node.process.terminate()
        assert matches("control.drain", json.loads(await asyncio.wait_for(socket.recv(), 10)))
    # The schemas see a difference at all.
    assert not matches("control.welcome", json.loads(frame))
    assert not matches("positionedFrame", {**json.loads(frame), "at": "elsewhere"})


def test_kcat_to_curl(kafka: Broker, topics: TopicSettings, gateway: GatewayFactory) -> None:
    node = gateway()
    curl = [need("curl"), "-sN", "--max-time", "60", "-H", f"Authorization: Bearer {token(USER)}", f"{node.url}/sse"]
    with subprocess.Popen(curl, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        assert re.fullmatch(r"retry: [1-4]\d\d\d\n", next(lines))
        welcome = [line for line in until_blank(lines) if line]
        assert matches("control.welcome", json.loads(welcome[-1].removeprefix("data: ")))
        (start,) = until_blank(lines)
        assert start.startswith("id: "), "where the stream starts"
        kcat(kafka, topics, record(SPACED))
        event_id, data = until_blank(lines)
        assert event_id.startswith("id: ")
        assert data == f"data: {PLAIN_FRAME}"
        process.terminate()


def until_blank(lines: Iterator[str]) -> list[str]:
    """The lines of one event; blank ones before it are skipped."""
    event: list[str] = []
    for line in lines:
        if line != "\n":
            event.append(line.rstrip("\n"))
        elif event:
            break
    return event


def test_kcat_to_node(kafka: Broker, topics: TopicSettings, gateway: GatewayFactory) -> None:
    node = gateway()
    program = [need("node")]
    if node_major(program[0]) < 22:
        program.append("--experimental-websocket")
    command = [*program, str(HERE / "node_client.mjs"), node.ws_url, token(USER), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = map(json.loads, process.stdout)
        assert next(lines) == {"protocol": "tidings.v1"}
        assert json.loads(next(lines)["frame"])["type"] == "$welcome"
        kcat(kafka, topics, record(SPACED), record(LONG))
        frames = [next(lines)["frame"] for _ in range(2)]
        assert next(lines) == {"code": 1000}
        assert process.wait(20) == 0
    assert [frame.partition(',"data":')[2] for frame in frames] == [f"{SPACED}}}", f"{LONG}}}"]


def node_major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    major = int(done.stdout.removeprefix("v").partition(".")[0])
    if major < 20:
        pytest.skip(f"node {done.stdout.strip()} has no WebSocket")
    return major


@pytest.fixture
def page() -> Iterator[str]:
    """A server of another origin than the gateway's, with the page."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=HERE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def shown(name: str) -> str:
    return f"[...document.querySelectorAll('#{name} li')].map(item => item.textContent)"


async def test_kcat_to_a_page_in_chromium(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory, page: str
) -> None:
    if find_chromium() is None:
        pytest.skip("no chromium on the PATH")
    node: Gateway = gateway(origins=page)
    async with Browser() as browser:
        await browser.open(f"{page}/page.html?{urlencode({'base': node.url, 'token': token(USER)})}")
        await browser.until(f"{shown('socket')}.length === 1 && {shown('events')}.length === 1")
        assert await browser.run("document.body.dataset.protocol") == "tidings.v1"
        assert "permessage-deflate" in await browser.run("document.body.dataset.extensions")
        await asyncio.to_thread(kcat, kafka, topics, record(SPACED), record(LONG))
        await browser.until(f"{shown('socket')}.length === 3 && {shown('events')}.length === 3")
        frames = await browser.run(shown("socket"))
        assert [frame.partition(',"data":')[2] for frame in frames[1:]] == [f"{SPACED}}}", f"{LONG}}}"]
        assert (await browser.run(shown("events")))[1:] == [PLAIN_FRAME, f'{{"type":"update","data":{LONG}}}']
        assert await browser.run("document.body.dataset.lastEventId")
        assert await browser.run("document.body.dataset.closed") is None


async def test_event_streams_of_a_browser_outlive_a_crash_and_the_limit_on_resumes(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory, page: str
) -> None:
    if find_chromium() is None:
        pytest.skip("no chromium on the PATH")
    node: Gateway = gateway(origins=page, max_resumes_per_s=1)
    port, admin_port = (urlsplit(url).port for url in (node.url, node.admin))
    count = 5  # a browser has six connections for a host
    async with Browser() as browser:
        await browser.open(f"{page}/storm.html?{urlencode({'base': node.url, 'token': token(USER), 'count': count})}")
        await browser.until("typeof streams === 'object' && streams.every(one => one.readyState === EventSource.OPEN)")
        await asyncio.to_thread(kcat, kafka, topics, record("1"))
        await browser.until("got.every(mine => mine.length === 1)")
        node.signal(signal.SIGKILL)
        node.wait()
        await asyncio.to_thread(kcat, kafka, topics, record("2"))
        again = gateway(origins=page, max_resumes_per_s=1, port=port, admin_port=admin_port)
        await browser.until("got.every(mine => mine.length === 2)", 60)
        await asyncio.to_thread(kcat, kafka, topics, record("3"))
        await browser.until("got.every(mine => mine.length === 3)")
        assert await browser.run("got") == [[1, 2, 3]] * count
    assert again.metric("tidings_gateway_refused_total", reason="resume_rate") >= 1, "the limit was reached"


async def test_a_page_of_an_origin_that_is_not_listed_gets_nothing(gateway: GatewayFactory, page: str) -> None:
    if find_chromium() is None:
        pytest.skip("no chromium on the PATH")
    node: Gateway = gateway()
    async with Browser() as browser:
        await browser.open(f"{page}/page.html?{urlencode({'base': node.url, 'token': token(USER)})}")
        assert await browser.until("document.body?.dataset.closed") == "1006"
        assert await browser.run("document.body.dataset.events") is None
        assert node.metric("tidings_gateway_connections") == 0
