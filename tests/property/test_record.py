"""Any bytes are decided, `data` is never touched, and a slow model without msgspec decides the same."""

import json
from functools import partial
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidings.contract.record import (
    MAX_DEPTH,
    MAX_RECEIVER_CHARS,
    MAX_TYPE_CHARS,
    MAX_VALUE_BYTES,
    REASONS,
    decode,
    decode_signal,
    encode,
)
from tidings.errors import ContractError

# Building its table of Unicode takes Hypothesis seconds in a fresh checkout; that is no fault of a test.
calm = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Outcome = str | tuple[list[str], str, bytes, bytes | None]


def outcome(value: bytes) -> Outcome:
    try:
        record = decode(value)
    except ContractError as error:
        return error.reason
    context = None if record.context is None else bytes(record.context)
    return (record.receivers, record.type, bytes(record.data), context)


# ---- The model: the contract's sentences one after the other, with Python's json and loops.


class _Refused(Exception):
    pass


class _Number(str):
    """The text of a number with a point or an exponent."""


class _Integer(str):
    """The text of an integer."""


def _constant(name: str) -> Any:
    raise ValueError(name)


_JSON = JSONDecoder(parse_float=_Number, parse_int=_Integer, parse_constant=_constant)


def model(value: bytes) -> Outcome:
    try:
        return _model(value)
    except _Refused as refusal:
        return str(refusal)


def _model(value: bytes) -> Outcome:
    if len(value) > MAX_VALUE_BYTES:
        raise _Refused("value_too_big")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused("not_utf8") from None
    if text.startswith("\ufeff"):
        raise _Refused("not_utf8")
    if _depth(text) > MAX_DEPTH:
        raise _Refused("too_deep")
    try:
        parsed = _JSON.decode(text)
    except ValueError:
        raise _Refused("not_json") from None
    if _has_lone_surrogate(parsed, text):
        raise _Refused("lone_surrogate")
    if not isinstance(parsed, dict):
        raise _Refused("not_object")
    members = _texts(text)
    receivers = _model_receivers(parsed)
    if "type" not in parsed:
        raise _Refused("type_missing")
    type_ = parsed["type"]
    if type(type_) is not str:
        raise _Refused("type_not_string")
    if not type_:
        raise _Refused("type_empty")
    if len(type_) > MAX_TYPE_CHARS:
        raise _Refused("type_too_long")
    if "data" not in parsed:
        raise _Refused("data_missing")
    if "context" in parsed and not isinstance(parsed["context"], dict):
        raise _Refused("context_not_object")
    if type_.startswith("$"):
        raise _Refused("type_reserved")
    context = members["context"].encode() if "context" in members else None
    return (receivers, type_, members["data"].encode(), context)


def _model_receivers(parsed: dict[str, Any]) -> list[str]:
    if "receivers" not in parsed:
        raise _Refused("receivers_missing")
    if not isinstance(parsed["receivers"], list):
        raise _Refused("receivers_not_array")
    names = []
    for receiver in parsed["receivers"]:
        if type(receiver) not in (str, _Integer):
            raise _Refused("receiver_not_string")
        name = "0" if type(receiver) is _Integer and receiver == "-0" else str(receiver)
        if not name:
            raise _Refused("receiver_empty")
        if len(name) > MAX_RECEIVER_CHARS:
            raise _Refused("receiver_too_long")
        names.append(name)
    return names


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if escaped:
            escaped = False
            if character in '\\"':
                continue
        # Outside of strings there is no backslash in JSON; should there be one, it counts as it would inside.
        if character == "\\":
            escaped = True
        elif in_string:
            if character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _has_lone_surrogate(parsed: object, text: str) -> bool:
    # json joins a pair of escapes; what is left is alone. Values that a repeated key hides are seen in the pairs.
    found = False

    def pairs(items: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or any(_lone(key) or _lone(item) for key, item in items)

    parsed = JSONDecoder(object_pairs_hook=pairs, parse_int=str, parse_float=str).decode(text)
    return found or _lone(parsed)


def _lone(item: object) -> bool:
    if isinstance(item, list):
        return any(_lone(entry) for entry in item)
    return isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item)


def _texts(text: str) -> dict[str, str]:
    """The text of each member of the outermost object; of a repeated key the last."""
    at = _skip(text, text.index("{") + 1)
    members = {}
    while text[at] != "}":
        key, at = scanstring(text, at + 1, True)
        at = _skip(text, _skip(text, at) + 1)
        _, end = _JSON.raw_decode(text, at)
        members[key] = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


# ---- What is fed to both.

