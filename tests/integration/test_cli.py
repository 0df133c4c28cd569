"""The commands beside `up`, as processes, against real Kafka and real gateways."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.integration.processes import SECRET, GatewayFactory, environment, topic_environment
from tests.integration.receiving import Receiver
from tidings.closing import ADVICE, CloseCode
from tidings.config import TopicSettings
from tidings.contract.record import MAX_VALUE_BYTES
from tidings.kafka import topics as kafka_topics
from tidings.kafka.ladder import Broker

Tidings = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tidings(tmp_path: Path) -> Tidings:
    """Runs a command in an empty folder; `stdin` and further variables by name."""

    def run(*arguments: str, stdin: str | None = None, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tidings.cli", *arguments],
            cwd=tmp_path,
            env=environment(**environ),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


def read_all(kafka: Broker, topic: str, partitions: int) -> list[Message]:
    """Every record of the topic."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "unused", "enable.auto.commit": False}
    )
    records = []
    for number in range(partitions):
        partition = TopicPartition(topic, number, 0)
        low, high = consumer.get_watermark_offsets(partition, timeout=10)
        consumer.assign([partition])
        records += consumer.consume(high - low, timeout=20) if high > low else []
    consumer.close()
    return records


@pytest.mark.kafka
def test_topics_are_made_with_the_settings_of_the_contract(
    tidings: Tidings, kafka: Broker, topic_settings: TopicSettings
) -> None:
    environ = {**kafka.environment(), **topic_environment(topic_settings)}
    before = tidings("topics", "check", **environ)
    assert before.returncode == 1
    assert before.stdout.count("is missing") == 5
    assert tidings("topics", "create", **environ).stdout.count(": made") == 5
    assert tidings("topics", "create", **environ).stdout.count(": was there") == 5
    after = tidings("topics", "check", **environ)
    assert after.returncode == 0, after.stdout
    wanting_more = {**environ, "TIDINGS_TOPIC_PARTITIONS": "9"}
    assert "has 4 partitions, wanted are 9" in tidings("topics", "check", **wanting_more).stdout


@pytest.mark.kafka
def test_a_topic_made_anew_has_another_id(kafka: Broker, topics: TopicSettings) -> None:
    ids = kafka_topics.topic_ids(kafka.settings, [topics.modifications, "no-such-topic"])
    assert ids["no-such-topic"] is None
    first = ids[topics.modifications]
    assert first
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([topics.modifications])[topics.modifications].result(20)
    kafka_topics.create(kafka.settings, topics)
    deadline = time.monotonic() + 20  # both reach the broker's own view a moment after they are confirmed
    second: str | None = first
    while second in (first, None):
        assert time.monotonic() < deadline, second
        second = kafka_topics.topic_ids(kafka.settings, [topics.modifications])[topics.modifications]


