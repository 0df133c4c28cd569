"""JSON Schemas (draft 2020-12) of the record and of every modification type, built from the structs."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidings.contract.events import MODIFICATIONS
from tidings.contract.record import Record

__all__ = ["DIALECT", "Document", "components", "modification_schema", "record_properties", "record_schema"]

Document = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_REQUIRED: Final = ["receivers", "type", "data"]


def components(types: Mapping[str, Any], ref_template: str) -> tuple[dict[str, Document], dict[str, Document]]:
    """The schema of each type by the given name, and the definitions that those refer to.

    Args:
        types: What msgspec takes for a type, by any name.
        ref_template: Where the definitions will stand, with `{name}` in it.
    """
    schemas, definitions = msgspec.json.schema_components(types.values(), ref_template=ref_template)
    return (
        {name: _cleaned(schema) for name, schema in zip(types, schemas, strict=True)},
        {name: _cleaned(schema) for name, schema in definitions.items()},
    )


def record_properties(*, reserved: bool) -> Document:
    """The properties of a record.

    Args:
        reserved: Whether `type` may begin with `$`, as on `signals`.
    """
    _, definitions = components({"record": Record}, "{name}")
    properties: Document = definitions["Record"]["properties"]
    properties["receivers"]["description"] = (
        "User ids. An integer counts as its decimal string, of at most 256 characters. Repeats count once."
    )
    properties["type"]["description"] = "What happened: routed whether known or not."
    if not reserved:
        properties["type"]["description"] += " Names that begin with `$` are reserved."
        properties["type"]["pattern"] = "^[^$]"
    properties["data"]["description"] = "Any JSON value; clients get these bytes exactly."
    properties["context"] = {
        "type": "object",
        "description": "Facts for the frames of other protocols; native clients never see them.",
    }
    return properties


def record_schema() -> Document:
    """What a value of the `modifications` topic must look like.

    A schema sees a parsed value: size, encoding, nesting and repeated keys are decided by `record.decode` alone.
    """
    return {
        "$schema": DIALECT,
        "$id": "urn:tidings:record",
        "title": "Record",
        "description": "One modification: what happened, and whom it concerns.",
        "type": "object",
        "properties": record_properties(reserved=False),
        "required": _REQUIRED,
    }


def modification_schema(type_: str) -> Document:
    """A record of one known type, with the `data` that the written contract gives it."""
    data, definitions = components({"data": MODIFICATIONS[type_]}, "#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "$id": f"urn:tidings:modification:{type_}",
        "title": type_,
        "description": f"A record of type `{type_}`. Other shapes of `data` are delivered all the same.",
        "type": "object",
        "properties": {
            **record_properties(reserved=False),
            "type": {"const": type_},
            "data": data["data"],
        },
        "required": _REQUIRED,
        "$defs": definitions,
    }


def _cleaned(schema: Any) -> Any:
    """Without `discriminator`, which is OpenAPI's; of docstrings the first paragraph."""
    if isinstance(schema, dict):
        cleaned = {key: _cleaned(value) for key, value in schema.items() if key != "discriminator"}
        if isinstance(cleaned.get("description"), str):
            cleaned["description"] = " ".join(cleaned["description"].split("\n\n")[0].split())
        return cleaned
    if isinstance(schema, list):
        return [_cleaned(item) for item in schema]
    return schema
