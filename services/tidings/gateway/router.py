"""Records to the connections of their receivers: order per partition, each frame made once, nothing written yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

import msgspec

from tidings.closing import CloseCode
from tidings.contract import control
from tidings.contract.record import Record, decode, decode_signal
from tidings.errors import ContractError
from tidings.gateway.frames import Encoding, Encodings
from tidings.gateway.protocols.native import ResyncReason
from tidings.gateway.registry import Member, Registry
from tidings.gateway.repeats import Repeats, id_of
from tidings.gateway.window import Window

__all__ = ["Disconnect", "LogRecord", "Poison", "Routed", "Router", "Subscriber"]


class LogRecord(Protocol):
    """One record as the log holds it."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1 where the log has none."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Subscriber(Member, Protocol):
    """A connection as the router sees it."""

    @property
    def inbox(self) -> list[bytes]:
        """Frames that are not written yet, in order: of the batch under way, or one that waits for the next batch."""

    def send(self, frame: bytes) -> None:
        """Write one frame, of a batch that holds nothing else for this connection."""

    @property
    def session_id(self) -> str: ...

    @property
    def greeted(self) -> bool:
        """Whether it was told where it starts."""

    def flush(self) -> None:
        """Write what is in the inbox and empty it."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection."""

    def resync(self, reason: ResyncReason) -> None:
        """Say that the cursor leads nowhere any more, to those who hold one."""

    def leave(self) -> None:
        """End the connection because the node goes."""


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that no reader may accept."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """An operator's order from `signals`."""

    subscriber: Subscriber
    reason: str


class Sending(NamedTuple):
    """One frame and the connections that it is for."""

    frame: bytes
    subscribers: list[Subscriber]
    timestamp_ms: int
    """The record's, as in `LogRecord`."""


_age = attrgetter("timestamp_ms")


@dataclass(slots=True)
class Routed:
    """What one batch came to. Outcomes are per record, deliveries and bytes per receiver's connection."""

    sendings: list[Sending] = field(default_factory=list)
    """Which frame is for whom, in the order of the log."""
    timestamps_ms: list[int] = field(default_factory=list)
    """Of each record that was delivered to anybody."""
    outcomes: dict[str, int] = field(default_factory=dict)
    deliveries: list[int] = field(default_factory=lambda: [0] * len(Encoding))
    """By encoding."""
    bytes: int = 0
    poison: list[Poison] = field(default_factory=list)
    disconnects: list[Disconnect] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def write(self, gathering: Sequence[Subscriber] = (), *, gather: bool = False) -> list[Subscriber]:
        """Give every connection its frames, in one write each.

        Args:
            gathering: What the last call returned; they are written to first.
            gather: Another batch comes soon: leave a single frame in its connection's inbox, so that it leaves in one
                write with those to come. What such a frame waits is one batch at most.

        Returns:
            The connections that were not written to.

        Cost: per delivery an append, besides the writes; without that where the batch holds one record, as most do on a
        node at ease.
        """
        if (
            len(self.timestamps_ms) == 1 and not gather and not gathering
        ):  # a frame for each encoding, and no connection has two of those
            for frame, subscribers, _ in self.sendings:
                for subscriber in subscribers:
                    subscriber.send(frame)
            return []
        # These two loops run once per delivery and are most of what a delivery costs in Python.
        for frame, subscribers, _ in self.sendings:
            for subscriber in subscribers:
                subscriber.inbox.append(frame)
        # The writes take milliseconds: whoever has waited longest for a record of any partition is served first.
        for subscriber in gathering:
            if subscriber.inbox:
                subscriber.flush()
        least = 2 if gather else 1
        left: list[Subscriber] = []
        for sending in sorted(self.sendings, key=_age):
            for subscriber in sending.subscribers:
                if len(subscriber.inbox) >= least:
                    subscriber.flush()
                elif subscriber.inbox:
                    left.append(subscriber)
        return left


DISCONNECT: Final = "$disconnect"


_decode_order = msgspec.json.Decoder(control.Disconnect).decode


