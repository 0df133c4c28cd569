"""Compares what was produced with what each client got: per device and partition the exact sequence. Pure."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NamedTuple

from tests.chaos.truth import Duty, Place, Truth

__all__ = ["Chain", "Finding", "Kind", "Recorder", "Seen", "Verdict"]

Kind = Literal["loss", "repeat", "swap", "stranger", "resync", "odd", "log"]

_NO_POSITION: Final = -1


class Finding(NamedTuple):
    """One thing that should not have happened."""

    kind: Kind
    device: str
    where: str
    """`partition:offset`, or empty."""
    detail: str

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"{self.kind} of {self.device}{place}: {self.detail}"


class Chain:
    """One cursor chain of a device: from the cursor that a node gave it without a resume, over all its reconnects."""

    __slots__ = ("_next", "_numbers", "_partitions", "log", "resync", "start")

    def __init__(self, log: str, start: Mapping[int, int]) -> None:
        self.log = log
        self.start = dict(start)
        self.resync: str | None = None
        """The reason of the `$resync` that ended it."""
        self._numbers = array("q")
        self._partitions = array("i")
        self._next = array("q")

    def __len__(self) -> int:
        return len(self._numbers)

    def got(self, number: int, partition: int = _NO_POSITION, next_offset: int = _NO_POSITION) -> None:
        """A frame, with its `at`; Server-Sent Events have none."""
        self._numbers.append(number)
        self._partitions.append(partition)
        self._next.append(next_offset)

    def frames(self) -> Iterable[tuple[int, int, int]]:
        return zip(self._numbers, self._partitions, self._next, strict=True)


class Seen:
    """What one client ("device") of a user got, in order."""

    __slots__ = ("chain", "chains", "device", "odd", "user")

    def __init__(self, device: str, user: str) -> None:
        self.device = device
        self.user = user
        self.chains: list[Chain] = []
        self.chain: Chain = Chain("", {})
        self.odd: list[str] = []
        """Anything else that a node may not do, in words."""

    @property
    def deliveries(self) -> int:
        return sum(map(len, self.chains))

    def begins(self, log: str, cursor: Mapping[int, int], resync: str | None = None) -> None:
        """A new chain: the first `$welcome`, or a `$resync` with its reason, which ends the chain before."""
        if self.chains:
            self.chain.resync = resync or "not resumed"
        self.chain = Chain(log, cursor)
        self.chains.append(self.chain)


@dataclass
class Verdict:
    """What the comparison came to."""

    records: int
    devices: int
    deliveries: int
    findings: list[Finding] = field(default_factory=list)
    rewritten: int = 0
    """Records that their producer wrote more than once by itself; see `Truth.logged`."""

    def count(self, kind: Kind) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        kinds = Counter(finding.kind for finding in self.findings)
        lines = [
            f"{self.records} records, {self.devices} clients, {self.deliveries} deliveries: lost {kinds['loss']},"
            f" repeated {kinds['repeat']}, swapped {kinds['swap']}, strangers {kinds['stranger']},"
            f" resyncs {kinds['resync']}, odd {kinds['odd']}, log {kinds['log']}"
            f"; written twice by their producer {self.rewritten}"
        ]
        shown: Counter[str] = Counter()
        for finding in self.findings:
            shown[finding.kind] += 1
            if shown[finding.kind] <= 8:
                lines.append(f"  {finding}")
        return "\n".join(lines)


class Recorder:
    """Holds the truth and what every device saw."""

    def __init__(self) -> None:
        self.truth = Truth()
        self.seen: list[Seen] = []
        self._numbers = count(1)
        self._owed: Mapping[str, dict[tuple[str, int], list[int]]] = {}
        self._owed_of = -1
        self._wanted: dict[Chain, int] = {}

    def next_number(self) -> int:
        """One that no record has yet; any thread may ask."""
        return next(self._numbers)

    def device(self, device: str, user: str) -> Seen:
        """A new client."""
        seen = Seen(device, user)
        self.seen.append(seen)
        return seen

    def missing(self) -> int:
        """How many frames the devices' last chains are short of, by count alone; cheap if asked again and again."""
        if self._owed_of != self.truth.logged_count:
            self._owed_of = self.truth.logged_count
            self._owed = self.truth.owed({seen.user for seen in self.seen})
            self._wanted.clear()
        return sum(max(0, self._wanted_by(seen.user, seen.chain) - len(seen.chain)) for seen in self.seen)

    def _wanted_by(self, user: str, chain: Chain) -> int:
        known = self._wanted.get(chain)
        if known is None:
            known = self._wanted[chain] = sum(
                len(offsets) - bisect_left(offsets, chain.start.get(partition, 0))
                for partition, offsets in _of_log(self._owed[user], chain.log).items()
            )
        return known

    def verdict(self, *, resyncs: Collection[str] = ()) -> Verdict:
        """Compare all.

        Args:
            resyncs: Reasons that are right here; each still begins a chain of its own. Any other is a finding.
        Cost: linear in records times receivers and in deliveries.
        """
        truth = self.truth
        owed = truth.owed({seen.user for seen in self.seen})
        duties = truth.duties()
        deliveries = sum(seen.deliveries for seen in self.seen)
        verdict = Verdict(truth.logged_count, len(self.seen), deliveries, rewritten=truth.rewritten_count)
        verdict.findings += [Finding("log", "the producer", "", line) for line in truth.contradictions()]
        for seen in self.seen:
            verdict.findings += [Finding("odd", seen.device, "", line) for line in seen.odd]
            if not seen.chains:
                verdict.findings.append(Finding("odd", seen.device, "", "it never connected"))
            for chain in seen.chains:
                if chain.resync is not None and chain.resync not in resyncs:
                    verdict.findings.append(Finding("resync", seen.device, "", chain.resync))
                _Check(truth, duties, verdict, seen, chain).run(_of_log(owed[seen.user], chain.log))
        return verdict


