"""Runs the parts of a bench in order, gateway and baseline in turn on the same Kafka."""

import contextlib
import shlex
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from confluent_kafka.admin import AdminClient

from tidings.cli.bench import machine
from tidings.cli.bench.engines import build_native
from tidings.cli.bench.idle import measure_connects, measure_idle
from tidings.cli.bench.measure import EngineName, LoadClient, Round, measure
from tidings.cli.bench.processes import BenchFault, Child, module
from tidings.cli.bench.report import Report
from tidings.cli.bench.shapes import Shape, load_of, users
from tidings.cli.bench.summary import compare
from tidings.cli.bench.targets import GATEWAY, Target, baseline, gateway
from tidings.cli.bench.tokens import Signer
from tidings.config import TopicSettings
from tidings.kafka import ladder
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.topics import create

__all__ = ["OUR_GATEWAY", "Options", "Part", "TargetName", "run"]

Part = Literal["shapes", "idle", "connects"]
TargetName = Literal["gateway", "baseline"]

OUR_GATEWAY = shlex.join([sys.executable, "-m", "tidings.cli", "gateway"])


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. Times in seconds."""

    shapes: Sequence[Shape]
    parts: Sequence[Part] = ("shapes", "idle", "connects")
    targets: Sequence[TargetName] = ("baseline", "gateway")
    rounds: int = 5
    seconds: float = 8.0
    warm_up: float = 2.0
    idle_connections: Sequence[int] = (5_000, 10_000)
    idle_seconds: float = 50.0
    settle_s: float = 3.0
    patience_s: float = 5.0
    connects: int = 4_000
    seed: int = 1
    engine: Literal["auto", "native", "python"] = "auto"
    gateway_command: str = OUR_GATEWAY
    gateway_environment: Mapping[str, str] = field(default_factory=dict)
    cache: Path = Path(".tidings/bench")


class _Bench:
    """One Kafka, one directory and one way to read sockets for all rounds."""

    def __init__(
        self, options: Options, broker: ladder.Broker, client: LoadClient, directory: Path, say: Callable[[str], None]
    ) -> None:
        self.options = options
        self.broker = broker
        self.client = client
        self.directory = directory
        self.say = say
        self._signers = {"HS256": Signer.new("HS256"), "RS256": Signer.new("RS256")}

    @contextlib.contextmanager
    def topics(self) -> Iterator[TopicSettings]:
        """Topics of their own, so that no round reads what another wrote; deleted at the end."""
        mark = uuid.uuid4().hex[:8]
        topics = TopicSettings(modifications=f"bench-{mark}", signals=f"bench-{mark}-signals")
        names = [topics.modifications, topics.signals]
        self.broker.make_topics(names)
        create(self.broker.settings, topics, roles=("modifications", "signals"))
        try:
            yield topics
        finally:
            with contextlib.suppress(Exception):  # a leftover topic spoils no number
                for future in AdminClient(librdkafka_options(self.broker.settings)).delete_topics(names).values():
                    future.result(10)

    def target(
        self, name: str, topics: TopicSettings, people: list[str], algorithm: Literal["HS256", "RS256"] = "HS256"
    ) -> contextlib.AbstractContextManager[Target]:
        if name == GATEWAY:
            environment = {
                **self.broker.environment(),
                "TIDINGS_MODIFICATIONS_TOPIC": topics.modifications,
                "TIDINGS_SIGNALS_TOPIC": topics.signals,
                **self.options.gateway_environment,
            }
            return gateway(environment, self.options.gateway_command, self._signers[algorithm], people, self.directory)
        return baseline(self.broker.bootstrap_servers, topics.modifications, self.directory)

    def round(self, name: str, shape: Shape, seconds: float) -> Round:
        """One target, fresh, under one shape."""
        people = users(shape.connections, self.options.seed)
        load = load_of(shape, people, self.options.seed)
        with self.topics() as topics, self.target(name, topics, people) as target:
            command = module(
                "producer", self.broker.bootstrap_servers, topics.modifications, shape.name, self.options.seed
            )
            with Child("producer", command, self.directory / "producer.log") as producer:
                producer.hear()
                return measure(
                    target, shape, people, load, producer, self.client,
                    first=0,
                    warm_up=max(1, int(shape.rate * self.options.warm_up)),
                    count=max(1, int(shape.rate * seconds)),
                )  # fmt: skip

    def shapes(self, report: Report) -> None:
        """All shapes; the order of the targets turns with each round, so that none always runs second."""
        if self.options.rounds > 1:  # a single round is a try
            self.say("warming up Kafka")
            self.round("baseline", self.options.shapes[0], min(3.0, self.options.seconds))
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
        broker = stack.enter_context(ladder.start(directory / "kafka", allow_embedded=True, log=say))
        say(broker.describe())
        report = Report(
            machine.describe(),
            {
                "kafka": broker.what,
                "rounds": options.rounds,
                "seconds": options.seconds,
                "warm_up": options.warm_up,
                "engine": engine,
                "seed": options.seed,
                "gateway_command": options.gateway_command,
                "gateway_environment": dict(options.gateway_environment),
            },
        )
        bench = _Bench(options, broker, LoadClient(engine, library, directory, options.patience_s), directory, say)
        for part in options.parts:
            {"shapes": bench.shapes, "idle": bench.idle, "connects": bench.connects}[part](report)
    return report
