"""The examples in `shared/tidings/contract/vectors/`, as every test that needs them reads them."""

import base64
import json
from importlib.resources import files
from typing import Any, NamedTuple

__all__ = ["Accepted", "Vector", "load", "records"]


class Accepted(NamedTuple):
    """What `decode` must give."""

    receivers: list[str]
    type: str
    data: bytes
    context: bytes | None


class Vector(NamedTuple):
    """One value: refused with a reason, accepted, or, with both, accepted on `signals` only."""

    name: str
    value: bytes
    accepted: Accepted | None
    reason: str | None


def load(name: str) -> Any:
    """One of the files, parsed."""
    return json.loads(files("tidings.contract").joinpath("vectors", name).read_bytes())


def records() -> list[Vector]:
    """`records.json` with its pieces put together."""
    return [_vector(entry) for entry in load("records.json")["vectors"]]


def _vector(entry: dict[str, Any]) -> Vector:
    record = entry.get("record")
    accepted = None
    if record is not None:
        receivers = record["receivers"]
        if isinstance(receivers, dict):
            receivers = [receivers["repeat"]] * receivers["times"]
        context = record.get("context")
        accepted = Accepted(
            receivers, record["type"], _bytes(record["data"]), None if context is None else _bytes(context)
        )
    return Vector(entry["name"], _bytes(entry["value"]), accepted, entry.get("reason"))


def _bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, list):
        return b"".join(map(_bytes, piece))
    if "base64" in piece:
        return base64.b64decode(piece["base64"])
    repeated: bytes = piece["repeat"].encode() * piece["times"]
    return repeated
