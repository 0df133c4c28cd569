"""Latencies in buckets of 10 µs: what the load client counts and every quantile of the report is read from."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

__all__ = ["BUCKETS", "BUCKET_NS", "bucket_of", "new_buckets", "nonzero", "quantile_ms"]

BUCKET_NS: Final = 10_000
"""Width of a bucket in nanoseconds."""
BUCKETS: Final = 6_000_000
"""One minute: an overloaded baseline runs tens of seconds late, and that shall be seen as what it is."""


def new_buckets(count: int = BUCKETS) -> "array[int]":
    """All buckets of one run, zero, 4 bytes each. The memory is touched only where latencies fall."""
    return array("I", bytes(4 * count))


def bucket_of(latency_ns: int, buckets: int = BUCKETS) -> int:
    """The bucket of one latency. Below zero (clock set back) counts as 0, beyond the end as the last."""
    if latency_ns < 0:
        return 0
    return min(latency_ns // BUCKET_NS, buckets - 1)


def nonzero(buckets: Iterable[int]) -> dict[int, int]:
    """Bucket to count for the buckets that hold anything. Cost: one pass."""
    return {index: count for index, count in enumerate(buckets) if count}


def quantile_ms(counts: Mapping[int, int], q: float) -> float:
    """The latency that a share `q` of all deliveries did not exceed.

    Args:
        counts: Bucket to count.
        q: 0 < q <= 1.
    Returns:
        Milliseconds, the upper edge of the bucket (so never flattering); 0.0 when nothing was counted.
    """
    total = sum(counts.values())
    if not total:
        return 0.0
    # The smallest rank that covers the share; the epsilon keeps 0.99 * 100 from becoming rank 100.
    wanted = max(1, -int(-(q * total - 1e-9) // 1))
    buckets = sorted(counts)
    seen = list(accumulate(counts[bucket] for bucket in buckets))
    return (buckets[bisect_left(seen, wanted)] + 1) * BUCKET_NS / 1e6
