"""The frame walkers against a parser that reads one frame after another the obvious way, over any cut of the stream."""

import shutil
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.cli.bench.engines import build_native, load_library
from tidings.cli.bench.walker import BrokenStream, Walker

NOW = 2_000_000_000_000_000_000
BUCKETS = 1_000


def frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def stamped(stamp: int, size: int, space: str = "") -> bytes:
    return frame(1, f'{{"type":"update","data":{{"x":"{"x" * size}","ts":{space}{stamp},"y":1}}}}'.encode())


frames = st.one_of(
    st.builds(
        stamped,
        st.integers(NOW - 12_000_000, NOW + 1_000_000) | st.integers(0, 200),
        st.sampled_from([0, 40, 125, 126, 200, 65_400, 65_536]),
        st.sampled_from(["", " "]),
    ),
    st.builds(frame, st.just(1), st.just(b'{"type":"$welcome","data":{}}')),
    st.builds(frame, st.just(9), st.binary(max_size=125)),
    st.builds(frame, st.just(10), st.just(b"")),
    st.builds(frame, st.just(8), st.just(b"\x03\xe9")),
)
streams = st.lists(frames, max_size=12)


def naive(stream: list[bytes]) -> dict[str, object]:
    """What the walkers must find, from the frames before they were joined."""
    frames = others = closes = 0
    pings = []
    latencies: dict[int, int] = {}
    for one in stream:
        opcode = one[0] & 15
        payload = one[2:] if one[1] < 126 else one[4:] if one[1] == 126 else one[10:]
        if opcode == 9:
            pings.append(payload)
        elif opcode == 8:
            closes += 1
        elif opcode == 1 and b'"ts":' not in payload:
            others += 1
        elif opcode == 1:
            frames += 1
            digits = payload.split(b'"ts":')[1].split(b",")[0]
            bucket = min(max(0, (NOW - int(digits)) // 10_000), BUCKETS - 1)
            latencies[bucket] = latencies.get(bucket, 0) + 1
    return {"frames": frames, "others": others, "closes": closes, "pings": pings, "latencies": latencies}


def cut(stream: list[bytes], cuts: list[int]) -> Iterator[bytes]:
    joined = b"".join(stream)
    edges = sorted({0, len(joined), *(at % (len(joined) + 1) for at in cuts)})
    for left, right in pairwise(edges):
        yield joined[left:right]


def python_walker() -> Walker:
    return Walker(BUCKETS)


@given(streams, st.lists(st.integers(0, 1 << 20), max_size=8))
def test_python_walker_finds_what_a_naive_parser_finds(stream: list[bytes], cuts: list[int]) -> None:
    walker, rest = python_walker(), b""
    for piece in cut(stream, cuts):
        have = rest + piece
        # Old bytes behind the end, as in a buffer that is used again, must not count.
        buffer = bytearray(have + b'\x81\x05"ts":')
        taken = walker.walk(buffer, len(have), NOW)
        rest = have[taken:]
    assert rest == b""
    assert {
        "frames": walker.frames,
        "others": walker.others,
        "closes": walker.closes,
        "pings": walker.pongs,
        "latencies": {index: count for index, count in enumerate(walker.buckets) if count},
    } == naive(stream)
    assert walker.pings == len(walker.pongs)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    built = build_native(tmp_path_factory.mktemp("native"))
    assert built is not None
    return built


@given(stream=streams, cuts=st.lists(st.integers(0, 1 << 20), max_size=8))
def test_native_walker_finds_what_a_naive_parser_finds(library: Path, stream: list[bytes], cuts: list[int]) -> None:
    native = load_library(library)
    buckets, counts = (c_uint32 * BUCKETS)(), (c_uint64 * 3)()
    pump = native.pump_new(3, buckets, BUCKETS, counts)
    rest = b""
    for piece in cut(stream, cuts):
        rest += piece
        # Descriptor -1: pongs are counted and not sent.
        taken = native.pump_walk(pump, 2, -1, rest, len(rest), NOW)
        assert 0 <= taken <= len(rest)
        rest = rest[taken:]
    totals = native.pump_totals(pump).contents
    wanted = naive(stream)
    assert rest == b""
    assert {
        "frames": totals.frames,
        "others": totals.others,
        "closes": totals.closes,
        "latencies": {index: count for index, count in enumerate(buckets) if count},
    } == {name: value for name, value in wanted.items() if name != "pings"}
    assert totals.pings == len(wanted["pings"])  # type: ignore[arg-type]
    assert list(counts) == [0, 0, totals.frames]
    native.pump_free(pump)


broken_streams = pytest.mark.parametrize(
    "broken", [b"\x81\x85\0\0\0\0hello", b"\xc1\x05hello"], ids=["masked", "compressed"]
)


@broken_streams
def test_python_walker_refuses_what_no_server_may_send(broken: bytes) -> None:
    with pytest.raises(BrokenStream):
        python_walker().walk(bytearray(broken), len(broken), NOW)


@broken_streams
def test_native_walker_refuses_what_no_server_may_send(library: Path, broken: bytes) -> None:
    native = load_library(library)
    pump = native.pump_new(1, (c_uint32 * BUCKETS)(), BUCKETS, (c_uint64 * 1)())
    assert native.pump_walk(pump, 0, -1, broken, len(broken), NOW) == -1
    native.pump_free(pump)


@pytest.mark.parametrize("size", [126, 127], ids=["16 bits", "64 bits"])
def test_a_length_that_is_cut_waits_for_its_rest(size: int) -> None:
    assert python_walker().walk(bytearray((0x81, size, 0)), 3, NOW) == 0


def test_reset_forgets_latencies_and_nothing_else() -> None:
    walker = python_walker()
    one = stamped(NOW - 5, 10)
    walker.walk(bytearray(one), len(one), NOW)
    walker.reset()
    assert walker.frames == 1
    assert sum(walker.buckets) == 0
