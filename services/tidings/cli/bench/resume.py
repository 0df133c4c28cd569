"""How long a client waits that comes back with a cursor, and how many of them a node takes in."""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from tidings.cli.bench.gaps import Gaps
from tidings.cli.bench.histogram import bucket_of, quantile_ms
from tidings.cli.bench.processes import BenchFault
from tidings.cli.bench.reconnect import Away, Reconnect, reconnect
from tidings.cli.bench.targets import Target

__all__ = ["LIMITS_OFF", "NO_WINDOW", "Resume", "ResumeRate", "measure_resume_rate", "measure_resumes"]

LIMITS_OFF: Final = {
    "TIDINGS_GATEWAY_MAX_RESUMES_PER_S": "0",
    "TIDINGS_GATEWAY_MAX_RESUMES_PER_USER_PER_MIN": "0",
    "TIDINGS_GATEWAY_MAX_READBACK_BYTES": str(1 << 40),
}
"""Else the second resume of a series would be measured against a limit."""
NO_WINDOW: Final = {"TIDINGS_GATEWAY_WINDOW_BYTES": "0"}

_PARALLEL: Final = 64
_POLL_S: Final = 0.02
_BREATH_S: Final = 0.02
"""Between two resumes: the end of the one is not to be paid for in the other."""
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Resume:
    """One user that comes back `repeats` times, one after another. Milliseconds from the start of the TCP connect.

    Attributes:
        source: Where the missed records came from.
        missed: Records for this user behind its cursor; `others` stand among them for other users.
    """

    source: str
    missed: int
    others: int
    repeats: int
    welcome_p50_ms: float
    welcome_p99_ms: float
    last_p50_ms: float
    last_p99_ms: float
    last_max_ms: float


@dataclass(frozen=True, slots=True)
class ResumeRate:
    """`users` that come back at once, 64 at a time, with one missed record each. Medians of the rounds.

    Attributes:
        cpu_us_each: CPU microseconds of the gateway from the first connect to the last missed frame, per user.
    """

    source: str
    users: int
    per_s: float
    cpu_us_each: float
    p50_ms: float
    p99_ms: float


def measure_resumes(
    target: Target, gaps: Gaps, user: str, watcher: str, *, missed: int, others: int, repeats: int, window: bool
) -> list[Resume]:
    """From the window the same gap again and again, for it stays where it is. From Kafka a fresh gap each time, far
    from the last one, so that it is read for the first time; then once more, by then in the gateway's memory.

    Args:
        watcher: Another user with a token, who sees how far the gateway is.
    """

    async def measure() -> list[Resume]:
        token = target.tokens[user]
        away = await _gap(target, gaps, watcher, [user] * missed, others)
        took: dict[str, list[Reconnect]] = {}
        for number in range(repeats):
            if number and not window:
                away = await _gap(target, gaps, watcher, [user] * missed, others)
            for source in ("window",) if window else ("Kafka", "Kafka, read before"):
                client = await reconnect(target.port, token, away, missed, _TIMEOUT_S)
                client.close()
                took.setdefault(source, []).append(client)
                await asyncio.sleep(_BREATH_S)
        return [_resume(source, missed, others, clients) for source, clients in took.items()]

    return uvloop.run(measure())


def measure_resume_rate(
    target: Target, gaps: Gaps, people: Sequence[str], watcher: str, *, source: str, cursor: bool, rounds: int
) -> ResumeRate:
    """All of `people` come back at once, one missed record each in a fresh gap; the first round warms up.

    Args:
        cursor: Without one, they only connect: what the rest of a connection costs with this client.
    """
    per_s, each_us, p50, p99 = [], [], [], []

    async def one_round(number: int) -> None:
        away = await _gap(target, gaps, watcher, people if cursor else (), 0)
        cpu, began = target.cpu_s(), time.monotonic()
        async with _all_back(target, people, away if cursor else Away(), int(cursor)) as clients:
            wall, cpu = time.monotonic() - began, target.cpu_s() - cpu
        if number:
            per_s.append(len(people) / wall)
            each_us.append(cpu * 1e6 / len(people))
            waited = [client.last_ns for client in clients]
            p50.append(_quantile_ms(waited, 0.5))
            p99.append(_quantile_ms(waited, 0.99))

    for number in range(rounds + 1):
        uvloop.run(one_round(number))
        deadline = time.monotonic() + 10
        while target.connected() and time.monotonic() < deadline:
            time.sleep(0.1)
    m = statistics.median
    return ResumeRate(source, len(people), m(per_s), m(each_us), m(p50), m(p99))


async def _gap(target: Target, gaps: Gaps, watcher: str, people: Sequence[str], others: int) -> Away:
    """A fresh gap that the gateway has read to its end; returns where it begins."""
    gaps.part()
    away = await _caught_up(target, gaps, watcher)
    if people or others:
        gaps.send(people, others)
        await _caught_up(target, gaps, watcher)
    await asyncio.sleep(_BREATH_S)
    return away


async def _caught_up(target: Target, gaps: Gaps, watcher: str) -> Away:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        client = await reconnect(target.port, target.tokens[watcher], Away(), 0, _TIMEOUT_S)
        client.close()
        away = client.away()
        if gaps.reached(away.positions()):
            return away
        if time.monotonic() > deadline:
            raise BenchFault(f"the gateway is at {away.cursor} after {_TIMEOUT_S:.0f} s, the log at {gaps.ends}")
        await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def _all_back(target: Target, people: Sequence[str], away: Away, missed: int) -> AsyncIterator[list[Reconnect]]:
    """Everybody's connection, once all have what they missed; closed at the end."""
    clients: list[Reconnect] = []
    turn = itertools.count()

    async def some() -> None:
        while (index := next(turn)) < len(people):
            clients.append(await reconnect(target.port, target.tokens[people[index]], away, missed, _TIMEOUT_S))

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(_PARALLEL, len(people))):
                tasks.create_task(some())
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None  # all for the same reason
    yield clients
    for client in clients:
        client.close()


def _resume(source: str, missed: int, others: int, clients: Sequence[Reconnect]) -> Resume:
    welcome = [client.welcome_ns for client in clients]
    last = [client.last_ns for client in clients]
    return Resume(
        source,
        missed,
        others,
        len(clients),
        *(_quantile_ms(welcome, q) for q in (0.5, 0.99)),
        *(_quantile_ms(last, q) for q in (0.5, 0.99, 1.0)),
    )


def _quantile_ms(waited_ns: Sequence[int], q: float) -> float:
    counts: dict[int, int] = {}
    for each in waited_ns:
        counts[bucket_of(each)] = counts.get(bucket_of(each), 0) + 1
    return quantile_ms(counts, q)
