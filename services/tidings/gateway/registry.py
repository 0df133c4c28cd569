"""Who is connected to this node: user id to connections, many per user, and the counts that limits look at."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from tidings.gateway.frames import Encoding

__all__ = ["Member", "Registry"]


class Member(Protocol):
    """What the registry knows of a connection."""

    @property
    def user(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def protocol(self) -> str: ...

    @property
    def encoding(self) -> int:
        """An `Encoding` as a plain number."""


C = TypeVar("C", bound=Member)


class Registry(Generic[C]):
    """The connections that records are routed to. It owns no socket.

    Cost of every method but iteration: constant (in the connections of one user).

    Attributes:
        audiences: By encoding, user to connections, oldest first. Read directly on the way of a record: the keys meet a
            record's receivers in one pass in C. Each tuple is replaced, never changed, so whoever walks one may close
            connections meanwhile.
    """

    __slots__ = ("_addresses", "_protocols", "_total", "audiences")

    def __init__(self) -> None:
        self.audiences: tuple[dict[str, tuple[C, ...]], ...] = tuple({} for _ in Encoding)
        self._addresses: Counter[str] = Counter()
        self._protocols: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[C]:
        for audience in self.audiences:
            for connections in audience.values():
                yield from connections

    def __contains__(self, connection: C) -> bool:
        return connection in self.audiences[connection.encoding].get(connection.user, ())

    def add(self, connection: C) -> bool:
        """Take a connection in, once.

        Returns:
            Whether it is the user's first here: presence changed.
        """
        first = not self.is_connected(connection.user)
        audience = self.audiences[connection.encoding]
        audience[connection.user] = (*audience.get(connection.user, ()), connection)
        self._addresses[connection.address] += 1
        self._protocols[connection.protocol] += 1
        self._total += 1
        return first

    def remove(self, connection: C) -> bool:
        """Let a connection go; one that is not here is ignored.

        Returns:
            Whether it was the user's last here: presence changed.
        """
        audience = self.audiences[connection.encoding]
        present = audience.get(connection.user, ())
        if connection not in present:
            return False
        left = tuple(other for other in present if other is not connection)
        if left:
            audience[connection.user] = left
        else:
            del audience[connection.user]
        self._total -= 1
        self._protocols[connection.protocol] -= 1
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        return not self.is_connected(connection.user)

    def is_connected(self, user: str) -> bool:
        """Whether the user has a connection here."""
        return any(user in audience for audience in self.audiences)

    def connections_of(self, user: str) -> tuple[C, ...]:
        """The user's connections here; of one encoding the oldest first."""
        return tuple(connection for audience in self.audiences for connection in audience.get(user, ()))

    def connected(self, receivers: Iterable[str]) -> set[str]:
        """Those of the receivers that are connected here, each once."""
        return {user for user in receivers if self.is_connected(user)}

    def count_at(self, address: str) -> int:
        """Connections from that address."""
        return self._addresses.get(address, 0)

    def protocols(self) -> dict[str, int]:
        """Connections per protocol."""
        return dict(self._protocols)
