"""What was read back of a topic, in lanes of consecutive segments: which there are, and how much of it is kept."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from tidings.gateway.repeats import Repeats
from tidings.gateway.window import Segment

__all__ = ["CACHE_BYTES", "Lane", "Lanes", "Reading", "aligned"]

CACHE_BYTES: Final = 32 * 1024 * 1024
"""What was read stays this long in memory for others who need it, all lanes and their ids together; the least used goes
first."""

_ALIGNED: Final = 256
"""A lane starts at a multiple of this, so that those who need nearly the same range share it."""
_NEAR: Final = 1_024
"""Who needs an offset this little ahead of a lane waits for it instead of opening another."""
_LANES: Final = 64
"""Lanes at once; one that nobody reads on goes for a new one, else the new one waits."""
_IDS_BYTES: Final = 16 * 1024 * 1024
"""Of `CACHE_BYTES` what ids may take that lanes keep of their own, up to 4.8 MB each; a lane that has no room waits."""
_IDLE_S: Final = 60.0
"""A lane that nobody needs for this long is closed."""


class Reading(Awaitable[None], Protocol):
    """The work of reading a lane on; a task is one. Here it is only asked whether it goes on."""

    def done(self) -> bool:
        """Whether it ended, in whatever way."""

    def cancel(self) -> bool:
        """End it at its next wait."""


class Lane:
    """One run of consecutive segments of a partition, read from its start on.

    Args:
        partition: Its number.
        start: The first offset that is wanted of it.
        cuts: How often the log had become shorter by then; see `Repeats`.

    Attributes:
        next: The offset behind the last segment: where to read on.
        oldest: Where the log began when the lane was opened.
        opened: Whether it is known where it starts, and the ids before it are where they are needed.
        repeats: Its own, where the node's do not reach back that far.
        reserved_bytes: For ids that are being looked up.
        segments: What was read and is still kept, in order; those shed are missing at the front.
        reading: What reads it on, or did last. Whoever starts that sets it.
        on_its_way: A piece is, from the broker.
        waiting: So many wait for what is being read.
        used: The higher, the later it was last of use to anybody.
    """

    __slots__ = (
        "_segment_bytes",
        "cuts",
        "idle_since",
        "next",
        "oldest",
        "on_its_way",
        "opened",
        "partition",
        "reading",
        "repeats",
        "reserved_bytes",
        "seen",
        "segments",
        "used",
        "waiting",
    )

    def __init__(self, partition: int, start: int, cuts: int) -> None:
        self.partition = partition
        self.next = start
        self.cuts = cuts
        self.oldest = 0
        self.opened = False
        self.repeats: Repeats | None = None
        self.reserved_bytes = 0
        self.segments: list[Segment] = []
        self.reading: Reading | None = None
        self.on_its_way = False
        self.waiting = 0
        self.used = 0
        self.seen = -1
        self.idle_since = 0.0
        """When `used` was seen to be `seen` first."""
        self._segment_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether it is being read on."""
        return self.reading is not None and not self.reading.done()

    @property
    def ids_bytes(self) -> int:
        """Memory of its own ids: what is there, or what it may become while they are looked up."""
        return self.reserved_bytes if self.repeats is None else max(self.reserved_bytes, self.repeats.memory_bytes)

    @property
    def bytes(self) -> int:
        """Memory of its segments and ids, as estimated from sizes."""
        return self._segment_bytes + self.ids_bytes

    def append(self, segment: Segment) -> None:
        """The next one; nothing may be appended to the segment itself any more."""
        self.segments.append(segment)
        self._segment_bytes += segment.bytes

    def shed(self) -> None:
        """Give up the first segment."""
        self._segment_bytes -= self.segments.pop(0).bytes

    def find(self, offset: int) -> Segment | None:
        """The segment that holds or follows the offset, if it is kept. Cost: linear in the segments."""
        for segment in self.segments:
            if segment.first <= offset < segment.end:
                return segment
        return None

    def leads_to(self, offset: int) -> bool:
        """Whether reading it on comes to that offset soon: within 1,024."""
        return self.next <= offset < self.next + _NEAR


