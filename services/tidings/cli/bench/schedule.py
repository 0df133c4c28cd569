"""When each record is due: a fixed raster from the start, so that a late one does not move those after it."""

from dataclasses import dataclass

__all__ = ["Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """`total` records at `rate` per second; record `i` is due `i / rate` seconds after `start_ns`.

    Sleeping "1/rate after the last one" would add every oversleep to all that follow; here a late sender
    finds several records due and sends them at once.
    """

    start_ns: int
    rate: float
    total: int

    def due_ns(self, index: int) -> int:
        """The time at which record `index` is to be sent, in the unit and zero of `start_ns`."""
        return self.start_ns + int(index * 1_000_000_000 / self.rate)

    def due(self, now_ns: int) -> int:
        """How many records, from the first on, are due at `now_ns`: 0 to `total`."""
        if now_ns < self.start_ns:
            return 0
        count = min(self.total, int((now_ns - self.start_ns) * self.rate / 1_000_000_000) + 1)
        # The division above and the one in due_ns round on their own: agree with due_ns at the edges.
        while count and self.due_ns(count - 1) > now_ns:
            count -= 1
        while count < self.total and self.due_ns(count) <= now_ns:
            count += 1
        return count