@pytest.mark.kafka
def test_produced_bytes_are_the_bytes_of_the_file(tidings: Tidings, kafka: Broker, topics: TopicSettings) -> None:
    environ = {**kafka.environment(), **topic_environment(topics)}
    lines = ['{"receivers":["a"],"type":"t","data":{"x": 1.0}}', '{ "type":"t", "data":"é\\u00e9","receivers":[1] }']
    done = tidings("produce", "-", "--count", "5", "--rate", "50", "--key", "chat", stdin="\n\n".join(lines), **environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("5 of 5 records in")
    records = read_all(kafka, topics.modifications, topics.partitions)
    assert [(record.value() or b"").decode() for record in records] == [*lines, *lines, lines[0]]
    assert len({record.partition() for record in records}) == 1


@pytest.mark.kafka
def test_poison_is_refused_by_line_before_anything_is_sent(
    tidings: Tidings, kafka: Broker, topics: TopicSettings
) -> None:
    environ = {**kafka.environment(), **topic_environment(topics)}
    content = '{"receivers":["a"],"type":"t","data":1}\n\n{"receivers":["a"],"type":"$t","data":1}\nno json'
    refused = tidings("produce", "-", stdin=content, **environ)
    assert refused.returncode == 1
    assert "line 3: type_reserved" in refused.stderr
    assert "line 4: not_json" in refused.stderr
    assert read_all(kafka, topics.modifications, topics.partitions) == []
    assert tidings("produce", "-", "--raw", stdin=content, **environ).returncode == 0
    assert len(read_all(kafka, topics.modifications, topics.partitions)) == 3


@pytest.mark.kafka
def test_one_record_that_no_reader_may_accept_is_sent_with_raw_only(
    tidings: Tidings, kafka: Broker, topics: TopicSettings
) -> None:
    environ = {**kafka.environment(), **topic_environment(topics)}
    reserved = ("produce", "--to", "ann", "--to", "é", "--type", "$x", "--data", "[1.50]")
    broken = ("produce", "--to", "ann", "--type", "", "--data", "{")
    for command, fault in ((reserved, "type_reserved"), (broken, "that is no JSON")):
        refused = tidings(*command, **environ)
        assert refused.returncode in {1, 2}
        assert fault in refused.stderr
    assert read_all(kafka, topics.modifications, topics.partitions) == []
    for command in (reserved, broken):
        done = tidings(*command, "--raw", **environ)
        assert done.returncode == 0, done.stderr
    sent = {(record.value() or b"").decode() for record in read_all(kafka, topics.modifications, topics.partitions)}
    assert sent == {
        '{"receivers":["ann","é"],"type":"$x","data":[1.50]}',
        '{"receivers":["ann"],"type":"","data":{}',
    }


@pytest.mark.kafka
def test_a_value_of_the_greatest_size_is_sent_and_a_greater_one_with_raw_only(
    tidings: Tidings, kafka: Broker, topics: TopicSettings
) -> None:
    environ = {**kafka.environment(), **topic_environment(topics)}
    head, tail = '{"receivers":["ann"],"type":"t","data":"', '"}'
    greatest = head + "x" * (MAX_VALUE_BYTES - len(head + tail)) + tail
    done = tidings("produce", "-", stdin=greatest, **environ)
    assert done.returncode == 0, done.stderr
    greater = greatest.replace("xx", "xxx", 1)
    refused = tidings("produce", "-", stdin=greater, **environ)
    assert "line 1: value_too_big" in refused.stderr
    done = tidings("produce", "-", "--raw", stdin=greater, **environ)
    assert done.returncode == 0, done.stderr
    sizes = sorted(len(record.value() or b"") for record in read_all(kafka, topics.modifications, topics.partitions))
    assert sizes == [MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1]


@pytest.mark.kafka
@pytest.mark.parametrize("from_file", [False, True])
async def test_an_order_to_disconnect_is_taken_for_signals_and_obeyed(
    tidings: Tidings, kafka: Broker, topics: TopicSettings, gateway: GatewayFactory, from_file: bool
) -> None:
    environ = {**kafka.environment(), **topic_environment(topics)}
    order = ["--to", "ann", "--type", "$disconnect", "--data", '{"reason":"asked to"}']
    stdin = None
    if from_file:
        order, stdin = ["-"], '{"receivers":["ann"],"type":"$disconnect","data":{"reason":"asked to"}}\n'
    refused = await asyncio.to_thread(tidings, "produce", *order, stdin=stdin, **environ)
    assert refused.returncode == 1
    assert "type_reserved" in refused.stderr
    node = gateway()
    async with Receiver(node, "ann") as ann, Receiver(node, "bob") as bob:
        done = await asyncio.to_thread(tidings, "produce", "--topic", topics.signals, *order, stdin=stdin, **environ)
        assert done.returncode == 0, done.stderr
        async with asyncio.timeout(10):
            while ann.open:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        assert ann.close_code == 4002
        assert bob.open


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["--v1", "--plain", "--sse"])
def test_tail_shows_what_was_produced_and_where_it_came_from(
    tmp_path: Path, gateway: GatewayFactory, gateway_environment: dict[str, str], mode: str
) -> None:
    nodes = [gateway(), gateway()]
    options = [part for node in nodes for part in ("--gateway", node.url)]
    tail = subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "tail", "ann", mode, "--count", "2", "--timeout", "30", *options],
        env=gateway_environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    lines: list[str] = []
    while sum('"connected"' in line for line in lines) < 2:
        lines.append(tail.stdout.readline())
    produce = [sys.executable, "-m", "tidings.cli", "produce", "--to", "ann", "--type", "note", "--data", "[1.50]"]
    subprocess.run(produce, env=gateway_environment, check=True, timeout=60)
    lines += tail.communicate(timeout=40)[0].splitlines()
    assert tail.returncode == 0
    notes = [line for line in lines if '"type":"note"' in line]
    assert all('"data":[1.50]' in line for line in notes)
    assert {json.loads(line)["node"] for line in notes} == {node.url.removeprefix("http://") for node in nodes}


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["--v1", "--plain", "--sse"])
def test_tail_that_is_disconnected_says_so_and_does_not_come_back(
    tmp_path: Path, topics: TopicSettings, gateway: GatewayFactory, gateway_environment: dict[str, str], mode: str
) -> None:
    node = gateway()
    options = ["--count", "3", "--timeout", "30", "--gateway", node.url]
    tail = subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "tail", "ann", mode, *options],
        env=gateway_environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    while '"connected"' not in tail.stdout.readline():
        pass
    produce = [sys.executable, "-m", "tidings.cli", "produce", "--to", "ann"]
    subprocess.run(produce, env=gateway_environment, check=True, timeout=60)
    while '"type":"update"' not in tail.stdout.readline():
        pass
    order = [*produce, "--topic", topics.signals, "--type", "$disconnect", "--data", '{"reason":"asked to"}']
    subprocess.run(order, env=gateway_environment, check=True, timeout=60)
    out, error = tail.communicate(timeout=40)
    assert tail.returncode == 1, error
    assert error.startswith("Error: 1 of 3 frames arrived before the end; ")
    assert f"{node.url.removeprefix('http://')}: closed 4002. An operator ended the session" in error
    assert "again in" not in out


