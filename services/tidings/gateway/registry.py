"""Who is connected to this node: user id to connections, many per user, and the counts that limits look at."""

from collections import Counter
from collections.abc import Iterable, Iterator, KeysView
from typing import Generic, Protocol, TypeVar

__all__ = ["Member", "Registry"]


class Member(Protocol):
    """What the registry knows of a connection."""

    @property
    def user(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def protocol(self) -> str: ...


C = TypeVar("C", bound=Member)


class Registry(Generic[C]):
    """The connections that records are routed to. It owns no socket.

    `users` may be read directly on the way of a record; each tuple is replaced, never changed, so whoever walks one may
    close connections meanwhile. Cost of every method but iteration: constant (in the connections of one user).
    """

    __slots__ = ("_addresses", "_protocols", "_total", "users")

    def __init__(self) -> None:
        self.users: dict[str, tuple[C, ...]] = {}
        self._addresses: Counter[str] = Counter()
        self._protocols: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[C]:
        for connections in self.users.values():
            yield from connections

    def __contains__(self, connection: C) -> bool:
        return connection in self.users.get(connection.user, ())

    def add(self, connection: C) -> bool:
        """Take a connection in, once.

        Returns:
            Whether it is the user's first here: presence changed.
        """
        present = self.users.get(connection.user)
        self.users[connection.user] = (connection,) if present is None else (*present, connection)
        self._addresses[connection.address] += 1
        self._protocols[connection.protocol] += 1
        self._total += 1
        return present is None

    def remove(self, connection: C) -> bool:
        """Let a connection go; one that is not here is ignored.

        Returns:
            Whether it was the user's last here: presence changed.
        """
        present = self.users.get(connection.user)
        if present is None or connection not in present:
            return False
        left = tuple(other for other in present if other is not connection)
        if left:
            self.users[connection.user] = left
        else:
            del self.users[connection.user]
        self._total -= 1
        self._protocols[connection.protocol] -= 1
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        return not left

    def connections_of(self, user: str) -> tuple[C, ...]:
        """The user's connections here, oldest first."""
        return self.users.get(user, ())

    def connected(self, receivers: Iterable[str]) -> set[str]:
        """Those of the receivers that are connected here, each once. One pass in C, no work for the others."""
        keys: KeysView[str] = self.users.keys()
        return keys & receivers

    def count_at(self, address: str) -> int:
        """Connections from that address."""
        return self._addresses.get(address, 0)

    def protocols(self) -> dict[str, int]:
        """Connections per protocol."""
        return dict(self._protocols)
