"""Frames to clients as bytes; bytes of clients as frames."""

import os
import zlib

import pytest
from websockets.frames import Frame as ReferenceFrame
from websockets.streams import StreamReader

from tests.gateway_fakes import client_frame, server_frames
from tidings.closing import CloseCode
from tidings.gateway.wsframes import (
    ClientEvent,
    ClientFrames,
    Opcode,
    ProtocolViolation,
    close_frame,
    deflate,
    ping_frame,
    pong_frame,
    text_frame,
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def violation(*frames: bytes, limit: int = 1000, inflate: bool = False) -> ProtocolViolation:
    with pytest.raises(ProtocolViolation) as caught:
        ClientFrames(limit, inflate=inflate).feed(b"".join(frames))
    return caught.value


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


# ---- out


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_text_frame_of_any_length_is_read_back_by_websockets_own_parser(length: int) -> None:
    payload = b"x" * length
    reader = StreamReader()
    reader.feed_data(text_frame(payload))
    parsing = ReferenceFrame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    frame = done.value.value
    assert (frame.opcode, frame.data, frame.fin) == (TEXT, payload, True)
    assert server_frames(text_frame(payload)) == [(TEXT, payload, False)]


@pytest.mark.parametrize("payload", [b"", b"short", b'{"type":"t"}' * 5_000, os.urandom(5_000)])
def test_a_deflated_frame_inflates_alone(payload: bytes) -> None:
    frame = deflate(payload)
    assert server_frames(frame + frame) == [(TEXT, payload, True)] * 2


def test_control_frames() -> None:
    assert server_frames(ping_frame() + pong_frame(b"abc") + close_frame(1001, "bye")) == [
        (PING, b"", False),
        (PONG, b"abc", False),
        (CLOSE, b"\x03\xe9bye", False),
    ]


def test_a_long_close_reason_is_cut_at_a_characters_edge() -> None:
    (frame,) = server_frames(close_frame(4008, "ü" * 100))
    assert len(frame.payload) == 2 + 122
    assert frame.payload[2:].decode() == "ü" * 61


# ---- in


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_is_unmasked(opcode: int, length: int) -> None:
    payload = bytes(97 + index % 26 for index in range(length))
    frames = ClientFrames(65_536)
    assert frames.feed(client_frame(opcode, payload)) == [ClientEvent(opcode, payload)]
    assert frames.held_bytes == 0


@pytest.mark.parametrize("form", [126, 127])
def test_a_length_written_longer_than_needed_is_read_too(form: int) -> None:
    frame = client_frame(TEXT, b"hi", length_form=form)  # type: ignore[arg-type]
    assert ClientFrames(100).feed(frame) == [(TEXT, b"hi")]


def test_fragments_are_one_message_and_control_frames_come_between() -> None:
    frames = ClientFrames(100)
    events = frames.feed(
        client_frame(TEXT, b"a", fin=False)
        + client_frame(PING, b"p")
        + client_frame(0, b"b", fin=False)
        + client_frame(PONG)
        + client_frame(0, b"c")
        + client_frame(BINARY, b"\xff")
    )
    assert events == [(PING, b"p"), (PONG, b""), (TEXT, b"abc"), (BINARY, b"\xff")]


def test_binary_fragments_are_no_text() -> None:
    frames = ClientFrames(100)
    assert frames.feed(client_frame(BINARY, b"\xff", fin=False) + client_frame(0, b"\xfe")) == [(BINARY, b"\xff\xfe")]


def test_a_character_may_be_split_between_fragments() -> None:
    first, second = "ü".encode()[:1], "ü".encode()[1:]
    frames = ClientFrames(100)
    assert frames.feed(client_frame(TEXT, first, fin=False) + client_frame(0, second)) == [(TEXT, "ü".encode())]


def test_text_that_is_not_utf8_is_1007_at_the_first_wrong_fragment() -> None:
    assert violation(client_frame(TEXT, b"\xff")).code == CloseCode.INVALID_PAYLOAD
    assert violation(client_frame(TEXT, b"\xed\xa0\x80")).code == CloseCode.INVALID_PAYLOAD
    assert violation(client_frame(TEXT, b"\xff", fin=False)).code == CloseCode.INVALID_PAYLOAD
    half = "ü".encode()[:1]
    assert violation(client_frame(TEXT, half)).code == CloseCode.INVALID_PAYLOAD
    assert violation(client_frame(TEXT, b"a", fin=False), client_frame(0, half)).code == CloseCode.INVALID_PAYLOAD


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([client_frame(TEXT, b"a", mask=None)], "client frames must be masked"),
        ([client_frame(PING, mask=None)], "client frames must be masked"),
        *(([client_frame(TEXT, b"a", rsv=rsv)], "reserved bits are set") for rsv in range(1, 8)),
        ([client_frame(PING, rsv=4)], "reserved bits are set"),
        *(([client_frame(opcode, b"a")], "unknown opcode") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        ([client_frame(PING, fin=False)], "fragmented control frame"),
        ([client_frame(CLOSE, fin=False)], "fragmented control frame"),
        ([client_frame(PING, b"x" * 126)], "control frame over 125 bytes"),
        ([client_frame(PONG, b"x", length_form=126)], "control frame over 125 bytes"),
        ([client_frame(PONG, b"x", length_form=127)], "control frame over 125 bytes"),
        ([client_frame(0, b"a")], "continuation of nothing"),
        ([client_frame(0, b"a", fin=False)], "continuation of nothing"),
        (
            [client_frame(TEXT, b"a", fin=False), client_frame(TEXT, b"b")],
            "a new message inside a fragmented one",
        ),
        ([client_frame(CLOSE, b"\x03")], "close frame with half a code"),
        *(
            ([client_frame(CLOSE, code.to_bytes(2, "big"))], "invalid close code")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
        ),
    ],
)
def test_a_broken_rule_is_1002(frames: list[bytes], reason: str) -> None:
    broken = violation(*frames)
    assert (broken.code, broken.reason) == (CloseCode.PROTOCOL_ERROR, reason)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999])