@pytest.mark.parametrize("counted", [True, False])
async def test_tail_ends_with_an_error_once_every_node_asked_it_not_to_come_back(
    tidings: Tidings, counted: bool
) -> None:
    connects: list[int] = []

    def closing(code: int) -> Callable[[ServerConnection], Awaitable[None]]:
        async def answer(connection: ServerConnection) -> None:
            connects.append(code)
            await connection.send('{"type":"t","data":1}')
            await connection.close(code)

        return answer

    async with contextlib.AsyncExitStack() as stack:
        options = ["--count", "9"] if counted else []
        protocols = [Subprotocol("tidings.v1")]
        for code in (1002, 4001, 4002):
            server = await stack.enter_async_context(serve(closing(code), "127.0.0.1", 0, subprotocols=protocols))
            options += ["--gateway", f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"]
        done = await asyncio.to_thread(tidings, "tail", "--token", "x", "--timeout", "30", *options)
    assert done.returncode == 1
    arrived = "3 of 9 frames" if counted else "3 frames"
    assert done.stderr.startswith(f"Error: {arrived} arrived before the end; ")
    for code in (1002, 4001, 4002):
        assert f": closed {code}. {ADVICE[CloseCode(code)].rstrip('.')}" in done.stderr
    assert sorted(connects) == [1002, 4001, 4002]


@pytest.mark.kafka
def test_a_secret_with_white_space_around_it_is_one_secret_everywhere(
    tidings: Tidings, gateway: GatewayFactory, gateway_environment: dict[str, str]
) -> None:
    environ = {"TIDINGS_JWT_SECRET": f"{SECRET}\n"}
    node = gateway(environ=environ)
    made = tidings("token", "ann", **environ)
    assert made.returncode == 0, made.stderr
    request = urllib.request.Request(f"{node.url}/sse", headers={"Authorization": f"Bearer {made.stdout.strip()}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.kafka
def test_tail_says_why_it_is_refused(tidings: Tidings, gateway: GatewayFactory) -> None:
    foreign = jwt.encode({"sub": "ann", "exp": 4_000_000_000}, "another secret, long enough for the algorithm", "HS256")
    refused = tidings("tail", "--token", foreign, "--gateway", gateway().url)
    assert refused.returncode == 1
    assert "refused with 401 invalid_token" in refused.stderr
    assert foreign not in refused.stderr


def test_token_prints_the_token_and_nothing_else(tidings: Tidings) -> None:
    done = tidings(
        "token",
        "ann",
        "--name",
        "Ann",
        "--ttl",
        "60",
        TIDINGS_JWT_SECRET=SECRET,
        TIDINGS_JWT_AUDIENCE="chat",
        TIDINGS_JWT_USER_CLAIM="uid",
    )
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], audience="chat")
    assert (claims["uid"], claims["name"], claims["exp"] - claims["iat"]) == ("ann", "Ann", 60)


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["token", "ann"], {}, "TIDINGS_JWT_SECRET: not set"),
        (["token", "ann"], {"TIDINGS_JWT_SECRET": "short"}, "TIDINGS_JWT_SECRET: "),
        (["token", "ann"], {"TIDINGS_JWT_JWKS_URL": "https://issuer.example/jwks"}, "TIDINGS_JWT_JWKS_URL: "),
        (["produce", "--to", "ann"], {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "does not answer"),
        (["topics", "check"], {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "http://x"}, "TIDINGS_KAFKA_BOOTSTRAP_SERVERS: "),
        (["tail"], {}, "give a USER"),
        (["produce"], {}, "give either --to"),
        (["produce", "--to", "ann", "--data", "{"], {}, "that is no JSON"),
        (["tail", "--token", "x", "--gateway", "ftp://x"], {}, "is no address like"),
    ],
)
def test_errors_are_words_without_a_traceback(
    tidings: Tidings, arguments: list[str], environ: dict[str, str], said: str
) -> None:
    done = tidings(*arguments, **environ)
    assert done.returncode in {1, 2}
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    ["up", "gateway", "topics", "topics create", "topics check", "token", "produce", "tail", "doctor", "page"],
)
def test_every_help_has_an_example(tidings: Tidings, arguments: str) -> None:
    done = tidings(*arguments.split(), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout or arguments == "topics"


def test_print_settings_finds_no_fault_in_what_the_service_does_not_read(tidings: Tidings) -> None:
    faults = {"TIDINGS_GATEWAY_PORT": "eighty", "TIDINGS_MESSAGING_PORT": "eighty"}
    for service, foreign, dsn in (("gateway", "messaging", "mysql://x"), ("messaging", "gateway", "postgresql://h/x")):
        environ = {**faults, "TIDINGS_JWT_SECRET": SECRET, "TIDINGS_POSTGRES_DSN": dsn}
        refused = tidings(service, "--print-settings", **environ)
        assert refused.returncode == 2
        assert foreign.upper() not in refused.stderr
        shown = tidings(service, "--print-settings", **{**environ, f"TIDINGS_{service.upper()}_PORT": "8000"})
        assert shown.returncode == 0, shown.stderr
        assert f"TIDINGS_{service.upper()}_PORT" in shown.stdout
        assert f"TIDINGS_{foreign.upper()}_PORT" not in shown.stdout


def test_print_settings_shows_every_setting_and_no_secret(tidings: Tidings) -> None:
    done = tidings("gateway", "--print-settings", TIDINGS_JWT_SECRET=SECRET, TIDINGS_GATEWAY_DRAIN_S="3")
    assert done.returncode == 0, done.stderr
    assert "TIDINGS_GATEWAY_DRAIN_S" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_doctor_names_each_thing(tidings: Tidings) -> None:
    done = tidings("doctor")
    assert done.returncode in {0, 1}  # 1 if another process listens on one of the default ports
    for name in ("python", "java", "mvn", "docker", "chromium", "kcat", "port 8080", "open files", "kafka"):
        assert name in done.stdout
