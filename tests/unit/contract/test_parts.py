"""One modification becomes records whose receivers are disjoint and whose ids can be made again."""

import random
from uuid import UUID

import pytest

from tidings.contract.parts import MAX_PARTS_BYTES, Part, split
from tidings.contract.record import MAX_VALUE_BYTES, SPLIT_RECEIVERS, decode
from tidings.errors import ContractError


def receivers_of(parts: list[Part]) -> list[list[str]]:
    return [decode(part.value).receivers for part in parts]


def test_up_to_the_limit_it_is_one_record_with_the_id_itself() -> None:
    names = [f"user-{number}" for number in range(SPLIT_RECEIVERS)]
    (part,) = split(names, "t", 1, id="x")
    assert part.id == "x"
    assert receivers_of([part]) == [names]


def test_beyond_it_every_receiver_is_in_exactly_one_record() -> None:
    names = [f"user-{number}" for number in range(SPLIT_RECEIVERS * 2 + 1)]
    parts = split(names, "t", b'{"b":1,"a":2}', id="x", context={"actor": "a"})
    found = receivers_of(parts)
    assert [len(chunk) for chunk in found] == [SPLIT_RECEIVERS, SPLIT_RECEIVERS, 1]
    assert sorted(name for chunk in found for name in chunk) == sorted(names)
    assert len({part.id for part in parts}) == 3
    assert all(part.id.startswith("x/") for part in parts)
    for part in parts:
        record = decode(part.value)
        assert bytes(record.data) == b'{"b":1,"a":2}'
        assert record.context is not None
        assert bytes(record.context) == b'{"actor":"a"}'


def test_sent_again_in_another_order_it_has_the_same_parts() -> None:
    names = [f"user-{number}" for number in range(SPLIT_RECEIVERS + 1)]
    first = split(names, "t", 1, id="x")
    random.Random(1).shuffle(names)
    assert split(names, "t", 1, id="x") == first


def test_sent_again_with_other_receivers_a_changed_part_is_no_repeat() -> None:
    """Or who came in between would be taken for one who has it."""
    names = [f"user-{number:05}" for number in range(SPLIT_RECEIVERS + 1)]
    first = split(names, "t", 1, id="x")
    second = split([*names, "user-00000a"], "t", 1, id="x")
    assert first[0].id != second[0].id


def test_repeats_count_once_and_integers_are_their_decimal_strings() -> None:
    identity = UUID("57a85f64-5717-4562-b3fc-2c54636a1230")
    (part,) = split(["a", 1, "1", "a", -1, identity, str(identity)], "t", 1, id="x")
    assert receivers_of([part]) == [["a", "1", "-1", str(identity)]]


def test_no_receivers_no_record_but_it_is_checked() -> None:
    assert split([], "t", 1, id="x") == []
    with pytest.raises(ContractError):
        split([], "$t", 1, id="x")


def test_long_names_are_split_by_bytes_before_they_are_5000() -> None:
    names = [f"{number:04}" + "😀" * 252 for number in range(2000)]
    parts = split(names, "t", 1, id="x")
    assert len(parts) == 2
    assert all(len(part.value) <= MAX_VALUE_BYTES for part in parts)
    assert sorted(name for chunk in receivers_of(parts) for name in chunk) == names
    # Only the comma that the first name does not have, and a name that did not fit, may be left over.
    assert len(parts[0].value) > MAX_VALUE_BYTES - 2 * 1024


def test_names_that_grow_when_escaped_are_counted_as_written() -> None:
    names = [f"{number:04}" + '"' * 252 for number in range(3000)]
    parts = split(names, "t", 1, id="x")
    assert all(len(part.value) <= MAX_VALUE_BYTES for part in parts)
    assert sum(len(chunk) for chunk in receivers_of(parts)) == 3000


def test_big_data_with_many_receivers_is_refused_before_it_fills_the_broker() -> None:
    with pytest.raises(ContractError) as caught:
        split([f"{number:0200}" for number in range(100)], "t", "x" * (MAX_VALUE_BYTES - 300), id="x")
    assert caught.value.reason == "value_too_big"
    assert str(MAX_PARTS_BYTES) in caught.value.detail


@pytest.mark.parametrize(
    ("receivers", "data", "reason"),
    [
        ("alice", 1, "receivers_not_array"),
        ([None], 1, "receiver_not_string"),
        ([True], 1, "receiver_not_string"),
        ([1.0], 1, "receiver_not_string"),
        ([10**5000], 1, "receiver_too_long"),
        (["\ud800"], 1, "lone_surrogate"),
        (["\ud800", *map(str, range(SPLIT_RECEIVERS))], 1, "lone_surrogate"),
        (["", *map(str, range(SPLIT_RECEIVERS))], 1, "receiver_empty"),
        (["x" * 257, *map(str, range(SPLIT_RECEIVERS))], 1, "receiver_too_long"),
        (["a", "b"], "x" * MAX_VALUE_BYTES, "value_too_big"),
        (["a"], "x" * MAX_VALUE_BYTES, "value_too_big"),
        (["a"], b"{", "not_json"),
    ],
)
def test_what_readers_would_refuse_is_refused_here(receivers: list[object], data: object, reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        split(receivers, "t", data, id="x")
    assert caught.value.reason == reason
