"""The client libraries' `sync` against a real service: what was missed, page by page."""

import asyncio
import json
import shutil
import subprocess
import time

import pytest

from tests.integration.messaging.serving import MessagingFactory
from tests.integration.processes import ROOT, SECRET
from tidings.tokens import issue
from tidings_client import Page, sync

pytestmark = pytest.mark.kafka

_SCRIPT = """
import { sync } from "%s";
const [url, token, since] = process.argv.slice(1);
const pages = [];
for await (const page of sync({ url, token, since })) pages.push(page);
console.log(JSON.stringify(pages));
"""


async def test_both_clients_get_what_was_missed_and_begin_anew_where_nobody_knows_them(
    messaging: MessagingFactory,
) -> None:
    service = messaging()
    token = issue("alice", SECRET, 600, time.time())
    chat = service.ask("POST", "/chat/personal", "alice", {"member_id": "bob"}).data["chat_id"]

    async def missed(since: str | None) -> list[Page]:
        return [page async for page in sync(service.url, token=token, since=since)]

    (state,) = await missed(None)
    assert ([shown["chat_id"] for shown in state.chats], state.whole) == ([chat], True)
    assert [shown["newly_joined"] for shown in state.chats] == [True]
    service.ask("POST", f"/chat/personal/{chat}/update/message/text", "bob", {"text": "hi"})
    (page,) = await missed(state.next)
    assert ([update["content"]["text"] for update in page.updates], page.whole) == (["hi"], False)
    assert [shown["newly_joined"] for shown in page.chats] == [False]
    assert [shown.whole for shown in await missed("of another database")] == [True]

    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node")
    script = _SCRIPT % (ROOT / "clients" / "js" / "src" / "index.js").as_uri()
    command = [node, "--input-type=module", "--eval", script, service.url, token, state.next]
    ran = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    shown = json.loads(ran.stdout)
    assert [update["content"]["text"] for update in shown[0]["updates"]] == ["hi"]
    assert [chat["newly_joined"] for chat in shown[0]["chats"]] == [False]
