"""Cursors there and back; every wrong one is refused and nothing else happens."""

import pytest

from tidings.gateway.cursor import (
    MAX_PARTITIONS,
    InvalidCursor,
    format_cursor,
    format_event_id,
    parse_cursor,
    parse_event_id,
)


def test_a_cursor_comes_back_as_it_went() -> None:
    positions = {0: 17, 1: 4, 11: 2**63 - 1}
    assert format_cursor(positions) == "0:17,1:4,11:9223372036854775807"
    assert parse_cursor(format_cursor(positions)) == positions
    assert parse_cursor("1:4,0:17") == {0: 17, 1: 4}


def test_an_event_id_comes_back_as_it_went() -> None:
    assert format_event_id("tag", {0: 17, 2: 255}) == "tag.11.0.ff"
    assert parse_event_id("tag.11.0.ff") == ("tag", {0: 17, 1: 0, 2: 255})


def test_without_partitions_an_event_id_names_no_place_to_resume_from() -> None:
    assert format_event_id("tag", {}) == "tag."
    with pytest.raises(InvalidCursor):
        parse_event_id("tag.")


def test_64_partitions_fit_into_a_url() -> None:
    assert len(format_cursor(dict.fromkeys(range(64), 10**12))) < 2_000


WRONG = ["", " ", "0", "0:", ":1", "0:1,", ",0:1", "0:1,0:2", "0:-1", "-1:0", "0:1 ", "+0:1", "00:1", "0:01", "0:1;1:2"]
WRONG += ["a:1", "0:a", "0:1.5", "0:0x1", "0:\u0661", "0:9223372036854775808", "0:1\n", "1000000:1", "null", "{}"]


@pytest.mark.parametrize("text", [*WRONG, ",".join(f"{number}:1" for number in range(MAX_PARTITIONS + 1))])
def test_a_damaged_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_cursor(text)


DAMAGED = ["", "tag", "tag.", ".1", "tag.1..2", "tag.g", "tag.01", "tag.-1", "tag.1.", "tag.ffffffffffffffff", "tag.1 "]
DAMAGED += ["tag.A", "tag.11111111111111111", "tag" + ".1" * (MAX_PARTITIONS + 1)]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_event_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_event_id(text)
