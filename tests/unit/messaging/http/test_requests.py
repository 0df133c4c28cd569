"""A body is one JSON text of the right types, or refused with the reason."""

from typing import Any

import msgspec
import pytest

from tidings.messaging.http.bodies import Expiration, NewGroup, TextMessage
from tidings.messaging.http.problems import Refused
from tidings.messaging.http.requests import MAX_DEPTH, decode

TEXT = msgspec.json.Decoder(TextMessage)
GROUP = msgspec.json.Decoder(NewGroup)


def refusal(body: bytes, decoder: Any = TEXT) -> tuple[str, list[tuple[str, str]]]:
    with pytest.raises(Refused) as caught:
        decode(body, decoder)
    return caught.value.code, [(detail.field, detail.message) for detail in caught.value.details]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"text":"a"} x',
        b'{"text":"a"}{"text":"b"}',
        b'{"text":NaN}',
        b'{"text":"a","x":NaN}',
        b'{"text":"a","x":01}',
        b"{'text':'a'}",
        b'{"text":"\x01"}',
        b'{"text":"\\ud800"}',
        b'{"text":"a","x":"\\udfff"}',
        b'{"text":"\xff"}',
        b'{"text":"a","x":"\xff"}',
        b'{"text":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"text":"a"}',
        b'{"text":"a","x":' + b"[" * 100_000,
        b'{"text":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"text":"a","x":' + b'{"x":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}",
    ],
)
def test_what_is_no_json_is_refused_wherever_it_stands(body: bytes) -> None:
    assert refusal(body)[0] == "invalid_json"


def test_brackets_inside_of_texts_are_no_nesting() -> None:
    text = '[{"' * 1_000 + "\\"
    assert decode(msgspec.json.encode({"text": text}), TEXT).text == text
    wide = b'{"text":"a","x":[' + b",".join([b"[]"] * 1_000) + b"]}"
    assert decode(wide, TEXT).text == "a"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"text":5}', "text"),
        (b'{"text":null}', "text"),
        (b'{"text":"a","reply_to":"12"}', "reply_to"),
        (b'{"text":"a","reply_to":1.5}', "reply_to"),
        (b'{"text":"a","reply_to":true}', "reply_to"),
        (b'{"text":"a","reply_to":0}', "reply_to"),
        (b'{"text":"a","reply_to":9223372036854775808}', "reply_to"),
        (b'{"text":"a","client_message_id":""}', "client_message_id"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'"text"', "body"),
        (b"{}", "body"),
    ],
)
def test_wrong_types_are_refused_with_the_field(body: bytes, field: str) -> None:
    code, details = refusal(body)
    assert code == "validation_failed"
    assert [name for name, _ in details] == [field]


def test_a_field_inside_of_a_list_is_named_with_its_place() -> None:
    assert refusal(b'{"name":"a","members":["a",""]}', GROUP)[1][0][0] == "members[1]"
    assert refusal(b'{"name":"a","members":"alice"}', GROUP)[1][0][0] == "members"


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert decode(b'{"text":"a","colour":{"deep":[1,2]}}', TEXT) == TextMessage("a")


def test_of_a_repeated_name_the_last_counts() -> None:
    assert decode(b'{"text":"a","text":"b"}', TEXT).text == "b"


def test_nul_is_refused_wherever_it_stands_and_a_backslash_before_u0000_is_no_nul() -> None:
    assert refusal(b'{"text":"a\\u0000"}')[0] == "validation_failed"
    assert refusal(b'{"text":"\\\\\\u0000"}')[0] == "validation_failed"
    assert refusal(b'{"text":"a","x\\u0000":1}')[0] == "validation_failed"
    assert decode(b'{"text":"\\\\u0000"}', TEXT).text == "\\u0000"


def test_all_of_unicode_but_nul_may_be_written() -> None:
    text = "".join(map(chr, [1, 0x7F, 0xA0, 0x202E, 0xFEFF, 0xFFFE, 0x1F600, 0x10FFFF]))
    assert decode(msgspec.json.encode({"text": text}), TEXT).text == text


def test_an_expiration_may_be_taken_away() -> None:
    assert decode(b'{"expiration":null}', msgspec.json.Decoder(Expiration)) == Expiration(None)
