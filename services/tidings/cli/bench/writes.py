"""What one write to a socket costs here, in a process that does nothing else, by each way that leads to the kernel:
with a write for every delivery no gateway on this event loop can do better.

The two processes behind it: `python -m tidings.cli.bench.writes write CONNECTIONS`, which is measured, and
`… read CONNECTIONS PORT`, which takes the bytes.
"""

import asyncio
import json
import os
import resource
import select
import socket
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import uvloop

from tidings.cli.bench.processes import Child, module
from tidings.open_files import most_open_files

__all__ = ["Way", "Writes", "main", "measure_writes"]

Way = Literal["transport", "os.write", "send"]
"""The event loop's transport, the descriptor past it, or a socket past it as the gateway has it."""

_PAUSE_S: Final = 0.01
"""Between two bursts to all connections, so that the reader waits again, as clients do."""
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Writes:
    """Frames of `frame_bytes` to `connections` sockets in turn, `writes` in each round; microseconds each, by round."""

    way: Way
    connections: int
    frame_bytes: int
    writes: int
    cpu_us: Sequence[float]
    kernel_us: Sequence[float]

    @property
    def median_us(self) -> float:
        return float(statistics.median(self.cpu_us))

    @property
    def median_kernel_us(self) -> float:
        return float(statistics.median(self.kernel_us))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"median_us": self.median_us}


def measure_writes(directory: Path, *, connections: int, frame_bytes: int, bursts: int, rounds: int) -> list[Writes]:
    """Start both processes, and write `bursts` times to each connection by each way in every round.

    Raises:
        BenchFault: One of them did not start or ended.
    """
    with Child("writer", module("writes", "write", connections), directory / "writer.log") as writer:
        port = writer.hear()["port"]
        with Child("reader", module("writes", "read", connections, port), directory / "reader.log"):
            writer.hear()
            writer.ask(f"1 {frame_bytes}")  # the first bytes of a connection cost more
            found = [writer.ask(f"{bursts} {frame_bytes}") for _ in range(rounds)]
    return [
        Writes(
            way,
            connections,
            frame_bytes,
            connections * bursts,
            [each[way]["cpu_us"] for each in found],
            [each[way]["kernel_us"] for each in found],
        )
        for way in get_args(Way)
    ]


class _Peer(asyncio.Protocol):
    """A connection as the gateway has it: a write goes to the kernel at once."""

    def __init__(self, all_here: "asyncio.Queue[Any]") -> None:
        self._all_here = all_here

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._all_here.put_nowait(transport)


async def _write(connections: int) -> None:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[Any] = asyncio.Queue()
    server = await loop.create_server(lambda: _Peer(accepted), "127.0.0.1", 0, backlog=connections)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    transports = [await accepted.get() for _ in range(connections)]
    numbers = [transport.get_extra_info("socket").fileno() for transport in transports]
    sockets = [socket.SocketType(fileno=number) for number in numbers]
    bursts_by: dict[Way, Callable[[bytes], None]] = {
        "transport": partial(_by_transport, [transport.write for transport in transports]),
        "os.write": partial(_by_number, numbers),
        "send": partial(_by_socket, sockets),
    }
    print("{}", flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while words := (await lines.readline()).split():
        bursts, frame = int(words[0]), b"x" * int(words[1])
        spent = {way: [0.0, 0.0] for way in bursts_by}
        for _ in range(bursts):
            for way, burst in bursts_by.items():  # in turn: what disturbs the machine for a while disturbs all of them
                before = resource.getrusage(resource.RUSAGE_SELF)
                burst(frame)
                after = resource.getrusage(resource.RUSAGE_SELF)
                spent[way][0] += after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
                spent[way][1] += after.ru_stime - before.ru_stime
                await asyncio.sleep(_PAUSE_S)
        each_us = 1e6 / (bursts * connections)
        print(
            json.dumps(
                {way: {"cpu_us": cpu * each_us, "kernel_us": kernel * each_us} for way, (cpu, kernel) in spent.items()}
            ),
            flush=True,
        )


def _by_transport(writes: Sequence[Callable[[bytes], None]], frame: bytes) -> None:
    for write in writes:
        write(frame)


def _by_number(numbers: Sequence[int], frame: bytes) -> None:
    for number in numbers:
        os.write(number, frame)


def _by_socket(sockets: Sequence[socket.SocketType], frame: bytes) -> None:
    for each in sockets:
        each.send(frame)


def _read(connections: int, port: int) -> None:
    poll = select.epoll()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for each in sockets:
        poll.register(each.fileno(), select.EPOLLIN)
    by_number = {each.fileno(): each for each in sockets}
    buffer = bytearray(_READ_BYTES)
    while True:
        for number, _ in poll.poll():
            if not by_number[number].recv_into(buffer):
                return


def main() -> None:
    most_open_files()
    role, *numbers = sys.argv[1:]
    if role == "write":
        uvloop.run(_write(*map(int, numbers)))
    else:
        _read(*map(int, numbers))


if __name__ == "__main__":
    main()
