"""`tidings messaging` processes for the tests, and how to ask them."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import SECRET
from tidings.children import spawn
from tidings.ports import free_ports
from tidings.tokens import issue

__all__ = ["Answer", "Messaging", "MessagingFactory", "stop_all"]


@dataclass(frozen=True)
class Answer:
    """Status 0: nobody answered."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        assert self.status == 200, self
        return self.body["data"]

    @property
    def problem(self) -> tuple[int, str]:
        return self.status, str((self.body or {}).get("error_type", ""))


@dataclass
class Messaging:
    """One process of the service."""

    process: "subprocess.Popen[bytes]"
    url: str
    admin: str
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its JSON log with that event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def ask(
        self, method: str, path: str, user: str = "alice", body: object = None, *, timeout_s: float = 20, **headers: str
    ) -> Answer:
        """One request below /v1.0 in `user`'s name; a POST gets an idempotency key of its own."""
        sent = {
            "Authorization": f"Bearer {issue(user, SECRET, 600, time.time(), name=user.capitalize())}",
            "Content-Type": "application/json",
        }
        if method == "POST":
            sent["Idempotency-Key"] = str(uuid.uuid4())
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1.0{path}", data, sent, method=method)
        return _answer(request, timeout_s)

    def look(self, path: str) -> Answer:
        """An address of the admin port."""
        return _answer(urllib.request.Request(self.admin + path), 5)

    def ready(self) -> bool:
        return self.look("/readyz").status == 200

    def wait_ready(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"messaging ended with {self.process.returncode}:\n{self.log}")
            if self.ready():
                return
            time.sleep(0.05)
        pytest.fail(f"messaging was not ready within {timeout_s} s, {self.look('/readyz')}:\n{self.log}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of one metric name that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in str(self.look("/metrics").body).splitlines()
            if line.split("{")[0].split(" ")[0] == name and all(one in line for one in wanted)
        )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

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
class MessagingFactory:
    """Starts processes that share one environment; each on ports of its own."""

    environ: dict[str, str]
    folder: Path
    started: list[Messaging] = field(default_factory=list)

    def __call__(self, *, wait: bool = True, environ: Mapping[str, str] | None = None, **settings: object) -> Messaging:
        """Start one; `settings` are the MessagingSettings by their field names (`drain_s=1`).

        Args:
            wait: Until it is ready.
            environ: Further variables, or others in place of the factory's.
        """
        port, admin = free_ports(2)
        number = len(self.started) + 1
        own = {
            "TIDINGS_MESSAGING_HOST": "127.0.0.1",
            "TIDINGS_MESSAGING_PORT": str(port),
            "TIDINGS_MESSAGING_ADMIN_PORT": str(admin),
            **{f"TIDINGS_MESSAGING_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log_file = self.folder / f"messaging-{number}.log"
        with open(log_file, "wb") as out:
            process = spawn(
                [sys.executable, "-m", "tidings.cli", "messaging"],
                out=out,
                environ={**self.environ, **own, **(environ or {})},
            )
        one = Messaging(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", log_file)
        self.started.append(one)
        if wait:
            one.wait_ready()
        return one


def stop_all(factory: MessagingFactory) -> None:
    """Kill all that the factory started; frozen ones too."""
    for started in factory.started:
        if started.process.poll() is None:
            started.signal(signal.SIGCONT)
            started.process.kill()
        started.process.wait()


def _answer(request: urllib.request.Request, timeout_s: float) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return Answer(answer.status, _decoded(answer.read()), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _decoded(error.read()), dict(error.headers))
    except OSError:
        return Answer(0)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
