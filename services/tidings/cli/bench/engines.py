"""How the load client reads its sockets: `pump.c`, compiled on the spot, or Python where there is no compiler."""

import ctypes
import hashlib
import os
import select
import shutil
import socket
import subprocess
import time
from array import array
from importlib import resources
from pathlib import Path
from typing import Protocol

from tidings.cli.bench.histogram import BUCKETS, new_buckets, nonzero
from tidings.cli.bench.walker import BrokenStream, Walker

__all__ = ["Engine", "NativeEngine", "PythonEngine", "build_native", "load_library"]

_BUFFER = 1 << 18
_CONTROL = (1 << 32) - 1


class Engine(Protocol):
    """Reads many sockets and counts; one thread."""

    name: str

    def control(self, fd: int) -> None:
        """Also watch this descriptor; it is never read here."""

    def add(self, index: int, sock: socket.socket, rest: bytes) -> None:
        """Take over connection `index` after its handshake; `rest` came behind the response."""

    def pump(self, timeout_ms: int) -> bool:
        """Wait, then read each readable socket once. True when the control descriptor is readable."""

    def totals(self) -> dict[str, int]:
        """frames, others, closes, pings, broken, gone, reads, bytes since the start."""

    def counts(self) -> list[int]:
        """Stamped frames per connection since the start."""

    def latencies(self) -> dict[int, int]:
        """Bucket to count since the last `reset`."""

    def reset(self) -> None:
        """Forget the latencies."""