JSON_TEXTS = [
    "1", "-0", "0", "1.0", "1e2", "01", "+1", "NaN", "-Infinity", "true", "null", "[]", "{}", '""', '"a"', '"$a"', "7",
    '["a"]', '["a",7,-0,"a"]', '["a",null]', '["a",1.5]', '[""]', "[[[]]]", '{"a":1}', '{"a":1,"a":"x"}', '"\\ud800"',
    '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\\\ud800"', '["\\ud800"]', '{"\\udfff":1}', '"é\\n"', '"\\x"', "'a'",
    '"\t"', '"{[{[\\""', f'"{"x" * 256}"', f'"{"x" * 257}"', f'["{"😀" * 256}"]', f'["{"😀" * 257}"]', f'[{"7" * 256}]',
    f'[{"7" * 257}]', f"[-{'7' * 255}]", f"[-{'7' * 256}]", f"[{'7' * 4301}]", "[" * 126 + "]" * 126,
    "[" * 127 + "]" * 127, "[" * 128 + "]" * 128, "[" * 500, "[{}" + ",{}" * 130 + "]", "]" * 5 + "[" * 140,
]  # fmt: skip
KEYS = ['"receivers"', '"type"', '"data"', '"context"', '"\\u0074ype"', '"x"', '""', '"\\ud800"', "type"]
spaces = st.sampled_from(["", "", "", " ", "\n\t\r ", "\f", "\ufeff"])
values = st.one_of(
    st.sampled_from(JSON_TEXTS),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=8,
    ).map(json.dumps),
)
good_members = st.permutations(['"receivers":["a","b",3]', '"type":"t"', '"data":{"x":[1,2.50]}'])


@st.composite
def near_valid(draw: st.DrawFn) -> bytes:
    members = list(draw(good_members))
    for _ in range(draw(st.integers(0, 3))):
        space = draw(spaces)
        member = f"{space}{draw(st.sampled_from(KEYS))}{draw(spaces)}:{draw(spaces)}{draw(values)}{space}"
        members.insert(draw(st.integers(0, len(members))), member)
    if draw(st.booleans()):
        members.pop(draw(st.integers(0, len(members) - 1)))
    value = bytearray(f"{draw(spaces)}{{{','.join(members)}}}{draw(spaces)}".encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value) - 1))
        piece = draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"]", b",", b"\xff", b"\xed\xa0\x80", b"0", b"\x00", b"\\u"])
        )
        value[at : at + draw(st.integers(0, 1))] = piece
    return bytes(value)


@calm(max_examples=600)
@given(near_valid())
@example(b"")
@example(b'{"receivers":["a"],"type":"t","data":1}')
@example(b'{"receivers":5,"type":"t","data":1,"receivers":["a"]}')
@example(b'{"receivers":["a"],"type":"t","data":1}\xef\xbb\xbf')
@example(b'\\"receivers":' + b"[" * 129)
def test_decode_agrees_with_a_model_that_shares_no_code(value: bytes) -> None:
    assert outcome(value) == model(value)


@calm(max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ud80c tnfe019.-+E\x00\ufeff', max_size=60).map(str.encode))
def test_any_bytes_give_a_record_or_a_contract_error(value: bytes) -> None:
    for read in (decode, decode_signal):
        try:
            record = read(value)
        except ContractError as error:
            assert error.reason in REASONS  # noqa: PT017 - either outcome may be right
        else:
            assert all(type(name) is str and 1 <= len(name) <= MAX_RECEIVER_CHARS for name in record.receivers)


@calm()
@given(near_valid())
def test_what_is_decoded_can_be_encoded_and_is_the_same(value: bytes) -> None:
    found = outcome(value)
    if not isinstance(found, str):
        assert outcome(encode(*found)) == found


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_RECEIVER_CHARS)


@calm()
@given(json_values, st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_any_json_value_as_data_comes_back_byte_for_byte(
    thing: object, indent: int | None, ascii_only: bool, first: bool
) -> None:
    data = json.dumps(thing, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    members = [b'"receivers":["a"]', b'"type":"t"']
    members.insert(0 if first else 2, b'"data": ' + data)
    assert bytes(decode(b"{" + b" , ".join(members) + b"}").data) == data
    assert bytes(decode(encode(["a"], "t", data)).data) == data


@calm()
@given(
    st.lists(names, max_size=20),
    names.filter(lambda name: not name.startswith("$")),
    json_values,
    st.none() | st.dictionaries(st.text(), st.integers()),
)
def test_encode_then_decode_gives_the_same(
    receivers: list[str], type_: str, data: object, context: dict[str, int] | None
) -> None:
    record = decode(encode(receivers, type_, data, context))
    assert record.receivers == receivers
    assert record.type == type_
    assert bytes(record.data) == msgspec.json.encode(data)
    assert (None if record.context is None else json.loads(bytes(record.context))) == context
