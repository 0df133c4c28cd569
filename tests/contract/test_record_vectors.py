"""Every reader of records decides on every example as written down."""

import pytest

from tests.vectors import Vector, records
from tidings.contract import record
from tidings.contract.record import REASONS, decode, decode_signal, encode_signal
from tidings.errors import ContractError, MalformedRecord, RecordTooBig

VECTORS = records()
ACCEPTED = [vector for vector in VECTORS if vector.accepted is not None]


def by_name(vector: Vector) -> str:
    return vector.name


def same(found: record.Record, vector: Vector) -> bool:
    expected = vector.accepted
    assert expected is not None
    context = None if found.context is None else bytes(found.context)
    return (found.receivers, found.type, bytes(found.data), context) == tuple(expected)


@pytest.mark.parametrize("vector", VECTORS, ids=by_name)
def test_decode_decides_as_the_vector_says(vector: Vector) -> None:
    if vector.reason is None:
        assert same(decode(vector.value), vector)
        return
    with pytest.raises(ContractError) as caught:
        decode(vector.value)
    assert caught.value.reason == vector.reason


@pytest.mark.parametrize("vector", VECTORS, ids=by_name)
def test_decode_signal_differs_in_reserved_names_only(vector: Vector) -> None:
    if vector.accepted is not None:
        assert same(decode_signal(vector.value), vector)
        return
    with pytest.raises(ContractError) as caught:
        decode_signal(vector.value)
    assert caught.value.reason == vector.reason


@pytest.mark.parametrize("vector", VECTORS, ids=by_name)
def test_the_slow_way_decides_as_the_quick_one(vector: Vector) -> None:
    """Which of the two a value takes is an accident of msgspec; the decision must not depend on it."""
    try:
        record._check_text(vector.value)
        found = record._decide(vector.value)
    except ContractError as error:
        assert error.reason == vector.reason  # noqa: PT017 - either outcome may be right
    else:
        if vector.accepted is None:
            assert vector.reason == "type_reserved"
        else:
            assert same(found, vector)


@pytest.mark.parametrize("vector", ACCEPTED, ids=by_name)
def test_what_is_accepted_can_be_written_again(vector: Vector) -> None:
    assert vector.accepted is not None
    if len(vector.value) > 1_000_000:  # written again it has other white space, and may be a byte longer
        return
    assert same(decode_signal(encode_signal(*vector.accepted)), vector)


def test_every_reason_has_an_example_and_every_example_a_known_reason() -> None:
    assert {vector.reason for vector in VECTORS if vector.reason is not None} == set(REASONS)


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.reason], ids=by_name)
def test_the_error_class_says_whether_a_limit_was_passed(vector: Vector) -> None:
    with pytest.raises(ContractError) as caught:
        decode(vector.value)
    over = {"value_too_big", "receivers_too_many", "receiver_too_long", "type_too_long"}
    assert type(caught.value) is (RecordTooBig if vector.reason in over else MalformedRecord)
