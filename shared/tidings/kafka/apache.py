"""Apache Kafka itself on this machine: one Java process per broker, KRaft, no container.

For `tidings up` and for tests of guarantees: a broker can be stopped, killed, frozen and started again on the same
data and the same port. Loopback only, no authentication: not for production.
"""

import os
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tidings.children import spawn
from tidings.errors import BrokerUnavailable, InvalidState
from tidings.kafka.apache_jars import RESOURCES, fetch_jars
from tidings.ports import free_ports

__all__ = ["ApacheBroker", "ApacheKafka"]

_SMALL: Final = ("-Xms128m", "-Xmx512m")
_AS_SHIPPED: Final = (
    "-Xms1G",
    "-Xmx1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
)
"""The defaults of Kafka's own `kafka-server-start.sh` and `kafka-run-class.sh`."""


class ApacheBroker:
    """One broker, which is also a controller: one Java process and one data folder.

    Made by `ApacheKafka`. Every method may be called from any thread, but not two at once.
    """

    def __init__(
        self,
        node: int,
        folder: Path,
        port: int,
        properties: Mapping[str, str],
        jars: Path,
        java_options: Sequence[str] = _SMALL,
    ) -> None:
        self.node = node
        self.port = port
        self.log_file = folder / "server.log"
        self._folder = folder
        self._jars = jars
        self._java_options = java_options
        self._properties = {**properties, "log.dirs": str((folder / "data").resolve())}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The Java process.

        Raises:
            InvalidState: The broker is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise InvalidState(f"broker {self.node} is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process exists; a frozen one counts."""
        return self._process is not None and self._process.poll() is None

    def format(self, cluster_id: str) -> None:
        """Prepare the data folder unless it already belongs to a cluster.

        Raises:
            BrokerUnavailable: Kafka's storage tool refused.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self._properties.items()), encoding="utf-8")
        if (self._folder / "data" / "meta.properties").exists():
            return
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)]
        done = subprocess.run(  # noqa: S603
            self._java("-XX:TieredStopAtLevel=1", "-Dtidings.kafka.log.level=ERROR") + arguments,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no reason given"]
            raise BrokerUnavailable(f"Kafka's storage tool refused: {lines[-1]}")

    def spawn(self) -> None:
        """Start the process; it is not ready yet.

        Raises:
            InvalidState: It runs already.
        """
        if self.alive:
            raise InvalidState(f"broker {self.node} runs already")
        command = [*self._java(*self._java_options), "kafka.Kafka", str(self._folder / "server.properties")]
        with open(self.log_file, "ab") as out:
            self._process = spawn(command, out=out)

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Return once this broker answers a metadata request that names it.

        Raises:
            BrokerUnavailable: The process ended, or the time is over; with the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        client: AdminClient | None = None
        while time.monotonic() < deadline:
            if not self.alive:
                break
            if _listens(self.port):
                # A client made before the port is open would log refused connections and back off.
                client = client or AdminClient({"bootstrap.servers": self.address, "log_level": 0})
                try:
                    if any(broker.port == self.port for broker in client.list_topics(timeout=2).brokers.values()):
                        return
                except KafkaException:
                    pass
            time.sleep(0.1)
        state = "did not become ready" if self.alive else "ended while starting"
        raise BrokerUnavailable(f"Kafka broker {self.node} {state}: {self._last_words()} (log: {self.log_file})")

    def start(self, timeout_s: float = 60) -> None:
        """Start on the data that is there and wait until ready."""
        self.spawn()
        self.wait_ready(timeout_s)

    def stop(self, timeout_s: float = 20) -> None:
        """Orderly end (SIGTERM): leadership is handed over, logs are flushed. Killed when `timeout_s` is over."""
        if self._process is None or not self.alive:
            return
        self.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def terminate(self) -> None:
        """Ask for an orderly end (SIGTERM) and do not wait for it."""
        if self._process is not None and self.alive:
            self.resume()
            self._process.terminate()

    def kill(self) -> None:
        """As if the machine failed (SIGKILL); the data stays as it was."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self, *, graceful: bool = True, timeout_s: float = 60) -> None:
        """Stop or kill, then start on the same data and port; returns when ready."""
        if graceful:
            self.stop()
        else:
            self.kill()
        self.start(timeout_s)

    def pause(self) -> None:
        """Freeze (SIGSTOP): connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`; harmless otherwise."""
        if self.alive:
            os.kill(self.pid, signal.SIGCONT)

    def _java(self, *options: str) -> list[str]:
        path = os.pathsep.join([str(RESOURCES), f"{self._jars.resolve()}/*"])
        return ["java", *options, "-cp", path]

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "no log"
        errors = [line for line in lines[-200:] if " ERROR " in line or " FATAL " in line or "Exception" in line]
        return " / ".join((errors or lines)[-2:]) or "an empty log"


class ApacheKafka:
    """A cluster of one or three brokers on the loopback address.

    `brokers[i]` can be stopped, killed, frozen and restarted by itself; ports and data stay. Used as a context
    manager it is running inside, and killed at the end. If this process is killed the brokers end too where the
    system can promise that (Linux).
    """

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        ports: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
        small: bool = True,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Data and logs, one subfolder for each broker; kept, so the next start finds its topics again.
            brokers: 1 or 3.
            ports: Client ports, one for each broker; free ones if empty.
            settings: Lines of server.properties that replace or join ours.
            small: A heap for a developer's machine, whose collector is often at work; else 1 GB and the options of
                Kafka's own start script.
        """
        if brokers not in (1, 3):
            raise InvalidState("a cluster has 1 or 3 brokers")
        if len(ports) not in (0, brokers):
            raise InvalidState("one port for each broker, or none")
        self.brokers: list[ApacheBroker] = []
        self._folder = folder
        self._log = log
        jars = fetch_jars(log)
        free = free_ports(2 * brokers)
        client_ports = list(ports) or free[:brokers]
        controllers = free[brokers:]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
        for node, (port, controller) in enumerate(zip(client_ports, controllers, strict=True), 1):
            properties = {**_properties(node, port, controller, voters, brokers), **(settings or {})}
            self.brokers.append(
                ApacheBroker(node, folder / f"broker-{node}", port, properties, jars, _SMALL if small else _AS_SHIPPED)
            )

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @property
    def alive(self) -> bool:
        """All brokers' processes exist."""
        return all(broker.alive for broker in self.brokers)

    def start(self, timeout_s: float = 90) -> Self:
        """Format new data folders, start all brokers, wait until each is ready.

        Raises:
            BrokerUnavailable: One of them did not come up; none is left running.
        """
        try:
            cluster_id = self._cluster_id()
            for broker in self.brokers:
                broker.format(cluster_id)
            for broker in self.brokers:
                broker.spawn()
            for broker in self.brokers:
                broker.wait_ready(timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 20) -> None:
        """Stop all in an orderly way; at most about `timeout_s` in all, then they are killed."""
        deadline = time.monotonic() + timeout_s
        for broker in self.brokers:
            broker.terminate()  # all at once: one after another the last would wait for a quorum that is gone
        for broker in self.brokers:
            broker.stop(max(0.1, deadline - time.monotonic()))

    def kill(self) -> None:
        """Kill all brokers; the data stays."""
        for broker in self.brokers:
            broker.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _cluster_id(self) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "cluster-id"
        if not file.exists():
            # A leading dash would be read as an option by the storage tool.
            file.write_text("T" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22], encoding="ascii")
        return file.read_text(encoding="ascii").strip()


def _properties(node: int, port: int, controller: int, voters: str, brokers: int) -> dict[str, str]:
    replication, in_sync = (3, 2) if brokers == 3 else (1, 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": str(replication),
        "transaction.state.log.replication.factor": str(replication),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replication),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # A developer's machine: fewer internal partitions and threads, no wait for more group members, and a cleaner
        # that does not take its default of 128 MB from a heap of 512.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
