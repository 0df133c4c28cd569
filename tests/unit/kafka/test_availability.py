"""Which brokers answer: what one node's readers know together."""

import asyncio

import pytest

from tidings.kafka.availability import Availability, Place

ONE, OTHER, ELSEWHERE = Place(1, "modifications"), Place(1, "signals"), Place(2, "modifications")


async def _reachable(place: Place) -> bool:
    return True


def test_all_answer_when_every_partition_has_a_leader_and_each_answered_last() -> None:
    availability = Availability(_reachable)
    assert not availability.all_answer
    assert not availability.note_places([ONE, OTHER], all_led=True)
    assert availability.all_answer
    assert not availability.some_silent
    assert availability.failed(OTHER)
    assert not availability.failed(OTHER), "only the first is the beginning of a silence"
    assert availability.some_silent
    assert not availability.all_answer
    assert availability.answered(OTHER)
    assert availability.all_answer
    assert not availability.answered(OTHER), "only the first answer is the end of a silence"
    assert availability.comebacks == 1


def test_a_partition_without_a_leader_is_not_there_though_all_others_are() -> None:
    availability = Availability(_reachable)
    availability.note_places([ONE, ELSEWHERE], all_led=True)
    availability.failed(ELSEWHERE)
    assert availability.note_places([ONE], all_led=False), "what it led is somebody else's, or nobody's"
    assert not availability.all_answer
    assert not availability.some_silent, "all who lead something answer: no reason to look for brokers elsewhere"
    availability.note_places([ONE, Place(3, "modifications")], all_led=True)
    assert availability.all_answer


def test_nobody_leads_anything_then_all_that_answered_are_silent() -> None:
    availability = Availability(_reachable)
    availability.note_places([ONE], all_led=True)
    assert not availability.note_places([], all_led=False)
    assert availability.is_silent(ONE)
    availability.note_places([ONE], all_led=True)
    assert not availability.all_answer
    assert availability.answered(ONE)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(delay: float) -> None:
        slept.append(delay)
        await sleep(0)

    monkeypatch.setattr("tidings.kafka.availability.asyncio.sleep", note)
    return slept


async def test_a_broker_is_knocked_at_ever_more_rarely_and_soon_again_after_an_answer(pauses: list[float]) -> None:
    answers = [False, False, False, False, False, True, True, True]

    async def reachable(place: Place) -> bool:
        return answers.pop(0)

    availability = Availability(reachable)
    availability.note_places([ONE], all_led=True)
    availability.failed(ONE)
    await availability.until_reachable(ONE)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    await availability.until_reachable(ONE)
    assert pauses[-1] == 2.0, "it could be connected, but did not answer"
    availability.answered(ONE)
    availability.failed(ONE)
    await availability.until_reachable(ONE)
    assert pauses[-1] == 0.2


async def test_nor_is_one_that_was_replaced_and_is_back_kept_waiting(pauses: list[float]) -> None:
    answers = [False, False, True, True]

    async def reachable(place: Place) -> bool:
        return answers.pop(0)

    availability = Availability(reachable)
    availability.note_places([ONE], all_led=True)
    availability.failed(ONE)
    await availability.until_reachable(ONE)
    assert pauses[-1] == 0.8
    availability.note_places([ELSEWHERE], all_led=True)
    availability.note_places([ONE], all_led=True)
    availability.failed(ONE)
    await availability.until_reachable(ONE)
    assert pauses[-1] == 0.2
