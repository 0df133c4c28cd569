"""A request's body: read within its limits, then decoded strictly into what the handler wants."""

import asyncio
import re
from itertools import accumulate
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.types import Empty

from tidings.messaging.domain.model import Actor
from tidings.messaging.http.problems import Detail, Refused

__all__ = ["MAX_DEPTH", "Asked", "decode"]

MAX_DEPTH: Final = 32
"""Levels of arrays and objects; bodies that are documented have three."""

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(_STEPS))
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")


class Asked(Request[Actor, Any, Any]):
    """Litestar's request, with our way to the body.

    Its `json()` is the handler's own struct, decoded in one step. Litestar would decode to plain values and then
    convert them leniently: "12" would pass as a number.
    """

    async def body(self) -> bytes:
        """All of the body.

        Raises:
            Refused: 413 as soon as it is over the limit, 408 when it takes too long.
        """
        known = self._connection_state.body
        if known is Empty:
            known = self._connection_state.body = await self._read()
        return known

    async def json(self) -> Any:
        """The body as the handler's `data`.

        Raises:
            Refused: 422 what is no JSON, 400 what does not fit.
        """
        wanted = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode(await self.body(), _decoder(wanted))

    async def _read(self) -> bytes:
        limit = self.route_handler.resolve_request_max_body_size() or 0
        announced = self.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:20]) > limit:
            raise _too_large()
        pieces, size, more = [], 0, True
        try:
            async with asyncio.timeout(self.app.opt["body_timeout_s"]):
                while more:
                    event = await self.receive()
                    pieces.append(_piece(event, size, limit))
                    size += len(pieces[-1])
                    more = bool(event.get("more_body"))
        except TimeoutError:
            raise Refused("request_timeout", headers={"connection": "close"}) from None
        return b"".join(pieces)


def _piece(event: Any, size: int, limit: int) -> bytes:
    if event["type"] == "http.disconnect":
        raise Refused("request_timeout", "The client went away.")
    piece: bytes = event.get("body", b"")
    if size + len(piece) > limit:
        raise _too_large()
    return piece


def _too_large() -> Refused:
    # What follows would have to be read to keep the connection; nobody is owed that.
    return Refused("body_too_large", headers={"connection": "close"})


_decoders: dict[Any, "msgspec.json.Decoder[Any]"] = {}


def _decoder(wanted: Any) -> "msgspec.json.Decoder[Any]":
    known = _decoders.get(wanted)
    if known is None:
        known = _decoders[wanted] = msgspec.json.Decoder(wanted)
    return known


def decode(body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """One JSON text as the decoder's type.

    msgspec checks no text that it skips, and meets deep nesting with an error that depends on the caller's stack: both
    are looked at before. Of a repeated name the last counts.

    Raises:
        Refused: invalid_json, or validation_failed with the field at fault.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Refused("invalid_json", "The body is not UTF-8.") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise Refused("invalid_json", f"The body is nested deeper than {MAX_DEPTH} levels.")
    if b"\\u0000" in body and _NUL.search(body):
        raise Refused("validation_failed", "NUL characters can't be kept.")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        field, message = (place[1], text[: place.start()]) if place else ("", text)
        raise Refused("validation_failed", details=[Detail(field or "body", message)]) from None
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError, as UnicodeDecodeError is
        raise Refused("invalid_json", f"The body is not valid JSON: {error}") from None


def _depth(body: bytes) -> int:
    # Without escaped backslashes and then escaped quotes, every other piece between quotes lies outside strings.
    outside = body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
