"""What a `read_committed` reader sees of batches as a broker stores them, good and bad."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from tidings.kafka.batches import Decoded, SkippedRange, decode_batches

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
TIMESTAMP_MS = 1_700_000_000_000
CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, MAGIC_AT, LENGTH_AT = 17, 21, 23, 16, 8
CONTROL, TRANSACTIONAL = 0x20, 0x10
ABORT, COMMIT = 0, 1


def sealed(batch: bytearray) -> bytes:
    """The batch with the checksum of what it holds now."""
    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[ATTRIBUTES_AT:])))
    return bytes(batch)


def batch_of(
    base_offset: int,
    values: Sequence[bytes | None],
    *,
    codec: int = NONE,
    producer: int | None = None,
    deltas: Iterable[int] | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> bytes:
    """One batch as a broker keeps it; `producer` makes it part of that producer's transaction."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=producer is not None,
        producer_id=-1 if producer is None else producer,
        producer_epoch=-1 if producer is None else 0,
        base_sequence=-1 if producer is None else 0,
        batch_size=1 << 30,
    )
    for delta, value in zip(range(len(values)) if deltas is None else deltas, values, strict=True):
        builder.append(delta, TIMESTAMP_MS + delta, b"key", value, list(headers))
    batch = bytearray(builder.build())
    struct.pack_into(">q", batch, 0, base_offset)
    return bytes(batch)


