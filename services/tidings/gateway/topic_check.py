"""Whether the topics that a node reads are as they must be: looked at once, told in the log, and nothing else."""

import threading
from typing import Final

import structlog

from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka.topic_specs import Role
from tidings.kafka.topics import compare

__all__ = ["check_topics"]

log = structlog.get_logger(__name__)

_READ: Final[tuple[Role, ...]] = ("modifications", "signals")


def check_topics(kafka: KafkaSettings, topics: TopicSettings, *, timeout_s: float = 5) -> None:
    """Compare `modifications` and `signals` with what they must be like, in a thread of its own; returns at once.

    Each difference is one warning, `topic_differs`; a check that fails is one, `topics_not_checked`. The node goes on
    in any case, and does not wait for the thread when it ends.

    Args:
        timeout_s: For each of the two answers that the check needs; it is over after twice that and 2 s.
    """
    # A daemon, and not the loop's executor: that one is waited for at the end, and would delay it while Kafka is away.
    threading.Thread(target=_check, args=(kafka, topics, timeout_s), name="topic-check", daemon=True).start()


def _check(kafka: KafkaSettings, topics: TopicSettings, timeout_s: float) -> None:
    try:
        found = compare(kafka, topics, roles=_READ, timeout_s=timeout_s)
    except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, the node can do without the answer
        log.warning("topics_not_checked", reason=str(error), cause=repr(error.__cause__ or error))
        return
    for one in found:
        log.warning("topic_differs", topic=one.topic, setting=one.setting, found=one.found, wanted=one.wanted)
    log.debug("topics_checked", differences=len(found))
