"""Successful answers: always 200 and `{"data":…}`."""

from typing import Any, Final, TypeAlias

import msgspec
from litestar import Response

__all__ = ["Reply", "encoded", "reply", "reply_bytes"]

Reply: TypeAlias = Response[bytes]

_JSON: Final = "application/json"
_encode = msgspec.json.Encoder().encode


def encoded(data: Any) -> bytes:
    """The body of an answer."""
    return b'{"data":' + _encode(data) + b"}"


def reply(data: Any) -> Reply:
    """The answer that carries `data`: JSON's types, or msgspec structs."""
    return Response(encoded(data), media_type=_JSON)


def reply_bytes(body: bytes) -> Reply:
    """The answer whose body is encoded already."""
    return Response(body, media_type=_JSON)
