"""`tidings tail`: connect as a user and show what arrives."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.markup import escape
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from tidings.cli.place import Place
from tidings.cli.state import DEFAULT_GATEWAY, make_token, read_state, token_secret
from tidings.closing import ADVICE, CloseCode
from tidings.contract.control import Close
from tidings.errors import HandshakeError

__all__ = ["Printer", "client_url", "tail"]

Mode = Literal["v1", "plain", "sse"]

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 10.0
# For these the gateway asks the client not to come back by itself.
_FINAL = {CloseCode.DISCONNECTED, CloseCode.TOKEN_ENDED, CloseCode.PROTOCOL_ERROR}


@click.command(short_help="Connect as a user and show what arrives.")
@click.argument("user", required=False)
@click.option("--token", "given", help="Connect with this token instead of one made for USER.", metavar="JWT")
@click.option(
    "--gateway", "gateways", multiple=True, metavar="URL", help="A node; repeat it for several. [default: all]"
)
@click.option("--v1", "mode", flag_value="v1", default="v1", help="Protocol tidings.v1: with positions. The default.")
@click.option("--plain", "mode", flag_value="plain", help="Plain frames.")
@click.option("--sse", "mode", flag_value="sse", help="Server-Sent Events instead of a web socket.")
@click.option("--count", type=click.IntRange(1), help="End after so many frames (control frames don't count).")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="End with exit code 1 after so long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line. [default: unless on a terminal]")
@click.pass_obj
def tail(
    state_dir: Path,
    user: str | None,
    given: str | None,
    gateways: tuple[str, ...],
    mode: Mode,
    count: int | None,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Connect as USER and show each frame with the node it came from; reconnects until Ctrl-C.

    After a break it comes back with its cursor, and what was missed meanwhile is shown (not with --plain). Where a node
    asks not to come back (close codes 1002, 4001 and 4002) it does not; once all have, it ends with exit code 1.

    Without --gateway it connects to all nodes that `tidings up` runs here, else to http://127.0.0.1:8080. The token
    is made as by `tidings token`. As JSON each line is {"node":...,"frame":...}, or {"node":...,"state":...}.

    \b
    Examples:
      tidings tail alice
      tidings tail alice --plain --count 1 --gateway http://127.0.0.1:8090
    """
    state = read_state(state_dir)
    if given is None:
        if user is None:
            raise click.UsageError("give a USER, or --token")
        given = make_token(user, token_secret(state_dir, os.environ), os.environ, ttl_s=86_400)
    bases = list(gateways) or ([node.url for node in state.gateways] if state else [DEFAULT_GATEWAY])
    printer = Printer(as_json=as_json or not sys.stdout.isatty(), count=count)
    try:
        ends = asyncio.run(_run(bases, given, mode, printer, timeout_s))
    except KeyboardInterrupt:
        return
    except TimeoutError:
        raise click.ClickException(f"not enough arrived within {timeout_s:g} s") from None
    if ends:
        arrived = f"{printer.seen} frames" if count is None else f"{printer.seen} of {count} frames"
        raise click.ClickException(f"{arrived} arrived before the end; {'; '.join(ends)}")


@dataclass
class Printer:
    """Writes what arrived to stdout, as JSON lines or for people; counts frames until there are `count`."""

    as_json: bool
    count: int | None = None
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    done: asyncio.Event = field(default_factory=asyncio.Event)
    seen: int = 0

    def state(self, node: str, text: str) -> None:
        """Something about the connection."""
        if self.as_json:
            # Ours, not the gateway's: a reader of frames must be able to tell them apart.
            print(json.dumps({"node": node, "state": text}, ensure_ascii=False), flush=True)
        else:
            self.console.print(f"[dim]{_clock()}[/] [cyan]{escape(node)}[/] [dim]{escape(text)}[/]")

    def frame(self, node: str, text: str) -> None:
        """One frame as it came."""
        if self.done.is_set():
            return
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        kind = str(content.get("type", "?")) if isinstance(content, dict) else "?"
        if self.as_json:
            # The frame's own bytes are spliced in: parsing and writing again would change numbers and spaces.
            print(
                f'{{"node":{json.dumps(node)},"frame":{text if content is not None else json.dumps(text)}}}', flush=True
            )
        elif isinstance(content, dict):
            at = f" [dim]{escape(str(content['at']))}[/]" if "at" in content else ""
            colour = "magenta" if kind.startswith("$") else "bold green"
            self.console.print(f"[dim]{_clock()}[/] [cyan]{escape(node)}[/] [{colour}]{escape(kind)}[/]{at}")
            self.console.print_json(json.dumps(content.get("data")), indent=2)
        else:
            self.console.print(f"[dim]{_clock()}[/] [cyan]{escape(node)}[/] {escape(text)}")
        if not kind.startswith("$"):
            self.seen += 1
            if self.count is not None and self.seen >= self.count:
                self.done.set()


def client_url(base: str, mode: Mode) -> str:
    """The address to connect to, of a node's base address with or without a path.

    Raises:
        click.BadParameter: It is no http or ws address.
    """
    parts = urlsplit(base if "://" in base else f"http://{base}")
    secure = parts.scheme in {"https", "wss"}
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        raise click.BadParameter(f"{base} is no address like {DEFAULT_GATEWAY}", param_hint="--gateway")
    scheme = ("https" if secure else "http") if mode == "sse" else ("wss" if secure else "ws")
    path = parts.path if parts.path not in {"", "/"} else ("/sse" if mode == "sse" else "/ws")
    return urlunsplit((scheme, parts.netloc, path, "", ""))


