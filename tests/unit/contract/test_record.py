"""What the vectors can't say: types, copies, writing, and the caller's stack."""

import sys
from collections.abc import Callable
from uuid import UUID

import msgspec
import pytest

from tidings.contract import record
from tidings.contract.record import MAX_DEPTH, MAX_RECEIVERS, MAX_VALUE_BYTES, decode, encode, encode_signal
from tidings.errors import ContractError, MalformedRecord, RecordTooBig


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(ContractError) as caught:
        call()
    return caught.value.reason


def test_data_and_context_do_not_keep_the_value_alive() -> None:
    """A window of kept records would otherwise hold every list of receivers too."""
    value = b'{"receivers":["a"],"type":"t","data":{"x":1},"context":{"y":2}}'
    held = sys.getrefcount(value)
    quick, slow = decode(value), record._decide(value)
    assert quick == slow
    assert sys.getrefcount(value) == held


def test_a_record_can_not_be_changed() -> None:
    found = decode(b'{"receivers":["a"],"type":"t","data":1}')
    with pytest.raises(AttributeError):
        found.type = "u"  # type: ignore[misc]


def test_reasons_are_in_the_order_of_the_checks_and_each_has_one_line() -> None:
    assert len(record.REASONS) == 19
    assert all(text.endswith(".") for text in record.REASONS.values())
    assert not any("\n" in text for text in record.REASONS.values())
    with pytest.raises(TypeError):
        record.REASONS["more"] = ""  # type: ignore[index]


def test_errors_never_show_the_content() -> None:
    for value in (
        b'{"receivers":["secret",5.5],"type":"t","data":1}',
        b'{"receivers":["a"],"type":"$secret","data":1}',
        b'{"receivers":["a"],"type":"t","data":secret}',
        b'{"receivers":["secret\xff"],"type":"t","data":1}',
    ):
        with pytest.raises(ContractError) as caught:
            decode(value)
        assert "secret" not in str(caught.value)


def test_the_allowed_depth_is_decided_the_same_deep_in_the_callers_stack() -> None:
    value = b'{"receivers":["a"],"type":"t","data":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    deeper = b'{"receivers":["a"],"type":"t","data":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"

    def down(frames: int) -> None:
        if frames:
            down(frames - 1)
            return
        assert decode(value).type == "t"
        assert reason_of(lambda: decode(deeper)) == "too_deep"

    down(600)


@pytest.mark.parametrize("data", [b'{"b":1, "a":[1.0]}', bytearray(b"null"), memoryview(b'"x"'), msgspec.Raw(b"1e5")])
def test_bytes_are_spliced_unchanged(data: bytes) -> None:
    assert encode(["a"], "t", data) == b'{"receivers":["a"],"type":"t","data":' + bytes(data) + b"}"


def test_anything_else_is_encoded() -> None:
    class Point(msgspec.Struct):
        x: int

    identity = UUID("57a85f64-5717-4562-b3fc-2c54636a1230")
    value = encode({identity: 1}.keys(), "t", Point(1), {"actor": identity})
    assert value == (
        b'{"receivers":["57a85f64-5717-4562-b3fc-2c54636a1230"],"type":"t","data":{"x":1},'
        b'"context":{"actor":"57a85f64-5717-4562-b3fc-2c54636a1230"}}'
    )
    assert encode((name for name in "ab"), "t", None) == b'{"receivers":["a","b"],"type":"t","data":null}'
    assert encode([10**30, -1], "t", "x") == b'{"receivers":[1000000000000000000000000000000,-1],"type":"t","data":"x"}'


def test_white_space_around_spliced_bytes_is_not_kept() -> None:
    assert encode(["a"], "t", b" \n1 \n") == b'{"receivers":["a"],"type":"t","data":1}'


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("receivers", "type_", "data", "context", "reason"),
    [
        ("alice", "t", 1, None, "receivers_not_array"),
        ({"alice": 1}, "t", 1, None, "receivers_not_array"),
        (b"alice", "t", 1, None, "receivers_not_array"),
        ([""], "t", 1, None, "receiver_empty"),
        ([None], "t", 1, None, "receiver_not_string"),
        ([True], "t", 1, None, "receiver_not_string"),
        ([1.0], "t", 1, None, "receiver_not_string"),
        (["x" * 257], "t", 1, None, "receiver_too_long"),
        ([10**256], "t", 1, None, "receiver_too_long"),
        ([1 - 10**256], "t", 1, None, "receiver_too_long"),
        (["\ud800"], "t", 1, None, "lone_surrogate"),
        (["a"] * (MAX_RECEIVERS + 1), "t", 1, None, "receivers_too_many"),
        (["a"], "", 1, None, "type_empty"),
        (["a"], 5, 1, None, "type_not_string"),
        (["a"], "$disconnect", 1, None, "type_reserved"),
        (["a"], "\udc00", 1, None, "lone_surrogate"),
        (["a"], "t", b"", None, "not_json"),
        (["a"], "t", b"1,2", None, "not_json"),
        (["a"], "t", b'1,"receivers":["everyone"]', None, "not_json"),
        (["a"], "t", b'1}{"x":1', None, "not_json"),
        (["a"], "t", b'"\xff"', None, "not_utf8"),
        (["a"], "t", b'"\\ud800"', None, "lone_surrogate"),
        (["a"], "t", "\ud800", None, "lone_surrogate"),
        (["a"], "t", msgspec.Raw(), None, "not_json"),
        (["a"], "t", {"x": msgspec.Raw(b'1},"type":{"y":1')}, None, "not_json"),
        (["a"], "t", object(), None, "not_json"),
        (["a"], "t", CYCLE, None, "too_deep"),
        (["a"], "t", b"[" * 128 + b"]" * 128, None, "too_deep"),
        (["a"], "t", b"[" * 129 + b"]" * 129, None, "too_deep"),
        (["a"], "t", "x" * MAX_VALUE_BYTES, None, "value_too_big"),
        (["a"], "t", "x" * (MAX_VALUE_BYTES - 20), None, "value_too_big"),
        (["a"], "t", 1, [], "context_not_object"),
        (["a"], "t", 1, b"null", "context_not_object"),
        (["a"], "t", 1, b"{", "not_json"),
    ],
)
def test_encode_refuses_to_make_poison(
    receivers: list[object], type_: str, data: object, context: object, reason: str
) -> None:
    assert reason_of(lambda: encode(receivers, type_, data, context)) == reason


def test_signals_may_have_reserved_names() -> None:
    value = encode_signal(["a"], "$disconnect", {"reason": "x"})
    assert record.decode_signal(value).type == "$disconnect"
    assert reason_of(lambda: decode(value)) == "type_reserved"


def test_what_is_over_a_limit_is_told_from_what_is_malformed() -> None:
    with pytest.raises(RecordTooBig):
        decode(b" " * (MAX_VALUE_BYTES + 1))
    with pytest.raises(MalformedRecord):
        decode(b"")
