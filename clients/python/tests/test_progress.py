"""The cursor: what was handed over, each once, and never past a gap that was not dealt with."""

import random

import pytest

from tidings_client import InvalidPosition, Position, Resync
from tidings_client.frames import Welcome
from tidings_client.progress import Progress


def welcome(cursor: str, *, log: str = "a", resumed: bool = False) -> Welcome:
    return Welcome("s", "n", log, cursor, resumed, 25)


def resync(cursor: str, log: str = "a") -> Resync:
    return Resync("$resync", {}, None, "expired", cursor, log)


def progress(cursor: str, log: str = "a") -> Progress:
    return Progress(Position(log, cursor))


def test_a_new_client_begins_where_the_welcome_says() -> None:
    fresh = Progress()
    assert fresh.position is None
    assert fresh.welcomed(welcome("0:5,1:6"))
    assert fresh.position == Position("a", "0:5,1:6")


def test_an_event_replaces_its_partitions_entry_alone() -> None:
    p = progress("0:5,1:6")
    assert p.take("1:9")
    assert p.take("2:1")
    assert p.position == Position("a", "0:5,1:9,2:1")


def test_what_is_not_beyond_the_cursor_was_had_already() -> None:
    p = progress("0:5,1:6")
    assert not p.take("0:5")
    assert not p.take("1:3")
    assert p.position == Position("a", "0:5,1:6")
    assert p.take("0:6")


def test_each_record_is_taken_once_and_in_order_however_it_is_repeated() -> None:
    rnd = random.Random(4)
    p = progress("0:0")
    taken = []
    reached = 0
    for _ in range(500):  # a server that goes back by any number and then on
        reached = max(0, reached - rnd.randrange(4))
        for offset in range(reached, reached + rnd.randrange(6)):
            if p.take(f"0:{offset + 1}"):
                taken.append(offset)
            reached = offset + 1
    assert taken == list(range(len(taken)))
    assert len(taken) > 100


def test_a_checkpoint_moves_on_and_never_back() -> None:
    p = progress("0:5,1:6")
    p.checkpoint("0:9,1:2,2:3")
    assert p.position == Position("a", "0:9,1:6,2:3")


def test_a_welcome_after_a_refused_cursor_moves_nothing() -> None:
    p = progress("0:5")
    assert p.welcomed(welcome("0:90", resumed=False))
    assert p.position == Position("a", "0:5")


def test_only_a_resync_that_was_dealt_with_moves_behind_the_gap() -> None:
    p = progress("0:5")
    p.welcomed(welcome("0:90"))
    p.resynced(resync("0:90,1:7"), p.connection)
    assert p.position == Position("a", "0:90,1:7")


def test_a_resync_replaces_log_and_whole_cursor() -> None:
    p = progress("0:500,7:1")
    p.welcomed(welcome("0:3", log="b"))
    p.resynced(resync("0:3", log="b"), p.connection)
    assert p.position == Position("b", "0:3")


def test_a_log_that_changes_on_an_open_connection_is_followed() -> None:
    p = progress("0:5")
    p.welcomed(welcome("0:5", resumed=True))
    p.resynced(resync("0:1", log="b"), p.connection)
    assert p.position == Position("b", "0:1")


def test_a_resync_of_an_earlier_connection_counts_in_the_same_log() -> None:
    p = progress("0:5")
    p.welcomed(welcome("0:90"))
    dealt_with = p.connection
    p.welcomed(welcome("0:95"))
    p.resynced(resync("0:90"), dealt_with)
    assert p.position == Position("a", "0:90")


def test_a_resync_of_an_earlier_connection_in_another_log_does_not() -> None:
    p = progress("0:5")
    p.welcomed(welcome("0:90", log="b"))
    dealt_with = p.connection
    p.welcomed(welcome("0:5", resumed=True))  # a node that does not know of the new log yet
    p.resynced(resync("0:90", log="b"), dealt_with)
    assert p.position == Position("a", "0:5")
    assert p.take("0:6")


def test_a_connection_that_resumes_in_a_log_left_meanwhile_is_not_used() -> None:
    p = progress("0:5")
    p.welcomed(welcome("0:1", log="b"))
    p.resynced(resync("0:1", log="b"), p.connection)
    assert not p.welcomed(welcome("0:5", log="a", resumed=True))
    assert p.position == Position("b", "0:1")


def test_a_position_is_one_line_of_text_there_and_back() -> None:
    position = Position("LkA9@x", "0:17,1:4")
    assert str(position) == "0:17,1:4@LkA9@x"
    assert Position.parse(f"{position}\n") == position
    assert Position.parse("@x") == Position("x", "")


@pytest.mark.parametrize("text", ["", "0:1", "0@x", "0:1,0:2@x", "0:-1@x", "0:1,@x", "a:b@x", "0:1 1:2@x", "٣:1@x"])
def test_what_no_client_wrote_is_no_position(text: str) -> None:
    with pytest.raises(InvalidPosition):
        Position.parse(text)
