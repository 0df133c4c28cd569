"""`tidings up` as a user runs it, in a state folder and on ports of its own."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import ROOT, environment
from tidings.kafka.apache_jars import find_tools
from tidings.kafka.ladder import Broker
from tidings.ports import free_ports
from tidings.postgres import ladder as postgres_ladder

FLAGS = (
    "--port",
    "--admin-port",
    "--second-port",
    "--second-admin-port",
    "--page-port",
    "--kafka-port",
    "--messaging-port",
    "--messaging-admin-port",
    "--postgres-port",
)


class Up:
    """One run of `tidings up`."""

    def __init__(self, folder: Path, environ: dict[str, str], *flags: str) -> None:
        self.folder = folder
        self.ports = dict(zip(FLAGS, free_ports(len(FLAGS)), strict=True))
        arguments = [str(part) for pair in self.ports.items() for part in pair]
        self.output = folder / f"up-{time.monotonic_ns()}.log"
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidings.cli", "up", *arguments, *flags],
                cwd=folder,
                env=environ,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def state_file(self) -> Path:
        return self.folder / ".tidings" / "up.json"

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_ready(self, timeout_s: float = 90) -> dict[str, object]:
        deadline = time.monotonic() + timeout_s
        while not self.state_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"tidings up is not ready:\n{self.text}")
            time.sleep(0.05)
        content = json.loads(self.state_file.read_text())
        assert isinstance(content, dict)
        return content

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def commands(self) -> list[tuple[psutil.Process, str]]:
        """The children that are there still when they are asked for their command line: Postgres's come and go."""
        found = []
        for child in self.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append((child, " ".join(child.cmdline())))
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    runs: list[Up] = []

    def start(*flags: str, **environ: str) -> Up:
        runs.append(Up(tmp_path, environment(**environ), *flags))
        return runs[-1]

    yield start
    for run in runs:
        children = run.children() if run.process.poll() is None else []
        run.process.kill()  # a no-op after an orderly end; the children go with it, Postgres after its last words
        run.process.wait()
        psutil.wait_procs(children, timeout=20)
    data = postgres_ladder.data_folder(tmp_path / ".tidings")
    if not data.is_relative_to(tmp_path):  # we are root, and Postgres's user can't go to pytest's folders
        shutil.rmtree(data)


