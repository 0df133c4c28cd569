"""The part about the messaging service: how fast it takes messages, relays them and brings them to web sockets."""

import asyncio
import contextlib
import http.client
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import asyncpg

from tidings.cli.bench.processes import BenchFault, Child, cpu_s, free_port, module
from tidings.cli.bench.rig import Rig
from tidings.cli.bench.shapes import users
from tidings.cli.bench.targets import GATEWAY, wait_ready
from tidings.messaging.migrating import migrate
from tidings.postgres import ladder

__all__ = ["Messaging", "Timed", "measure_messaging"]

_MEMBERS: Final = 10
_FLOOD_CONNECTIONS: Final = 16
_PACED_PER_S: Final = 200
_SYNCS: Final = 50
_PATIENCE_S: Final = 120.0
_NO_RATE: Final = {"TIDINGS_MESSAGING_MAX_REQUESTS_PER_S": "100000", "TIDINGS_MESSAGING_MAX_REQUESTS_BURST": "1000000"}
_OURS: Final = ("TIDINGS_MESSAGING_", "TIDINGS_JWT_", "TIDINGS_LOG_", "TIDINGS_MODIFICATIONS_", "TIDINGS_SIGNALS_")

_FILL: Final = """
INSERT INTO outbox (shard, key, event_id, value)
SELECT shard, key, event_id || '-' || number, value
FROM (SELECT shard, key, event_id, value, row_number() OVER () AS place FROM unnest($1::smallint[], $2::text[],
  $3::text[], $4::bytea[]) AS chat (shard, key, event_id, value)) AS chats, generate_series(1, $5::int) AS number
ORDER BY number, place
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """Many of one thing. Times in milliseconds."""

    what: str
    count: int
    per_s: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, what: str, times_ms: Sequence[float], span_s: float) -> "Timed":
        ranked = sorted(times_ms)
        at = [ranked[min(len(ranked) - 1, int(share * len(ranked)))] for share in (0.5, 0.99)]
        return cls(what, len(ranked), len(ranked) / span_s, *at)


@dataclass(frozen=True, slots=True)
class Messaging:
    """All that this part found.

    Attributes:
        relayed_per_s: Records from a full outbox into Kafka, acknowledged.
        cpu_ms_per_send: Of the messaging process, its relay included, while it took as many sends as it could.
    """

    postgres: str
    timed: Sequence[Timed]
    relayed_per_s: float
    cpu_ms_per_send: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Service:
    """The messaging service over HTTP, one call at a time."""

    def __init__(self, port: int, tokens: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._tokens = tokens

    def renew(self) -> None:
        """Connect anew with the next call: the service closes a connection that has asked for nothing for a while."""
        self._connection.close()

    def call(self, user: str, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._tokens[user]}", "Idempotency-Key": uuid.uuid4().hex}
        text = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            text = json.dumps(body)
        try:
            self._connection.request(method, "/v1.0" + path, text, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchFault(f"messaging: {method} {path}: {type(error).__name__}: {error}") from error
        if answer.status != 200:
            raise BenchFault(f"messaging: {method} {path} was answered with {answer.status}: {content[:300]!r}")
        return json.loads(content)["data"]


def measure_messaging(rig: Rig) -> Messaging:
    """One service, one gateway, one Postgres on this machine, all with their defaults but the rate per user."""
    options = rig.options
    people = users(options.chats * _MEMBERS + 1, options.seed)
    lonely = people.pop()
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(ladder.start(rig.directory / "postgres", log=rig.say))
        rig.say(postgres.describe())
        migrate(postgres.dsn)
        topics = stack.enter_context(rig.topics())
        target = stack.enter_context(rig.target(GATEWAY, topics, people))
        signer = rig.signer("HS256")
        tokens = dict(zip([*people, lonely], signer.tokens([*people, lonely]), strict=True))
        environment = {
            **rig.broker.environment(),
            **postgres.environment(),
            **signer.environment,
            "TIDINGS_MODIFICATIONS_TOPIC": topics.modifications,
            "TIDINGS_SIGNALS_TOPIC": topics.signals,
        }
        child, port = stack.enter_context(_messaging(rig, environment))
        service = _Service(port, tokens)
        chats = []
        for first in range(0, len(people), _MEMBERS):
            members = people[first : first + _MEMBERS]
            made = service.call(members[0], "POST", "/chat/group", {"name": f"chat {first}", "members": members})
            chats.append({"id": made["chat_id"], "members": members})
        plan = json.dumps({"chats": chats, "tokens": tokens})
        command = module("senders", "127.0.0.1", port, target.port)
        senders = stack.enter_context(Child("senders", command, rig.directory / "senders.log"))
        senders.ask(plan)
        timed: list[Timed] = []
        seconds = options.seconds
        senders.ask(f"flood {options.warm_up} {_FLOOD_CONNECTIONS}", options.warm_up + _PATIENCE_S)

        rig.say("sends, as many as it takes")
        before_s = cpu_s(child.pid)
        found = senders.ask(f"flood {seconds} {_FLOOD_CONNECTIONS}", seconds + _PATIENCE_S)
        _drained(postgres.dsn)
        cost_s = cpu_s(child.pid) - before_s
        timed.append(Timed.of("send to commit, flooded", found["sent_ms"], found["span_s"]))
        cpu_ms = cost_s / max(1, len(found["sent_ms"])) * 1000

        rig.say(f"{_PACED_PER_S} sends a second, to a member's web socket")
        found = senders.ask(f"pace {seconds} {_PACED_PER_S}", seconds + _PATIENCE_S)
        if len(found["arrived_ms"]) != len(found["sent_ms"]):
            raise BenchFault(f"{len(found['sent_ms'])} messages sent, {len(found['arrived_ms'])} arrived")
        timed.append(Timed.of(f"send to commit, {_PACED_PER_S}/s", found["sent_ms"], found["span_s"]))
        timed.append(Timed.of(f"send to web socket, {_PACED_PER_S}/s", found["arrived_ms"], found["span_s"]))

        rig.say(f"{options.relayed:,} rows of the outbox into Kafka")
        relayed_s = _relay(postgres.dsn, chats, options.relayed)

        rig.say(f"sync of {options.synced_chats:,} chats")
        service.renew()
        timed += _sync(service, lonely, people, options.synced_chats)
    return Messaging(postgres.what, timed, options.relayed / relayed_s, cpu_ms)


@contextlib.contextmanager
def _messaging(rig: Rig, environment: Mapping[str, str]) -> Iterator[tuple[Child, int]]:
    port, admin = free_port(), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    env |= {
        "TIDINGS_MESSAGING_HOST": "127.0.0.1",
        "TIDINGS_MESSAGING_PORT": str(port),
        "TIDINGS_MESSAGING_ADMIN_PORT": str(admin),
        "TIDINGS_LOG_FORMAT": "json",
        **_NO_RATE,
        **environment,
    }
    command = [sys.executable, "-m", "tidings.cli", "messaging"]
    with Child("messaging", command, rig.directory / "messaging.log", env) as child:
        wait_ready(child, admin)
        yield child, port


def _drained(dsn: str) -> float:
    """Wait until the outbox is empty; the moment."""

    async def wait() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
        finally:
            await connection.close()

    asyncio.run(wait())
    return time.monotonic()


def _relay(dsn: str, chats: Sequence[Mapping[str, Any]], count: int) -> float:
    """Fill the outbox in one transaction and see how long it takes to empty, from the commit on."""
    from tidings.contract.record import encode
    from tidings.messaging.domain.modification import shard_of

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            keys = [chat["id"] for chat in chats]
            values = [encode(chat["members"], "update", {"chat_id": chat["id"], "text": "x" * 400}) for chat in chats]
            shards = [shard_of(key) for key in keys]
            await connection.execute(_FILL, shards, keys, keys, values, count // len(chats))
        finally:
            await connection.close()

    asyncio.run(fill())
    began = time.monotonic()
    return _drained(dsn) - began


def _sync(service: _Service, user: str, people: Sequence[str], chats: int) -> list[Timed]:
    for number in range(chats):
        body = {"name": f"chat {number}", "members": [user, people[number % len(people)]]}
        last = service.call(user, "POST", "/chat/group", body)
    pages_ms: list[float] = []
    since, more = "", True
    while more:
        began = time.perf_counter()
        page = service.call(user, "GET", f"/sync?since={since}" if since else "/sync")
        pages_ms.append((time.perf_counter() - began) * 1000)
        since, more = page["next"], page.get("more", False)
    times_ms = []
    for _ in range(_SYNCS):
        service.call(user, "POST", f"/chat/group/{last['chat_id']}/update/message/text", {"text": "one more"})
        began = time.perf_counter()
        page = service.call(user, "GET", f"/sync?since={since}")
        times_ms.append((time.perf_counter() - began) * 1000)
        since = page["next"]
    whole = Timed(
        f"sync of {chats:,} chats, all {len(pages_ms)} pages",
        1,
        1000 / sum(pages_ms),
        sum(pages_ms),
        statistics.fmean(pages_ms),
    )
    return [
        Timed.of(f"sync after one message, {chats:,} chats", times_ms, sum(times_ms) / 1000),
        whole,
    ]
