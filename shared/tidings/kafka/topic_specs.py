"""What each topic of Tidings must be like, and in which points one that is there differs from that. Asks no broker."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tidings.config import TopicSettings

__all__ = ["ROLES", "SPECS", "Difference", "Role", "TopicSpec", "differences", "specs"]

Role = Literal["modifications", "signals", "sessions", "notifications", "dead_letter"]

ROLES: Final[tuple[Role, ...]] = ("modifications", "signals", "sessions", "notifications", "dead_letter")

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_MIB: Final = 1024 * 1024
_COMMON: Final = {
    # Retention, the window of repeated ids and the latency metric all go by the broker's time.
    "message.timestamp.type": "LogAppendTime",
    # A leader without all acknowledged records would take back offsets that clients hold cursors to.
    "unclean.leader.election.enable": "false",
}

SPECS: Final[Mapping[Role, Mapping[str, str]]] = {
    "modifications": {"retention.ms": str(7 * _DAY_MS), "max.message.bytes": str(4 * _MIB)},
    "signals": {"retention.ms": str(10 * _MINUTE_MS), "segment.ms": str(5 * _MINUTE_MS)},
    "sessions": {"cleanup.policy": "compact", "max.compaction.lag.ms": str(10 * _MINUTE_MS)},
    "notifications": {"retention.ms": str(7 * _DAY_MS)},
    # Larger than `modifications`: the same value with our headers must fit.
    "dead_letter": {"retention.ms": str(14 * _DAY_MS), "max.message.bytes": str(5 * _MIB)},
}
"""What each topic needs beyond the broker's defaults and `_COMMON`, as Kafka's topic settings."""


@dataclass(frozen=True)
class TopicSpec:
    """What one topic must be like.

    Attributes:
        role: What it is for.
        name: As configured.
        partitions: Wanted at creation; a topic may have more, since partitions can be added while all runs.
        settings: Kafka's topic settings.
    """

    role: Role
    name: str
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """One point in which a topic is not as it must be; `str` of it says so in words.

    Attributes:
        topic: Its name.
        setting: One of Kafka's topic settings, or `partitions`, `replication`, `exists`.
        found: None where the broker does not know the setting.
        wanted: Of `partitions` and `replication` the least.
    """

    topic: str
    setting: str
    found: str | None
    wanted: str

    def __str__(self) -> str:
        match self.setting:
            case "exists":
                return f"topic {self.topic} is missing; `tidings topics create` makes it"
            case "partitions":
                return f"topic {self.topic} has {self.found} partitions, wanted are {self.wanted}"
            case "replication":
                return f"topic {self.topic} has replication {self.found}, wanted is {self.wanted}"
        return f"topic {self.topic} has {self.setting}={self.found}, wanted is {self.wanted}"


def specs(topics: TopicSettings, roles: Collection[Role] = ROLES) -> list[TopicSpec]:
    """The topics with these roles, under their configured names."""
    return [
        TopicSpec(role, getattr(topics, role), topics.partitions, {**_COMMON, **SPECS[role]})
        for role in ROLES
        if role in roles
    ]


def differences(
    spec: TopicSpec, partitions: int, replication: int, wanted_replication: int, settings: Mapping[str, str]
) -> list[Difference]:
    """How an existing topic differs from its spec. More partitions or replicas are no problem."""
    found = []
    if partitions < spec.partitions:
        found.append(Difference(spec.name, "partitions", str(partitions), str(spec.partitions)))
    if replication < wanted_replication:
        found.append(Difference(spec.name, "replication", str(replication), str(wanted_replication)))
    for name, wanted in spec.settings.items():
        if (actual := settings.get(name)) != wanted:
            found.append(Difference(spec.name, name, actual, wanted))
    return found
