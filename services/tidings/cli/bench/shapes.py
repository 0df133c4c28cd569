"""The shapes that are measured: who is connected, how wide and how fast records come, and what a record holds."""

import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["SHAPES", "TS_DIGITS", "WINDOW_SHAPES", "Load", "Shape", "load_of", "users"]

TS_DIGITS: Final = 19
"""Digits of nanoseconds since 1970, from 2001 to 2286: the stamp never changes the length of a record."""

POOL: Final = 2_000
"""Different records of a run. A longer run takes them again from the first."""

_CHATS: Final = 200
_TEXTS: Final = (
    "Are we still on for Thursday?",
    "I'll be ten minutes late, start without me",
    "Voilà, c'est parti 🎉",
    "Can someone send me the slides from this morning, please?",
    "ok",
    "The train is stuck again, see you at the second session then",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """`connections` sockets of as many users; `rate` records per second, each for `receivers` of the users."""

    connections: int
    receivers: int
    rate: int

    @property
    def name(self) -> str:
        return f"{self.connections}x{self.receivers}@{self.rate}"

    @property
    def deliveries_per_s(self) -> int:
        return self.receivers * self.rate


SHAPES: Final = (
    Shape(1_000, 100, 200),
    Shape(1_000, 100, 400),
    Shape(1_000, 100, 1_000),
    Shape(1_000, 2, 2_000),
    Shape(10_000, 10, 500),
)

WINDOW_SHAPES: Final = (Shape(1_000, 10, 10_000), Shape(1_000, 100, 2_500))
"""What the window is measured with; `connections` are the users that records are for, few of them connected."""


@dataclass(frozen=True, slots=True)
class Load:
    """The records of a run, up to the time stamp, and who gets each.

    Attributes:
        keys: The Kafka key of record i: a chat id.
        heads: The value's bytes before the stamp.
        tails: The value's bytes after it.
        receivers: Indexes into the users, all different.
    """

    keys: Sequence[bytes]
    heads: Sequence[bytes]
    tails: Sequence[bytes]
    receivers: Sequence[Sequence[int]]

    def expected(self, connections: int, first: int, count: int) -> list[int]:
        """Frames due to each connection for the records `first` to `first + count - 1`."""
        frames = [0] * connections
        whole, rest = divmod(count, len(self.heads))
        for index, receivers in enumerate(self.receivers):
            times = whole + ((index - first) % len(self.heads) < rest)
            for user in receivers:
                frames[user] += times
        return frames


def users(count: int, seed: int = 1) -> list[str]:
    """User ids as a messenger has them: UUIDs, the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311  a reproducible load, no secret
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]


def load_of(shape: Shape, people: Sequence[str], seed: int = 1) -> Load:
    """The records of a shape, the same for the same seed: text messages of about 200 bytes of `data`.

    The stamp is a member `ts` of `data`, early in it as an id or a time would be. Keys are chat ids, so records
    spread over all partitions as they do in service.
    """
    rng = random.Random(seed)  # noqa: S311
    chats = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(_CHATS)]
    keys, heads, tails, receivers = [], [], [], []
    for number in range(POOL):
        chat = rng.choice(chats)
        chosen = rng.sample(range(len(people)), shape.receivers)
        value = {
            "receivers": [people[index] for index in chosen],
            "type": "update",
            "data": {
                "chat_id": chat,
                "update_id": number + 1,
                "ts": 0,
                "type": "text_message",
                "sender_id": people[chosen[0]],
                "created_at": 1_764_867_600,
                "content": {"text": rng.choice(_TEXTS)},
            },
        }
        head, mark, tail = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode().partition(b'"ts":0,')
        keys.append(chat.encode())
        heads.append(head + b'"ts":')
        tails.append(mark[-1:] + tail)
        receivers.append(chosen)
    return Load(keys, heads, tails, receivers)
