"""The tree of errors: its branches decide what happens next, its texts are read by people."""

import pytest

from tidings import errors
from tidings.closing import ADVICE, CloseCode


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_tidings_error_and_says_when_it_is_raised(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.TidingsError)
    assert error.__doc__


def test_the_tree_is_the_one_in_the_modules_docstring() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert name in errors.__doc__


def test_texts() -> None:
    assert str(errors.ConfigError(["A: wrong", "B: wrong"])) == "A: wrong\nB: wrong"
    assert str(errors.MalformedRecord("not_json")) == "not_json"
    assert str(errors.RecordTooBig("value_too_big", "9 bytes")) == "value_too_big: 9 bytes"
    assert str(errors.InvalidToken("no")) == "no"
    assert str(errors.NotFound("chat_not_found")) == "chat_not_found"
    assert str(errors.Conflict("idempotency", "seen")) == "idempotency: seen"
    assert str(errors.BrokerUnavailable("away")) == "away"


def test_codes_of_refused_clients() -> None:
    codes = {error.code for error in (errors.InvalidToken, errors.TokenExpired, errors.UnknownKey)}
    assert codes == {"invalid_token", "token_expired", "unknown_key"}
    assert errors.OriginRefused.code == "origin_refused"


def test_an_invalid_state_is_also_an_assertion() -> None:
    assert issubclass(errors.InvalidState, AssertionError)


def test_every_close_code_has_advice() -> None:
    assert set(ADVICE) == set(CloseCode)
