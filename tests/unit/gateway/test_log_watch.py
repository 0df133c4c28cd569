"""Which topic it is: asked at the start, now and then, after an outage, and when anything looks odd."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.gateway_fakes import Party
from tidings.clock import ManualClock
from tidings.errors import BrokerUnavailable
from tidings.gateway.log_edges import LogEdges
from tidings.gateway.log_watch import LogWatch
from tidings.kafka.cluster import Start
from tidings.kafka.fetch_session import Partition


class Topic:
    """A topic that may be made anew, and the watch over it."""

    def __init__(self, id_: str | None = "first") -> None:
        self.id = id_
        self.away = False
        self.broken = False
        self.asked = 0
        self.reconnects = 0
        self.changes: list[tuple[str, bool]] = []
        self.watch = LogWatch(self._ask, "some.topic", lambda: self.reconnects, self._change)

    async def _ask(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise BrokerUnavailable("away")
        return self.id

    async def _change(self, tag: str, another: bool) -> None:
        if self.broken:
            raise BrokerUnavailable("not yet")
        self.changes.append((tag, another))


def run(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    async def whole() -> list[Any]:
        return list(await asyncio.gather(*work))

    return asyncio.run(whole())


def test_the_tag_is_safe_in_a_url_and_in_an_event_id() -> None:
    topic = Topic("a+b/c==")
    run(topic.watch.start())
    assert topic.watch.tag == "a-b_c=="


def test_without_an_id_the_name_stands_for_it_and_has_no_dot() -> None:
    for nothing in (Topic(None), Topic()):
        nothing.away = nothing.id is not None
        run(nothing.watch.start())
        assert nothing.watch.tag == "some~topic"


@pytest.mark.parametrize("away", [True, False])
def test_an_id_that_is_known_late_makes_no_other_topic_of_it(away: bool) -> None:
    """Else all that the topic keeps would be read again, and come once more to everybody who is connected."""
    topic = Topic("first" if away else None)
    topic.away = away
    run(topic.watch.start())
    topic.id, topic.away, topic.broken = "first", False, True
    assert run(topic.watch.check()) == [None]
    assert topic.watch.tag == "some~topic"
    topic.broken = False
    assert run(topic.watch.check()) == [False]
    assert topic.watch.tag == "first"
    topic.id = "second"
    assert run(topic.watch.check()) == [True]
    assert topic.changes == [("first", False), ("second", True)]


def test_a_topic_made_anew_is_told_once() -> None:
    topic = Topic()
    run(topic.watch.start())
    assert run(topic.watch.check()) == [False]
    topic.id = None  # deleted
    assert run(topic.watch.check()) == [False]
    topic.id = "second"
    assert run(topic.watch.check()) == [True]
    assert run(topic.watch.check()) == [False]
    assert topic.changes == [("second", True)]
    assert topic.watch.tag == "second"


def test_if_it_can_not_be_read_yet_it_is_told_again() -> None:
    topic = Topic()
    run(topic.watch.start())
    topic.id, topic.broken = "second", True
    assert run(topic.watch.check()) == [None]
    assert topic.watch.tag == "first"
    topic.broken = False
    assert run(topic.watch.check()) == [True]


def test_all_who_ask_at_once_share_one_question() -> None:
    topic = Topic()
    run(topic.watch.start())
    run(*(topic.watch.check() for _ in range(50)))
    assert topic.asked == 2


def test_what_was_asked_before_an_outage_does_not_hold_after_it() -> None:
    topic = Topic()
    run(topic.watch.start())
    assert not topic.watch.stale
    topic.reconnects += 1
    assert topic.watch.stale
    topic.away = True
    run(topic.watch.check())
    assert topic.watch.stale, "it got no answer"
    topic.away = False
    run(topic.watch.check())
    assert not topic.watch.stale


def test_a_storm_asks_for_the_edges_of_the_log_once() -> None:
    class Brokers:
        asked = 0

        async def offsets(self, partitions: list[Partition], at: Start) -> dict[Partition, int | None]:
            self.asked += 1
            await asyncio.sleep(0)
            return dict.fromkeys(partitions, 7 if at is Start.LATEST else None)

    brokers, clock = Brokers(), ManualClock()
    edges = LogEdges(brokers, "t", lambda: [0, 1], clock)  # type: ignore[arg-type]

    async def ask() -> None:
        answers = await asyncio.gather(*(edges.ends() for _ in range(100)))
        assert answers == [{0: 7, 1: 7}] * 100
        assert await edges.starts() == {0: 0, 1: 0}
        assert brokers.asked == 2
        clock.advance(1)
        await edges.ends()
        assert brokers.asked == 3

    asyncio.run(ask())


def test_after_a_jump_the_window_reaches_back_no_further() -> None:
    party = Party()
    party.node.router.jump(0, 500)
    assert party.node.router.positions == {0: 500, 1: 20}
    assert party.node.window.start(0) == 500
