"""Postgres for this machine, from the first rung that can be had: environment, Docker, the machine's own, a wheel's."""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from tidings.errors import DatabaseUnavailable
from tidings.ports import free_ports
from tidings.postgres.databases import place_of, server_version
from tidings.postgres.embedded import find_embedded
from tidings.postgres.local import MINIMUM, LocalPostgres, find_programs, server_user, version_of

__all__ = ["RUNGS", "Rung", "Server", "data_folder", "needs_port", "start"]

Rung = Literal["environment", "docker", "machine", "embedded"]

RUNGS: Final[tuple[Rung, ...]] = ("environment", "docker", "machine", "embedded")

_VARIABLE: Final = "TIDINGS_POSTGRES_DSN"
_ENGINE_TIMEOUT_S: Final = 3
_IMAGE: Final = "postgres:17-alpine"


class _Running(Protocol):
    def stop(self) -> None: ...


@dataclass
class Server:
    """PostgreSQL that is running and answers.

    Attributes:
        rung: Where it comes from.
        dsn: How to reach its database, password included: never for a log.
        what: For people: version and place.
        skipped: Why the rungs above were not taken, one line each.
        log_file: The server's log, if it is a file here.
    """

    rung: Rung
    dsn: str
    what: str
    skipped: tuple[str, ...]
    log_file: Path | None = None
    _owned: _Running | None = None
    _alive: Callable[[], bool] = lambda: True

    @property
    def alive(self) -> bool:
        """False once a server of ours has ended; one that others run always counts as alive."""
        return self._alive()

    def environment(self) -> dict[str, str]:
        """What a child process needs in addition to our own environment to find the same database."""
        return {_VARIABLE: self.dsn}

    def describe(self) -> str:
        """One line: which Postgres this is, and why none of the rungs above. No password."""
        why = f" (not {'; not '.join(self.skipped)})" if self.skipped else ""
        return f"Postgres: {self.what}{why}"

    def stop(self) -> None:
        """End what was started here. A server named by the environment is left alone."""
        if self._owned is not None:
            self._owned.stop()
            self._owned = None
            self._alive = lambda: False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def needs_port(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `start` would open a port of ours: not when the environment names a server."""
    return not (os.environ if environ is None else environ).get(_VARIABLE, "").strip()


def start(
    state_dir: Path,
    *,
    port: int | None = None,
    fast: bool = False,
    only: Rung | None = None,
    environ: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Server:
    """Find or start PostgreSQL; returns when it answers.

    Args:
        state_dir: Where the data of a server of ours goes, and is found again by the next start.
        port: Of a server that we start; any free one if None.
        fast: A server of ours may forget what was committed when the machine fails: for tests.
        only: Take this rung or fail.
        log: Told, in words, what takes long.
    Raises:
        DatabaseUnavailable: No rung can be had; the message names each and why.
    """
    environ = os.environ if environ is None else environ
    skipped: list[str] = []
    for rung in RUNGS:
        if only not in (None, rung):
            continue
        try:
            if rung == "environment":
                return _from_environment(environ)
            if rung == "docker":
                return _with_docker(port, tuple(skipped), log)
            return _on_this_machine(rung, state_dir, port, fast, tuple(skipped), log)
        except DatabaseUnavailable as error:
            if rung == "environment" and not needs_port(environ):
                raise  # somebody named a server: to take another one in silence would hide the mistake
            skipped.append(f"{rung}: {error}")
    raise DatabaseUnavailable("no PostgreSQL can be had here; " + "; ".join(skipped))


def _from_environment(environ: Mapping[str, str]) -> Server:
    if needs_port(environ):
        raise DatabaseUnavailable(f"{_VARIABLE} is not set")
    dsn = environ[_VARIABLE].strip()
    place = place_of(dsn)
    try:
        version = server_version(dsn)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"{_VARIABLE} ({place}) gives no good answer: {error}") from error
    if version < MINIMUM:
        raise DatabaseUnavailable(f"{_VARIABLE} ({place}) is PostgreSQL {version}, and it takes {MINIMUM} at least")
    return Server("environment", dsn, f"PostgreSQL {version} at {place}, named by {_VARIABLE}", ())


def _with_docker(port: int | None, skipped: tuple[str, ...], log: Callable[[str], None]) -> Server:
    """One server of the project's own image.

    The steps up to the engine's answer run wherever there is no engine; the container itself could so far only be
    written down from the image's documentation: no machine of the project has had an engine (see docs/decisions).
    """
    try:
        import docker
        from testcontainers.core.container import DockerContainer
    except ImportError as error:
        raise DatabaseUnavailable("testcontainers is not installed") from error
    try:
        # An engine that is there answers at once; a dead socket must not cost more than a moment.
        docker.from_env(timeout=_ENGINE_TIMEOUT_S).ping()
    except Exception as error:  # the client raises its own, requests' and urllib3's errors
        raise DatabaseUnavailable("no Docker engine answers") from error
    chosen = port or free_ports(1)[0]
    dsn = f"postgresql://tidings:tidings@127.0.0.1:{chosen}/tidings"
    container: Any = DockerContainer(_IMAGE)
    container = container.with_bind_ports(5432, ("127.0.0.1", chosen))
    for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"):
        container = container.with_env(name, "tidings")
    log(f"starting {_IMAGE} with Docker")
    try:
        container.start()
        _wait_answers(dsn)
    except Exception as error:
        container.stop()
        raise DatabaseUnavailable(f"{_IMAGE} did not start: {error}") from error
    return Server("docker", dsn, f"{_IMAGE} in Docker on port {chosen}", skipped, None, container)


def _wait_answers(dsn: str, timeout_s: float = 60) -> None:
    import time

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            server_version(dsn)
            return
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _on_this_machine(
    rung: Literal["machine", "embedded"],
    state_dir: Path,
    port: int | None,
    fast: bool,
    skipped: tuple[str, ...],
    log: Callable[[str], None],
) -> Server:
    programs = find_programs() if rung == "machine" else find_embedded()
    if programs is None:
        missing = f"no PostgreSQL {MINIMUM} or newer is installed" if rung == "machine" else "no wheel with a server"
        raise DatabaseUnavailable(missing)
    if server_user() is not None and not _open_to_all(programs):
        raise DatabaseUnavailable(f"{programs} can't be reached by {server_user()}, and the server won't run as root")
    version = version_of(programs)
    # A data folder belongs to one major version.
    server = LocalPostgres(data_folder(state_dir) / f"postgres-{version}", programs, port=port, fast=fast)
    log(f"starting PostgreSQL {version}")
    server.start()
    source = "from its wheel" if rung == "embedded" else "of this machine"
    what = f"PostgreSQL {version} {source}, 127.0.0.1:{server.port}"
    return Server(rung, server.dsn, what, skipped, server.log_file, server, lambda: server.alive)


def data_folder(state_dir: Path) -> Path:
    """`state_dir`, or, if we are root and the server's user can't go there, a folder of its own in /var/tmp."""
    state_dir = state_dir.resolve()
    if server_user() is None or _open_to_all(state_dir):
        return state_dir
    mark = hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]
    folder = Path("/var/tmp") / f"tidings-{mark}"  # noqa: S108 - ours alone: checked below
    folder.mkdir(mode=0o711, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise DatabaseUnavailable(f"{folder} belongs to somebody else")
    return folder


def _open_to_all(folder: Path) -> bool:
    """Whether another user can pass through the folder and all above it, as far as they exist."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents) if each.exists())
