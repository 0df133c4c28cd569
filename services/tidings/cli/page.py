"""`tidings page`: the demo page of `tidings up`, and the one request it makes of us: send a record.

Tokens of the demo users are given to whoever can load it, so it listens on the loopback address only and refuses
requests that a foreign page could have a browser make (other Host, other Origin, no JSON).
"""

import asyncio
import base64
import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import msgspec
from aiohttp import web

from tidings.cli.produce import Sender
from tidings.cli.state import kafka_settings, read_state
from tidings.contract.record import MAX_VALUE_BYTES, decode, encode
from tidings.errors import BrokerUnavailable, ContractError

__all__ = ["make_app", "page", "policy"]

_FILE: Final = Path(__file__).with_name("page_files") / "index.html"
_STATE_DIR: Final = web.AppKey("state_dir", Path)


@click.command(short_help="Serve the demo page (started by `tidings up`).", hidden=True)
@click.option("--port", default=8070, show_default=True, type=click.IntRange(0, 65535))
@click.pass_obj
def page(state_dir: Path, port: int) -> None:
    """Serve the demo page on 127.0.0.1. `tidings up` starts it; by itself it is only of use while that runs.

    \b
    Example:
      tidings page --port 8071
    """
    web.run_app(make_app(state_dir), host="127.0.0.1", port=port, print=None, access_log=None, handle_signals=True)


def make_app(state_dir: Path) -> web.Application:
    """`GET /` the page, `GET /state` addresses and demo tokens, `POST /records` to send one record."""
    app = web.Application(middlewares=[_only_from_here], client_max_size=2 * MAX_VALUE_BYTES)
    app[_STATE_DIR] = state_dir
    app.add_routes([web.get("/", _page), web.get("/state", _state), web.post("/records", _send)])
    return app


def policy(html: str) -> str:
    """The Content-Security-Policy: this page's own script and style, web sockets of this machine, nothing else."""

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts
        )

    sockets = "ws://127.0.0.1:* ws://localhost:*"
    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        f"connect-src 'self' {sockets}; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _NewRecord(msgspec.Struct):
    receivers: list[str]
    type: str
    data: msgspec.Raw
    key: str | None = None


@web.middleware
async def _only_from_here(request: web.Request, handler: object) -> web.StreamResponse:
    host = request.host.rpartition(":")[0] or request.host
    origin = request.headers.get("Origin")
    if host not in {"127.0.0.1", "localhost"} or (origin is not None and origin != f"http://{request.host}"):
        raise web.HTTPForbidden(text="this page is for this machine only")
    answer = await handler(request)  # type: ignore[operator]
    assert isinstance(answer, web.StreamResponse)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


async def _page(request: web.Request) -> web.Response:
    html = _FILE.read_text(encoding="utf-8")
    return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": policy(html)})


async def _state(request: web.Request) -> web.Response:
    state = read_state(request.app[_STATE_DIR])
    if state is None:
        return web.json_response({"error": "not everything is ready yet"}, status=503)
    with suppress(BrokerUnavailable):  # the form will tell
        await asyncio.to_thread(_sender, request.app[_STATE_DIR])
    return web.Response(body=msgspec.json.encode(state), content_type="application/json")


async def _send(request: web.Request) -> web.Response:
    if request.content_type != "application/json":  # a form of a foreign page can't send this type
        return web.json_response({"error": "application/json is needed"}, status=415)
    try:
        new = msgspec.json.decode(await request.read(), type=_NewRecord)
        value = encode(new.receivers, new.type, bytes(new.data))
        decode(value)
        await asyncio.to_thread(_produce, request.app[_STATE_DIR], value, new.key)
    except (msgspec.DecodeError, ContractError) as error:
        return web.json_response({"error": str(error)}, status=400)
    except BrokerUnavailable as error:
        return web.json_response({"error": str(error)}, status=503)
    return web.json_response({"bytes": len(value)})


_senders: dict[str, Sender] = {}


def _produce(state_dir: Path, value: bytes, key: str | None) -> None:
    sender = _sender(state_dir)
    try:
        sender.send(value, key)
        sender.finish(10)
    except BrokerUnavailable:
        _senders.clear()  # a sender that failed once stays failed
        raise


def _sender(state_dir: Path) -> Sender:
    """Kept: connecting for each record would show in the latency that the page displays."""
    kafka, names = kafka_settings(state_dir, os.environ)
    return _senders.get(names.modifications) or _senders.setdefault(
        names.modifications, Sender(kafka, names.modifications)
    )
