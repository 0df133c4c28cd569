"""A random schedule of faults from a seed, under load, and what became of the clients."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import DECKS, Fault, strike
from tests.chaos.feed import Mix
from tests.chaos.recorder import Verdict
from tests.chaos.recoveries import Recoveries
from tests.chaos.transactions import Transactions
from tidings.kafka.apache import ApacheKafka

__all__ = ["Plan", "Report", "run"]


@dataclass(frozen=True)
class Plan:
    """What is done. The same seed gives the same order of faults in each deck; when each comes depends on the machine.

    Attributes:
        seconds: How long faults go on; every kind comes once at least, even if that takes longer.
        rate: Records per second.
        users: Every tenth of them has two clients, every tenth uses Server-Sent Events.
        window_bytes: Of the nodes; None: their default.
    """

    seconds: float
    seed: int
    rate: float = 750.0
    users: int = 250
    window_bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """What became of it."""

    plan: Plan
    took_s: float
    faults: dict[str, int]
    verdict: Verdict
    recoveries_s: Sequence[float]
    transactions: tuple[int, int, int]
    clients: dict[str, int]
    resumes: dict[str, float]

    def lines(self) -> list[str]:
        verdict = self.verdict
        recovered = sorted(self.recoveries_s)
        recovery = (
            f"p50 {recovered[len(recovered) // 2]:.2f} s, max {recovered[-1]:.2f} s, of {len(recovered)}"
            if recovered
            else "none measured"
        )
        committed, aborted, uncertain = self.transactions
        return [
            f"seed {self.plan.seed}, {self.took_s:.0f} s of faults",
            *(f"  {kind:<20} {count:>5}" for kind, count in sorted(self.faults.items())),
            f"clients {verdict.devices}, records {verdict.records}, deliveries {verdict.deliveries}",
            f"transactions: {committed} committed, {aborted} aborted, {uncertain} uncertain",
            f"resumes: {', '.join(f'{name} {count:.0f}' for name, count in self.resumes.items())}",
            f"connections: {', '.join(f'{name} {count}' for name, count in sorted(self.clients.items()))}",
            f"recovery after SIGKILL, among other faults (to its last client's first record of after it): {recovery}",
            str(verdict),
            f"lost {verdict.count('loss')}, repeated {verdict.count('repeat')}",
        ]


async def run(plan: Plan, cluster: ApacheKafka, folder: Path, say: Callable[[str], None]) -> Report:
    """Load, faults, and the verdict; needs a cluster of three brokers that runs, and leaves it running."""
    say(f"seed {plan.seed}: {plan.seconds:.0f} s, {plan.users} users, {plan.rate:.0f} records/s")
    settings: dict[str, Any] = {} if plan.window_bytes is None else {"window_bytes": plan.window_bytes}
    async with arena(cluster, folder, partitions=6, seed=plan.seed, **settings) as own:
        return await _run(plan, own, say)


async def _run(plan: Plan, own: Arena, say: Callable[[str], None]) -> Report:
    outcomes = ("window", "readback", "expired", "log_changed", "invalid", "ahead", "budget")
    for node in own.nodes:
        for outcome in outcomes:
            node.watch("tidings_gateway_resumes_total", outcome=outcome)
    own.populate(plan.users)
    await own.crowd.start()
    recoveries = Recoveries()
    own.feed.begin(Mix(rate=plan.rate))
    transactions = Transactions(own.kafka, own.feed, own.recorder, plan.seed)
    transactions.start()
    began = time.monotonic()
    async with asyncio.TaskGroup() as decks:
        for number, (name, kinds) in enumerate(DECKS.items()):
            chance = random.Random(f"{plan.seed}/{name}")
            deck = _deck(own, recoveries, kinds, chance, began, began + plan.seconds, say)
            decks.create_task(deck, name=f"deck {number}")
    took_s = time.monotonic() - began
    say(f"{took_s:6.1f} s: no more faults; {own.recorder.truth.produced_count} records so far")
    await recoveries.all_over()
    await asyncio.to_thread(own.feed.stop)
    await asyncio.to_thread(transactions.stop)
    verdict = await own.verdict(120)
    resumes = {
        outcome: sum([await node.total("tidings_gateway_resumes_total", outcome=outcome) for node in own.nodes])
        for outcome in outcomes
    }
    return Report(
        plan,
        took_s,
        dict(own.faults),
        verdict,
        recoveries.seconds,
        (transactions.committed, transactions.aborted, transactions.uncertain),
        dict(own.crowd.counts),
        resumes,
    )


async def _deck(
    own: Arena,
    recoveries: Recoveries,
    kinds: Sequence[type[Fault]],
    chance: random.Random,
    began: float,
    until: float,
    say: Callable[[str], None],
) -> None:
    """One fault of the deck after the other: all kinds in a random order, and again, until the time is over."""
    once = False
    while not once or time.monotonic() < until:
        for kind in chance.sample(list(kinds), len(kinds)):
            if once and time.monotonic() >= until:
                break
            await asyncio.sleep(chance.uniform(1, 5))
            fault = kind(own, recoveries)
            say(f"{time.monotonic() - began:6.1f} s: {kind.kind}")
            await strike(fault, chance.uniform(*kind.hold_s))
        once = True
