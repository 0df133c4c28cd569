"""The recorder itself: what is planted is found and named, and nothing else."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.recorder import Kind, Recorder, Seen
from tests.chaos.truth import REPEAT_MS, REPEAT_RECORDS, LogEntry

ANN, BOB = frozenset({"ann"}), frozenset({"bob"})
BOTH = ANN | BOB

Stream = list[tuple[int, int, int]]
"""Number, partition, next offset."""


def run_of(
    change: Callable[[Stream], None] = lambda stream: None, *, resync: str | None = None
) -> tuple[Recorder, Seen]:
    """20 records in two partitions with holes, every third for bob alone; ann's client got all of hers but `change`."""
    recorder = Recorder()
    entries: dict[int, list[LogEntry]] = {0: [], 1: []}
    stream: Stream = []
    for number in range(20):
        receivers = BOB if number % 3 == 2 else BOTH
        partition, offset = number % 2, 100 + 3 * number
        recorder.truth.produced(number, receivers)
        recorder.truth.acknowledged(number, partition, offset)
        entries[partition].append(LogEntry(offset, number, number))
        if "ann" in receivers:
            stream.append((number, partition, offset + 1))
    for partition, found in entries.items():
        recorder.truth.logged("L", partition, found)
    seen = recorder.device("ann/0", "ann")
    seen.begins("L", {0: 100, 1: 100})
    change(stream)
    for number, partition, next_offset in stream:
        seen.chain.got(number, partition, next_offset)
    if resync is not None:
        seen.begins("L", {0: 1000, 1: 1000}, resync)
    return recorder, seen


def only(recorder: Recorder, kind: Kind, where: str) -> str:
    """The one finding there is; its detail."""
    findings = recorder.verdict().findings
    assert [(one.kind, one.device, one.where) for one in findings] == [(kind, "ann/0", where)], recorder.verdict()
    return findings[0].detail


def test_a_clean_run_is_clean() -> None:
    recorder, _ = run_of()
    verdict = recorder.verdict()
    assert verdict.ok, verdict
    assert (verdict.records, verdict.devices, verdict.deliveries) == (20, 1, 14)
    assert recorder.missing() == 0
    assert "lost 0, repeated 0, swapped 0, strangers 0" in str(verdict)


def test_a_loss_is_found() -> None:
    recorder, _ = run_of(lambda stream: stream.remove((6, 0, 119)))
    assert "number 6 never came" in only(recorder, "loss", "0:118")
    assert recorder.missing() == 1


def test_a_loss_at_the_end_is_found() -> None:
    recorder, _ = run_of(lambda stream: stream.remove((19, 1, 158)))
    only(recorder, "loss", "1:157")


def test_a_repeat_is_found() -> None:
    recorder, _ = run_of(lambda stream: stream.append((6, 0, 119)))
    assert "came again" in only(recorder, "repeat", "0:118")


def test_a_swap_is_found_and_is_no_loss() -> None:
    def swap(stream: Stream) -> None:
        first, second = stream.index((4, 0, 113)), stream.index((6, 0, 119))
        stream[first], stream[second] = stream[second], stream[first]

    recorder, _ = run_of(swap)
    assert "came after 0:118" in only(recorder, "swap", "0:112")


def test_records_of_two_partitions_may_come_in_any_order() -> None:
    recorder, _ = run_of(lambda stream: stream.sort(key=lambda frame: -frame[1]))
    assert recorder.verdict().ok


def test_a_stranger_is_found() -> None:
    recorder, _ = run_of(lambda stream: stream.insert(3, (5, 1, 116)))
    assert "not for ann" in only(recorder, "stranger", "1:115")


def test_a_record_of_before_the_cursor_is_a_stranger() -> None:
    recorder, seen = run_of()
    seen.chain.start[0] = 101
    assert "before the cursor" in only(recorder, "stranger", "0:100")


def test_an_aborted_record_is_a_stranger() -> None:
    recorder, seen = run_of()
    recorder.truth.produced(99, BOTH)
    recorder.truth.aborted(99)
    seen.chain.got(99, 0, 158)
    assert "aborted" in only(recorder, "stranger", "0:157")


def test_a_wrong_position_is_found() -> None:
    def wrong(stream: Stream) -> None:
        stream[-1] = (*stream[-1][:2], stream[-1][2] + 1)

    recorder, _ = run_of(wrong)
    assert "came as 1:159" in only(recorder, "odd", "1:157")


def test_the_second_of_an_id_is_owed_to_nobody() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.truth.produced(number, ANN, b"same" if number != 1 else None)
    recorder.truth.logged("L", 0, [LogEntry(number, number, 0) for number in range(3)])
    seen = recorder.device("ann/0", "ann")
    seen.begins("L", {})
    seen.chain.got(0, 0, 1)
    seen.chain.got(1, 0, 2)
    assert recorder.verdict().ok
    seen.chain.got(2, 0, 3)
    assert "id of 0:0" in only(recorder, "repeat", "0:2")


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize(("after_ms", "after_records"), [(REPEAT_MS + 2_000, 1), (0, REPEAT_RECORDS + 100)])
def test_an_id_out_of_reach_may_be_delivered_or_not(delivered: bool, after_ms: int, after_records: int) -> None:
    recorder = Recorder()
    entries = []
    for number in range(after_records + 1):
        recorder.truth.produced(
            number, ANN if number in (0, after_records) else BOB, None if 0 < number < after_records else b"same"
        )
        entries.append(LogEntry(number, number, after_ms if number == after_records else 0))
    recorder.truth.logged("L", 0, entries)
    seen = recorder.device("ann/0", "ann")
    seen.begins("L", {})
    seen.chain.got(0)
    if delivered:
        seen.chain.got(after_records)
    assert recorder.verdict().ok


