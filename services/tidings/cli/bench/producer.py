"""The producing process: a shape's records at a fixed rate, each stamped when it is handed to librdkafka.

`python -m tidings.cli.bench.producer BOOTSTRAP TOPIC CONNECTIONSxRECEIVERS@RATE SEED`. Each line `COUNT [RATE]` on
standard input sends that many records on and is answered with one JSON line; it ends with its input.
"""

import json
import sys
import time
from typing import Any

from confluent_kafka import Producer

from tidings.cli.bench.schedule import Schedule
from tidings.cli.bench.shapes import Load, Shape, load_of, users

__all__ = ["main"]


def options_of(bootstrap: str) -> dict[str, Any]:
    """acks=all, so that what is counted as sent is readable; nothing waits in the producer to form a batch."""
    return {
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "linger.ms": 0,
        "delivery.report.only.error": True,
        "compression.type": "none",
    }


def send(producer: Any, topic: str, load: Load, first: int, schedule: Schedule) -> dict[str, Any]:
    """Send records `first`, `first + 1`, … by the schedule and wait until all are acknowledged.

    Returns:
        sent, errors, span_s, and late_ms: by how much the latest record missed its time. The stamp is the time of
        the call, not the due time: what this process is late by is told apart from what the gateway is.
    """
    errors: list[str] = []

    def failed(error: Any, _message: Any) -> None:
        errors.append(str(error))

    sent, late_ns = 0, 0
    keys, heads, tails, size = load.keys, load.heads, load.tails, len(load.heads)
    while sent < schedule.total:
        now = time.monotonic_ns()
        due = schedule.due(now)
        if due > sent:
            late_ns = max(late_ns, now - schedule.due_ns(sent))
        while sent < due:
            at = (first + sent) % size
            value = b"%b%d%b" % (heads[at], time.time_ns(), tails[at])
            producer.produce(topic, value, keys[at], on_delivery=failed)
            sent += 1
        producer.poll(0)
        if sent < schedule.total:
            pause = schedule.due_ns(sent) - time.monotonic_ns()
            if pause > 0:
                time.sleep(pause / 1e9)
    left = producer.flush(30)
    return {
        "sent": sent,
        "errors": len(errors) + left,
        "error": errors[0] if errors else "",
        "span_s": (time.monotonic_ns() - schedule.start_ns) / 1e9,
        "late_ms": late_ns / 1e6,
    }


def main(bootstrap: str, topic: str, name: str, seed: int) -> None:
    connections, _, rest = name.partition("x")
    receivers, _, rate = rest.partition("@")
    shape = Shape(int(connections), int(receivers), int(rate))
    load = load_of(shape, users(shape.connections, seed), seed)
    producer = Producer(options_of(bootstrap))
    producer.list_topics(topic, timeout=30)
    _say({"ready": True})
    first = 0
    for line in sys.stdin:
        count, *own_rate = line.split()
        rate_now = float(own_rate[0]) if own_rate else float(shape.rate)
        schedule = Schedule(time.monotonic_ns(), rate_now, int(count))
        _say(send(producer, topic, load, first, schedule) | {"cpu_ms": round(time.process_time() * 1000)})
        first += int(count)


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
