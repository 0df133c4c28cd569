"""Ports: free ones of the loopback address, and listening on one."""

import socket

__all__ = ["free_ports", "listen_on"]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now, all different. Another process may take one first."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listen_on(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound TCP socket that doesn't block; for a server, which calls `listen` itself.

    Args:
        port: 0 for any free one.
        reuse_port: Several processes may share the port.
    Raises:
        OSError: It can't be had; the message names it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setblocking(False)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{error.strerror}: {host}:{port}") from None
    return listening
