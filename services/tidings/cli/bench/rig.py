"""What all parts of a bench share: its options, one Kafka, one directory, and how targets are started."""

import contextlib
import shlex
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from confluent_kafka.admin import AdminClient

from tidings.cli.bench.measure import LoadClient
from tidings.cli.bench.processes import Child, module
from tidings.cli.bench.shapes import WINDOW_SHAPES, Shape
from tidings.cli.bench.targets import GATEWAY, Target, baseline, gateway
from tidings.cli.bench.tokens import Signer
from tidings.config import TopicSettings
from tidings.kafka import ladder
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.topics import create

__all__ = ["OUR_GATEWAY", "Options", "Part", "Rig", "TargetName"]

Part = Literal["shapes", "writes", "idle", "connects", "resume", "window", "messaging"]
TargetName = Literal["gateway", "baseline"]

OUR_GATEWAY = shlex.join([sys.executable, "-m", "tidings.cli", "gateway"])


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. Times in seconds."""

    shapes: Sequence[Shape]
    parts: Sequence[Part] = ("shapes", "writes", "idle", "connects", "resume", "window")
    targets: Sequence[TargetName] = ("baseline", "gateway")
    rounds: int = 5
    seconds: float = 8.0
    warm_up: float = 2.0
    kafka_heap: Literal["small", "shipped"] = "small"
    """Of the broker that the bench starts: as with `tidings up`, or as with Kafka's own start script."""
    kafka_warm_up_s: float = 30.0
    """Of load on the broker before the first round; a single round goes without."""
    written: tuple[int, int, int] = (1_000, 250, 200)
    """Connections, bytes of a frame, and how often each gets one in a round of the part about writes."""
    idle_connections: Sequence[int] = (5_000, 10_000)
    idle_seconds: float = 50.0
    settle_s: float = 3.0
    patience_s: float = 5.0
    connects: int = 4_000
    missed: Sequence[tuple[int, int]] = ((1, 200), (100, 100), (10_000, 20))
    """Records missed, and how often that is resumed from."""
    others: int = 10_000
    window_records: int = 100_000
    window_shapes: Sequence[Shape] = WINDOW_SHAPES
    window_connected: int = 100
    window_seconds: float = 15.0
    window_fill_bytes: int = 72_000_000
    """What is sent before CPU is measured: more than the default window keeps, so that it drops as much as it takes."""
    chats: int = 100
    """Of the messaging part, with ten members each."""
    relayed: int = 50_000
    synced_chats: int = 1_000
    seed: int = 1
    engine: Literal["auto", "native", "python"] = "auto"
    gateway_command: str = OUR_GATEWAY
    gateway_environment: Mapping[str, str] = field(default_factory=dict)
    cache: Path = Path(".tidings/bench")


class Rig:
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

    def signer(self, algorithm: Literal["HS256", "RS256"]) -> Signer:
        """The key of all targets with that algorithm."""
        return self._signers[algorithm]

    @contextlib.contextmanager
    def topics(self) -> Iterator[TopicSettings]:
        """Topics of their own, so that no round reads what another wrote; deleted at the end."""
        mark = uuid.uuid4().hex[:8]
        topics = TopicSettings(modifications=f"bench-{mark}", signals=f"bench-{mark}-signals")
        names = [topics.modifications, topics.signals]
        if self.broker.rung == "embedded":  # it makes topics when asked for, and deletes none
            self.broker.make_topics(names)
            yield topics
            return
        create(self.broker.settings, topics, roles=("modifications", "signals"))
        try:
            yield topics
        finally:
            with contextlib.suppress(Exception):  # a leftover topic spoils no number
                for future in AdminClient(librdkafka_options(self.broker.settings)).delete_topics(names).values():
                    future.result(10)

    def target(
        self,
        name: str,
        topics: TopicSettings,
        people: list[str],
        algorithm: Literal["HS256", "RS256"] = "HS256",
        own: Mapping[str, str] | None = None,
    ) -> contextlib.AbstractContextManager[Target]:
        """A target on these topics; `own` are settings of the part, which go before those of the whole run."""
        if name == GATEWAY:
            environment = {
                **self.broker.environment(),
                "TIDINGS_MODIFICATIONS_TOPIC": topics.modifications,
                "TIDINGS_SIGNALS_TOPIC": topics.signals,
                **self.options.gateway_environment,
                **(own or {}),
            }
            return gateway(environment, self.options.gateway_command, self._signers[algorithm], people, self.directory)
        return baseline(self.broker.bootstrap_servers, topics.modifications, self.directory)

    @contextlib.contextmanager
    def producer(self, topics: TopicSettings, shape: Shape) -> Iterator[Child]:
        """The producing process, ready."""
        command = module("producer", self.broker.bootstrap_servers, topics.modifications, shape.name, self.options.seed)
        with Child("producer", command, self.directory / "producer.log") as producer:
            producer.hear()
            yield producer
