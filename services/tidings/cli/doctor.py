"""`tidings doctor`: what this machine has, and what stands in the way."""

import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.table import Table

from tidings.cli.state import UpState, kafka_settings, read_state
from tidings.errors import TidingsError

__all__ = ["Finding", "docker_version", "doctor", "file_limit", "port_free"]

_PORTS = {
    8070: "page of `tidings up` (--page-port)",
    8080: "first gateway (--port)",
    9100: "its admin port (--admin-port)",
    8090: "second gateway (--second-port)",
    9110: "its admin port (--second-admin-port)",
    9092: "Kafka of `tidings up` (--kafka-port)",
    8081: "messaging service (--messaging-port)",
    9120: "its admin port (--messaging-admin-port)",
    5432: "Postgres of `tidings up` (--postgres-port)",
}
_WANTED_FILES = 4096


@dataclass(frozen=True)
class Finding:
    """One line of the report. `problem`: something will not work; `note`: works without it."""

    what: str
    state: Literal["ok", "note", "problem"]
    text: str


@click.command(short_help="Say what this machine has and what is in the way.")
@click.pass_obj
def doctor(state_dir: Path) -> None:
    """Say what this machine has and what stands in the way of `tidings up` and the tests; exit code 1 if anything does.

    \b
    Example:
      tidings doctor
    """
    state = read_state(state_dir)
    findings = [
        _python(),
        *_tools(),
        _docker(),
        *_ports(state),
        file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]
    findings += _kafka(state_dir, state)
    table = Table(show_header=False, box=None, pad_edge=False)
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for finding in findings:
        table.add_row(f"[{colours[finding.state]}]{finding.state}[/]", finding.what, finding.text)
    Console(soft_wrap=True, highlight=False).print(table)
    if any(finding.state == "problem" for finding in findings):
        raise SystemExit(1)


def file_limit(soft: int) -> Finding:
    """Whether the limit of open files leaves room: each connection is one."""
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "no limit")
    if soft < _WANTED_FILES:
        return Finding(
            "open files", "note", f"at most {soft} a process, one for each connection; `ulimit -n` raises it"
        )
    return Finding("open files", "ok", f"at most {soft} a process, one for each connection")


def port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether this address can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "problem", version)


def _tools() -> list[Finding]:
    from tidings.kafka import apache_jars

    found = []
    wanted: list[tuple[str, list[str], str]] = [
        ("java", ["java", "-version"], "runs Apache Kafka where no Docker engine does"),
        ("mvn", ["mvn", "-v"], "gets Apache Kafka's jars, once"),
        ("chromium", ["chromium", "--version"], "tests with a real browser"),
        ("node", ["node", "--version"], "tests with a client in another language"),
        ("kcat", ["kcat", "-V"], "another producer, for tests and by hand"),
        ("curl", ["curl", "--version"], "tests of Server-Sent Events"),
    ]
    for name, command, why in wanted:
        if shutil.which(name) is None:
            found.append(Finding(name, "note", f"missing: {why}"))
        else:
            found.append(Finding(name, "ok", _first_line(command)))
    missing = apache_jars.find_tools()
    text = missing or f"Apache Kafka {apache_jars.VERSION} can be run from its jars"
    return [*found, Finding("kafka jars", "note" if missing else "ok", text), _postgres_programs()]


def _postgres_programs() -> Finding:
    from tidings.postgres.embedded import find_embedded
    from tidings.postgres.local import find_programs, version_of

    if (programs := find_programs()) is not None:
        return Finding("postgres", "ok", f"PostgreSQL {version_of(programs)} in {programs}")
    if (programs := find_embedded()) is not None:
        return Finding("postgres", "ok", f"PostgreSQL {version_of(programs)} from its wheel")
    return Finding("postgres", "note", "missing: needed where neither TIDINGS_POSTGRES_DSN nor Docker gives one")


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"found, but does not answer: {error}"
    lines = [line for line in (done.stdout + done.stderr).replace("\x1b[1m", "").splitlines() if line.strip()]
    numbered: Callable[[str], bool] = lambda line: any(character.isdigit() for character in line)  # noqa: E731
    return next(filter(numbered, lines), "found").replace("\x1b[m", "").strip()[:100]


def docker_version() -> str | None:
    """Of the Docker engine; None if none answers within 3 s."""
    try:
        import docker

        return str(docker.from_env(timeout=3).version()["Version"])
    except Exception:  # every kind of absence
        return None


def _docker() -> Finding:
    if (version := docker_version()) is None:
        return Finding("docker", "note", "no engine answers; not needed where java and mvn are")
    return Finding("docker", "ok", f"engine {version}")


def _ports(state: UpState | None) -> list[Finding]:
    ours = ""
    if state is not None:
        parts = [state.kafka, state.page, state.postgres, state.messaging, state.messaging_admin]
        ours = " ".join([*filter(None, parts), *(f"{g.url} {g.admin}" for g in state.gateways)])
    found = []
    for port, use in _PORTS.items():
        if f":{port}" in ours:
            found.append(Finding(f"port {port}", "ok", f"{use}: `tidings up` is running"))
        elif port_free(port):
            found.append(Finding(f"port {port}", "ok", f"free: {use}"))
        else:
            found.append(Finding(f"port {port}", "problem", f"another process listens there: {use}"))
    return found


def _kafka(state_dir: Path, state: UpState | None) -> list[Finding]:
    from tidings.kafka import topics

    named = bool(os.environ.get("TIDINGS_KAFKA_BOOTSTRAP_SERVERS"))
    if state is None and not named:
        return [Finding("kafka", "note", "none named and none running; `tidings up` starts one")]
    try:
        kafka, names = kafka_settings(state_dir, os.environ)
        problems = topics.check(kafka, names)
    except TidingsError as error:
        return [Finding("kafka", "problem", str(error))]
    found = [Finding("kafka", "ok", f"{kafka.bootstrap_servers} answers")]
    return found + (
        [Finding("topics", "problem", line) for line in problems] or [Finding("topics", "ok", "all as they should be")]
    )
