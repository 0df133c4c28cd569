"""Child processes side by side: their output with a coloured prefix, and all of them ended when one ends.

honcho's `Process` and `Printer` do the running and printing. Its `Manager` can't be used here: it kills what has not
ended 5 s after the first end (a constant; our drain takes 10), has no notion of ready, starts everything at once, ends
with 130 after Ctrl-C and ignores a second one (docs/decisions/0203).
"""

import os
import queue
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from types import FrameType
from typing import TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

from tidings.children import tied

__all__ = ["Interrupted", "Supervisor"]


class Interrupted(BaseException):
    """SIGINT or SIGTERM while things are being started. Like KeyboardInterrupt no `Exception`."""


class Supervisor:
    """Runs children until a signal, or until one of them ends.

    Used inside `with supervisor.signals():`. One thread uses it.
    """

    def __init__(self, out: TextIO, names: Sequence[str], grace_s: float) -> None:
        """Nothing runs yet.

        Args:
            out: Where the lines go; coloured on a terminal.
            names: Of all that will be added, for the width of the prefix.
            grace_s: Seconds between SIGTERM and SIGKILL when stopping.
        """
        self._printer = Printer(out, width=max(map(len, [*names, "tidings"])))
        self._events: queue.Queue[Message] = queue.Queue()
        self._colours = get_colours()
        self._running: dict[str, int | None] = {}  # name to process id, None until honcho told it
        self._threads: list[threading.Thread] = []
        self._grace_s = grace_s
        self._signals = 0
        self._starting = True
        self.failure: str | None = None

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM mean stop: as `Interrupted` while starting, noted while `run` waits."""

        def note(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            if self._starting:
                raise Interrupted

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def say(self, text: str) -> None:
        """Lines of our own, with our prefix."""
        self._printer.write(Message("line", text + "\n", datetime.now(), "tidings", "1"))  # noqa: DTZ005 - wall clock

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start one child; its lines are shown once `run` is called."""
        # `exec`: honcho starts a shell, and the process id it tells must be the child's own.
        line = "exec " + shlex.join([*tied("TERM"), *command])
        process = Process(line, name=name, colour=next(self._colours), env=dict(environ))
        self._running[name] = None
        thread = threading.Thread(target=process.run, args=(self._events,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def run(self, ready: Callable[[], bool], on_ready: Callable[[], None], broken: Callable[[], str | None]) -> None:
        """Show the children's lines until a signal, an end, or `broken`; then stop all. `failure` says why, if bad.

        Args:
            ready: Asked about twice a second from a thread of its own until it is true. May block.
            on_ready: Called once after that, in this thread.
            broken: Asked often, must not block: what else has failed, or None.
        """
        self._starting = False
        is_ready = threading.Event()

        def wait_ready() -> None:
            while not self._stopping() and not is_ready.is_set():
                if ready():
                    is_ready.set()
                    return
                time.sleep(0.3)

        threading.Thread(target=wait_ready, name="ready", daemon=True).start()
        told = False
        try:
            while not self._stopping():
                self._take(0.2)
                if is_ready.is_set() and not told:
                    told = True
                    on_ready()
                self.failure = self.failure or broken()
        except BrokenPipeError:  # nobody reads our output any more: as Ctrl-C
            self._signals += 1
        finally:
            self._stop()

    def stop(self) -> None:
        """End whatever runs, if `run` was not reached."""
        self._starting = False
        self._stop()

    def _stopping(self) -> bool:
        return self._signals > 0 or self.failure is not None

    def _take(self, timeout_s: float) -> None:
        try:
            message = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return
        if message.type == "start":
            self._running[message.name] = message.data["pid"]
        elif message.type == "stop":
            del self._running[message.name]
            code = message.data["returncode"]
            if not self._stopping():
                self.failure = f"{message.name} ended by itself ({_how(code)}); everything is stopped"
        else:
            self._printer.write(message)

    def _stop(self) -> None:
        """SIGTERM, `grace_s`, SIGKILL. A further signal to us kills at once."""
        deadline = time.monotonic() + self._grace_s
        signalled: set[str] = set()
        before = self._signals
        killed = False
        quiet = False
        while self._running:
            for name, pid in self._running.items():
                if pid is not None and name not in signalled:
                    signalled.add(name)
                    _signal(pid, signal.SIGTERM)
            if not killed and (self._signals > before or time.monotonic() > deadline):
                killed = True
                for pid in self._running.values():
                    if pid is not None:
                        _signal(pid, signal.SIGKILL)
            if killed and time.monotonic() > deadline + 5:
                break
            try:
                self._take(0.1)
            except BrokenPipeError:
                if not quiet:
                    quiet = True
                    self._printer.output = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
