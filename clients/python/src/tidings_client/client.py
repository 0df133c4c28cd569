"""The client: tasks and callbacks around the decisions of the pure modules."""

import asyncio
import logging
import random as chance
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tidings_client.buffer import Buffer
from tidings_client.errors import InvalidState, ProtocolViolation, TidingsClientError
from tidings_client.frames import (
    Checkpoint,
    Drain,
    Event,
    Problem,
    Resync,
    Welcome,
    decode,
    may_be_control,
    token_frame,
)
from tidings_client.position import Position
from tidings_client.progress import Progress
from tidings_client.retry import Backoff, Retries, Retry, Silence
from tidings_client.socket import Opener, Socket, read_refusal, watch
from tidings_client.token_keeper import TokenKeeper, TokenSource

__all__ = ["Client", "OnResync", "connect"]

OnResync = Callable[[str, str], Awaitable[None]]

log = logging.getLogger("tidings_client")


class _Gap(NamedTuple):
    """A `$resync` and the connection that it came on."""

    resync: Resync
    connection: int


_Item = bytes | Checkpoint | _Gap


class Client:
    """The events of one user, each once and in the order of its partition, for as long as the program wants them.

    Entering it (`async with`) waits for the first gateway's welcome: what is produced after that arrives. Iterating
    gives events, over all reconnects, until `close`, and raises a `TidingsClientError` when coming back is pointless.
    One task at a time may iterate; it may stop and go on later, and cancelling it loses nothing.

    Args:
        urls: Where gateways or their load balancer answer: `ws`, `wss`, `http` or `https`; without a path `/ws` is
            meant. After each connection the next one in this order is tried; shuffle them to spread clients.
        token: A JWT, or an async function that gets one. The function is asked at the start, before the token's `exp`,
            and when a token was refused or has ended. If it raises, it is asked again with backoff, unless what it
            raises is a `TidingsClientError` (`TokenRefused`: the user has logged out): that stops the client.
        position: Where to go on: an earlier client's `position`, or its text. None: from now on.
        on_resync: Awaited with reason and cursor when events are missing that no gateway has any more: fetch the
            present state from your own service here. Events after the gap are held back until it has returned. Until
            then the position stays before the gap, so that after a disconnect or a restart of the program it is called
            again. If it raises, it is called again with backoff; a `TidingsClientError` is handed to who iterates.
            None: a `Resync` stands among the events instead; it counts as dealt with when the next one is asked for.
        backoff: How long to wait before coming back.
        buffer_frames: Frames that may wait for the program; the socket is not read while there are so many,
        buffer_bytes: or so many bytes. Memory: this, two frames, and what one read of the socket gives (256 KiB).
        max_frame_bytes: A larger frame stops the client. Records of 1 MiB and everything around fit into the default.
        timeout_s: For connecting, and for each call of the token function.
        silence_margin_s: A connection of which nothing was heard for twice the gateway's heartbeat and this is dead.
        token_margin_s: So long before its end a token is renewed; half-way to its end if it is shorter than twice this.
        compression: Offer permessage-deflate. It saves network and costs processor time, and one read of the socket
            may then inflate to much more than 256 KiB.
        ssl: For `wss`, instead of the system's defaults.
        proxy: As in websockets: True takes the environment's, None takes none.
        random: Numbers from 0 to 1, for the jitter.
    Attributes:
        session: Of the connection that is open, for the request header `Tidings-Session`; None while there is none.
        node: Name of that gateway.
        repeats: Events that came again and were dropped.
    Raises:
        ValueError: An address, a token or a number that can't be used.
        InvalidPosition: `position` is no position.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        token: TokenSource,
        position: Position | str | None = None,
        on_resync: OnResync | None = None,
        backoff: Backoff | None = None,
        buffer_frames: int = 1_000,
        buffer_bytes: int = 1 << 20,
        max_frame_bytes: int = 1 << 21,
        timeout_s: float = 10.0,
        silence_margin_s: float = 5.0,
        token_margin_s: float = 60.0,
        compression: bool = False,
        ssl: tls.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
        random: Callable[[], float] = chance.random,
    ) -> None:
        if buffer_frames < 1 or buffer_bytes < 1:
            raise ValueError("a buffer has room for one frame at least")
        self._backoff = backoff or Backoff()
        self._random = random
        self._on_resync = on_resync
        self._max_frame_bytes = max_frame_bytes
        self._opener = Opener(
            [urls] if isinstance(urls, str) else list(urls),
            timeout_s=timeout_s,
            max_frame_bytes=max_frame_bytes,
            compression=compression,
            ssl=ssl,
            proxy=proxy,
        )
        self._tokens = TokenKeeper(token, token_margin_s, timeout_s, self._wait_s)
        self._retries = Retries(self._backoff, can_renew=self._tokens.can_renew, random=random)
        self._progress = Progress(Position.parse(position) if isinstance(position, str) else position)
        self._buffer: Buffer[_Item] = Buffer(buffer_frames, buffer_bytes)
        self._silence = Silence(silence_margin_s)
        self._opened = asyncio.Event()
        self._greeted = False
        self._iterating = False
        self._closed = False
        self._failure: Exception | None = None
        self._runner: asyncio.Task[None] | None = None
        self._shown: _Gap | None = None
        self._refetch: tuple[_Gap, asyncio.Task[bool]] | None = None
        self.session: str | None = None
        self.node: str | None = None
        self.repeats = 0

    # What the program sees

    @property
    def position(self) -> Position | None:
        """Behind the last event that iterating gave; save it when that event is dealt with. None before the start."""
        return self._progress.position

    @property
    def cursor(self) -> str:
        """The cursor of `position`; "" if there is none yet."""
        position = self._progress.position
        return "" if position is None else position.cursor

    @property
    def log(self) -> str:
        """The log that the cursor belongs to."""
        position = self._progress.position
        return "" if position is None else position.log

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise InvalidState("a client is entered once")
        self._runner = asyncio.create_task(self._run())
        try:
            await self._opened.wait()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection with 1000; iterating ends. What waited is dropped: it is behind `position`. Takes 2 s at
        most.
        """
        self._closed = True
        self._buffer.wake()
        tasks: list[asyncio.Task[Any]] = [] if self._runner is None else [self._runner]
        if self._refetch is not None:
            tasks.append(self._refetch[1])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._buffer.clear()
        self._end(None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._runner is None:
            raise InvalidState("enter the client first: `async with connect(...) as client`")
        if self._iterating:
            raise InvalidState("another task iterates over this client")
        self._iterating = True
        try:
            return await self._next()
        finally:
            self._iterating = False

    async def _next(self) -> Event:
        if self._shown is not None:
            self._progress.resynced(*self._shown)
            self._shown = None
        while not self._closed:
            head = self._buffer.head
            if self._refetch is not None:
                await self._refetched(*self._refetch)
            elif isinstance(head, _Gap) and self._on_resync is not None:
                self._refetch = (head, asyncio.create_task(self._call(self._on_resync, head.resync)))
            elif head is not None:
                # No await in here: an event that is taken off is given out. One that can't be decoded stays.
                event = self._hand_over(head)
                self._buffer.pop()
                if event is not None:
                    return event
            elif self._failure is not None:
                raise self._failure
            else:
                await self._buffer.arrival()
        raise StopAsyncIteration

    def _hand_over(self, item: _Item) -> Event | None:
        if isinstance(item, _Gap):
            self._shown = item
            return item.resync
        if isinstance(item, Checkpoint):
            self._progress.checkpoint(item.cursor)
            return None
        event = decode(item)
        assert isinstance(event, Event)
        if event.at is not None and not self._progress.take(event.at):
            self.repeats += 1
            return None
        return event

    async def _refetched(self, gap: _Gap, task: asyncio.Task[bool]) -> None:
        # The task is not awaited itself: a program that is cancelled while it waits here does not cancel the callback.
        await asyncio.wait({task})
        self._refetch = None
        if not task.cancelled() and task.result():
            self._progress.resynced(*gap)
            if self._buffer.head is gap:
                self._buffer.pop()
        elif self._failure is not None:
            raise self._failure

    async def _call(self, on_resync: OnResync, resync: Resync) -> bool:
        """Until it has returned; False if the client ended before."""
        failures = 0
        while True:
            try:
                await on_resync(resync.reason, resync.cursor)
            except TidingsClientError:
                raise
            except Exception:
                log.exception("on_resync failed")
                if self._failure is not None:
                    return False
                await asyncio.sleep(self._wait_s(failures))
                failures += 1
            else:
                return True

    # Connections, one after another

    async def _run(self) -> None:
        try:
            while True:
                retry = await self._attempt()
                self.session = self.node = None
                self._opener.turn()
                if retry.new_token:
                    self._tokens.ended()
                log.info("coming back in %.1f s", retry.delay_s)
                await asyncio.sleep(retry.delay_s)
        except Exception as error:  # whatever it is, the program has to see it
            log.warning("stopped: %s", error)
            self._end(error)

    def _end(self, failure: Exception | None) -> None:
        self._failure = failure
        self.session = self.node = None
        self._opened.set()
        self._buffer.wake()

    def _wait_s(self, failures: int) -> float:
        return self._backoff.wait_s(failures, self._random())

    async def _attempt(self) -> Retry:
        """One connection from its token to its end."""
        try:
            token = await self._tokens.for_connecting()
        except TidingsClientError:
            raise
        except Exception as error:
            log.warning("no token: %r", error)
            return self._retries.failed()
        try:
            socket = await self._opener.open(token, self._progress.position)
        except InvalidStatus as answer:
            refusal = read_refusal(answer.response)
            log.warning("%s refused: %d %s (%s)", self._opener.host, *refusal[:3])
            return self._retries.refused(*refusal)
        except (OSError, EOFError, InvalidHandshake) as error:  # TimeoutError is an OSError
            log.warning("no connection to %s: %r", self._opener.host, error)
            return self._retries.failed()
        try:
            return await self._live(socket)
        finally:
            await socket.close()

    async def _live(self, socket: Socket) -> Retry:
        self._greeted = False
        helpers = [
            asyncio.create_task(watch(socket, self._silence)),
            asyncio.create_task(self._keep_token_fresh(socket)),
        ]
        try:
            while True:
                await self._buffer.room()
                if not self._on_frame(await socket.recv(decode=False)):
                    return self._retries.failed()
        except ConnectionClosed as end:
            if end.sent is not None and end.sent.code == 1009 and not end.rcvd_then_sent:
                raise ProtocolViolation(f"a frame of more than {self._max_frame_bytes} bytes came") from end
            code, reason = (None, "") if end.rcvd is None else (end.rcvd.code, end.rcvd.reason)
            log.info("connection to %s ended: %s %s", self._opener.host, code, reason)
            return self._retries.closed(code, reason, socket.loop.time())
        finally:
            for helper in helpers:
                helper.cancel()
            for error in await asyncio.gather(*helpers, return_exceptions=True):
                if isinstance(error, Exception) and not isinstance(error, ConnectionClosed):
                    raise error

    async def _keep_token_fresh(self, socket: Socket) -> None:
        try:
            await self._tokens.keep_fresh(lambda token: socket.send(token_frame(token)))
        except TidingsClientError:
            socket.transport.abort()  # ends `_live`, which raises this
            raise

    def _on_frame(self, payload: bytes) -> bool:
        """Take one frame; False: this connection is of no use."""
        if self._greeted and not may_be_control(payload):
            self._buffer.put(payload, len(payload))
            return True
        try:
            frame = decode(payload)
        except ProtocolViolation:
            if self._greeted:
                raise
            frame = None
        # A node may have to go, or to complain, while it still looks at the cursor. Anything else is a defect of this
        # node or of what stands before it, and the next address may have none.
        if not self._greeted and not isinstance(frame, Welcome | Drain | Problem):
            log.warning("%s does not begin with $welcome: %r", self._opener.host, payload[:80])
            return False
        match frame:
            case Welcome():
                return self._on_welcome(frame)
            case Resync():
                self._buffer.put(_Gap(frame, self._progress.connection), len(payload))
            case Event():
                self._buffer.put(payload, len(payload))
            case Checkpoint():
                self._buffer.put(frame, len(payload))
            case Drain(reconnect_after_s):
                self._retries.draining(reconnect_after_s)
            case Problem(reason):
                log.warning("the gateway says: %s", reason)
                if reason.startswith("$token"):
                    self._tokens.rejected()
        return True

    def _on_welcome(self, welcome: Welcome) -> bool:
        self._greeted = True
        self._buffer.clear()  # all that is behind the position comes again
        if not self._progress.welcomed(welcome):
            log.warning("%s resumes in a log that is not the position's", welcome.node)
            return False
        self._retries.welcomed(asyncio.get_running_loop().time())
        self._silence.told(welcome.heartbeat_s)
        self.session, self.node = welcome.session, welcome.node
        log.info("session %s on %s, %s", welcome.session, welcome.node, "resumed" if welcome.resumed else "new")
        self._opened.set()
        return True


connect = Client
"""Reads better: `async with connect(...) as client`."""
