"""Where reading goes on when the position is not in the log any more; the cluster is a fake, so no broker is needed."""

from collections.abc import Sequence

import pytest

from tidings.kafka.cluster import Start
from tidings.kafka.fetch_session import Partition
from tidings.kafka.source import Fetched, RecordSource

PARTITION = Partition("modifications", 3)


class ShortLog:
    """A partition that holds the offsets from `oldest` to `end`, and since `young_from` records younger than asked."""

    def __init__(self, oldest: int, end: int, young_from: int | None) -> None:
        self.oldest = oldest
        self.end = end
        self.young_from = young_from
        self.asked_ms: list[int] = []

    async def offsets(self, partitions: Sequence[Partition], at: int) -> dict[Partition, int | None]:
        assert list(partitions) == [PARTITION]
        if at == Start.EARLIEST:
            return {PARTITION: self.oldest}
        if at == Start.LATEST:
            return {PARTITION: self.end}
        self.asked_ms.append(at)
        return {PARTITION: self.young_from}


async def going_on_from(log: ShortLog, position: int) -> int:
    jumps: list[tuple[int, int]] = []

    class Witness:
        def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
            raise AssertionError("nothing begins here")

        def jump(self, partition: Partition, offset: int, position: int) -> None:
            jumps.append((offset, position))

        async def deliver(self, _: Sequence[Fetched]) -> None:
            raise AssertionError("nothing is fetched here")

    source = RecordSource({}, [PARTITION.topic], Witness(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = log  # type: ignore[assignment]
    source.positions[PARTITION] = position
    source._last_ms[PARTITION] = 1_000
    await source._find_position_again(PARTITION)
    assert jumps == [(position, source.positions[PARTITION])]
    return source.positions[PARTITION]


async def test_what_retention_has_cut_is_passed_over() -> None:
    log = ShortLog(oldest=500, end=900, young_from=None)
    assert await going_on_from(log, position=100) == 500
    assert log.asked_ms == []


@pytest.mark.parametrize(
    ("young_from", "expected"),
    [(None, 8), (8, 8), (0, 0)],
    ids=["nothing written since: from the end", "the first new record", "the topic was made anew: all of it is new"],
)
async def test_after_the_log_became_shorter_nothing_old_is_shown_and_nothing_new_left_out(
    young_from: int | None, expected: int
) -> None:
    log = ShortLog(oldest=0, end=8, young_from=young_from)
    assert await going_on_from(log, position=10) == expected
    assert log.asked_ms == [1_001]
