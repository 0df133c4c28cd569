"""The book-keeping of the cursor: one position, which is what the program was handed. Pure."""

from tidings_client.frames import Resync, Welcome
from tidings_client.position import Position, format_cursor, parse_cursor

__all__ = ["Progress"]


class Progress:
    """Where the program is, by what it was handed; never by what was merely received.

    There is no second cursor for what waits in the buffer. A new connection starts at this one, and what waited from
    the connection before is dropped, since it comes again. That is also why a gap can't be lost: until the program has
    dealt with a `Resync`, the position is the one before it.
    """

    def __init__(self, position: Position | None = None) -> None:
        self._log = "" if position is None else position.log
        self._offsets = None if position is None else parse_cursor(position.cursor)
        self.connection = 0
        """Counts the welcomes."""
        self._connection_log = ""

    @property
    def position(self) -> Position | None:
        """None until the first `$welcome` of a client that was given none."""
        return None if self._offsets is None else Position(self._log, format_cursor(self._offsets))

    def welcomed(self, welcome: Welcome) -> bool:
        """A new connection is there; what waited from the one before must be dropped by the caller.

        Returns:
            False if this connection must not be used: it resumes in another log than that of the position, which
            changed while it was under way. Come back with the position as it is now.
        """
        self.connection += 1
        self._connection_log = welcome.log
        if self._offsets is None:
            # Nothing was asked for and nothing handed over: the stream begins here.
            self._log, self._offsets = welcome.log, parse_cursor(welcome.cursor)
            return True
        # Resumed: the position may even be ahead of what was asked for, `take` sorts it out. Not resumed: `$resync`
        # is next, and until then the position stays where the gap begins.
        return not welcome.resumed or welcome.log == self._log

    def take(self, at: str) -> bool:
        """Move behind one event. False: the program has had it already, and must not get it again."""
        offsets = self._offsets if self._offsets is not None else {}
        partition, offset = (int(number) for number in at.split(":"))
        if offset <= offsets.get(partition, 0):
            return False
        offsets[partition] = offset
        return True

    def checkpoint(self, cursor: str) -> None:
        """Move on as a `$checkpoint` says; never back."""
        offsets = self._offsets if self._offsets is not None else {}
        for partition, offset in parse_cursor(cursor).items():
            offsets[partition] = max(offset, offsets.get(partition, 0))

    def resynced(self, resync: Resync, connection: int) -> None:
        """The program has dealt with the gap: the position is behind it now.

        Args:
            connection: The number of the connection that it came on. If another one was welcomed meanwhile, in another
                log, the position stays: what comes on that one belongs to the old log or begins with a resync itself.
        """
        if connection == self.connection or resync.log == self._connection_log:
            self._log, self._offsets = resync.log, parse_cursor(resync.cursor)