class PythonEngine:
    """`Walker` behind epoll: one buffer for all sockets, and per connection only the beginning of a cut frame."""

    name = "python"

    def __init__(self, connections: int) -> None:
        self._epoll = select.epoll()
        self._walker = Walker()
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._sockets: dict[int, tuple[int, socket.socket]] = {}
        self._rests: dict[int, bytes] = {}
        self._counts = array("Q", bytes(8 * connections))
        self._reads = self._bytes = self._gone = self._broken = 0
        self._control = -1

    def control(self, fd: int) -> None:
        self._control = fd
        self._epoll.register(fd, select.EPOLLIN)

    def add(self, index: int, sock: socket.socket, rest: bytes) -> None:
        fd = sock.fileno()
        self._sockets[fd] = index, sock
        self._epoll.register(fd, select.EPOLLIN)
        if rest:
            self._buffer[: len(rest)] = rest
            self._take(fd, index, sock, len(rest))

    def pump(self, timeout_ms: int) -> bool:
        asked = False
        rests, view = self._rests, self._view
        for fd, _ in self._epoll.poll(timeout_ms / 1000, 1024):
            if fd == self._control:
                asked = True
                continue
            index, sock = self._sockets[fd]
            have = 0
            if fd in rests:
                rest = rests.pop(fd)
                have = len(rest)
                view[:have] = rest
            try:
                got = sock.recv_into(view[have:] if have else view)
            except (BlockingIOError, InterruptedError):
                got = -1
            except OSError:
                got = 0
            if got > 0:
                self._reads += 1
                self._bytes += got
                self._take(fd, index, sock, have + got)
            elif got == 0:
                self._lose(fd)
            elif have:
                rests[fd] = bytes(view[:have])
        return asked

    def _take(self, fd: int, index: int, sock: socket.socket, end: int) -> None:
        walker = self._walker
        before = walker.frames
        try:
            taken = walker.walk(self._buffer, end, time.time_ns())
        except BrokenStream:
            taken = end
            self._broken += 1
            self._lose(fd)
        self._counts[index] += walker.frames - before
        if taken < end:
            if taken == 0 and end >= _BUFFER:
                self._broken += 1
                self._lose(fd)
                return
            self._rests[fd] = bytes(self._view[taken:end])
        if walker.pongs:
            for payload in walker.pongs:
                # Masked with zeros: the payload as it is.
                sock.send(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            walker.pongs.clear()

    def _lose(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._gone += 1

    def totals(self) -> dict[str, int]:
        walker = self._walker
        return {
            "frames": walker.frames,
            "others": walker.others,
            "closes": walker.closes,
            "pings": walker.pings,
            "broken": self._broken,
            "gone": self._gone,
            "reads": self._reads,
            "bytes": self._bytes,
        }

    def counts(self) -> list[int]:
        return list(self._counts)

    def latencies(self) -> dict[int, int]:
        return nonzero(self._walker.buckets)

    def reset(self) -> None:
        self._walker.reset()


class _Totals(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64) for name in ("frames", "others", "closes", "pings", "broken", "gone", "reads", "bytes")
    ]


def build_native(directory: Path) -> Path | None:
    """Compile `pump.c` into `directory`, once per version of its text.

    Returns:
        The shared library; None without a C compiler (`$CC`, `cc`, `gcc`) or when it fails.
    Cost: half a second the first time.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc"))), None)
    if compiler is None:
        return None
    text = resources.files(__package__).joinpath("pump.c").read_bytes()
    library = directory / f"pump-{hashlib.sha256(text).hexdigest()[:12]}.so"
    if library.exists():
        return library
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / f"pump-{os.getpid()}.c"
    half = source.with_suffix(".so")
    source.write_bytes(text)
    try:
        built = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", half, source], capture_output=True, timeout=60, check=False
        )
        if built.returncode:
            return None
        half.replace(library)
    except (OSError, subprocess.TimeoutExpired):
        return None
    finally:
        source.unlink(missing_ok=True)
    return library


def load_library(path: Path) -> ctypes.CDLL:
    """The library with its signatures declared."""
    library = ctypes.CDLL(str(path))
    u32, u64 = ctypes.c_uint32, ctypes.c_uint64
    library.pump_new.restype = ctypes.c_void_p
    library.pump_new.argtypes = [u32, ctypes.POINTER(u32), u32, ctypes.POINTER(u64)]
    library.pump_free.restype = None
    library.pump_free.argtypes = [ctypes.c_void_p]
    library.pump_totals.restype = ctypes.POINTER(_Totals)
    library.pump_totals.argtypes = [ctypes.c_void_p]
    library.pump_walk.restype = ctypes.c_int64
    library.pump_walk.argtypes = [
        ctypes.c_void_p, u32, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64,
    ]  # fmt: skip
    library.pump_keep.argtypes = [ctypes.c_void_p, u32, ctypes.c_char_p, ctypes.c_size_t]
    library.pump_once.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    return library


class NativeEngine:
    """`pump.c` behind ctypes: one call per wait, whatever number of sockets it read."""

    name = "native"

    def __init__(self, connections: int, library: Path) -> None:
        self._library = load_library(library)
        self._epoll = select.epoll()
        self._buckets = new_buckets()
        self._counts = array("Q", bytes(8 * max(1, connections)))
        self._size = connections
        self._pump = self._library.pump_new(
            connections,
            (ctypes.c_uint32 * BUCKETS).from_buffer(self._buckets),
            BUCKETS,
            (ctypes.c_uint64 * max(1, connections)).from_buffer(self._counts),
        )
        if not self._pump:
            raise MemoryError
        self._sockets: list[socket.socket] = []

    def control(self, fd: int) -> None:
        self._watch(fd, _CONTROL)

    def _watch(self, fd: int, index: int) -> None:
        # select.epoll() fills an entry's data with the descriptor alone; the C side wants the index too.
        _epoll_add(self._epoll.fileno(), fd, index << 32 | fd)

    def add(self, index: int, sock: socket.socket, rest: bytes) -> None:
        self._sockets.append(sock)
        if rest:
            taken = self._library.pump_walk(self._pump, index, sock.fileno(), rest, len(rest), time.time_ns())
            if taken < 0:
                raise BrokenStream("in the bytes behind the handshake")
            self._library.pump_keep(self._pump, index, rest[taken:], len(rest) - taken)
        self._watch(sock.fileno(), index)

    def pump(self, timeout_ms: int) -> bool:
        answer: int = self._library.pump_once(self._pump, self._epoll.fileno(), timeout_ms)
        if answer < 0:
            raise OSError("epoll_wait failed")
        return answer == 1

    def totals(self) -> dict[str, int]:
        found = self._library.pump_totals(self._pump).contents
        return {field[0]: int(getattr(found, field[0])) for field in _Totals._fields_}

    def counts(self) -> list[int]:
        return list(self._counts)[: self._size]

    def latencies(self) -> dict[int, int]:
        return nonzero(self._buckets)

    def reset(self) -> None:
        ctypes.memset(self._buckets.buffer_info()[0], 0, 4 * BUCKETS)


class _Event(ctypes.Structure):
    """struct epoll_event; packed on x86-64 only, as in the kernel's header."""

    _layout_ = "ms"  # what a packed one has; Python 3.14 wants it said
    _pack_ = 1 if os.uname().machine == "x86_64" else 0
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


def _epoll_add(epoll: int, fd: int, data: int) -> None:
    event = _Event(select.EPOLLIN, data)
    if ctypes.CDLL(None, use_errno=True).epoll_ctl(epoll, 1, fd, ctypes.byref(event)):
        raise OSError(ctypes.get_errno(), "epoll_ctl")