def test_a_close_with_a_valid_code_ends_the_reading(code: int) -> None:
    payload = code.to_bytes(2, "big") + "tschüß".encode()
    frames = ClientFrames(100)
    assert frames.feed(client_frame(CLOSE, payload) + b"\xff\xff whatever") == [(CLOSE, payload)]
    assert ClientFrames(100).feed(client_frame(CLOSE)) == [(CLOSE, b"")]


def test_a_close_reason_that_is_not_utf8_is_1007() -> None:
    assert violation(client_frame(CLOSE, b"\x03\xe8\xff")).code == CloseCode.INVALID_PAYLOAD


def test_what_came_before_a_violation_is_still_obeyed() -> None:
    broken = violation(client_frame(TEXT, b"good"), client_frame(PING, b"p"), client_frame(3))
    assert broken.events == [(TEXT, b"good"), (PING, b"p")]


def test_a_violation_shows_before_the_payload_came() -> None:
    assert violation(client_frame(TEXT, b"x" * 500, mask=None)[:2]).reason == "client frames must be masked"
    assert violation(client_frame(3, b"x" * 70_000)[:2]).reason == "unknown opcode"
    assert violation(client_frame(3, b"x" * 500)[:3]).reason == "unknown opcode"


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
def test_a_message_over_the_limit_is_1009_as_soon_as_its_header_shows_it() -> None:
    assert ClientFrames(100).feed(client_frame(TEXT, b"x" * 100)) == [(TEXT, b"x" * 100)]
    assert violation(client_frame(TEXT, b"x" * 101)[:2], limit=100).code == CloseCode.TOO_BIG
    assert violation(client_frame(TEXT, b"x" * 200)[:4], limit=100).code == CloseCode.TOO_BIG
    huge = bytes((0x81, 0xFF)) + (1 << 62).to_bytes(8, "big")
    assert violation(huge, limit=100).code == CloseCode.TOO_BIG


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
def test_fragments_count_together_and_empty_ones_count_too() -> None:
    parts = [client_frame(TEXT, b"x" * 60, fin=False), client_frame(0, b"x" * 41)]
    assert violation(*parts, limit=100).code == CloseCode.TOO_BIG
    flood = [client_frame(TEXT, fin=False)] + [client_frame(0, fin=False)] * 102
    assert violation(*flood, limit=100).code == CloseCode.TOO_BIG


