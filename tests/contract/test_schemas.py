"""The generated documents are valid by the official meta-schemas, up to date, and agree with what is accepted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from jsonschema.validators import validator_for

from tests.vectors import load, records
from tidings.cli import schemas
from tidings.contract.control import FROM_CLIENT, OBEYED_SIGNALS, TO_CLIENT, TO_SSE_CLIENT
from tidings.contract.events import MODIFICATIONS
from tidings.contract.record import REASONS

ROOT = Path(__file__).parents[2]
DOCUMENTS = schemas.documents()
ASYNCAPI = DOCUMENTS["asyncapi.json"]
META = json.loads((Path(__file__).parent / "metaschemas" / "asyncapi-3.0.0.json").read_bytes())
EXAMPLES = [vector for name in ("chakchat.json", "chakchat_code.json", "own.json") for vector in load(name)["vectors"]]


def test_the_files_in_the_repository_are_what_the_structs_say() -> None:
    assert schemas.check(ROOT / "schemas") == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.endswith(".schema.json")])
def test_json_schemas_are_valid_by_the_2020_12_meta_schema(path: str) -> None:
    document = DOCUMENTS[path]
    validator = validator_for(document, default=None)
    assert validator is jsonschema.Draft202012Validator
    validator.check_schema(document)
    assert [ref for ref in refs(document) if resolve(document, ref) is None] == []


def test_the_asyncapi_document_is_valid_by_the_official_schema_of_3_0_0() -> None:
    validator = jsonschema.Draft7Validator(META)
    assert [error.message for error in validator.iter_errors(ASYNCAPI)] == []


@pytest.mark.parametrize(
    "break_it",
    [
        lambda document: document.pop("info"),
        lambda document: document["channels"]["v1"]["bindings"]["ws"].update(method="PUT"),
        lambda document: document["operations"]["sendV1"].update(action="publish"),
        lambda document: document["components"]["securitySchemes"]["cookie"].pop("name"),
        lambda document: document["channels"]["modifications"]["bindings"]["kafka"].update(partitions="12"),
    ],
)
def test_the_official_schema_sees_what_is_wrong(break_it: Any) -> None:
    """A schema whose parts were not found would find everything right."""
    document = json.loads(json.dumps(ASYNCAPI))
    break_it(document)
    assert not jsonschema.Draft7Validator(META).is_valid(document)


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    found = list(refs(ASYNCAPI))
    assert len(found) > 50
    assert [ref for ref in found if resolve(ASYNCAPI, ref) is None] == []


def test_every_message_is_on_a_channel_and_every_channel_in_an_operation() -> None:
    on_channels = {
        ref["$ref"].rsplit("/", 1)[1]
        for channel in ASYNCAPI["channels"].values()
        for ref in channel["messages"].values()
    }
    assert on_channels == set(ASYNCAPI["components"]["messages"])
    used = {operation["channel"]["$ref"].rsplit("/", 1)[1] for operation in ASYNCAPI["operations"].values()}
    assert used == set(ASYNCAPI["channels"])


def test_the_asyncapi_document_names_every_topic_control_frame_code_and_reason() -> None:
    addresses = [channel["address"] for channel in ASYNCAPI["channels"].values()]
    assert addresses == [
        "modifications", "signals", "sessions", "notifications", "modifications.dead", "/ws", "/ws", "/sse",
    ]  # fmt: skip
    titles = {message["title"] for message in ASYNCAPI["components"]["messages"].values()}
    assert titles >= {*TO_CLIENT, *TO_SSE_CLIENT, *FROM_CLIENT, *OBEYED_SIGNALS, *MODIFICATIONS}
    assert {"1001", "1008", "1009", "4001", "4002", "4008", "4011"} <= set(ASYNCAPI["channels"]["v1"]["x-close-codes"])
    assert set(ASYNCAPI["channels"]["sse"]["x-close-codes"]) == {"1001", "1008", "1011", "4001", "4002", "4008", "4011"}
    headers = ASYNCAPI["components"]["messages"]["deadLetter"]["headers"]["properties"]
    assert headers["tidings-reason"]["enum"] == list(REASONS)


@pytest.mark.parametrize("vector", EXAMPLES, ids=lambda vector: vector["name"])
def test_every_example_of_a_modification_is_valid(vector: dict[str, Any]) -> None:
    record = vector["record"]
    for path in ("record.schema.json", f"modifications/{record['type']}.schema.json"):
        jsonschema.validate(record, DOCUMENTS[path])


@pytest.mark.parametrize("type_", MODIFICATIONS)
def test_another_shape_of_data_is_not_valid(type_: str) -> None:
    validator = jsonschema.Draft202012Validator(DOCUMENTS[f"modifications/{type_}.schema.json"])
    record = next(vector["record"] for vector in EXAMPLES if vector["record"]["type"] == type_)
    assert validator.is_valid(record)
    assert not validator.is_valid({**record, "type": "other"})
    assert not validator.is_valid({**record, "data": None})
    for name in record["data"]:
        rest = {key: value for key, value in record["data"].items() if key != name}
        assert not validator.is_valid({**record, "data": rest}), name


def test_the_record_schema_agrees_with_decode_on_all_that_a_schema_can_see() -> None:
    """It sees the parsed value: not the bytes, not the depth, not how many digits an integer has."""
    validator = jsonschema.Draft202012Validator(DOCUMENTS["record.schema.json"])
    unseen = {"value_too_big", "not_utf8", "too_deep", "not_json", "lone_surrogate"}
    # JSON Schema calls 1.0 and 1e2 integers.
    other = {"a receiver is an integer with a point", "a receiver is an integer with an exponent"}
    checked = 0
    for vector in records():
        if vector.reason in unseen or vector.name in other or "digits" in vector.name or "long integer" in vector.name:
            continue
        try:
            parsed = json.loads(vector.value)
        except ValueError:  # Python's limit on digits
            continue
        assert validator.is_valid(parsed) == (vector.reason is None), vector.name
        checked += 1
    assert checked > 80


def test_check_tells_what_write_mends(tmp_path: Path) -> None:
    assert len(schemas.check(tmp_path)) == len(DOCUMENTS)
    schemas.write(tmp_path)
    assert schemas.check(tmp_path) == []
    (tmp_path / "record.schema.json").write_text("{}")
    (tmp_path / "asyncapi.json").unlink()
    (tmp_path / "modifications" / "poll_opened.schema.json").write_text("{}")
    drift = [
        "record.schema.json: differs from the structs",
        "asyncapi.json: missing",
        "modifications/poll_opened.schema.json: not generated",
    ]
    assert schemas.check(tmp_path) == drift
    assert schemas.write(tmp_path) == drift
    assert schemas.check(tmp_path) == []


def test_the_command_fails_on_drift_and_writes_nothing_then(tmp_path: Path) -> None:
    run = CliRunner().invoke(schemas.main, ["--check", "--directory", str(tmp_path)])
    assert run.exit_code == 1
    assert "record.schema.json: missing" in run.output
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(schemas.main, ["--directory", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(schemas.main, ["--check", "--directory", str(tmp_path)]).exit_code == 0


def test_the_documents_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_MODIFICATIONS_TOPIC", "elsewhere")
    assert schemas.documents() == DOCUMENTS


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for item in node:
            yield from refs(item)


def resolve(document: dict[str, Any], ref: str) -> Any:
    assert ref.startswith("#/")
    node: Any = document
    for part in ref[2:].split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    return node
