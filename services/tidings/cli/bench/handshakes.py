"""Opens web sockets in parallel, as cheaply as Python can: one epoll, one write and one read per connection."""

import base64
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Refused", "Wanted", "connect_all", "read_plan", "request", "write_plan"]

PER_ADDRESS = 20_000
"""Connections from one source address to one server port; the kernel has 28,000 ports for them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One connection to open: the request's path and, where the server asks for one, a bearer token."""

    path: str
    token: str = ""


class Refused(Exception):
    """The server did not answer 101; the text begins with its status line."""


def write_plan(path: str, plan: Sequence[Wanted]) -> None:
    """One line per connection; tokens never stand in an argument list, where any user could read them."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{wanted.path} {wanted.token}\n" for wanted in plan)


def read_plan(path: str) -> list[Wanted]:
    with open(path) as file:
        return [Wanted(*line.rstrip("\n").split(" ", 1)) for line in file]


def connect_all(
    port: int,
    plan: Sequence[Wanted],
    parallel: int,
    opened: Callable[[int, socket.socket, bytes], None],
    timeout_s: float = 60.0,
) -> list[float]:
    """Open every connection of the plan, at most `parallel` handshakes at a time.

    Args:
        opened: Called with the index, the non-blocking socket and what came behind the response.
    Returns:
        Seconds from connect to the response, per connection in the order in which they were done.
    Raises:
        Refused: Any answer but 101.
        TimeoutError: Not done in `timeout_s`.
    """
    epoll = select.epoll()
    pending: dict[int, tuple[int, socket.socket, float]] = {}
    sending: set[int] = set()
    done: list[float] = []
    deadline = time.monotonic() + timeout_s
    following = 0
    try:
        while len(done) < len(plan):
            while following < len(plan) and len(pending) < parallel:
                sock = _begin(port, f"127.0.0.{1 + following // PER_ADDRESS}")
                epoll.register(sock.fileno(), select.EPOLLOUT)
                pending[sock.fileno()] = following, sock, time.monotonic()
                sending.add(sock.fileno())
                following += 1
            for fd, _ in epoll.poll(1.0):
                index, sock, begun = pending[fd]
                if fd in sending:
                    fault = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if fault:
                        raise OSError(fault, f"{os.strerror(fault)} (connection {index})")
                    sock.send(request(port, plan[index]))
                    sending.discard(fd)
                    epoll.modify(fd, select.EPOLLIN)
                    continue
                # Only headers are awaited, and they come in one piece: anything else is worth an error in a bench.
                answer = sock.recv(65_536)
                head, end, rest = answer.partition(b"\r\n\r\n")
                if not end or not head.startswith(b"HTTP/1.1 101"):
                    raise Refused(f"{head[:200].decode('latin-1')} (connection {index})")
                done.append(time.monotonic() - begun)
                epoll.unregister(fd)
                del pending[fd]
                opened(index, sock, rest)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(done)} of {len(plan)} connections open after {timeout_s:.0f} s")
    finally:
        epoll.close()
    return done


def _begin(port: int, source: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # 24 = IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, where only the four-tuple must be free.
    sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    sock.bind((source, 0))
    fault = sock.connect_ex(("127.0.0.1", port))
    if fault not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(fault, os.strerror(fault))
    return sock


def request(port: int, wanted: Wanted, protocol: str = "") -> bytes:
    """The upgrade request, with a subprotocol if one is named."""
    key = base64.b64encode(os.urandom(16)).decode()
    token = f"Authorization: Bearer {wanted.token}\r\n" if wanted.token else ""
    token += f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET {wanted.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{token}\r\n"
    ).encode()