def command(folder: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidings.cli", *arguments],
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def begin_chat(messaging: str, token: str, member: str) -> dict[str, object]:
    request = urllib.request.Request(
        f"{messaging}/v1.0/chat/personal",
        json.dumps({"member_id": member}).encode(),
        {"Authorization": f"Bearer {token}", "Idempotency-Key": str(time.monotonic_ns())},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        data = json.load(answer)["data"]
    assert isinstance(data, dict)
    return data


def assert_all_gone(children: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.kafka
def test_everything_from_first_start_to_the_second(tmp_path: Path, up: Callable[..., Up]) -> None:
    """Starts with Apache's own Kafka, delivers through both nodes, ends on Ctrl-C with 0, starts again on its data."""
    if missing := find_tools():
        pytest.skip(missing)
    first = up("--kafka", "apache")
    state = first.wait_ready()
    ports = first.ports
    assert state["gateways"] == [
        {"url": f"http://127.0.0.1:{ports['--port']}", "admin": f"http://127.0.0.1:{ports['--admin-port']}"},
        {
            "url": f"http://127.0.0.1:{ports['--second-port']}",
            "admin": f"http://127.0.0.1:{ports['--second-admin-port']}",
        },
    ]
    assert state["kafka"] == f"127.0.0.1:{ports['--kafka-port']}"
    assert state["page"] == f"http://127.0.0.1:{ports['--page-port']}"
    assert state["messaging"] == f"http://127.0.0.1:{ports['--messaging-port']}"
    assert state["messaging_admin"] == f"http://127.0.0.1:{ports['--messaging-admin-port']}"
    assert f"@127.0.0.1:{ports['--postgres-port']}/tidings" in str(state["postgres"])
    assert str(state["postgres"]) not in first.text, "the password is not for the terminal"
    users = state["users"]
    assert isinstance(users, list)
    assert [user["id"] for user in users] == ["alice", "bob"]
    assert first.state_file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".tidings" / "jwt-secret").stat().st_mode & 0o777 == 0o600
    for user in users:
        assert user["token"] in first.text

    assert command(tmp_path, "topics", "check").returncode == 0
    assert command(tmp_path, "migrate", "--check").returncode == 0
    tails = [
        subprocess.Popen(
            [sys.executable, "-m", "tidings.cli", "tail", user["id"], "--count", "2", "--timeout", "30"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for user in users
    ]
    for tail in tails:
        assert tail.stdout is not None
        seen = ""
        while seen.count("$welcome") < 2:
            seen += tail.stdout.readline()
    sent = command(tmp_path, "produce", "--to", "alice", "--to", "bob", "--data", '{"text": "Hello"}')
    assert sent.returncode == 0, sent.stderr
    for tail in tails:
        rest, _ = tail.communicate(timeout=30)
        assert tail.returncode == 0
        # One for each node, the data with the space that it was produced with.
        assert len(re.findall(r'"type":"update","at":"\d+:1","data":\{"text": "Hello"\}', rest)) == 2
    tail_bob = subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "tail", "bob", "--count", "1", "--timeout", "30"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tail_bob.stdout is not None
    while "$welcome" not in tail_bob.stdout.readline():
        pass
    chat = begin_chat(str(state["messaging"]), str(users[0]["token"]), "bob")
    assert chat["members"] == ["alice", "bob"]
    rest, _ = tail_bob.communicate(timeout=30)
    assert '"type":"chat_created"' in rest
    assert str(chat["chat_id"]) in rest

    second = command(tmp_path, "up", "--port", "1")
    assert second.returncode == 1
    assert f"already runs with .tidings (process {first.process.pid})" in second.stderr

    children = first.children()
    own = psutil.Process(first.process.pid).children()
    assert len(own) == 6, own  # two gateways, messaging, the page, Kafka, Postgres
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(40) == 0, first.text
    assert not first.state_file.exists()
    assert_all_gone(children)

    again = up("--kafka", "apache")
    assert again.wait_ready()["users"] != []
    token = users[0]["token"]
    assert command(tmp_path, "tail", "--token", token, "--count", "1", "--timeout", "2").stdout.count("$welcome") == 2
    assert "topics made" not in again.text
    assert "database brought to" not in again.text
    # The chat is still there: there is one for each pair.
    url = f"http://127.0.0.1:{again.ports['--messaging-port']}"
    with pytest.raises(urllib.error.HTTPError, match="400"):
        begin_chat(url, str(token), "bob")
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(40) == 0, again.text


@pytest.mark.kafka
def test_the_end_of_one_child_ends_all(kafka: Broker, up: Callable[..., Up]) -> None:
    run = up(**kafka.environment())
    run.wait_ready()
    children = run.children()
    gateway = next(child for child, command in run.commands() if " gateway" in command)
    gateway.kill()
    assert run.process.wait(30) == 1
    assert "ended by itself (signal SIGKILL); everything is stopped" in run.text
    assert_all_gone(children)
    assert not run.state_file.exists()
    assert kafka.alive


@pytest.mark.kafka
def test_children_do_not_outlive_a_killed_up(kafka: Broker, up: Callable[..., Up], tmp_path: Path) -> None:
    run = up(**kafka.environment())
    run.wait_ready()
    children = run.children()
    run.process.kill()
    run.process.wait()
    if sys.platform == "linux":
        assert_all_gone(children)
    # What it left behind is not taken for a running one.
    assert run.state_file.exists()
    refused = command(tmp_path, "tail", "alice", "--timeout", "1")
    assert "127.0.0.1:8080" in refused.stdout


@pytest.mark.kafka
def test_a_second_ctrl_c_ends_it_at_once(kafka: Broker, up: Callable[..., Up]) -> None:
    run = up(**kafka.environment())
    run.wait_ready()
    children = run.children()
    gateway = next(child for child, command in run.commands() if " gateway" in command)
    gateway.suspend()  # it can't drain
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.process.poll() is None
    started = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    run.process.wait(30)
    assert time.monotonic() - started < 5
    assert_all_gone(children)


def test_a_busy_port_is_named_before_anything_starts(up: Callable[..., Up], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = up("--second-port", str(port))
        assert run.process.wait(30) == 1
    assert f"port {port} is busy: choose another one with --second-port or TIDINGS_UP_SECOND_PORT" in run.text
    assert len(run.text.strip().splitlines()) == 1
    assert not (tmp_path / ".tidings" / "kafka").exists()


def test_a_busy_kafka_port_is_no_matter_where_nothing_would_listen_there(up: Callable[..., Up], tmp_path: Path) -> None:
    nothing = tmp_path / "no-java"
    nothing.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        kafka_port, second_port = taken.getsockname()[1], other.getsockname()[1]
        environ = {"PATH": str(nothing), "DOCKER_HOST": f"unix://{nothing}/docker.sock"}
        run = up("--kafka-port", str(kafka_port), "--second-port", str(second_port), **environ)
        assert run.process.wait(30) == 1
    assert f"port {second_port} is busy" in run.text
    assert f"port {kafka_port} is busy" not in run.text


def test_an_environment_that_names_a_dead_kafka_is_not_ignored(up: Callable[..., Up]) -> None:
    run = up(TIDINGS_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_ports(1)[0]}")
    assert run.process.wait(60) == 1
    assert "does not answer" in run.text.splitlines()[-1]
    assert "Traceback" not in run.text


def test_an_environment_that_names_a_dead_postgres_is_not_ignored(up: Callable[..., Up]) -> None:
    run = up(TIDINGS_POSTGRES_DSN=f"postgresql://me:hunter2@127.0.0.1:{free_ports(1)[0]}/d")
    assert run.process.wait(60) == 1
    assert "gives no good answer" in run.text.splitlines()[-1]
    assert "hunter2" not in run.text
    assert "Traceback" not in run.text


def test_the_embedded_rung_says_what_it_cannot_do_and_delivers(up: Callable[..., Up], tmp_path: Path) -> None:
    run = up("--kafka", "embedded", "--postgres", "embedded")
    run.wait_ready()
    assert "from its wheel" in run.text
    assert "in memory, about 5 MB kept per partition" in run.text
    tail = subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "tail", "alice", "--plain", "--count", "2", "--timeout", "30"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    assert [json.loads(tail.stdout.readline())["state"] for _ in range(2)] == ["connected"] * 2
    assert command(tmp_path, "produce", "--to", "alice", "--data", "7").returncode == 0
    rest, _ = tail.communicate(timeout=30)
    assert [json.loads(line)["frame"] for line in rest.splitlines()] == [{"type": "update", "data": 7}] * 2
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0


def test_what_the_readme_says_about_sending_works_as_it_stands(up: Callable[..., Up], tmp_path: Path) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("no kcat on the PATH")
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Send a record\n")[2].partition("\n## ")[0]
    )
    examples = re.findall(r"^```(sh|python)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert [language for language, _ in examples] == ["sh", "sh", "python"]
    run = up("--kafka", "embedded", "--postgres", "embedded")
    kafka = str(run.wait_ready()["kafka"])
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    node = f"http://127.0.0.1:{run.ports['--port']}"
    options = ["--count", "3", "--timeout", "60", "--gateway", node]
    tail = subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "tail", "bob", *options],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    while "$welcome" not in tail.stdout.readline():
        pass
    for language, text in examples:
        program = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable]
        example = text.replace("127.0.0.1:9092", kafka)
        subprocess.run([*program, "-c", example], cwd=tmp_path, env=environment(), check=True, timeout=60)
    rest, _ = tail.communicate(timeout=70)
    assert tail.returncode == 0, rest
    frames = [json.loads(line)["frame"] for line in rest.splitlines()]
    said = [frame["data"]["text"] for frame in frames if frame["type"] == "update"]
    assert sorted(said) == ["Hello", "Hello from Python", "Hello from kcat"]  # one partition each: in any order
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0


def test_ctrl_c_while_starting_leaves_nothing(up: Callable[..., Up]) -> None:
    if missing := find_tools():
        pytest.skip(missing)
    run = up("--kafka", "apache")
    deadline = time.monotonic() + 30
    while not any("kafka.Kafka" in command for _, command in run.commands()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0, run.text
    assert_all_gone(children)
    assert os.path.basename(run.state_file) not in os.listdir(run.folder / ".tidings")
