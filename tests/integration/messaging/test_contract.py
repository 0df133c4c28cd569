"""The whole API against its own description: schemathesis asks every operation good and bad things, on Postgres."""

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest

from tests.integration.messaging.shell import make_guard, token
from tidings.messaging.http.app import build
from tidings.messaging.http.routes import Commands, all_routes
from tidings.messaging.http.server import HttpServer
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.wire import Wire
from tidings.metrics import Metrics

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,missing_required_header,unsupported_method,"
    "allow_header_conformance,ignored_auth"
)
"""Not `positive_data_acceptance`: what fits the types may still be no chat of the caller's."""
REJECTION = "negative_data_rejection"
"""Only where nothing is put in for what it made up: it would take our good chat id for its bad one."""
PROGRAM = Path(sys.executable).with_name("schemathesis")


class Silence:
    """No topic: typing is told to nobody."""

    def send(self, *_: Any) -> bool:
        return True


@pytest.fixture
def answered() -> Counter[int]:
    """How often the API gave which status."""
    return Counter()


@pytest.fixture
async def base(database: Database, answered: Counter[int]) -> AsyncIterator[str]:
    """Address of the API on the test's database, without limits on requests."""
    commands = Commands.on(database, Wire.SEED, Silence(), Metrics())
    api = build(
        all_routes(commands),
        guard=make_guard(seen=commands.users.seen),
        keeper=Answers(database),
        observe=lambda status, _: answered.update([status]),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = HttpServer(api, listening, 1.0)
    await server.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    await server.stop()
    listening.close()


async def furnish(base: str) -> dict[str, str]:
    """A world to ask about: a chat of each kind with something in it. Ids by kind."""
    headers = {"authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(base_url=f"{base}/v1.0", headers=headers) as alice:

        async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = await alice.post(path, json=body, headers={"idempotency-key": str(uuid4())})
            assert response.status_code == 200, response.text
            data: dict[str, Any] = response.json()["data"]
            return data

        ids: dict[str, str] = {}
        for kind in ("personal", "personal/secret"):
            ids[kind] = (await post(f"/chat/{kind}", {"member_id": "bob"}))["chat_id"]
        for kind in ("group", "group/secret"):
            body = {"name": "friends", "members": ["alice", "bob", "carol"]}
            ids[kind] = (await post(f"/chat/{kind}", body))["chat_id"]
        for kind in ("personal", "group"):
            for text in ("one", "two", "three"):
                await post(f"/chat/{kind}/{ids[kind]}/update/message/text", {"text": text})
            await post(f"/chat/{kind}/{ids[kind]}/update/reaction", {"reaction": "heart", "message_id": 1})
        for kind in ("personal/secret", "group/secret"):
            secret = {"payload": "AAAA", "initialization_vector": "AAAA", "key_hash": "AAAA"}
            await post(f"/chat/{kind}/{ids[kind]}/update/secret", secret)
        ids["file"] = str(uuid4())
        facts = {"file_name": "a.png", "mime_type": "image/png", "file_size": 5, "file_url": "https://files.test/a"}
        assert (await alice.put(f"/files/{ids['file']}", json=facts)).status_code == 200
    return ids


def settings(ids: dict[str, str]) -> str:
    """For schemathesis: where a path asks for a chat or file, one that is there; but not for those who delete it."""
    places = [
        ("/v1.0/chat/personal/secret/", "personal/secret"),
        ("/v1.0/chat/group/secret/", "group/secret"),
        ("/v1.0/chat/personal/{", "personal"),
        ("/v1.0/chat/group/{", "group"),
        ("/v1.0/chat/{", "group"),
    ]
    entries = [
        f'''[[operations]]
include-path-regex = "^{re.escape(path).replace(chr(92), chr(92) * 2)}"
exclude-method = "DELETE"
[operations.parameters]
"path.chat_id" = "{ids[kind]}"
'''
        for path, kind in places
    ]
    common = f'[parameters]\n"path.file_id" = "{ids["file"]}"\n"path.update_id" = 1\n'
    return "\n".join([common, *entries])


async def ask(base: str, folder: Path, *options: str, config: str = "") -> str:
    """Run schemathesis; its report if it found something, else nothing."""
    file = folder / "schemathesis.toml"
    file.write_text(config)
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        "--config-file",
        file,
        "run",
        f"{base}/schema",
        "--header",
        f"Authorization: Bearer {token()}",
        "--checks",
        CHECKS if config else f"{CHECKS},{REJECTION}",
        "--generation-database",
        "none",
        "--no-color",
        "--seed",
        "1",
        *options,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode()


async def test_every_example_of_the_description_fits_its_schema(base: str) -> None:
    async with httpx.AsyncClient() as client:
        document = (await client.get(f"{base}/schema")).json()
    shown = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for part in (operation.get("requestBody", {}), operation["responses"]["200"]):
                for content in part.get("content", {}).values():
                    examples = [one["value"] for one in content.get("examples", {}).values()]
                    examples += [content["example"]] if "example" in content else []
                    for example in examples:
                        shown += 1
                        schema = {**content["schema"], "components": document["components"]}
                        faults = [
                            fault.message for fault in jsonschema.Draft202012Validator(schema).iter_errors(example)
                        ]
                        assert not faults, f"{method} {path}: {faults}"
    assert shown > 70


needs_program = pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed")


@needs_program
async def test_operations_answer_as_described_about_chats_that_are_there(
    base: str, answered: Counter[int], tmp_path: Path
) -> None:
    config = settings(await furnish(base))
    report = await ask(base, tmp_path, "--phases", "examples,fuzzing", "-n", "5", config=config)
    assert not report, report
    assert answered[200] > 100, answered


@needs_program
@pytest.mark.slow
@pytest.mark.parametrize("world", ["empty", "furnished"])
async def test_every_operation_answers_as_described_whatever_it_is_asked(base: str, tmp_path: Path, world: str) -> None:
    config = settings(await furnish(base)) if world == "furnished" else ""
    report = await ask(base, tmp_path, "--phases", "examples,coverage,fuzzing", "-n", "20", config=config)
    assert not report, report
