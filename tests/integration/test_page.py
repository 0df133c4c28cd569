"""The demo page in a real browser, against two gateways and real Kafka."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.browser import Browser, find_chromium
from tests.integration.processes import SECRET, GatewayFactory
from tidings.children import spawn
from tidings.cli.state import GatewayAddress, UpState, User, make_token, write_state
from tidings.kafka.ladder import Broker
from tidings.ports import free_ports

FRAMES = "[...document.querySelectorAll('.panel')].map(p => [...p.querySelectorAll('li pre')].map(e => e.textContent))"


@pytest.fixture
def page(tmp_path: Path, kafka: Broker, gateway: GatewayFactory, gateway_environment: dict[str, str]) -> Iterator[str]:
    """The page's address; alice is on the first node, bob on the second."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    nodes = [gateway(origins=url), gateway(origins=url)]
    users = [User(name, name.title(), make_token(name, SECRET, {}, ttl_s=600)) for name in ("alice", "bob")]
    write_state(tmp_path, UpState([GatewayAddress(n.url, n.admin) for n in nodes], kafka.bootstrap_servers, url, users))
    (tmp_path / "up.pid").write_text(str(os.getpid()))
    command = [sys.executable, "-m", "tidings.cli", "--state-dir", str(tmp_path), "page", "--port", str(port)]
    process = spawn(command, out=subprocess.DEVNULL, environ=gateway_environment)
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.kafka
async def test_the_page_sends_and_both_users_see_it_on_their_nodes(page: str, tmp_path: Path) -> None:
    if find_chromium() is None:
        pytest.skip("no chromium")
    async with Browser() as browser:
        await browser.open(page)
        await browser.until("document.querySelectorAll('.pill.open').length === 2")
        await browser.run("document.getElementById('text').value = '{\"text\":\"<img src=x onerror=alert(1)>\"}'")
        await browser.run("document.getElementById('form').requestSubmit()")
        await browser.until(f"{FRAMES}.every(frames => frames.some(text => text.includes('onerror')))")
        # Shown as text: what a record holds never becomes part of the document.
        assert await browser.run("document.querySelectorAll('.frames img').length") == 0
        assert await browser.run("[...document.querySelectorAll('.frames .delay')].length") == 2
        nodes = await browser.run("[...document.querySelectorAll('.node')].map(e => e.textContent.split(' ')[0])")
        assert nodes == ["node-1", "node-2"]
        await browser.run("document.querySelectorAll('#receivers input')[0].click()")
        await browser.run("document.getElementById('text').value = 'for bob alone'")
        await browser.run("document.getElementById('form').requestSubmit()")
        await browser.until(f"{FRAMES}[1].some(text => text.includes('for bob alone'))")
        assert not any("for bob alone" in text for text in (await browser.run(FRAMES))[0])
        # What comes while a panel is away is there when it comes back, once.
        await browser.run("document.querySelectorAll('.panel button')[1].click()")
        await browser.until("document.querySelectorAll('.pill.open').length === 1")
        await browser.run("document.getElementById('told').textContent = ''")
        await browser.run("document.getElementById('text').value = 'while bob was away'")
        await browser.run("document.getElementById('form').requestSubmit()")
        await browser.until("document.getElementById('told').textContent.includes('is in Kafka')")
        await browser.run("document.querySelectorAll('.panel button')[1].click()")
        await browser.until(f"{FRAMES}[1].some(text => text.includes('while bob was away'))")
        await browser.until("document.querySelectorAll('.pill.open').length === 2")
        assert sum("while bob was away" in text for text in (await browser.run(FRAMES))[1]) == 1
        if folder := os.environ.get("TIDINGS_TEST_SCREENSHOTS"):
            Path(folder, "page.png").write_bytes(await browser.screenshot())  # noqa: ASYNC240 - one small file


@pytest.mark.kafka
async def test_the_page_reconnects_when_its_node_comes_back(page: str, gateway: GatewayFactory) -> None:
    if find_chromium() is None:
        pytest.skip("no chromium")
    async with Browser() as browser:
        await browser.open(page)
        await browser.until("document.querySelectorAll('.pill.open').length === 2")
        node = gateway.started[0]
        port, admin = (address.rpartition(":")[2] for address in (node.url, node.admin))
        node.process.kill()
        await browser.until("document.querySelectorAll('.pill.open').length === 1")
        gateway(port=port, admin_port=admin, origins=page)
        await browser.until("document.querySelectorAll('.pill.open').length === 2", 40)


def call(url: str, *, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.kafka
async def test_the_page_server_serves_this_machine_only(page: str) -> None:
    async with Browser() as browser:  # the browser's start is the time that the page's process needs
        await browser.open(page)
        await browser.until("document.querySelectorAll('.pill.open').length === 2")
    record = b'{"receivers":["alice"],"type":"update","data":1}'
    assert call(f"{page}/state", Host="rebound.example")[0] == 403
    assert call(f"{page}/state", Origin="http://foreign.example")[0] == 403
    assert call(f"{page}/records", body=record, Content_Type="text/plain")[0] == 415
    assert call(f"{page}/records", body=record, Content_Type="application/json", Origin=page)[0] == 200
    status, answer = call(f"{page}/records", body=record.replace(b"update", b"$x"), Content_Type="application/json")
    assert (status, json.loads(answer)["error"].split(":")[0]) == (400, "type_reserved")
