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

    A connection may be held: it counts, but no record is routed to it, because it is behind (or ahead of) the node.
    Cost of every method but iteration: constant (in the connections of one user).

    Attributes:
        audiences: By encoding, user to connections, oldest first. Read directly on the way of a record: the keys meet a
            record's receivers in one pass in C. Each tuple is replaced, never changed, so whoever walks one may close
            connections meanwhile.
    """

    __slots__ = ("_addresses", "_everywhere", "_held", "_protocols", "_total", "audiences")

    def __init__(self) -> None:
        self.audiences: tuple[dict[str, tuple[C, ...]], ...] = tuple({} for _ in Encoding)
        self._held: dict[str, tuple[C, ...]] = {}
        self._everywhere = (*self.audiences, self._held)
        self._addresses: Counter[str] = Counter()
        self._protocols: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[C]:
        for audience in self._everywhere:
            for connections in audience.values():
                yield from connections

    def __contains__(self, connection: C) -> bool:
        return connection in self.connections_of(connection.user)

    def add(self, connection: C, *, held: bool = False) -> bool:
        """Take a connection in, once.

        Returns:
            Whether it is the user's first here: presence changed.
        """
        first = not self.is_connected(connection.user)
        _put(self._held if held else self.audiences[connection.encoding], connection)
        self._addresses[connection.address] += 1
        self._protocols[connection.protocol] += 1
        self._total += 1
        return first

    def hold(self, connection: C) -> None:
        """Route nothing more to a connection; it still counts."""
        if _take(self.audiences[connection.encoding], connection):
            _put(self._held, connection)

    def release(self, connection: C) -> None:
        """Route to a held connection from now on."""
        if _take(self._held, connection):
            _put(self.audiences[connection.encoding], connection)

    def remove(self, connection: C) -> bool:
        """Let a connection go; one that is not here is ignored.

        Returns:
            Whether it was the user's last here: presence changed.
        """
        if not _take(self.audiences[connection.encoding], connection) and not _take(self._held, connection):
            return False
        self._total -= 1
        self._protocols[connection.protocol] -= 1
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        return not self.is_connected(connection.user)

    @property
    def held(self) -> int:
        """Connections that are held."""
        return sum(map(len, self._held.values()))

    def is_connected(self, user: str) -> bool:
        """Whether the user has a connection here."""
        return any(user in audience for audience in self._everywhere)

    def connections_of(self, user: str) -> tuple[C, ...]:
        """The user's connections here, held ones too; of one encoding the oldest first."""
        return tuple(connection for audience in self._everywhere for connection in audience.get(user, ()))

    def connected(self, receivers: Iterable[str]) -> set[str]:
        """Those of the receivers that are connected here, each once."""
        return {user for user in receivers if self.is_connected(user)}

    def count_at(self, address: str) -> int:
        """Connections from that address."""
        return self._addresses.get(address, 0)

    def protocols(self) -> dict[str, int]:
        """Connections per protocol."""
        return dict(self._protocols)


def _put(audience: dict[str, tuple[C, ...]], connection: C) -> None:
    audience[connection.user] = (*audience.get(connection.user, ()), connection)


def _take(audience: dict[str, tuple[C, ...]], connection: C) -> bool:
    present = audience.get(connection.user, ())
    if connection not in present:
        return False
    left = tuple(other for other in present if other is not connection)
    if left:
        audience[connection.user] = left
    else:
        del audience[connection.user]
    return True
