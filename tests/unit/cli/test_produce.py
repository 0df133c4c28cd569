"""What `tidings produce` takes for a record."""

import click
import pytest

from tidings.cli.produce import check_all, split_records
from tidings.contract.record import decode_signal

RECORD = b'{"receivers":["a"],"type":"t","data":1}'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", []),
        (b"\n \n", []),
        (RECORD, [(1, RECORD)]),
        (b"\n" + RECORD + b"\r\n\n" + RECORD + b"\n", [(2, RECORD), (4, RECORD)]),
        (b'\n{\n "type": "t"\n}\n', [(2, b'{\n "type": "t"\n}')]),  # one record over several lines
        (b"{\n" + RECORD, [(1, b"{"), (2, RECORD)]),  # not one JSON: the fault is in line 1
        (b"[1]\n[2]", [(1, b"[1]"), (2, b"[2]")]),
    ],
)
def test_records_are_found_with_their_lines(content: bytes, found: list[tuple[int, bytes]]) -> None:
    assert list(split_records(content)) == found


def test_good_records_pass() -> None:
    check_all([(1, RECORD), (2, RECORD)])


def test_each_fault_is_named_with_its_line() -> None:
    with pytest.raises(click.ClickException) as refused:
        check_all([(1, RECORD), (4, b"{"), (7, RECORD.replace(b'"t"', b'"$t"'))])
    assert "nothing was sent" in refused.value.message
    assert "line 4: not_json" in refused.value.message
    assert "line 7: type_reserved" in refused.value.message
    assert "line 1" not in refused.value.message


def test_orders_pass_where_readers_take_signals() -> None:
    order = RECORD.replace(b'"t"', b'"$t"')
    check_all([(1, order)], decode_signal)
    with pytest.raises(click.ClickException, match=r"line 2: not_json"):
        check_all([(1, order), (2, b"{")], decode_signal)


def test_many_faults_are_cut_short() -> None:
    with pytest.raises(click.ClickException, match=r"line 5: .*; and 3 more"):
        check_all([(number, b"") for number in range(1, 9)])
