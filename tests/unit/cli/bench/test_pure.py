"""Buckets, schedule, shapes, ratios and floor of the bench."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.cli.bench.histogram import BUCKET_NS, BUCKETS, bucket_of, new_buckets, nonzero, quantile_ms
from tidings.cli.bench.measure import Round
from tidings.cli.bench.schedule import Schedule
from tidings.cli.bench.shapes import POOL, SHAPES, TS_DIGITS, Shape, load_of, users
from tidings.cli.bench.summary import compare
from tidings.cli.bench.targets import measured_s

SECOND = 1_000_000_000


@given(st.lists(st.integers(0, 500), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_quantile_is_the_edge_of_the_bucket_of_that_rank(buckets: list[int], q: float) -> None:
    counts: dict[int, int] = {}
    for bucket in buckets:
        counts[bucket] = counts.get(bucket, 0) + 1
    edge = round(quantile_ms(counts, q) * 1e6 / BUCKET_NS) - 1
    below = sum(bucket <= edge for bucket in buckets)
    strictly = sum(bucket < edge for bucket in buckets)
    assert below >= q * len(buckets) - 1e-6
    assert strictly < q * len(buckets) + 1e-6
    assert edge in counts


def test_p99_of_a_hundred_is_the_ninety_ninth() -> None:
    assert quantile_ms(dict.fromkeys(range(100), 1), 0.99) == pytest.approx(0.99)
    assert quantile_ms({}, 0.5) == 0.0


@pytest.mark.parametrize(
    ("latency_ns", "bucket"),
    [(-5, 0), (0, 0), (9_999, 0), (10_000, 1), (10**15, BUCKETS - 1)],
)
def test_buckets_are_ten_microseconds_wide_and_closed_at_both_ends(latency_ns: int, bucket: int) -> None:
    assert bucket_of(latency_ns) == bucket


def test_nonzero_gives_only_what_was_counted() -> None:
    buckets = new_buckets(5)
    buckets[3] += 7
    assert nonzero(buckets) == {3: 7}


@given(st.floats(0.1, 100_000), st.integers(0, 5_000), st.integers(0, 10**18), st.integers(-SECOND, 100 * SECOND))
def test_what_is_due_is_exactly_what_has_its_time_behind_it(rate: float, total: int, start: int, after: int) -> None:
    schedule = Schedule(start, rate, total)
    due = schedule.due(start + after)
    assert 0 <= due <= total
    assert due == 0 or schedule.due_ns(due - 1) <= start + after
    assert due == total or schedule.due_ns(due) > start + after


def test_a_record_is_due_at_its_very_nanosecond() -> None:
    # A third of a second is no whole number of nanoseconds: counting and timing must round alike.
    schedule = Schedule(0, 3, 10)
    assert schedule.due(schedule.due_ns(1)) == 2
    assert schedule.due(schedule.due_ns(1) - 1) == 1


def test_a_late_sender_catches_up_and_does_not_drift() -> None:
    schedule = Schedule(0, 2_000, 4_000)
    assert schedule.due(0) == 1
    assert schedule.due(SECOND // 2) == 1_001  # half a second asleep: all of it is due at once
    assert schedule.due_ns(3_999) == 1_999_500_000
    assert schedule.due(10 * SECOND) == 4_000


def test_the_same_seed_gives_the_same_load_and_another_does_not() -> None:
    shape = Shape(50, 3, 10)
    people = users(50, seed=3)
    assert people == users(50, seed=3) != users(50, seed=4)
    assert len(set(people)) == 50
    one = load_of(shape, people, seed=3)
    assert one == load_of(shape, people, seed=3) != load_of(shape, people, seed=4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_record_is_a_text_message_for_that_many_different_users(shape: Shape) -> None:
    people = users(shape.connections)
    load = load_of(shape, people)
    for index in (0, 1, POOL - 1):
        value = json.loads(load.heads[index] + b"1" * TS_DIGITS + load.tails[index])
        assert value["receivers"] == [people[user] for user in load.receivers[index]]
        assert len(set(value["receivers"])) == shape.receivers
        assert value["type"] == "update"
        assert value["data"]["type"] == "text_message"
        assert value["data"]["ts"] == int("1" * TS_DIGITS)
        assert load.keys[index].decode() == value["data"]["chat_id"]
        data = json.dumps(value["data"], ensure_ascii=False, separators=(",", ":"))
        assert 180 <= len(data.encode()) <= 300


@given(st.integers(0, 3 * POOL), st.integers(0, 3 * POOL))
def test_expected_frames_are_counted_record_by_record(first: int, count: int) -> None:
    load = _small_load
    wanted = [0] * 5
    for record in range(first, first + count):
        for user in load.receivers[record % POOL]:
            wanted[user] += 1
    assert load.expected(5, first, count) == wanted


_small_load = load_of(Shape(5, 2, 10), users(5))


def make_round(target: str, deliveries: int, cpu_s: float, p99_ms: float, lost: int = 0, p50_ms: float = 1) -> Round:
    return Round(
        target=target, deliveries=deliveries, lost=lost, extra=0, cpu_s=cpu_s, wall_s=1, p50_ms=p50_ms, p99_ms=p99_ms,
        p999_ms=1, max_ms=1, rss_bytes=1, connect_s=1, client_cpu_s=0, frames_per_read=1, late_ms=0,
    )  # fmt: skip


def test_the_ratio_is_the_median_of_the_ratios_inside_the_rounds() -> None:
    # The machine was twice as slow in the second round: inside the round that is no difference.
    found = compare(
        "s",
        {
            "gateway": [
                make_round("gateway", 200, 1, 5),
                make_round("gateway", 200, 2, 9),
                make_round("gateway", 90, 1, 5),
            ],
            "baseline": [make_round("baseline", 100, 1, 10)] + [make_round("baseline", 100, 2, 10)] * 2,
        },
    )
    assert found.ratio == pytest.approx(2.0)
    assert found.p99_ratio == pytest.approx(0.5)
    assert found.median("gateway", "per_cpu_s") == 100


def test_one_target_alone_has_no_ratio() -> None:
    found = compare("s", {"baseline": [make_round("baseline", 1, 1, 1)]})
    assert (found.ratio, found.p99_ratio) == (None, None)


def test_a_histogram_is_read_between_two_moments() -> None:
    inf = float("inf")
    before = {"h": {0.001: 10.0, 0.01: 10.0, inf: 10.0}}
    after = {"h": {0.001: 11.0, 0.01: 19.0, inf: 20.0}}
    assert measured_s(before, after, "h", 0.5) == 0.01
    assert measured_s(before, after, "h", 0.99) == inf
    assert measured_s({}, after, "h", 0.5) == 0.001
    assert measured_s(after, after, "h", 0.5) is None
