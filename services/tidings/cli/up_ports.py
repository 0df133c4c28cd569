"""The ports of `tidings up`, and which of them can't be had."""

from collections.abc import Iterator
from dataclasses import dataclass

from tidings.cli.doctor import port_free

__all__ = ["HOST", "Ports", "busy_ports"]

HOST = "127.0.0.1"
"""Where everything of `tidings up` listens."""


@dataclass(frozen=True)
class Ports:
    """What `up` listens on."""

    port: int
    admin_port: int
    second_port: int
    second_admin_port: int
    page_port: int
    kafka_port: int
    messaging_port: int
    messaging_admin_port: int
    postgres_port: int

    def named(self, *, kafka: bool, postgres: bool) -> Iterator[tuple[int, str]]:
        """Each port with the flag that changes it.

        Args:
            kafka, postgres: Whether they are started here.
        """
        left_out = {"kafka_port": not kafka, "postgres_port": not postgres}
        for field, value in vars(self).items():
            if not left_out.get(field):
                yield value, f"--{field.replace('_', '-')}"


def busy_ports(ports: Ports, *, kafka: bool, postgres: bool) -> list[str]:
    """One line for each port that can't be had, with the flag and the variable that change it."""
    lines = []
    seen: dict[int, str] = {}
    for number, flag in ports.named(kafka=kafka, postgres=postgres):
        variable = "TIDINGS_UP_" + flag.removeprefix("--").replace("-", "_").upper()
        if number in seen:
            lines.append(f"port {number} is wanted twice, by {seen[number]} and {flag} ({variable})")
        elif not port_free(number, HOST):
            hint = ""
            if flag == "--kafka-port":
                hint = f", or use the Kafka there: TIDINGS_KAFKA_BOOTSTRAP_SERVERS={HOST}:{number}"
            if flag == "--postgres-port":
                hint = f", or use the Postgres there: TIDINGS_POSTGRES_DSN=postgresql://…@{HOST}:{number}/…"
            lines.append(f"port {number} is busy: choose another one with {flag} or {variable}{hint}")
        seen.setdefault(number, flag)
    return lines
