"""Both shapes of every payload are read; what has another shape is nobody's fault."""

import json
from typing import Any, get_args

import msgspec
import pytest

from tests.vectors import load
from tidings.contract import events
from tidings.contract.events import MODIFICATIONS, parse

VECTORS: list[dict[str, Any]] = [
    vector for name in ("chakchat.json", "chakchat_code.json", "own.json") for vector in load(name)["vectors"]
]


def ids(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS, ids=ids)
def test_a_payload_is_read_and_written_without_loss(vector: dict[str, Any]) -> None:
    record = vector["record"]
    payload = parse(record["type"], json.dumps(record["data"]).encode())
    assert payload is not None
    written = json.loads(msgspec.json.encode(payload))
    if vector["name"] == "chat_deleted, with the data of a deletion":
        assert written == {"sender_id": record["data"]["sender_id"], "chat_id": record["data"]["chat_id"]}
    else:
        assert written == record["data"]


def test_every_type_and_every_kind_of_update_and_chat_has_an_example_in_each_shape() -> None:
    assert {vector["record"]["type"] for vector in VECTORS} == set(MODIFICATIONS)
    kinds = {
        type(parse(vector["record"]["type"], json.dumps(vector["record"]["data"]).encode())).__name__
        for vector in VECTORS
    }
    assert kinds >= {kind.__name__ for kind in get_args(events.Update)}
    infos = {vector["record"]["data"]["chat"]["type"] for vector in VECTORS if "chat" in vector["record"]["data"]}
    assert infos == {"personal", "group", "secret_personal", "secret_group"}


def test_an_unknown_type_has_no_payload() -> None:
    assert parse("poll_opened", b"{}") is None


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("update", b"[]"),
        ("update", b'{"type":"sticker"}'),
        ("chat_deleted", b"null"),
        ("chat_deleted", b'{"sender_id":"a"}'),
        ("chat_created", b'{"sender_id":"a","chat":{"type":"channel"}}'),
        ("group_members_added", b'{"sender_id":"a","chat_id":"c","members":"d"}'),
        ("group_info_updated", b'{"sender_id":"a","chat_id":"c","name":"","description":""}'),
    ],
)
def test_another_shape_has_no_payload(type_: str, data: bytes) -> None:
    assert parse(type_, data) is None


def test_what_is_absent_is_not_written_as_null() -> None:
    content = events.TextContent(text="hi")
    assert msgspec.json.encode(content) == b'{"text":"hi"}'
    assert msgspec.json.encode(events.TextContent(text="hi", edited=None)) == b'{"text":"hi","edited":null}'


def test_a_payload_of_ours_says_its_type() -> None:
    update = events.Delete(
        chat_id="c",
        update_id=2,
        sender_id="a",
        created_at="2025-12-04T17:00:00Z",
        content=events.DeleteContent(deleted_id=1, deleted_mode="all"),
    )
    assert json.loads(msgspec.json.encode(update))["type"] == "delete"