def test_a_resync_is_a_finding_unless_it_is_right_here() -> None:
    recorder, _ = run_of(lambda stream: stream.__delitem__(slice(-2, None)), resync="expired")
    assert [finding.kind for finding in recorder.verdict().findings] == ["resync"]
    assert recorder.verdict(resyncs={"expired"}).ok
    assert not recorder.verdict(resyncs={"ahead"}).ok


def test_a_gap_before_a_resync_is_a_loss_all_the_same() -> None:
    recorder, _ = run_of(lambda stream: stream.remove((6, 0, 119)), resync="expired")
    assert [finding.where for finding in recorder.verdict(resyncs={"expired"}).findings] == ["0:118"]


def test_frames_of_a_new_log_before_its_resync_are_strangers() -> None:
    recorder, seen = run_of()
    recorder.truth.produced(50, ANN)
    recorder.truth.logged("M", 0, [LogEntry(0, 50, 0)])
    seen.chain.got(50)
    seen.begins("M", {}, "log_changed")
    seen.chain.got(50)
    assert [finding.kind for finding in recorder.verdict(resyncs={"log_changed"}).findings] == ["stranger"]


def test_what_the_producer_was_told_must_be_in_the_log() -> None:
    recorder, _ = run_of()
    recorder.truth.produced(77, BOB)
    recorder.truth.acknowledged(77, 0, 500)
    assert [finding.kind for finding in recorder.verdict().findings] == ["log"]


def test_an_aborted_record_must_not_be_in_the_log() -> None:
    recorder, _ = run_of()
    recorder.truth.aborted(2)
    assert "aborted and is in the log" in recorder.verdict().findings[0].detail


@pytest.mark.parametrize(
    ("log", "partition", "entry"),
    [("L", 0, LogEntry(600, 12345, 0)), ("L", 0, LogEntry(100, 1, 0)), ("L", 1, LogEntry(600, 0, 0))],
    ids=["nobody produced it", "another record lies there", "it lies in another partition too"],
)
def test_a_log_that_contradicts_itself_is_refused(log: str, partition: int, entry: LogEntry) -> None:
    recorder, _ = run_of()
    with pytest.raises(ValueError):
        recorder.truth.logged(log, partition, [entry])


def rewritten(id_: bytes | None, *, positions: bool) -> tuple[Recorder, Seen, Callable[[int], None]]:
    """A producer wrote number 0 twice by itself, at 5 and at 7. Also returns how the client gets it from an offset."""
    recorder = Recorder()
    recorder.truth.produced(0, ANN, id_)
    recorder.truth.produced(1, BOB)
    recorder.truth.acknowledged(0, 0, 7)
    recorder.truth.logged("L", 0, [LogEntry(5, 0, 0), LogEntry(6, 1, 0), LogEntry(7, 0, 0)])
    seen = recorder.device("ann/0", "ann")
    seen.begins("L", {0: 5})
    return recorder, seen, lambda offset: seen.chain.got(0, *((0, offset + 1) if positions else ()))


@pytest.mark.parametrize("positions", [True, False], ids=["v1", "sse"])
def test_what_its_producer_wrote_twice_is_owed_twice(positions: bool) -> None:
    recorder, _, get = rewritten(None, positions=positions)
    get(5)
    assert recorder.missing() == 1
    only(recorder, "loss", "0:7")
    get(7)
    assert recorder.verdict().ok
    assert recorder.verdict().rewritten == 1
    get(7)
    assert [finding.kind for finding in recorder.verdict().findings] == ["repeat"]


@pytest.mark.parametrize("positions", [True, False], ids=["v1", "sse"])
def test_what_its_producer_wrote_twice_with_an_id_is_owed_once(positions: bool) -> None:
    recorder, _, get = rewritten(b"same", positions=positions)
    get(5)
    assert recorder.verdict().ok
    get(7)
    assert "id of 0:5" in only(recorder, "repeat", "0:7")


def test_the_first_of_two_that_is_lost_is_found_by_its_position() -> None:
    recorder, _, get = rewritten(None, positions=True)
    get(7)
    only(recorder, "loss", "0:5")


def test_a_client_that_never_connected_is_found() -> None:
    recorder = Recorder()
    recorder.device("ann/0", "ann")
    assert not recorder.verdict().ok


@given(st.data())
def test_any_planted_fault_is_found_at_its_place(data: st.DataObject) -> None:
    """One fault at any place of the stream: the verdict names its kind and its record, and nothing else."""
    kind = data.draw(st.sampled_from(["loss", "repeat", "swap"]))
    planted: list[str] = []

    def plant(stream: Stream) -> None:
        index = data.draw(st.integers(0, len(stream) - 1))
        _, partition, next_offset = stream[index]
        if kind == "loss":
            del stream[index]
        elif kind == "repeat":
            stream.insert(data.draw(st.integers(index + 1, len(stream))), stream[index])
        else:
            later = [place for place in range(index + 1, len(stream)) if stream[place][1] == partition]
            if not later:
                return
            stream.insert(later[0], stream.pop(index))
        planted.append(f"{partition}:{next_offset - 1}")

    recorder, _ = run_of(plant)
    findings = recorder.verdict().findings
    assert [finding.where for finding in findings] == planted
    assert {finding.kind for finding in findings} <= {kind}
