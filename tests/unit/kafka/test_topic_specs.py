"""The table of topics against the words of the contract, and what counts as a difference."""

import pytest

from tidings.config import TopicSettings
from tidings.kafka.topic_specs import differences, specs

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
SETTINGS: dict[str, dict[str, int | str]] = {
    "modifications": {"retention.ms": 7 * DAY, "max.message.bytes": 4 * 1024 * 1024},
    "signals": {"retention.ms": 10 * MINUTE, "segment.ms": 5 * MINUTE},
    "sessions": {"cleanup.policy": "compact", "max.compaction.lag.ms": 10 * MINUTE},
    "notifications": {"retention.ms": 7 * DAY},
    "dead_letter": {"retention.ms": 14 * DAY, "max.message.bytes": 5 * 1024 * 1024},
}
ALL = {"message.timestamp.type": "LogAppendTime", "unclean.leader.election.enable": "false"}


def test_every_topic_has_the_settings_of_the_contract() -> None:
    found = {spec.role: spec for spec in specs(TopicSettings())}
    assert {role: dict(spec.settings) for role, spec in found.items()} == {
        role: {name: str(value) for name, value in settings.items()} | ALL for role, settings in SETTINGS.items()
    }
    assert {spec.partitions for spec in found.values()} == {12}


def test_names_and_partitions_are_those_of_the_settings() -> None:
    found = specs(TopicSettings(modifications="m", dead_letter="d", partitions=3), ["modifications", "dead_letter"])
    assert [(spec.role, spec.name, spec.partitions) for spec in found] == [
        ("modifications", "m", 3),
        ("dead_letter", "d", 3),
    ]


@pytest.mark.parametrize(
    ("partitions", "replication", "changed", "lines"),
    [
        (12, 3, {}, []),
        (13, 5, {}, []),  # more is no problem
        (11, 3, {}, ["topic signals has 11 partitions, wanted are 12"]),
        (12, 1, {}, ["topic signals has replication 1, wanted is 3"]),
        (12, 3, {"segment.ms": "7"}, ["topic signals has segment.ms=7, wanted is 300000"]),
        (12, 3, {"other": "x"}, []),
    ],
)
def test_differences_are_said_in_words(
    partitions: int, replication: int, changed: dict[str, str], lines: list[str]
) -> None:
    (spec,) = specs(TopicSettings(), ["signals"])
    found = differences(spec, partitions, replication, 3, {**spec.settings, **changed})
    assert [str(one) for one in found] == lines
