"""When a token is renewed, read from itself."""

import base64
import json
from typing import Any

import pytest

from tidings_client.tokens import HeldToken, expiry


def token(claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


def test_the_end_is_read_without_a_key() -> None:
    assert expiry(token({"exp": 1_800_000_000, "sub": "alice"})) == 1_800_000_000
    assert expiry(token({"exp": 1.5})) == 1.5


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.!.c", "a..c", token([]), token({}), token({"exp": "1"}), token({"exp": True})]
)
def test_a_token_that_does_not_tell_its_end_has_none(text: str) -> None:
    assert expiry(text) is None
    held = HeldToken.of(text, 100, 60)
    assert not held.due(1e12)
    assert not held.ended(1e12)


def test_it_is_renewed_a_margin_before_its_end() -> None:
    held = HeldToken.of(token({"exp": 1000}), 100, 60)
    assert not held.due(939)
    assert held.due(940)
    assert not held.ended(999)
    assert held.ended(1000)


def test_a_short_one_is_renewed_half_way_and_not_at_once() -> None:
    held = HeldToken.of(token({"exp": 120}), 100, 60)
    assert held.renew_at == 110
