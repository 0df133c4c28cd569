"""Cursors and event ids as text."""

from tidings.gateway.cursor import format_cursor, format_event_id


def test_a_cursor_names_partition_and_next_offset_in_the_order_of_partitions() -> None:
    assert format_cursor({2: 5, 0: 17, 10: 1, 1: 4}) == "0:17,1:4,2:5,10:1"


def test_a_cursor_without_partitions_is_empty() -> None:
    assert format_cursor({}) == ""


def test_an_event_id_holds_the_log_and_the_whole_cursor() -> None:
    assert format_event_id("log", {1: 255, 0: 16}) == "log.10.ff"


def test_a_partition_not_known_yet_stands_as_zero_in_an_event_id() -> None:
    assert format_event_id("log", {2: 1}) == "log.0.0.1"


def test_an_event_id_without_partitions_is_the_log() -> None:
    assert format_event_id("log", {}) == "log."
