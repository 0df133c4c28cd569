"""Runs the parts of a bench in order, gateway and baseline in turn on the same Kafka."""

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tidings.cli.bench import machine
from tidings.cli.bench.engines import build_native
from tidings.cli.bench.idle import measure_connects, measure_idle
from tidings.cli.bench.measure import EngineName, LoadClient, Round, measure
from tidings.cli.bench.messaging import measure_messaging
from tidings.cli.bench.processes import BenchFault
from tidings.cli.bench.replays import resume_part, window_part
from tidings.cli.bench.report import Report
from tidings.cli.bench.rig import Options, Part, Rig
from tidings.cli.bench.shapes import Shape, load_of, users
from tidings.cli.bench.summary import compare
from tidings.cli.bench.targets import GATEWAY
from tidings.cli.bench.writes import measure_writes
from tidings.kafka import ladder

__all__ = ["run"]

_KAFKA_WARM_UP: Final = Shape(100, 2, 2_000)
"""Many requests to the broker, and next to nothing for the target to do."""


class _Parts(Rig):
    """The parts that compare gateway and baseline."""

    def round(self, name: str, shape: Shape, seconds: float) -> Round:
        """One target, fresh, under one shape."""
        people = users(shape.connections, self.options.seed)
        load = load_of(shape, people, self.options.seed)
        with (
            self.topics() as topics,
            self.target(name, topics, people) as target,
            self.producer(topics, shape) as producer,
        ):
            return measure(
                target, shape, people, load, producer, self.client,
                first=0,
                warm_up=max(1, int(shape.rate * self.options.warm_up)),
                count=max(1, int(shape.rate * seconds)),
            )  # fmt: skip

    def shapes(self, report: Report) -> None:
        """All shapes; the order of the targets turns with each round, so that none always runs second."""
        if self.options.rounds > 1:  # a single round is a try
            self.warm_up_kafka()
        for shape in self.options.shapes:
            rounds: dict[str, list[Round]] = {name: [] for name in self.options.targets}
            for number in range(self.options.rounds):
                for name in self.options.targets if number % 2 == 0 else reversed(self.options.targets):
                    found = self.round(name, shape, self.options.seconds)
                    rounds[name].append(found)
                    self.say(
                        f"{shape.name} round {number + 1}/{self.options.rounds} {name}:"
                        f" {found.per_cpu_s:,.0f} deliveries per CPU-second, p50 {found.p50_ms:.2f} ms,"
                        f" p99 {found.p99_ms:.2f} ms, {found.lost} lost"
                    )
            report.shapes.append(compare(shape.name, rounds))

    def warm_up_kafka(self) -> None:
        """Let the broker's JVM compile what the rounds will use: before that it takes a core from the first of them."""
        self.say("warming up Kafka")
        for name in self.options.targets:
            self.round(name, _KAFKA_WARM_UP, self.options.kafka_warm_up_s / len(self.options.targets))

    def writes(self, report: Report) -> None:
        connections, frame_bytes, bursts = self.options.written
        self.say(f"nothing but writes to {connections:,} sockets")
        report.writes += measure_writes(
            self.directory,
            connections=connections,
            frame_bytes=frame_bytes,
            bursts=bursts,
            rounds=self.options.rounds,
        )

    def idle(self, report: Report) -> None:
        people = users(max(self.options.idle_connections), self.options.seed)
        for name in self.options.targets:
            # The baseline sends no pings: its idle CPU would be compared with nothing.
            seconds = self.options.idle_seconds if name == GATEWAY else 0.0
            self.say(f"idle connections of the {name}")
            with self.topics() as topics, self.target(name, topics, people) as target:
                report.idle += measure_idle(
                    target,
                    people,
                    self.client,
                    steps=list(self.options.idle_connections),
                    seconds=seconds,
                    settle_s=self.options.settle_s,
                )

    def connects(self, report: Report) -> None:
        people = users(self.options.connects, self.options.seed)
        for name in self.options.targets:
            self.say(f"connects to the {name}")
            with self.topics() as topics, self.target(name, topics, people, "RS256") as target:
                report.connects.append(measure_connects(target, people, self.client, rounds=self.options.rounds))


def run(options: Options, say: Callable[[str], None]) -> Report:
    """Start Kafka where none is named, run the parts, stop everything.

    Args:
        say: Told one line at each step.
    Raises:
        BrokerUnavailable, BenchFault, ConfigError: What is missing or failed, in words. Nothing is left running.
    """
    library = build_native(options.cache) if options.engine != "python" else None
    if library is None and options.engine == "native":
        raise BenchFault("the native load client needs a C compiler ($CC, cc or gcc)")
    engine: EngineName = "python" if library is None else "native"
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-bench-")))
        broker = stack.enter_context(
            ladder.start(directory / "kafka", allow_embedded=True, small=options.kafka_heap == "small", log=say)
        )
        say(broker.describe())
        report = Report(
            machine.describe(),
            {
                "kafka": broker.what + (f", {options.kafka_heap} heap" if broker.rung == "apache" else ""),
                "rounds": options.rounds,
                "seconds": options.seconds,
                "warm_up": options.warm_up,
                "engine": engine,
                "seed": options.seed,
                "gateway_command": options.gateway_command,
                "gateway_environment": dict(options.gateway_environment),
            },
        )
        bench = _Parts(options, broker, LoadClient(engine, library, directory, options.patience_s), directory, say)
        parts: dict[Part, Callable[[Report], None]] = {
            "shapes": bench.shapes,
            "writes": bench.writes,
            "idle": bench.idle,
            "connects": bench.connects,
            "resume": partial(resume_part, bench),
            "window": partial(window_part, bench),
            "messaging": lambda report: report.messaging.append(measure_messaging(bench)),
        }
        for part in options.parts:
            parts[part](report)
    return report