class Lanes:
    """All lanes of one topic: which there are, in which order they were of use, and how much they keep together.

    A lane that was dropped is of no use any more: whoever still reads it has to ask whether it `holds`.

    Args:
        cuts_of: How often the log of a partition has become shorter; see `Repeats`. What was read before is dropped.
    Cost: each call is linear in the lanes, of which there are at most 64.
    """

    def __init__(self, cuts_of: Callable[[int], int]) -> None:
        self._cuts_of = cuts_of
        self._all: list[Lane] = []
        self._uses = 0

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._all

    @property
    def bytes(self) -> int:
        """Memory of all segments that are kept and of the lanes' ids."""
        return sum(lane.bytes for lane in self._all)

    @property
    def ids_bytes(self) -> int:
        """Of it, that of the ids; what is reserved for them included."""
        return sum(lane.ids_bytes for lane in self._all)

    def find(self, partition: int, offset: int) -> Segment | None:
        """A segment that is kept and holds or follows the offset; its lane counts as used."""
        for lane in self._of(partition):
            if (segment := lane.find(offset)) is not None:
                self.use(lane)
                return segment
        return None

    def leading_to(self, partition: int, offset: int) -> Lane | None:
        """A lane that needs only to be read on to come to that offset soon."""
        for lane in self._of(partition):
            if lane.leads_to(offset):
                return lane
        return None

    def holds(self, lane: Lane) -> bool:
        """Whether the lane is still there and its log is what it was; one of a log that was cut since is dropped."""
        if lane not in self._all:
            return False
        if lane.cuts != self._cuts_of(lane.partition):
            self.drop(lane)
            return False
        return True

    def open(self, partition: int, offset: int) -> Lane | None:
        """A new lane that will lead to the offset. Where there are 64 the least used that is not being read goes for
        it; None: all are being read, try again."""
        while len(self._all) >= _LANES:
            idle = [lane for lane in self._all if not lane.busy]
            if not idle:
                return None
            self.drop(min(idle, key=_used))
        lane = Lane(partition, aligned(offset), self._cuts_of(partition))
        self.use(lane)
        self._all.append(lane)
        return lane

    def use(self, lane: Lane) -> None:
        """It is of use now, and later than all others."""
        self._uses += 1
        lane.used = self._uses

    def uses(self) -> Mapping[Lane, int]:
        """What `used` is of each, for `reserve`."""
        return {lane: lane.used for lane in self._all}

    def keep(self, lane: Lane, segment: Segment) -> None:
        """Append what was just read to a lane. Others go for it as far as the limits on memory ask for it; it stays."""
        lane.append(segment)
        self.use(lane)
        self._shed(lane)

    def reserve(self, lane: Lane, size: int, used: Mapping[Lane, int]) -> bool:
        """Keep room for ids of the lane, in bytes, if there is or can be made enough.

        Args:
            used: What `uses` returned some time before. A lane that somebody came back to since is not closed: looking
                its ids up again is dear. Nothing in it: none is.
        """
        while self.ids_bytes + size > _IDS_BYTES:
            idle = [one for one in self._all if one.ids_bytes and not one.busy and used.get(one) == one.used]
            if not idle:
                return False
            self.drop(min(idle, key=_used))
        lane.reserved_bytes = size
        return True

    def drop(self, lane: Lane) -> None:
        """Give it up with all that it keeps, if it is still there."""
        if lane in self._all:
            self._all.remove(lane)

    def close_idle(self, now: float) -> None:
        """Drop what nobody has needed for 60 s. Call it every few seconds.

        Args:
            now: Seconds of a clock that never goes back.
        """
        for lane in list(self._all):
            if lane.busy or lane.used != lane.seen:
                lane.seen, lane.idle_since = lane.used, now
            elif now - lane.idle_since >= _IDLE_S:
                self.drop(lane)

    def clear(self) -> None:
        """Drop all."""
        self._all.clear()

    def _of(self, partition: int) -> list[Lane]:
        """Those that hold what the log holds; what was read of one that was cut since is dropped."""
        lanes = [lane for lane in self._all if lane.partition == partition]
        if lanes:
            cuts = self._cuts_of(partition)
            for lane in [lane for lane in lanes if lane.cuts != cuts]:
                lanes.remove(lane)
                self.drop(lane)
        return lanes

    def _shed(self, newest: Lane) -> None:
        """What was just read stays."""
        while self.ids_bytes > _IDS_BYTES:
            idle = [lane for lane in self._all if lane.ids_bytes and not lane.busy]
            if not idle:
                break
            self.drop(min(idle, key=_used))
        while self.bytes > CACHE_BYTES:
            spare = [lane for lane in self._all if len(lane.segments) > (lane is newest)]
            if not spare:
                break
            min(spare, key=_used).shed()


def aligned(offset: int) -> int:
    """Where a lane starts that is opened for that offset: up to 255 before it."""
    return offset - offset % _ALIGNED


def _used(lane: Lane) -> int:
    return lane.used
