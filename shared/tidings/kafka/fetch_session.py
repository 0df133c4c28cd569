"""Incremental fetches (KIP-227): a broker is told and tells only what changed since the fetch before.

A full fetch names every partition in both directions; with 24 of them that is most of what a round costs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion

from tidings.kafka.fetch_codec import FetchQuestion, LeaderFetchRequest

__all__ = ["FetchSession", "Partition"]

_READ_COMMITTED: Final = 1
_MAX_WAIT_MS: Final = 500
_MIN_BYTES: Final = 1
_MAX_BYTES: Final = 2 * 1024 * 1024
"""Of one fetch; a single larger batch comes whole all the same."""
_PARTITION_BYTES: Final = 1024 * 1024
_WITH_SESSIONS: Final = 7
_WITH_LEADER_EPOCHS: Final = 9
_LAST_EPOCH: Final = 2**31 - 1


class Partition(NamedTuple):
    """A topic's partition; equal to aiokafka's `TopicPartition`, so that its tables can be asked with it."""

    topic: str
    partition: int


class FetchSession:
    """What one broker knows of our positions. One fetch at a time: `request`, then `accepts` or `reset`."""

    def __init__(self) -> None:
        self._id = 0
        self._epoch = 0
        self._sent: dict[Partition, int] = {}
        self._wanted: Sequence[Partition] = ()
        self._turn = 0
        self.refusals = 0
        """Answers in a row that were none. One is about a session that the broker has forgotten; more are not."""

    def request(
        self, wanted: Sequence[Partition], positions: Mapping[Partition, int], *, wait: bool = True
    ) -> LeaderFetchRequest:
        """The next fetch: of `wanted` from their positions, `read_committed`.

        Args:
            wait: The broker answers as soon as there is anything or in 0.5 s; else at once, with what there is.

        Cost: a look at each partition; encoding of those that moved.
        """
        sent = self._sent
        forgotten: list[Partition] = []
        if wanted is not self._wanted:
            forgotten = list(sent.keys() - set(wanted))
            for partition in forgotten:
                del sent[partition]
            self._wanted = wanted
        moved = [partition for partition in wanted if sent.get(partition) != positions[partition]]
        for partition in moved:
            sent[partition] = positions[partition]
        if not self._id and moved:
            # Without a session brokers serve partitions in the order of the request, up to the bytes of one answer:
            # each comes first in turn, so that none starves.
            self._turn = (self._turn + 1) % len(moved)
            moved = moved[self._turn :] + moved[: self._turn]
        return _SessionFetchRequest(
            _MAX_WAIT_MS if wait else 0,
            self._id,
            self._epoch,
            [(partition, sent[partition]) for partition in moved],
            forgotten,
        )

    def accepts(self, response: Any) -> bool:
        """Note an answer. False: the broker knows no such session (any more) and the answer is empty: ask again."""
        if response.error_code:
            self.refusals += 1
            self.reset()
            return False
        self.refusals = 0
        if not response.session_id:  # the broker keeps no session for us: everything is said every time
            self.reset()
            return True
        self._id = response.session_id
        self._epoch = self._epoch + 1 if self._epoch < _LAST_EPOCH else 1
        return True

    def reset(self) -> None:
        """Forget the session, as after a broken connection: the next request is a full one and opens another."""
        self._id = 0
        self._epoch = 0
        self._sent.clear()
        self._wanted = ()


class _SessionFetchRequest(LeaderFetchRequest):
    """aiokafka's fetch with the session's fields, which its own leaves empty."""

    def __init__(
        self,
        max_wait_ms: int,
        session: int,
        epoch: int,
        moved: Sequence[tuple[Partition, int]],
        forgotten: Sequence[Partition],
    ) -> None:
        super().__init__(max_wait_ms, _MIN_BYTES, _MAX_BYTES, _READ_COMMITTED, [])
        self._wait_ms = max_wait_ms
        self._session = session
        self._epoch = epoch
        self._moved = moved
        self._forgotten = forgotten

    def build(self, request_struct_class: Any) -> Any:
        version = request_struct_class.API_VERSION
        if version < _WITH_SESSIONS:
            raise IncompatibleBrokerVersion("the broker is older than Kafka 1.1 (fetch sessions)")
        topics: dict[str, list[tuple[int, ...]]] = {}
        for (topic, number), offset in self._moved:
            place = (number, -1, offset) if version >= _WITH_LEADER_EPOCHS else (number, offset)
            topics.setdefault(topic, []).append((*place, -1, _PARTITION_BYTES))
        forgotten: dict[str, list[int]] = {}
        for topic, number in self._forgotten:
            forgotten.setdefault(topic, []).append(number)
        fields: list[object] = [
            -1,
            self._wait_ms,
            _MIN_BYTES,
            _MAX_BYTES,
            _READ_COMMITTED,
            self._session,
            self._epoch,
            list(topics.items()),
            list(forgotten.items()),
        ]
        if version == FetchQuestion.API_VERSION:
            return FetchQuestion(*fields)  # type: ignore[arg-type]  # in the order of its parameters
        return request_struct_class(*fields)
