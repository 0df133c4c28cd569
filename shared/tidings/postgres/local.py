"""PostgreSQL itself on this machine: one server process of its own data folder and port, no container.

For `tidings up` and for tests: it can be stopped, killed, frozen and started again on the same data and the same port.
Loopback only, one user with a password made at the first start: not for production.
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tidings.children import spawn
from tidings.errors import DatabaseUnavailable, InvalidState
from tidings.ports import free_ports
from tidings.postgres.databases import create_database

__all__ = ["MINIMUM", "LocalPostgres", "find_programs", "server_user", "version_of"]

MINIMUM: Final = 14
"""The oldest major version that will do."""

_ROLE: Final = "tidings"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_READY_LINE: Final = 7  # of postmaster.pid, where pg_ctl looks too

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # A frozen or vanished holder of an advisory lock is noticed by these; see relay/locks.py, which sets its own.
    "tcp_keepalives_idle": "5",
}
_FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres` of the newest version that this machine has, or None."""
    folders = [path.parent for path in _DEBIAN.glob("*/bin/postgres")]
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    usable = [(version_of(folder), folder) for folder in folders if (folder / "initdb").exists()]
    return max((one for one in usable if one[0] >= MINIMUM), default=(0, None))[1]


def version_of(programs: Path) -> int:
    """The major version of the server in that folder; 0 if it doesn't say."""
    try:
        done = subprocess.run(  # noqa: S603
            [str(programs / "postgres"), "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\b(\d+)(?:\.\d+|beta\d+|rc\d+|devel)", done.stdout)
    return int(found[1]) if found else 0


def server_user() -> str | None:
    """Who the server runs as: None for us; the server refuses root, so root starts it as somebody without rights.

    Raises:
        DatabaseUnavailable: We are root and there is nobody else.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise DatabaseUnavailable("the server won't run as root, and there is neither a user postgres nor nobody")


class LocalPostgres:
    """One server on the loopback address. The folder keeps data and password, so the next start finds them again.

    Used as a context manager it is running inside and stopped at the end. If this process is killed the server ends
    too where the system can promise that (Linux). Every method may be called from any thread, but not two at once.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path,
        *,
        port: int | None = None,
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Data, password and log. When root starts the server, its user must be able to reach it.
            programs: With `initdb` and `postgres`.
            port: Any free one if None; kept over restarts of this object.
            fast: Forget what was committed when the machine fails (not when the server does): for tests.
            settings: Lines of postgresql.conf that replace or join ours.
        Raises:
            DatabaseUnavailable: See `server_user`.
        """
        self.port = port or free_ports(1)[0]
        self.log_file = folder / "server.log"
        self._folder = folder.resolve()
        self._programs = programs
        self._user = server_user()
        self._settings = {**_SETTINGS, **(_FAST if fast else {}), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """For clients, with the password; of a database that holds nothing of ours until it is migrated."""
        return self.dsn_of(_ROLE)

    def dsn_of(self, database: str) -> str:
        """The same for another database of this server, whether it exists or not."""
        password = (self._folder / "password").read_text(encoding="ascii").strip()
        return f"postgresql://{_ROLE}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The server's first process, parent of all others.

        Raises:
            InvalidState: The server is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise InvalidState("the server is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process exists; a frozen one counts."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 60) -> Self:
        """Make the data folder if it is new, start, and return once the server takes connections.

        Raises:
            DatabaseUnavailable: It refused, ended, or the time is over; with the last lines of its log.
            InvalidState: It runs already.
        """
        if self.alive:
            raise InvalidState("the server runs already")
        self._initialise(timeout_s)
        settings = {**self._settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(self.log_file, "ab") as out:
            # INT is the server's word for "end now, in order"; TERM would wait for every client.
            self._process = spawn(
                [str(self._programs / "postgres"), "-D", str(self._data), *options],
                out=out,
                signal="INT",
                environ=self._environment(),
                cwd=self._folder,
                user=self._user,
            )
        try:
            self._wait_ready(timeout_s)
            create_database(self.dsn_of("postgres"), _ROLE)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 20) -> None:
        """Orderly end: clients are disconnected, everything is written. Killed when `timeout_s` is over."""
        if self._process is None or not self.alive:
            return
        self.resume()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """As if the server crashed (SIGKILL to all of its processes); the data stays as it was."""
        if self._process is None:
            return
        for pid in self._all_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def restart(self, *, graceful: bool = True, timeout_s: float = 60) -> None:
        """Stop or kill, then start on the same data and port; returns when ready."""
        if graceful:
            self.stop()
        else:
            self.kill()
        self.start(timeout_s)

    def pause(self) -> None:
        """Freeze all of its processes (SIGSTOP): connections stay open and nothing answers."""
        for pid in self._all_pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`; harmless otherwise."""
        for pid in self._all_pids() if self.alive else ():
            with contextlib.suppress(ProcessLookupError):  # its client may have gone meanwhile
                os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _initialise(self, timeout_s: float) -> None:
        """A data folder, unless there is one, with a password of its own."""
        if (self._data / "PG_VERSION").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)  # one that was broken off
        self._folder.mkdir(parents=True, exist_ok=True)
        self._give(self._folder)
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16), encoding="ascii")
        self._give(password)
        command = [
            str(self._programs / "initdb"),
            f"--pgdata={self._data}",
            f"--username={_ROLE}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        out = self._folder / "initdb.log"
        with open(out, "wb") as file:
            process = spawn(command, out=file, environ=self._environment(), cwd=self._folder, user=self._user)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise DatabaseUnavailable(f"initdb refused: {_last_words(out)}")

    def _wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.alive:
            try:
                lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            except OSError:
                lines = []
            # The first line tells our file from that of a server that was killed here.
            if len(lines) > _READY_LINE and lines[0] == str(self.pid) and lines[_READY_LINE].strip() == "ready":
                return
            time.sleep(0.02)
        state = "did not become ready" if self.alive else "ended while starting"
        raise DatabaseUnavailable(f"PostgreSQL {state}: {_last_words(self.log_file)} (log: {self.log_file})")

    def _give(self, path: Path) -> None:
        if self._user is not None:
            shutil.chown(path, self._user)

    def _environment(self) -> dict[str, str]:
        """Ours without what would lead the server's programs elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TIDINGS_"))}
        return {**kept, "LC_ALL": "C"}

    def _all_pids(self) -> list[int]:
        """The first process and its children, which each have a session of their own."""
        assert self._process is not None
        first = self._process.pid
        pids = [first]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == first:
                pids.append(int(stat.parent.name))
        return pids


def _last_words(log_file: Path) -> str:
    try:
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    told = [line for line in lines[-50:] if re.search(r"\b(error|ERROR|FATAL|PANIC)\b", line)]
    return " / ".join((told or lines)[-2:]) or "an empty log"