def test_frames_beyond_those_allowed_are_not_looked_into() -> None:
    frames = ClientFrames(1000)
    three = client_frame(TEXT, b"a", fin=False) + client_frame(0, b"b") + client_frame(PING)
    assert frames.feed(three, 3) == [(TEXT, b"ab"), (PING, b"")]
    assert frames.taken == 3
    with pytest.raises(ProtocolViolation) as caught:
        frames.feed(client_frame(PONG, b"good") + client_frame(TEXT, b"\xff"), 1)
    assert (caught.value.code, caught.value.events) == (CloseCode.POLICY, [(PONG, b"good")])


def test_half_a_frame_is_held_and_no_more_than_that() -> None:
    frames = ClientFrames(1000)
    whole = client_frame(TEXT, b"x" * 300)
    for byte in whole[:-1]:
        assert frames.feed(bytes([byte])) == []
    assert frames.held_bytes == len(whole) - 1
    assert frames.feed(whole[-1:] + whole[:3]) == [(TEXT, b"x" * 300)]
    assert frames.held_bytes == 3


# ---- compressed


def test_a_compressed_message_is_inflated() -> None:
    frames = ClientFrames(1000, inflate=True)
    body = deflated(b"hello " * 50)
    assert frames.feed(client_frame(TEXT, body, rsv=4)) == [(TEXT, b"hello " * 50)]
    split = client_frame(BINARY, body[:4], fin=False, rsv=4) + client_frame(0, body[4:])
    assert frames.feed(split) == [(BINARY, b"hello " * 50)]
    assert frames.feed(client_frame(TEXT, b"plain")) == [(TEXT, b"plain")]


def test_compression_that_was_not_negotiated_or_is_out_of_place_is_1002() -> None:
    body = deflated(b"hello")
    assert violation(client_frame(TEXT, body, rsv=4)).reason == "reserved bits are set"
    later = [client_frame(TEXT, body, fin=False, rsv=4), client_frame(0, b"", rsv=4)]
    assert violation(*later, inflate=True).reason == "reserved bits are set"
    assert violation(client_frame(PING, rsv=4), inflate=True).reason == "reserved bits are set"
    assert violation(client_frame(TEXT, body, rsv=6), inflate=True).reason == "reserved bits are set"


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
def test_a_message_that_inflates_over_the_limit_is_1009_without_being_inflated() -> None:
    bomb = deflated(b"x" * 10_000_000)
    assert violation(client_frame(TEXT, bomb, rsv=4), limit=20_000, inflate=True).code == CloseCode.TOO_BIG
    exact = client_frame(TEXT, deflated(b"x" * 1000), rsv=4)
    assert ClientFrames(1000, inflate=True).feed(exact) == [(TEXT, b"x" * 1000)]


def test_damaged_compression_and_hidden_wrong_text_are_1007() -> None:
    assert violation(client_frame(TEXT, b"\xff" * 10, rsv=4), inflate=True).code == CloseCode.INVALID_PAYLOAD
    assert violation(client_frame(TEXT, deflated(b"\xff"), rsv=4), inflate=True).code == CloseCode.INVALID_PAYLOAD


def test_opcodes_are_those_of_the_standard() -> None:
    assert [int(opcode) for opcode in Opcode] == [0, TEXT, BINARY, CLOSE, PING, PONG]
