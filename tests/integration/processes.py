"""Processes for the tests: `tidings gateway` with an environment, and what its environment is made of."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tidings.children import spawn
from tidings.config import TopicSettings
from tidings.kafka import apache_jars
from tidings.kafka.topic_specs import ROLES
from tidings.ports import free_ports

__all__ = ["ROOT", "SECRET", "Gateway", "GatewayFactory", "environment", "stop_all", "topic_environment"]

ROOT = Path(__file__).parents[2]
SECRET = secrets.token_urlsafe(48)
"""Of this run's tokens."""


def environment(**changes: str) -> dict[str, str]:
    """Our own environment without any setting of Tidings but the place of the jars, and with `changes`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    cache = os.environ.get(apache_jars.CACHE_VARIABLE) or str(ROOT / ".cache")
    # Not installed is fine too: the tests run on the checkout.
    path = os.pathsep.join([str(ROOT / "services"), str(ROOT / "shared")])
    return {**kept, apache_jars.CACHE_VARIABLE: cache, "PYTHONPATH": path, **changes}


@dataclass
class Gateway:
    """A `tidings gateway` process."""

    process: "subprocess.Popen[bytes]"
    url: str
    admin: str
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ws_url(self) -> str:
        return self.url.replace("http://", "ws://") + "/ws"

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str, timeout_s: float = 5) -> tuple[int, str]:
        """Status and body of an address of the admin port; (0, "") if nothing answers."""
        try:
            with urllib.request.urlopen(self.admin + path, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def wait_ready(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the gateway ended with {self.process.returncode}:\n{self.log}")
            if self.ready():
                return
            time.sleep(0.05)
        pytest.fail(f"the gateway was not ready within {timeout_s} s:\n{self.log}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of one metric name that have these labels."""
        lines = self.get("/metrics")[1].splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.split("{")[0].split(" ")[0] == name and all(one in line for one in wanted)
        )

    async def until_metric(self, name: str, value: float, timeout_s: float) -> None:
        """Fail unless the metric is that within this time."""
        deadline = time.monotonic() + timeout_s
        while (seen := await asyncio.to_thread(self.metric, name)) != value:
            assert time.monotonic() < deadline, f"{name} is {seen} still"
            await asyncio.sleep(0.05)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its JSON log with that event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        return self.process.wait(timeout_s)

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM, and after `timeout_s` SIGKILL; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@dataclass
class GatewayFactory:
    """Starts gateways that share one environment; each on ports of its own."""

    environ: dict[str, str]
    folder: Path
    started: list[Gateway] = field(default_factory=list)

    def __call__(self, *, wait: bool = True, environ: Mapping[str, str] | None = None, **settings: object) -> Gateway:
        """Start one; `settings` are the GatewaySettings by their field names (`drain_s=1`).

        Args:
            wait: Until it is ready.
            environ: Further variables, or others in place of the factory's.
        """
        gateway = self._start(environ, settings)
        for attempts_left in (2, 1, 0):
            if not wait:
                break
            try:
                gateway.wait_ready()
                break
            except pytest.fail.Exception:
                # A port that was free may be that of somebody's outgoing connection by the time it is bound.
                fixed = {"port", "admin_port"} & settings.keys()
                if fixed or not attempts_left or "address already in use" not in gateway.log.lower():
                    raise
                self.started.remove(gateway)
                gateway = self._start(environ, settings)
        return gateway

    def _start(self, environ: Mapping[str, str] | None, settings: Mapping[str, object]) -> Gateway:
        free = free_ports(2)
        port, admin = settings.get("port", free[0]), settings.get("admin_port", free[1])
        number = len(self.started) + 1
        own = {
            "TIDINGS_GATEWAY_HOST": "127.0.0.1",
            "TIDINGS_GATEWAY_PORT": str(port),
            "TIDINGS_GATEWAY_ADMIN_PORT": str(admin),
            "TIDINGS_GATEWAY_NODE": f"node-{number}",
            **{f"TIDINGS_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log_file = self.folder / f"gateway-{number}.log"
        with open(log_file, "wb") as out:
            process = spawn(
                [sys.executable, "-m", "tidings.cli", "gateway"],
                out=out,
                environ={**self.environ, **own, **(environ or {})},
            )
        gateway = Gateway(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", log_file)
        self.started.append(gateway)
        return gateway


def stop_all(factory: GatewayFactory) -> None:
    """Kill all gateways that the factory started; frozen ones too."""
    for started in factory.started:
        if started.process.poll() is None:
            started.signal(signal.SIGCONT)
            started.process.kill()
        started.process.wait()


def topic_environment(topics: TopicSettings) -> dict[str, str]:
    """The variables that give a process these topics."""
    return {f"TIDINGS_{role.upper()}_TOPIC": getattr(topics, role) for role in ROLES} | {
        "TIDINGS_TOPIC_PARTITIONS": str(topics.partitions)
    }