def _of_log(owed: Mapping[tuple[str, int], list[int]], log: str) -> dict[int, list[int]]:
    return {partition: offsets for (its_log, partition), offsets in owed.items() if its_log == log}


class _Check:
    """One chain against what is owed to its user."""

    def __init__(
        self,
        truth: Truth,
        duties: Mapping[Place, tuple[Duty, Place | None]],
        verdict: Verdict,
        seen: Seen,
        chain: Chain,
    ) -> None:
        self._truth = truth
        self._duties = duties
        self._verdict = verdict
        self._seen = seen
        self._chain = chain
        self._got: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}

    def run(self, owed: Mapping[int, list[int]]) -> None:
        for number, partition, next_offset in self._chain.frames():
            self._frame(number, partition, next_offset)
        for partition, offsets in owed.items():
            got = self._got.get(partition, set())
            start = self._chain.start.get(partition, 0)
            # What comes behind the last frame of a chain that was ended is what its client was told to refetch.
            end = self._last.get(partition, -1) if self._chain.resync is not None else None
            for offset in offsets:
                if offset >= start and offset not in got and (end is None or offset <= end):
                    place = Place(self._chain.log, partition, offset)
                    self._find("loss", place, f"number {self._truth.number_at(place)} never came")

    def _frame(self, number: int, partition: int, next_offset: int) -> None:
        place = self._place(number, partition, next_offset)
        if place is None:
            at = f"{partition}:{next_offset - 1}" if partition != _NO_POSITION else ""
            self._add("stranger", at, f"number {number} is not in the log: aborted, or never produced")
            return
        if place.log != self._chain.log:
            self._find("stranger", place, f"number {number} is of another log")
            return
        if partition != _NO_POSITION and (partition, next_offset) != (place.partition, place.offset + 1):
            self._find("odd", place, f"number {number} came as {partition}:{next_offset}")
        if self._seen.user not in self._truth.receivers(number):
            self._find("stranger", place, f"number {number} is not for {self._seen.user}")
            return
        if place.offset < self._chain.start.get(place.partition, 0):
            self._find("stranger", place, f"number {number} lies before the cursor")
            return
        duty, first = self._duties[place]
        if duty is Duty.REPEAT:
            self._find("repeat", place, f"number {number} has the id of {first}")
            return
        got = self._got.setdefault(place.partition, set())
        last = self._last.get(place.partition, -1)
        if place.offset in got:
            self._find("repeat", place, f"number {number} came again")
            return
        if place.offset < last:
            self._find("swap", place, f"number {number} came after {place.partition}:{last}")
        got.add(place.offset)
        self._last[place.partition] = max(last, place.offset)

    def _place(self, number: int, partition: int, next_offset: int) -> Place | None:
        """Of a record that was written more than once the one that the frame names, else the first not yet got."""
        places = self._truth.places(number)
        for place in places:
            if (partition, next_offset) == (place.partition, place.offset + 1):
                return place
        for place in places:
            start = self._chain.start.get(place.partition, 0)
            if place.offset >= start and place.offset not in self._got.get(place.partition, ()):
                return place
        return places[0] if places else None

    def _find(self, kind: Kind, place: Place, detail: str) -> None:
        self._add(kind, str(place), detail)

    def _add(self, kind: Kind, where: str, detail: str) -> None:
        self._verdict.findings.append(Finding(kind, self._seen.device, where, detail))
