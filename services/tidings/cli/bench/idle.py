"""What connections cost that only wait, and how fast they are opened."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tidings.cli.bench.measure import LoadClient, load_client
from tidings.cli.bench.targets import Target

__all__ = ["Connects", "Idle", "measure_connects", "measure_idle"]

_PARALLEL = 64


@dataclass(frozen=True, slots=True)
class Idle:
    """`connections` sockets of as many users with nothing to deliver.

    Attributes:
        rss_per_connection: Resident bytes more than with none, divided. Flatters: memory that the start left free
            in the process takes up the first connections.
        rss_per_further: Resident bytes more than at the step before, per connection added since: what one more costs.
            None at the first step, which has none before it.
        cpu_us_per_s: CPU microseconds per second and connection beyond what the process uses with none, pings
            included; None where it was not measured.
        own_cpu_us_per_s: What the process uses with no connection, not divided.
        pings: Pings that came while CPU was measured.
    """

    target: str
    connections: int
    rss_per_connection: float
    rss_per_further: float | None
    cpu_us_per_s: float | None
    own_cpu_us_per_s: float | None
    pings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Connects:
    """Handshakes one after another, `parallel` at a time, each with a token of its own."""

    target: str
    connections: int
    per_s: float
    cpu_us_each: float
    p50_ms: float
    p99_ms: float
    client_cpu_s: float


def measure_idle(
    target: Target, people: list[str], client: LoadClient, *, steps: list[int], seconds: float, settle_s: float
) -> list[Idle]:
    """Open connections up to each of `steps` and, `settle_s` later, watch them for `seconds`; 0 leaves the CPU out."""
    found = []
    empty_us = None
    time.sleep(settle_s)
    if seconds:
        empty_us = _cpu_us_per_s(target, min(seconds, 15.0))
    empty = target.rss_bytes()
    done, before_step = 0, empty
    with ExitStack() as stack:
        clients = []
        for step in steps:
            # A client per step, since each has a file limit of its own.
            sockets = stack.enter_context(load_client(client, target.port, target.plan(people[done:step])))
            sockets.hear()
            clients.append(sockets)
            time.sleep(settle_s)
            resident = target.rss_bytes()
            further = (resident - before_step) / (step - done) if done else None
            done, before_step = step, resident
            busy_us = None
            before = sum(each.ask("totals")["pings"] for each in clients)
            if seconds and empty_us is not None:
                busy_us = (_cpu_us_per_s(target, seconds) - empty_us) / step
            totals: list[dict[str, Any]] = [each.ask("totals") for each in clients]
            gone = sum(each["gone"] for each in totals)
            if gone:
                raise target.child.fault(f"{gone} of {step} idle connections ended")
            pings = sum(each["pings"] for each in totals) - before
            found.append(Idle(target.name, step, (resident - empty) / step, further, busy_us, empty_us, pings, seconds))
    return found


def _cpu_us_per_s(target: Target, seconds: float) -> float:
    cpu, began = target.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (target.cpu_s() - cpu) * 1e6 / (time.monotonic() - began)


def measure_connects(target: Target, people: list[str], client: LoadClient, *, rounds: int) -> Connects:
    """Open one connection per user, close them all, again; the first round warms up. Medians of the others."""
    per_s, each_us, p50, p99, own = [], [], [], [], []
    plan = target.plan(people)
    for number in range(rounds + 1):
        cpu = target.cpu_s()
        with load_client(client, target.port, plan, _PARALLEL) as sockets:
            opened = sockets.hear()
            cpu = target.cpu_s() - cpu
        if number:
            per_s.append(len(people) / opened["connect_s"])
            each_us.append(cpu * 1e6 / len(people))
            p50.append(opened["connect_p50_ms"])
            p99.append(opened["connect_p99_ms"])
            own.append(opened["connect_cpu_s"])
        deadline = time.monotonic() + 10
        while target.connected() and time.monotonic() < deadline:
            time.sleep(0.1)
    m = statistics.median
    return Connects(target.name, len(people), m(per_s), m(each_us), m(p50), m(p99), m(own))
