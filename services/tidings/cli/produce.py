"""`tidings produce`: records from options, a file or stdin to the topic."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidings.cli.state import kafka_settings
from tidings.config import KafkaSettings
from tidings.contract.record import Record, decode, decode_signal, encode, encode_signal
from tidings.errors import BrokerUnavailable, ContractError
from tidings.kafka.connection import librdkafka_options

__all__ = ["Sender", "check_all", "produce", "split_records"]

_MAX_MESSAGE_BYTES: Final = 5 * 1024 * 1024
"""The most that any of our topics takes; librdkafka's own limit is below the contract's 1 MiB for a value."""


@click.command(short_help="Send records to the topic.")
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--to", "receivers", multiple=True, metavar="USER", help="A receiver's id; repeat it for several.")
@click.option("--type", "kind", default="update", show_default=True, help="The record's type.")
@click.option("--data", default="{}", show_default=True, metavar="JSON", help="The record's data; sent byte for byte.")
@click.option("--key", help="Kafka key, as a rule the chat's id: one key, one order.")
@click.option("--id", "record_id", help="Header `id`: a repeat of it within 10 minutes is delivered to nobody.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Records per second. [default: as fast as it goes]"
)
@click.option("--count", type=click.IntRange(1), help="How many in all, starting over at the end. [default: each once]")
@click.option(
    "--topic",
    help="On `signals`, types that begin with $ are taken. [default: TIDINGS_MODIFICATIONS_TOPIC, modifications]",
)
@click.option("--raw", is_flag=True, help="Send also what no reader may accept (poison).")
@click.pass_obj
def produce(
    state_dir: Path,
    file: BinaryIO | None,
    receivers: tuple[str, ...],
    kind: str,
    data: str,
    key: str | None,
    record_id: str | None,
    rate: float | None,
    count: int | None,
    topic: str | None,
    raw: bool,
) -> None:
    """Send one record (--to, --type, --data), or those in FILE, or on stdin (FILE is -).

    FILE holds one record per line, {"receivers":[...],"type":"...","data":...}, or a single record over many lines.
    All are checked before the first is sent; a faulty one is named with its line.

    \b
    Examples:
      tidings produce --to alice --to bob --data '{"text":"Hello"}'
      tidings produce records.jsonl --rate 200 --count 10000
      tidings produce --topic signals --to alice --type '$disconnect' --data '{"reason":"asked to"}'
    """
    kafka, names = kafka_settings(state_dir, os.environ)
    topic = topic or names.modifications
    signals = topic == names.signals
    if (file is None) == (not receivers):
        raise click.UsageError("give either --to (one record) or a FILE of records; - is stdin")
    if file is not None:
        records = list(split_records(file.read()))
        if not records:
            raise click.ClickException("no record in it")
        if not raw:
            check_all(records, decode_signal if signals else decode)
    else:
        content = _bytes(data)
        write = encode_signal if signals else encode
        records = [
            (0, _unchecked(receivers, kind, content) if raw else _checked(receivers, kind, content, write)),
        ]
    sender = Sender(kafka, topic)
    values = [value for _, value in records]
    total = count or len(values)
    started = time.monotonic()
    console = Console(stderr=True)
    try:
        with _progress(console, total) as progress:
            task = progress.add_task("sending", total=total)
            for number in _paced(total, rate):
                sender.send(values[number % len(values)], key, record_id)
                progress.update(task, completed=sender.acknowledged)
            sender.finish()
            progress.update(task, completed=sender.acknowledged)
    except KeyboardInterrupt:
        sender.finish()
    took = time.monotonic() - started
    click.echo(f"{sender.acknowledged} of {total} records in {sender.topic}, {took:.2f} s", err=True)
    if sender.acknowledged < total:
        raise SystemExit(1)


def split_records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Each record with the number of its line (from 1); blank lines don't count.

    A content of which only the whole is JSON is one record.
    """
    lines = [(number, line.strip()) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if len(lines) > 1 and not _is_json(lines[0][1]) and _is_json(content):
        yield lines[0][0], content.strip()
        return
    yield from lines


def check_all(records: Iterable[tuple[int, bytes]], read: Callable[[bytes], Record] = decode) -> None:
    """Refuse poison.

    Args:
        read: As the topic's readers do.
    Raises:
        click.ClickException: Names up to five lines and each one's fault.
    """
    faults = []
    for number, value in records:
        try:
            read(value)
        except ContractError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise click.ClickException(f"nothing was sent: {'; '.join(faults[:5])}{more} (--raw sends them all the same)")


class Sender:
    """Produces with acknowledgement by all replicas and counts what was acknowledged."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        """Check that the topic is there.

        Raises:
            BrokerUnavailable: No answer, or no such topic.
        """
        self.topic = topic
        self.acknowledged = 0
        self._failure: KafkaError | None = None
        self._kafka = kafka
        # The partitioner of Java's and aiokafka's clients: one key, one partition, whoever produces.
        self._producer = Producer(
            {
                **librdkafka_options(kafka),
                "acks": "all",
                "linger.ms": 2,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "partitioner": "murmur2_random",
            }
        )
        try:
            found = self._producer.list_topics(topic, timeout=10).topics[topic]
        except KafkaException as error:
            raise BrokerUnavailable(f"Kafka at {kafka.bootstrap_servers} does not answer") from error
        if found.error is not None:
            raise BrokerUnavailable(f"topic {topic} at {kafka.bootstrap_servers}: {found.error.str()}")

    def send(self, value: bytes, key: str | None = None, record_id: str | None = None) -> None:
        """Hand one value over; waits while librdkafka's queue is full.

        Raises:
            BrokerUnavailable: An earlier one was refused.
        """
        headers: list[tuple[str, str | bytes | None]] = [("id", record_id.encode())] if record_id is not None else []
        while True:
            if self._failure is not None:
                raise BrokerUnavailable(f"Kafka refused a record: {self._failure.str()}")
            try:
                self._producer.produce(self.topic, value, key=key, headers=headers, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise BrokerUnavailable(f"Kafka refused a record: {error.args[0].str()}") from error
            else:
                self._producer.poll(0)
                return

    def finish(self, timeout_s: float = 30) -> None:
        """Wait until all are acknowledged.

        Raises:
            BrokerUnavailable: One was refused, or the time is over.
        """
        waiting = self._producer.flush(timeout_s)
        if self._failure is not None:
            raise BrokerUnavailable(f"Kafka refused a record: {self._failure.str()}")
        if waiting:
            raise BrokerUnavailable(f"Kafka did not acknowledge {waiting} records within {timeout_s:g} s")

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self._failure = self._failure or error


def _checked(receivers: Sequence[str], kind: str, data: bytes, write: Callable[..., bytes]) -> bytes:
    if not _is_json(data):
        raise click.BadParameter("that is no JSON; a text needs its quotes: '\"hello\"'", param_hint="--data")
    try:
        return write(receivers, kind, data)
    except ContractError as error:
        raise click.ClickException(f"nothing was sent: {error} (--raw sends it all the same)") from error


def _unchecked(receivers: Sequence[str], kind: str, data: bytes) -> bytes:
    """The shape of a record, whatever its parts are; bytes of the command line that are no UTF-8 stay what they are."""
    names, name = (_bytes(json.dumps(part, ensure_ascii=False, separators=(",", ":"))) for part in (receivers, kind))
    return b'{"receivers":%b,"type":%b,"data":%b}' % (names, name, data)


def _bytes(argument: str) -> bytes:
    """As they stood on the command line."""
    return argument.encode("utf-8", "surrogateescape")


def _is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return True


def _paced(total: int, rate: float | None) -> Iterator[int]:
    """0 to `total` - 1, each no earlier than its time; does not try to catch up by bursts of more than 0.1 s."""
    started = time.monotonic()
    for number in range(total):
        if rate is not None:
            ahead = started + number / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif ahead < -0.1:
                started -= ahead
        yield number


def _progress(console: Console, total: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal or total < 2,
    )
