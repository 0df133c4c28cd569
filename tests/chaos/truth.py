"""What the log holds, and what is owed to whom because of it. Pure: records in, verdict on each record out."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["Duty", "LogEntry", "Place", "Truth"]

REPEAT_MS: Final = 600_000
REPEAT_RECORDS: Final = 20_000
"""The contract's reach of an id, written here again so that a change of the server's constants is noticed."""
_MARGIN_RECORDS: Final = 64
"""So close to the edge of the reach either is right: whether poison and nulls count is not agreed."""
_MARGIN_MS: Final = 1_000


class Duty(Enum):
    """What is due to the receivers of a record."""

    OWED = "owed"
    REPEAT = "repeat"
    """Its id stood before it within reach: nobody may get it."""
    OPTIONAL = "optional"
    """Its id stood before it, out of reach: delivered or not, both are right."""


class Place(NamedTuple):
    """Where a record lies; `log` is the tag of the topic's life."""

    log: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class LogEntry(NamedTuple):
    """A committed record as the log holds it. `number` is the unique one of its data."""

    offset: int
    number: int
    timestamp_ms: int


class _Produced(NamedTuple):
    receivers: frozenset[str]
    id: bytes | None


class Truth:
    """Every record that was produced, and of those the ones that the log holds.

    What the producer was told is only cross-checked: after an outage it may not know, the log does.
    """

    def __init__(self) -> None:
        self._produced: dict[int, _Produced] = {}
        self._acknowledged: dict[int, tuple[int, int]] = {}
        self._aborted: set[int] = set()
        self._logs: dict[tuple[str, int], dict[int, LogEntry]] = {}
        self._places: dict[int, list[Place]] = {}

    @property
    def produced_count(self) -> int:
        return len(self._produced)

    @property
    def logged_count(self) -> int:
        """Records in the log, one that its producer wrote twice as two."""
        return sum(map(len, self._logs.values()))

    @property
    def rewritten_count(self) -> int:
        """Records that their producer wrote more than once by itself."""
        return sum(len(places) > 1 for places in self._places.values())

    @property
    def acknowledged_count(self) -> int:
        return len(self._acknowledged)

    def produced(self, number: int, receivers: frozenset[str], id_: bytes | None = None) -> None:
        """A record is about to be handed to Kafka. Numbers are never used twice."""
        if number in self._produced:
            raise ValueError(f"number {number} was produced before")
        self._produced[number] = _Produced(receivers, id_)

    def acknowledged(self, number: int, partition: int, offset: int) -> None:
        """Kafka said that it has the record; for one of a transaction, that the transaction was committed."""
        self._acknowledged[number] = (partition, offset)

    def is_acknowledged(self, number: int) -> bool:
        return number in self._acknowledged

    def aborted(self, number: int) -> None:
        """Its transaction was aborted, and Kafka confirmed it: no reader of committed records may see it."""
        self._aborted.add(number)

    def logged(self, log: str, partition: int, entries: Iterable[LogEntry]) -> None:
        """What a reader of committed records finds in a partition. May be told in pieces and again.

        A record may lie there more than once: when a leader goes, an idempotent producer of librdkafka can begin a new
        epoch and write again what was in flight (confluentinc/librdkafka#4953). Each of them is a record of the log.
        """
        known = self._logs.setdefault((log, partition), {})
        for entry in entries:
            if entry.number not in self._produced:
                raise ValueError(f"{partition}:{entry.offset} holds number {entry.number}, which nobody produced")
            before = known.get(entry.offset)
            if before is not None and before != entry:
                raise ValueError(f"{partition}:{entry.offset} held {before} and now {entry}")
            place = Place(log, partition, entry.offset)
            if before is None:
                places = self._places.setdefault(entry.number, [])
                if places and (log, partition) != (places[0].log, places[0].partition):
                    raise ValueError(f"number {entry.number} lies at {places[0]} and in another partition at {place}")
                places.append(place)
                places.sort()
            known[entry.offset] = entry

    def places(self, number: int) -> Sequence[Place]:
        """Where the record lies, in order; empty: nowhere, it was aborted or never arrived."""
        return self._places.get(number, ())

    def number_at(self, place: Place) -> int:
        return self._logs[place.log, place.partition][place.offset].number

    def receivers(self, number: int) -> frozenset[str]:
        return self._produced[number].receivers

    def duties(self) -> dict[Place, tuple[Duty, Place | None]]:
        """Per record that lies in the log: what is due, and for those with a repeated id where the id stood first."""
        found: dict[Place, tuple[Duty, Place | None]] = {}
        for (log, partition), entries in self._logs.items():
            first: dict[bytes, tuple[int, LogEntry]] = {}
            loose: dict[bytes, tuple[int, LogEntry]] = {}
            for index, offset in enumerate(sorted(entries)):
                entry = entries[offset]
                place = Place(log, partition, offset)
                id_ = self._produced[entry.number].id
                duty, of = Duty.OWED, None
                if id_ is not None and id_ in first:
                    of = Place(log, partition, first[id_][1].offset)
                    if _within(first[id_], index, entry, -1):
                        duty = Duty.REPEAT
                    elif _within(first[id_], index, entry, 1) or (
                        id_ in loose and _within(loose[id_], index, entry, 1)
                    ):
                        # At the edge, or a repeat of one that may or may not have counted itself.
                        duty = Duty.OPTIONAL
                        loose.setdefault(id_, (index, entry))
                    else:
                        duty = Duty.OPTIONAL
                        loose[id_] = (index, entry)
                elif id_ is not None:
                    first[id_] = (index, entry)
                found[place] = (duty, of)
        return found

    def owed(self, users: Iterable[str]) -> Mapping[str, dict[tuple[str, int], list[int]]]:
        """Per user, log and partition the offsets of what is owed, in order."""
        wanted: dict[str, dict[tuple[str, int], list[int]]] = {user: {} for user in users}
        tracked = wanted.keys()
        duties = self.duties()
        for (log, partition), entries in self._logs.items():
            for offset in sorted(entries):
                if duties[Place(log, partition, offset)][0] is not Duty.OWED:
                    continue
                for user in self._produced[entries[offset].number].receivers & tracked:
                    wanted[user].setdefault((log, partition), []).append(offset)
        return wanted

    def contradictions(self) -> list[str]:
        """What the producer was told and the log does not bear out: a fault of Kafka or of the test."""
        lines = []
        for number, (partition, offset) in self._acknowledged.items():
            places = self.places(number)
            if (partition, offset) not in ((place.partition, place.offset) for place in places):
                found = ", ".join(map(str, places)) or "nowhere"
                lines.append(f"number {number} was acknowledged at {partition}:{offset}; in the log: {found}")
        lines += [f"number {number} was aborted and is in the log" for number in self._aborted & self._places.keys()]
        return lines


def _within(first: tuple[int, LogEntry], index: int, entry: LogEntry, margin: int) -> bool:
    index_before, before = first
    return (
        index - index_before <= REPEAT_RECORDS + margin * _MARGIN_RECORDS
        and entry.timestamp_ms - before.timestamp_ms <= REPEAT_MS + margin * _MARGIN_MS
    )
