"""The client of the resume part counts right wherever reads are cut; what the window costs is a difference."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from tidings.cli.bench.keeping import Cost, Grown, WindowCpu, WindowMemory, flood_rate
from tidings.cli.bench.processes import BenchFault
from tidings.cli.bench.reconnect import Away, Reconnect
from tidings.cli.bench.report import Report, markdown
from tidings.cli.bench.resume import Resume

T = TypeVar("T")

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
WELCOME = b'\x81\x50{"type":"$welcome","data":{"log":"a b","cursor":"0:17,2:4","resumed":true}}'
FRAME = b'\x81\x30{"type":"update","data":{"created_at":1,"n":"at"},"at":"0:18"}'
RESYNC = b'\x81\x30{"type":"$resync","data":{"reason":"expired"}}'


def fed(reads: Sequence[bytes], missed: int, then: Callable[[Reconnect], T]) -> T:
    async def feed() -> T:
        client = Reconnect(b"", missed, 0)
        for read in reads:
            buffer = client.get_buffer(-1)
            buffer[: len(read)] = read
            client.buffer_updated(len(read))
        found = then(client)
        if client.done.done():
            client.done.exception()  # seen
        return found

    return asyncio.run(feed())


@pytest.mark.parametrize("size", range(1, 90))
def test_frames_are_counted_once_however_the_reads_are_cut(size: int) -> None:
    stream = HEAD + WELCOME + FRAME * 3 + FRAME
    # The first read holds the status line, as over loopback.
    reads = [HEAD, *(stream[at : at + size] for at in range(len(HEAD), len(stream), size))]
    assert fed(reads, 4, lambda client: (client.frames, client.done.done(), client.away())) == (
        4, True, Away("a b", "0:17,2:4"),
    )  # fmt: skip


def test_the_last_missed_frame_ends_it_and_not_the_welcome() -> None:
    def state(client: Reconnect) -> tuple[bool, bool, bool]:
        return client.welcome_ns > 0, client.last_ns > 0, client.done.done()

    assert fed([HEAD], 0, state) == (False, False, False)
    assert fed([HEAD + WELCOME], 0, state) == (True, True, True)
    assert fed([HEAD + WELCOME, FRAME], 2, state) == (True, False, False)
    assert fed([HEAD + WELCOME, FRAME, FRAME], 2, state) == (True, True, True)


def error(client: Reconnect) -> str:
    return str(client.done.exception()) if client.done.done() else "still waiting"


def test_a_refusal_or_a_resync_is_a_fault() -> None:
    assert "503" in fed([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], 1, error)
    assert "expired" in fed([HEAD + WELCOME, FRAME + RESYNC], 2, error)
    assert fed([HEAD + WELCOME, FRAME], 2, error) == "still waiting"


def test_more_than_was_missed_is_a_fault() -> None:
    fed([HEAD + WELCOME + FRAME], 1, Reconnect.close)
    with pytest.raises(BenchFault, match="2 frames for 1 missed"):
        fed([HEAD + WELCOME + FRAME, FRAME], 1, Reconnect.close)


def test_a_cursor_goes_into_the_path_and_comes_out_as_offsets() -> None:
    assert Away().path == "/ws"
    away = Away("x/+y", "0:17,11:4")
    assert away.path == "/ws?cursor=0:17,11:4&log=x%2F%2By"
    assert away.positions() == {0: 17, 11: 4}
    assert Away("x", "").positions() == {}


def costs(*each: float) -> list[Cost]:
    return [Cost(us, 0) for us in each]


def test_the_cost_of_the_window_is_the_median_of_the_rounds_differences() -> None:
    # Between rounds the machine changes, inside one it does not: medians of each side would give 20 − 18.
    found = WindowCpu("1x1@1", 0, 9, costs(40, 12, 20), costs(37, 8, 18))
    assert found.difference_us == 3
    assert found.records_per_s == pytest.approx(100_000 / 3)
    assert WindowCpu("1x1@1", 0, 9, costs(5), costs(6)).records_per_s is None


def test_the_memory_of_the_window_is_what_it_grew_by_more() -> None:
    kept, without = [Grown(70, 64), Grown(72, 64), Grown(99, 64)], [Grown(3, 0), Grown(2, 0), Grown(4, 0)]
    assert WindowMemory(10, 100, 0.6, kept, without).window_rss_bytes == 69


def test_a_flood_is_slower_with_more_receivers() -> None:
    assert flood_rate(10) == 20_000
    assert flood_rate(100) == 4_000
    assert flood_rate(10**6) == 1


def test_what_has_to_be_said_with_a_table_stands_before_it() -> None:
    machine = dict.fromkeys(("date", "cpu", "cores", "memory", "kernel", "python", "packages", "load"), "?")
    options: dict[str, Any] = {"kafka": "a Kafka", "rounds": 5, "seconds": 8.0, "warm_up": 2.0, "engine": "native"}
    resumes = [Resume("window", missed, 500, 20, 1, 2, 3, 4, 5) for missed in (100, 1)]
    text = markdown(Report(machine, options, resumes=resumes))
    note, table, end = text.split("\n\n")
    assert "among 500 records for others" in note
    assert "limits on resumes" in note
    assert [line.split(" | ")[0] for line in table.splitlines()] == ["| Missed", "| ---", "| 1", "| 100"]
    assert end.endswith("Medians of 5 rounds.\n")