class Router:
    """Takes the records of a partition in the order of the log, gives frames to connections.

    Args:
        registry: Who is connected.
        compress_min_bytes: See `Encodings`.
        window: Keeps what is routed, whoever is connected.

    Attributes:
        positions: The node's cursor: per partition of `modifications` the next offset to route.
        log: Tag of the topic's identity, part of Server-Sent Events' ids. No dot is in it.
    """

    def __init__(self, registry: Registry[Subscriber], compress_min_bytes: int, window: Window) -> None:
        self._registry = registry
        self.compress_min_bytes = compress_min_bytes
        self._window = window
        self._repeats: dict[int, Repeats] = {}
        self.positions: dict[int, int] = {}
        self.log = ""

    def begin(self, partition: int, offset: int, since_ms: float | None) -> None:
        """Records of a partition come from this offset on; `since_ms` as in `Repeats`."""
        self.positions[partition] = offset
        self._repeats[partition] = Repeats(since_ms)
        self._window.begin(partition, offset)

    def jump(self, partition: int, position: int) -> None:
        """Records of a partition go on from there: what lies between was not seen, or is gone if that is back."""
        end = self.positions[partition]
        if position < end:
            self._repeats[partition].cut(position, end)
        self.positions[partition] = position
        self._window.begin(partition, position)

    def forget(self) -> None:
        """The topic is another one: nothing known of its partitions holds."""
        self.positions.clear()
        self._repeats.clear()
        self._window.clear()

    def settle(self) -> None:
        """All that was in the log at the start has been routed."""
        for partition, repeats in self._repeats.items():
            repeats.settle(self.positions[partition])

    def repeats_of(self, partition: int) -> Repeats:
        """What is known of repeated ids in a partition that was begun."""
        return self._repeats[partition]

    def route_modifications(
        self, topic: str, partition: int, records: Sequence[LogRecord], next_offset: int, routed: Routed
    ) -> None:
        """Note which frames of these records are for whom, for one later `Routed.write`.

        The partition's position ends at `next_offset`, which may be past the last record: the log has holes.
        Cost: one decode per record, and what the window takes to keep it; per record with a connected receiver one
        frame per encoding in use and a list of those it is for. Nothing else for receivers who are not here.
        """
        repeats = self._repeats[partition]
        positions = self.positions
        window = self._window
        for record in records:
            offset = record.offset
            positions[partition] = offset + 1
            repeats.at(offset, record.timestamp)
            value = record.value
            if value is None:
                routed.count("null")
                continue
            try:
                modification = decode(value)
            except ContractError as error:
                routed.count("poison")
                routed.poison.append(Poison(topic, partition, offset, error.reason, error.detail))
                continue
            # Only now: the id of a refused record must not hide the good one that its producer sends next.
            if record.headers and repeats.is_repeat(id_of(record.headers), offset, record.timestamp):
                routed.count("repeat")
                continue
            # While it is not sure which records are repeats, none may be given to those who resume.
            if repeats.exact_from is not None:
                if repeats.exact_from == offset:
                    window.begin(partition, offset)
                window.append(partition, offset, value, record.timestamp)
            self._deliver(modification, f"{partition}:{offset + 1}", record.timestamp, routed)
        positions[partition] = next_offset
        if repeats.exact_from is None:
            window.begin(partition, next_offset)
        else:
            window.advance(partition, next_offset)

    def route_signals(self, topic: str, partition: int, records: Sequence[LogRecord], routed: Routed) -> None:
        """The same for `signals`: no positions, no repeats; names that start with `$` are orders to the gateway."""
        for record in records:
            if record.value is None:
                routed.count("null")
                continue
            try:
                signal = decode_signal(record.value)
                if signal.type.startswith("$"):
                    self._obey(signal, routed)
                    continue
            except ContractError as error:
                routed.count("poison")
                routed.poison.append(Poison(topic, partition, record.offset, error.reason, error.detail))
                continue
            self._deliver(signal, None, record.timestamp, routed)

    def _deliver(self, record: Record, at: str | None, timestamp_ms: int, routed: Routed) -> None:
        receivers = record.receivers
        encodings: Encodings | None = None
        for encoding, audience in enumerate(self._registry.audiences):
            if not audience or not (here := audience.keys() & receivers):
                continue
            if encodings is None:
                encodings = Encodings(record.type, record.data, at, self.log, self.positions, self.compress_min_bytes)
            frame = encodings.frame(encoding)
            subscribers = list(chain.from_iterable(map(audience.__getitem__, here)))
            routed.sendings.append(Sending(frame, subscribers, timestamp_ms))
            routed.deliveries[encoding] += len(subscribers)
            routed.bytes += len(subscribers) * len(frame)
        if encodings is None:
            routed.count("unheard")
            return
        routed.count("routed")
        routed.timestamps_ms.append(timestamp_ms)

    def _obey(self, signal: Record, routed: Routed) -> None:
        if signal.type != DISCONNECT:
            routed.count("control")
            return
        try:
            order = _decode_order(signal.data)
        except msgspec.DecodeError:
            routed.count("control_invalid")
            return
        if order.session == "":  # an empty variable in a script must not close all of the user's sessions
            routed.count("control_invalid")
            return
        routed.count("control")
        for user in self._registry.connected(signal.receivers):
            for subscriber in self._registry.connections_of(user):
                if not order.session or subscriber.session_id == order.session:
                    routed.disconnects.append(Disconnect(subscriber, order.reason))
