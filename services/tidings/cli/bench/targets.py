"""What is measured: a gateway or the baseline, as a process that is ready."""

import contextlib
import os
import shlex
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tidings.cli.bench.handshakes import Wanted
from tidings.cli.bench.processes import Child, cpu_s, free_port, module, rss_bytes
from tidings.cli.bench.tokens import Signer

__all__ = ["GATEWAY", "Histogram", "Target", "baseline", "gateway", "measured_s", "wait_ready"]

GATEWAY = "gateway"
READY_S = 60.0

Histogram = dict[float, float]
"""Upper edge in seconds to cumulative count, as Prometheus has it."""

_OURS = ("TIDINGS_GATEWAY_", "TIDINGS_JWT_", "TIDINGS_LOG_", "TIDINGS_MODIFICATIONS_", "TIDINGS_SIGNALS_")


@dataclass(frozen=True, slots=True)
class Target:
    """A process that accepts web sockets and reads the topic."""

    name: str
    child: Child
    port: int
    admin: int | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)

    def plan(self, people: Sequence[str]) -> list[Wanted]:
        """How each user connects here."""
        if self.name == GATEWAY:
            return [Wanted("/ws", self.tokens[user]) for user in people]
        return [Wanted(f"/?u={user}") for user in people]

    def cpu_s(self) -> float:
        return cpu_s(self.child.pid)

    def rss_bytes(self) -> int:
        return rss_bytes(self.child.pid)

    def metrics(self) -> dict[str, Histogram]:
        """The histograms of the admin port by name; empty without one."""
        found: dict[str, Histogram] = {}
        for sample in self._samples():
            if sample.name.endswith("_seconds_bucket"):
                edges = found.setdefault(sample.name.removesuffix("_bucket"), {})
                edge = float(sample.labels["le"])
                edges[edge] = edges.get(edge, 0.0) + sample.value
        return found

    def connected(self) -> int | None:
        """Connections that the gateway counts now; None for the baseline."""
        return None if self.admin is None else int(self.total("tidings_gateway_connections"))

    def total(self, name: str) -> float:
        """A counter or gauge of the admin port, all its labels together; 0 without one."""
        return sum(sample.value for sample in self._samples() if sample.name == name)

    def _samples(self) -> list[Sample]:
        if self.admin is None:
            return []
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def measured_s(before: Mapping[str, Histogram], after: Mapping[str, Histogram], name: str, q: float) -> float | None:
    """The upper edge under which a share `q` of what was observed between the two lies; None if nothing was."""
    edges = {edge: count - before.get(name, {}).get(edge, 0.0) for edge, count in after.get(name, {}).items()}
    total = max(edges.values(), default=0.0)
    if not total:
        return None
    return min(edge for edge, count in edges.items() if count >= q * total)


@contextlib.contextmanager
def baseline(bootstrap: str, topic: str, directory: Path) -> Iterator[Target]:
    """The baseline, reading and listening; stopped at the end."""
    port = free_port()
    with Child("baseline", module("baseline", bootstrap, topic, port), directory / "baseline.log") as child:
        child.line(READY_S)
        yield Target("baseline", child, port)


@contextlib.contextmanager
def gateway(
    environment: Mapping[str, str], command: str, signer: Signer, people: Sequence[str], directory: Path
) -> Iterator[Target]:
    """A gateway with default settings, ready; stopped at the end.

    Args:
        environment: Kafka, topics and what is to differ from the defaults. Settings of the gateway that the caller's
            own environment holds are not passed on.
        command: As a shell would split it.
        people: Who gets a token.
    """
    port, admin = free_port(), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    env |= {
        "TIDINGS_GATEWAY_HOST": "127.0.0.1",
        "TIDINGS_GATEWAY_PORT": str(port),
        "TIDINGS_GATEWAY_ADMIN_PORT": str(admin),
        "TIDINGS_LOG_FORMAT": "json",
        **signer.environment,
        **environment,
    }
    tokens = dict(zip(people, signer.tokens(people), strict=True))
    with Child(GATEWAY, shlex.split(command), directory / "gateway.log", env) as child:
        wait_ready(child, admin)
        yield Target(GATEWAY, child, port, admin, tokens)


def wait_ready(child: Child, admin: int) -> None:
    """Until the admin port says ready. Raises: BenchFault."""
    deadline = time.monotonic() + READY_S
    while True:
        child.drain()
        if not child.alive:
            raise child.fault("ended before it was ready")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2):
            return
        if time.monotonic() > deadline:
            raise child.fault(f"not ready after {READY_S:.0f} s")
        time.sleep(0.05)
