"""One record to one frame per way of sending."""

import json

import pytest

from tests.gateway_fakes import parse_sse, server_frames, unchunked
from tests.vectors import records
from tidings.contract.control import Checkpoint
from tidings.gateway.frames import Encoding, Encodings, control_payload, sse_chunk, sse_event

ODD = b'{"b": 1.0,  "a":1e2,\t"a":"\\u00fc"}'


def encodings(data: bytes = ODD, at: str | None = "3:18", compress_min_bytes: int = 1_000) -> Encodings:
    return Encodings("t", data, at, "log", {0: 16, 3: 18}, compress_min_bytes)


def test_a_plain_frame_is_exactly_type_and_data() -> None:
    (frame,) = server_frames(encodings().frame(Encoding.PLAIN))
    assert frame.payload == b'{"type":"t","data":' + ODD + b"}"


def test_a_v1_frame_says_where_it_stands() -> None:
    (frame,) = server_frames(encodings().frame(Encoding.V1))
    assert frame.payload == b'{"type":"t","at":"3:18","data":' + ODD + b"}"


def test_a_v1_frame_from_signals_has_no_position() -> None:
    (frame,) = server_frames(encodings(at=None).frame(Encoding.V1))
    assert frame.payload == b'{"type":"t","data":' + ODD + b"}"


def test_an_event_has_the_log_and_cursor_as_its_id() -> None:
    body = unchunked(encodings().frame(Encoding.SSE))
    assert parse_sse(body) == [('{"type":"t","data":' + ODD.decode() + "}", "log.10.0.0.12")]
    assert b"event:" not in body


def test_an_event_from_signals_has_no_id() -> None:
    body = unchunked(encodings(at=None).frame(Encoding.SSE))
    assert body == b'data: {"type":"t","data":' + ODD + b"}\n\n"


@pytest.mark.parametrize("breaks", [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r\n", b"\n\r"])
def test_line_breaks_of_the_data_become_further_data_lines(breaks: bytes) -> None:
    data = b"{" + breaks + b'"a":' + breaks + b"1}"
    body = unchunked(encodings(data).frame(Encoding.SSE))
    ((text, _),) = parse_sse(body)
    wanted = (b'{"type":"t","data":' + data + b"}").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert text == wanted.decode()
    assert b"\r" not in body


def test_the_type_may_be_re_encoded_and_is_the_same_text() -> None:
    type_ = 'é"\\\n\u2028'
    frames = Encodings(type_, b"1", "0:1", "log", {}, 0)
    for encoding in (Encoding.PLAIN, Encoding.V1):
        (frame,) = server_frames(frames.frame(encoding))
        assert frame.json["type"] == type_


@pytest.mark.parametrize("encoding", Encoding)
def test_the_same_object_is_given_to_all_who_share_an_encoding(encoding: Encoding) -> None:
    one = encodings(compress_min_bytes=0)
    assert one.frame(encoding) is one.frame(encoding)


@pytest.mark.parametrize(
    ("plain", "deflated"), [(Encoding.PLAIN, Encoding.PLAIN_DEFLATE), (Encoding.V1, Encoding.V1_DEFLATE)]
)
def test_only_payloads_worth_it_are_compressed_and_they_say_the_same(plain: Encoding, deflated: Encoding) -> None:
    (payload,) = server_frames(encodings().frame(plain))
    size = len(payload.payload)
    small = encodings(compress_min_bytes=size + 1)
    assert small.frame(deflated) is small.frame(plain)
    (packed,) = server_frames(encodings(compress_min_bytes=size).frame(deflated))
    assert packed.compressed
    assert packed.payload == payload.payload


@pytest.mark.parametrize("encoding", [Encoding.PLAIN, Encoding.V1, Encoding.PLAIN_DEFLATE, Encoding.V1_DEFLATE])
def test_data_is_byte_for_byte_as_produced(encoding: Encoding) -> None:
    for vector in records():
        if vector.accepted is None:
            continue
        type_, data = vector.accepted.type, vector.accepted.data
        (frame,) = server_frames(Encodings(type_, data, "0:1", "log", {0: 1}, 1).frame(encoding))
        assert frame.payload.endswith(b',"data":' + data + b"}"), vector.name


def test_labels_of_metrics() -> None:
    assert [encoding.protocol for encoding in Encoding] == ["plain", "v1", "sse", "plain", "v1"]


def test_control_payload_and_chunk() -> None:
    assert json.loads(control_payload("$x", Checkpoint(cursor="0:1"))) == {"type": "$x", "data": {"cursor": "0:1"}}
    assert sse_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert sse_event(b"1", "i") == b"id: i\ndata: 1\n\n"
