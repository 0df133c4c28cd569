"""A client for tests: gathers what one user gets on one gateway, while the test does other things."""

import asyncio
import contextlib
import json
from collections import defaultdict
from types import TracebackType
from typing import Any, NamedTuple, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.integration.processes import SECRET, Gateway
from tidings.cli.state import make_token

__all__ = ["Received", "Receiver", "token"]


def token(user: str) -> str:
    """One that the gateways of this run accept for ten minutes."""
    return make_token(user, SECRET, {}, ttl_s=600)


class Received(NamedTuple):
    """One frame that is no control frame."""

    partition: int
    next_offset: int
    """-1 (as the partition) for what came from `signals`."""
    type: str
    data: Any
    text: str


class Receiver:
    """One `tidings.v1` connection. Used as an async context manager; it is welcomed inside.

    Attributes:
        received: All frames from records so far.
        control: All control frames so far, parsed.
    """

    def __init__(self, gateway: Gateway, user: str) -> None:
        self._gateway = gateway
        self._user = user
        self._news = asyncio.Event()
        self.received: list[Received] = []
        self.control: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._socket: ClientConnection = await connect(
            self._gateway.ws_url,
            subprotocols=[Subprotocol("tidings.v1")],
            additional_headers={"Authorization": f"Bearer {token(self._user)}"},
            ping_interval=None,  # a frozen gateway is part of some tests; the socket must not end from this side
            max_size=None,
            max_queue=None,
            proxy=None,
        )
        self._task = asyncio.create_task(self._gather())
        await self._until(lambda: bool(self.control), 10)
        assert self.control[0]["type"] == "$welcome"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._socket.transport.abort()

    @property
    def open(self) -> bool:
        return not self._task.done()

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    def numbers(self) -> list[int]:
        """The `n` of each frame's data, in the order of arrival."""
        return [frame.data["n"] for frame in self.received]

    def control_types(self) -> set[str]:
        return {frame["type"] for frame in self.control}

    def by_partition(self) -> dict[int, list[int]]:
        """The same for each partition, after a check that positions only rise."""
        numbers = defaultdict(list)
        last: dict[int, int] = {}
        for frame in self.received:
            assert frame.next_offset > last.get(frame.partition, 0), f"{frame.partition}:{frame.next_offset} again"
            last[frame.partition] = frame.next_offset
            numbers[frame.partition].append(frame.data["n"])
        return dict(numbers)

    async def until(self, count: int, timeout_s: float = 20) -> None:
        """Wait for that many frames in all."""
        try:
            await self._until(lambda: len(self.received) >= count, timeout_s)
        except TimeoutError:
            state = "open" if self.open else f"closed with {self.close_code}"
            raise AssertionError(
                f"{len(self.received)} of {count} frames after {timeout_s} s; the socket is {state}"
            ) from None

    async def settled(self, count: int, timeout_s: float = 20, quiet_s: float = 0.3) -> None:
        """Wait for that many frames, then see that no more come and that the socket is still open."""
        await self.until(count, timeout_s)
        await asyncio.sleep(quiet_s)
        assert len(self.received) == count, self.received[count : count + 5]
        assert self.open, self.close_code

    async def _until(self, reached: "Any", timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not reached():
                self._news.clear()
                if self._task.done():
                    raise TimeoutError
                await self._news.wait()

    async def _gather(self) -> None:
        try:
            async for text in self._socket:
                assert isinstance(text, str)
                frame = json.loads(text)
                if frame["type"].startswith("$"):
                    self.control.append(frame)
                else:
                    partition, offset = map(int, frame.get("at", "-1:-1").split(":"))
                    self.received.append(Received(partition, offset, frame["type"], frame["data"], text))
                self._news.set()
        except ConnectionClosed:
            pass
        finally:
            self._news.set()
