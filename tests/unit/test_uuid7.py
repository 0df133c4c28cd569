"""Against the test vector of the standard, and the ends of the ranges."""

import pytest

from tidings.uuid7 import RANDOM_BYTES, uuid7


def test_the_example_of_rfc_9562() -> None:
    """Appendix A.6: unix_ts_ms 0x017F22E279B0, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    random = bytes.fromhex("0CC318C4DC0C0C07398F")
    assert str(uuid7(0x017F22E279B0, random)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize("random", [bytes(RANDOM_BYTES), b"\xff" * RANDOM_BYTES])
@pytest.mark.parametrize("now_ms", [0, (1 << 48) - 1])
def test_version_and_variant_stand_whatever_the_rest(now_ms: int, random: bytes) -> None:
    made = uuid7(now_ms, random)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == now_ms


def test_a_later_millisecond_sorts_later() -> None:
    assert str(uuid7(1, b"\xff" * RANDOM_BYTES)) < str(uuid7(2, bytes(RANDOM_BYTES)))


@pytest.mark.parametrize(("now_ms", "random"), [(-1, bytes(10)), (1 << 48, bytes(10)), (0, bytes(9)), (0, bytes(11))])
def test_out_of_range(now_ms: int, random: bytes) -> None:
    with pytest.raises(ValueError, match=r"must be|over 48"):
        uuid7(now_ms, random)