async def _run(bases: list[str], token: str, mode: Mode, printer: Printer, timeout_s: float | None) -> list[str]:
    """Why each node ended it, in words, when all of them have; nothing when enough frames arrived."""
    urls = [client_url(base, mode) for base in bases]
    async with asyncio.timeout(timeout_s):
        nodes = [asyncio.create_task(_follow(url, token, mode, printer)) for url in urls]
        enough = asyncio.create_task(printer.done.wait())
        try:
            following: set[asyncio.Task[Any]] = set(nodes)
            while following and not printer.done.is_set():
                done, _ = await asyncio.wait({*following, enough}, return_when=asyncio.FIRST_COMPLETED)
                for task in following & done:
                    task.result()  # a refusal ends it all
                following -= done
            return [] if printer.done.is_set() else [task.result() for task in nodes]
        finally:
            for task in (*nodes, enough):
                task.cancel()
            await asyncio.gather(*nodes, enough, return_exceptions=True)


async def _follow(url: str, token: str, mode: Mode, printer: Printer) -> str:
    """One node, connected again after each end, until the gateway says not to: returns in which words."""
    node = urlsplit(url).netloc
    source = _sse if mode == "sse" else _web_socket
    place = Place()
    wait_s = _FIRST_WAIT_S
    while True:
        code: int | None = None
        try:
            async for text in source(url, token, mode, place, lambda: printer.state(node, "connected")):
                wait_s = _FIRST_WAIT_S
                if mode == "v1":
                    place.note(text)
                printer.frame(node, text)
            why = "ended"
        except _Refused as refusal:
            if refusal.final:
                raise HandshakeError(f"{node}: {refusal.reason}") from refusal
            why = refusal.reason
        except _Closed as closed:
            code = closed.code
            advice = ADVICE[CloseCode(code)] if code in list(CloseCode) else ""
            why = f"closed {code or 'without a close frame'}. {advice}".strip()
        except (OSError, InvalidHandshake, aiohttp.ClientError, EOFError) as error:
            why = f"not reachable ({error or type(error).__name__})"
        if code in _FINAL:
            printer.state(node, why)
            return f"{node}: {why.rstrip('.')}"
        printer.state(node, f"{why.rstrip('.')}; again in {wait_s:g} s")
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


class _Refused(Exception):
    """An HTTP status in place of the stream. Final: the same token will be refused again."""

    def __init__(self, status: int, body: bytes) -> None:
        self.final = status in {400, 401, 403, 404}
        try:
            answer = json.loads(body)
            self.reason = f"refused with {status} {answer['error']}: {answer['reason']}"
        except (ValueError, KeyError, TypeError):
            self.reason = f"refused with {status}"
        super().__init__(self.reason)


class _Event(msgspec.Struct):
    type: str
    data: msgspec.Raw


class _Closed(Exception):
    """The gateway ended the stream, with this close code if it named one."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        super().__init__(code)


async def _web_socket(url: str, token: str, mode: Mode, place: Place, opened: Callable[[], None]) -> AsyncIterator[str]:
    protocol = Subprotocol("tidings.v1" if mode == "v1" else "tidings.plain")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        connection = await connect(
            url + place.query(),
            subprotocols=[protocol],
            additional_headers=headers,
            max_size=None,
            proxy=None,
            ping_interval=None,
        )
    except InvalidStatus as error:
        raise _Refused(error.response.status_code, bytes(error.response.body or b"")) from error
    try:  # not `async with`, which tells the gateway 1011 when this is cancelled, as it is at every end
        opened()
        while True:
            try:
                frame = await connection.recv()
            except ConnectionClosed as closed:
                raise _Closed(closed.rcvd.code if closed.rcvd else None) from closed
            yield frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
    finally:
        await connection.close()


async def _sse(url: str, token: str, mode: Mode, place: Place, opened: Callable[[], None]) -> AsyncIterator[str]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if place.event_id:
        headers["Last-Event-ID"] = place.event_id
    async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url, headers=headers) as answer:
        if answer.status != 200:
            raise _Refused(answer.status, await answer.read())
        opened()
        data: list[str] = []
        event_id = place.event_id
        pending = b""
        async for chunk in answer.content.iter_any():  # lines may be longer than aiohttp's own line limit
            *lines, pending = (pending + chunk).split(b"\n")
            for raw in lines:
                line = raw.decode("utf-8").removesuffix("\r")
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif line.startswith("id:"):
                    event_id = line[3:].removeprefix(" ")
                elif not line:
                    text, data, place.event_id = "\n".join(data), [], event_id
                    if text:
                        yield text
                        if (code := _close_code(text)) is not None:
                            raise _Closed(code)


def _close_code(text: str) -> int | None:
    """What stands for a close frame in Server-Sent Events; None for every other event."""
    try:
        event = msgspec.json.decode(text, type=_Event)
        return msgspec.json.decode(event.data, type=Close).code if event.type == "$close" else None
    except (msgspec.DecodeError, ValueError):
        return None


def _clock() -> str:
    return time.strftime("%H:%M:%S")
