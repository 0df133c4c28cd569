"""The bench's child processes: start, converse by lines, measure from /proc, end by their own id."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidings.children import tied
from tidings.errors import DependencyError

__all__ = ["BenchFault", "Child", "cpu_s", "free_port", "module", "rss_bytes"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class BenchFault(DependencyError):
    """A process of the bench did not start, answer or deliver; the text says which and holds the end of its log."""


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def module(name: str, *arguments: object) -> list[str]:
    """The command line of a module of the bench in this interpreter."""
    return [sys.executable, "-m", f"tidings.cli.bench.{name}", *map(str, arguments)]


class Child:
    """One process, alone in its session (Ctrl-C reaches the bench alone, which then ends its children in order).

    As a context manager it is stopped on the way out, whatever happened.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start it; `env` is its whole environment, ours if None. Its stderr goes to the file `log`."""
        self.name = name
        self._log = log
        self._read = b""
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                # If the bench is killed, the kernel ends them.
                [*tied("KILL"), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=env,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin
        os.set_blocking(self._out.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fault(self, text: str) -> BenchFault:
        """An error about this process, with the last lines of what it wrote."""
        with contextlib.suppress(OSError):
            text += "\n" + self._log.read_text(errors="replace")[-2_000:]
        return BenchFault(f"{self.name}: {text}")

    def line(self, timeout_s: float = 60.0) -> str:
        """The next line that the process prints.

        Raises:
            BenchFault: It ended, or printed nothing for `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.fault(f"silent for {timeout_s:.0f} s")
            if select.select([self._out], [], [], left)[0]:
                more = os.read(self._out.fileno(), 1 << 20)
                if not more:
                    raise self.fault(f"ended with {self._process.wait()}")
                self._read += more
        first, self._read = self._read.split(b"\n", 1)
        return first.decode()

    def ask(self, words: str, timeout_s: float = 60.0) -> Any:
        """Send one line, wait for its answer in JSON.

        Raises:
            BenchFault: As `line`, or the answer has a member `error` that is not empty.
        """
        self._in.write(words.encode() + b"\n")
        self._in.flush()
        return self.hear(timeout_s)

    def hear(self, timeout_s: float = 60.0) -> Any:
        """The next line as JSON. Raises: as `ask`."""
        value = json.loads(self.line(timeout_s))
        if isinstance(value, dict) and value.get("error"):
            raise self.fault(str(value["error"]))
        return value

    def drain(self) -> None:
        """Throw away what it has printed, so that a full pipe never stops it."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._out.fileno(), 1 << 16):
                pass

    def stop(self, grace_s: float = 15.0) -> None:
        """End of input and SIGTERM, then SIGKILL after `grace_s`. Harmless when it has ended."""
        with contextlib.suppress(OSError):
            self._in.close()
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                # Its own session: workers that it started go with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._out.close()


def _family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that the process, its threads and its children have used. Resolution 10 ms."""
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything: the fields count from behind it.
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


def rss_bytes(pid: int) -> int:
    """Resident bytes of the process and its children."""
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")