def marker(offset: int, producer: int, kind: int) -> bytes:
    """The control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=NONE,
        is_transactional=True,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    builder.append(0, TIMESTAMP_MS, struct.pack(">HH", 0, kind), struct.pack(">HI", 0, 0), [])
    batch = bytearray(builder.build())
    struct.pack_into(">q", batch, 0, offset)
    struct.pack_into(">h", batch, ATTRIBUTES_AT, CONTROL | TRANSACTIONAL)
    return sealed(batch)


def damaged(batch: bytes, at: int, *, bit: int = 0x40) -> bytes:
    broken = bytearray(batch)
    broken[at] ^= bit
    return bytes(broken)


def seen(decoded: Decoded) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in decoded.records]


def ranges(decoded: Decoded) -> list[tuple[int, int, str]]:
    return [(skipped.first_offset, skipped.next_offset, skipped.reason) for skipped in decoded.skipped]


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD], ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_decoded(codec: int) -> None:
    values = [b'{"n":%d}' % number * 50 for number in range(20)]
    decoded = decode_batches(batch_of(100, values, codec=codec), 100, None)
    assert seen(decoded) == [(100 + number, value) for number, value in enumerate(values)]
    assert decoded.next_offset == 120
    assert decoded.skipped == []


def test_a_record_keeps_its_key_headers_and_timestamp() -> None:
    (record,) = decode_batches(batch_of(5, [b"v"], headers=[("id", b"x"), ("empty", None)]), 5, []).records
    assert (record.offset, record.key, record.value) == (5, b"key", b"v")
    assert record.timestamp == TIMESTAMP_MS
    assert list(record.headers) == [("id", b"x"), ("empty", None)]


def test_a_null_value_is_handed_over() -> None:
    assert seen(decode_batches(batch_of(0, [None, b"a"]), 0, None)) == [(0, None), (1, b"a")]


def test_nothing_of_an_aborted_transaction_is_seen_and_all_of_a_committed_one() -> None:
    data = (
        batch_of(0, [b"aborted-0"], producer=1)
        + batch_of(1, [b"committed-1", b"committed-2"], producer=2)
        + batch_of(3, [b"plain-3"])
        + batch_of(4, [b"aborted-4"], producer=1)
        + marker(5, 1, ABORT)
        + batch_of(6, [b"committed-6"], producer=2)
        + batch_of(7, [b"later-7"], producer=1)
        + marker(8, 2, COMMIT)
        + marker(9, 1, COMMIT)
    )
    decoded = decode_batches(data, 0, [(1, 0)])
    assert seen(decoded) == [
        (1, b"committed-1"),
        (2, b"committed-2"),
        (3, b"plain-3"),
        (6, b"committed-6"),
        (7, b"later-7"),
    ]
    assert decoded.next_offset == 10


def test_two_aborted_transactions_of_one_producer_are_both_left_out() -> None:
    data = (
        batch_of(0, [b"a"], producer=1)
        + marker(1, 1, ABORT)
        + batch_of(2, [b"good"], producer=1)
        + marker(3, 1, COMMIT)
        + batch_of(4, [b"b"], producer=1)
        + marker(5, 1, ABORT)
    )
    # In any order: the broker sorts by nothing that a reader may rely on.
    assert seen(decode_batches(data, 0, [(1, 4), (1, 0)])) == [(2, b"good")]


def test_an_abort_that_began_before_the_fetch_still_counts() -> None:
    data = batch_of(50, [b"aborted"], producer=1) + marker(51, 1, ABORT) + batch_of(52, [b"good"])
    assert seen(decode_batches(data, 50, [(1, 7)])) == [(52, b"good")]


def test_a_batch_outside_of_transactions_is_not_aborted_with_its_producer() -> None:
    idempotent = bytearray(batch_of(1, [b"good"], producer=1))
    struct.pack_into(">h", idempotent, ATTRIBUTES_AT, 0)
    assert seen(decode_batches(sealed(idempotent), 1, [(1, 0)])) == [(1, b"good")]


def test_a_control_batch_reaches_nobody_and_is_passed() -> None:
    decoded = decode_batches(marker(3, 1, COMMIT), 3, None)
    assert decoded == Decoded(next_offset=4)


def test_a_control_batch_without_a_record_ends_nothing() -> None:
    empty = bytearray(marker(1, 1, ABORT)[:61])
    struct.pack_into(">i", empty, LENGTH_AT, 61 - 12)
    struct.pack_into(">i", empty, 57, 0)
    data = batch_of(0, [b"a"], producer=1) + sealed(empty) + batch_of(2, [b"b"], producer=1)
    decoded = decode_batches(data, 0, [(1, 0)])
    assert seen(decoded) == []
    assert decoded.next_offset == 3


def test_a_batch_with_a_wrong_checksum_is_skipped_and_its_neighbours_are_delivered() -> None:
    bad = damaged(batch_of(2, [b"bad", b"bad"]), -1)
    decoded = decode_batches(batch_of(0, [b"a", b"b"]) + bad + batch_of(4, [b"c"]), 0, None)
    assert seen(decoded) == [(0, b"a"), (1, b"b"), (4, b"c")]
    assert ranges(decoded) == [(2, 4, "crc")]
    assert decoded.next_offset == 5


def test_a_damaged_batch_alone_is_passed() -> None:
    decoded = decode_batches(damaged(batch_of(2, [b"bad", b"bad"]), -1), 2, None)
    assert ranges(decoded) == [(2, 4, "crc")]
    assert decoded.next_offset == 4


@pytest.mark.parametrize("at", [LAST_DELTA_AT, LAST_DELTA_AT + 3, 57, 60])
def test_a_damaged_count_hides_no_good_record_behind_it(at: int) -> None:
    bad = damaged(batch_of(2, [b"bad", b"bad"]), at)
    decoded = decode_batches(batch_of(0, [b"a", b"b"]) + bad + batch_of(4, [b"c"]), 0, None)
    assert seen(decoded) == [(0, b"a"), (1, b"b"), (4, b"c")]
    assert ranges(decoded) == [(2, 4, "crc")]
    assert decoded.next_offset == 5


@pytest.mark.parametrize("bit", [0x80, 0x40])
def test_a_damaged_count_at_the_end_moves_the_position_by_one_and_not_far_away(bit: int) -> None:
    decoded = decode_batches(damaged(batch_of(2, [b"bad", b"bad"]), LAST_DELTA_AT, bit=bit), 2, None)
    assert decoded.next_offset == 3


def test_several_damaged_batches_are_named_one_by_one() -> None:
    data = damaged(batch_of(0, [b"x"]), -1) + damaged(batch_of(1, [b"y", b"y"]), -1) + batch_of(3, [b"z"])
    decoded = decode_batches(data, 0, None)
    assert [skipped[2] for skipped in ranges(decoded)] == ["crc", "crc"]
    assert decoded.skipped[-1].next_offset == 3
    assert seen(decoded) == [(3, b"z")]


def test_an_unknown_codec_skips_its_batch_only() -> None:
    unknown = bytearray(batch_of(1, [b"bad"]))
    struct.pack_into(">h", unknown, ATTRIBUTES_AT, 7)
    decoded = decode_batches(batch_of(0, [b"a"]) + sealed(unknown) + batch_of(2, [b"b"]), 0, None)
    assert seen(decoded) == [(0, b"a"), (2, b"b")]
    assert ranges(decoded) == [(1, 2, "codec")]
    assert decoded.skipped[0].detail


def test_damaged_contents_under_a_right_checksum_skip_their_batch_only() -> None:
    hollow = bytearray(batch_of(1, [b"bad" * 100], codec=GZIP))
    hollow[61:] = bytes(len(hollow) - 61)
    decoded = decode_batches(sealed(hollow) + batch_of(2, [b"b"]), 1, None)
    assert seen(decoded) == [(2, b"b")]
    assert ranges(decoded) == [(1, 2, "codec")]


@pytest.mark.parametrize("kept", [0, 5, 16, 17, 40, 61, -1])
def test_a_last_batch_cut_short_is_left_for_the_next_fetch(kept: int) -> None:
    decoded = decode_batches(batch_of(0, [b"a"]) + batch_of(1, [b"b"])[:kept], 0, None)
    assert seen(decoded) == [(0, b"a")]
    assert decoded.next_offset == 1
    assert decoded.skipped == []


def test_a_fetch_that_brings_no_whole_batch_stays_where_it_is() -> None:
    assert decode_batches(batch_of(9, [b"a"])[:-1], 9, None) == Decoded(next_offset=9)


def test_records_before_the_fetch_offset_are_left_out() -> None:
    data = batch_of(10, [b"a", b"b", b"c"], codec=ZSTD) + batch_of(13, [b"d"])
    decoded = decode_batches(data, 12, None)
    assert seen(decoded) == [(12, b"c"), (13, b"d")]


def test_a_batch_wholly_before_the_fetch_offset_does_not_move_the_position_back() -> None:
    decoded = decode_batches(batch_of(0, [b"a"]), 5, None)
    assert seen(decoded) == []
    assert decoded.next_offset == 5


def test_holes_in_and_between_batches_are_passed_in_order() -> None:
    data = batch_of(3, [b"a", b"b"], deltas=[1, 5]) + batch_of(20, [b"c"])
    decoded = decode_batches(data, 0, None)
    assert seen(decoded) == [(4, b"a"), (8, b"b"), (20, b"c")]
    assert decoded.next_offset == 21
    assert decoded.skipped == []


@pytest.mark.parametrize(("at", "bit"), [(MAGIC_AT, 0x01), (MAGIC_AT, 0x02), (LENGTH_AT, 0x80), (LENGTH_AT + 3, 0xFF)])
def test_what_is_no_batch_stops_no_consumer(at: int, bit: int) -> None:
    bad = bytearray(batch_of(1, [b"x"]))
    if at == LENGTH_AT + 3:
        struct.pack_into(">i", bad, LENGTH_AT, 3)
    else:
        bad[at] ^= bit
    behind_good = decode_batches(batch_of(0, [b"a"]) + bytes(bad), 0, None)
    assert seen(behind_good) == [(0, b"a")]
    assert behind_good.next_offset == 1
    first = decode_batches(bytes(bad) + batch_of(2, [b"b"]), 1, None)
    assert ranges(first) == [(1, 2, "format")]
    assert first.next_offset == 2


@given(st.binary(max_size=300), st.integers(0, 1 << 40))
def test_any_bytes_are_decoded_or_skipped_and_the_position_never_goes_back(data: bytes, fetch_offset: int) -> None:
    decoded = decode_batches(data, fetch_offset, None)
    assert decoded.next_offset >= fetch_offset
    assert decoded.records == []


@given(st.data())
def test_one_flipped_bit_anywhere_never_hides_another_batch_nor_shows_a_wrong_record(data: Any) -> None:
    first, bad, last = batch_of(0, [b"a", b"b"]), batch_of(2, [b"c", b"d"], codec=LZ4), batch_of(4, [b"e"])
    # The base offset is under no checksum; a length that reaches past the end looks like a batch cut short.
    at = data.draw(st.integers(12, len(bad) - 1))
    broken = damaged(bad, at, bit=1 << data.draw(st.integers(0, 7)))
    decoded = decode_batches(first + broken + last, 0, None)
    good = {(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e")}
    assert set(seen(decoded)) <= good
    assert seen(decoded)[:2] == [(0, b"a"), (1, b"b")]
    # A batch that is none any more stands in front of the next fetch instead.
    if decoded.next_offset == 5:
        assert seen(decoded)[-1] == (4, b"e")
    else:
        assert decoded.next_offset == 2
        again = decode_batches(broken + last, 2, None)
        assert again.next_offset == 3
    assert all(isinstance(skipped, SkippedRange) for skipped in decoded.skipped)
