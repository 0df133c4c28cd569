"""A thread for calls that block, which does not keep the process from ending."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

__all__ = ["Thread"]

_Job = tuple[Callable[[], None], Callable[[BaseException | None], None]]
_LAST: Final = None


class Thread:
    """Makes one call after another. Unlike an executor's, it is not waited for when the interpreter exits: a call that
    waits for a broker that is gone would hold up the end for its whole time limit.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def call(self, blocking: Callable[[], None]) -> None:
        """Return what it returns, raise what it raises. Cancelled is only the waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def done(error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, error)

        self._jobs.put((blocking, done))
        await future

    def close(self, last: Callable[[], None]) -> None:
        """Call `last` after what is under way, then end the thread. Returns at once; may be called again."""
        if not self._closed:
            self._closed = True
            self._jobs.put((last, lambda error: None))
            self._jobs.put(_LAST)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            blocking, done = job
            error: BaseException | None = None
            try:
                blocking()
            except BaseException as raised:
                error = raised
            done(error)
            del blocking, done, job, error
