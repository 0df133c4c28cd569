"""The token of /sync: what comes out is what went in, and nothing else comes in."""

import base64
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import InvalidInput
from tidings.messaging.domain.sync import Place, Reached, Token

EPOCH = UUID(int=7)
PLACE = Place(EPOCH, Reached(3, 1))
xids = st.integers(0, (1 << 63) - 1)
places = st.builds(Place, st.uuids(), st.none() | st.builds(Reached, xids, xids))
tokens = st.one_of(
    st.builds(Token, st.uuids(), xids),
    st.builds(Token, st.uuids(), st.none() | xids, xids, st.integers(0, 20), places),
)


@given(tokens)
def test_a_token_comes_back_as_it_was(token: Token) -> None:
    text = token.text()
    assert Token.of(text) == token
    assert len(text) <= 512
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    known = _token(text)
    assert known is None or Token.of(known.text()) == known


def _token(text: str) -> Token | None:
    try:
        return Token.of(text)
    except InvalidInput:
        return None


def _text(parts: tuple[object, ...]) -> str:
    raw = msgspec.msgpack.Encoder(uuid_format="bytes").encode(parts)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_place_without_an_end_and_an_end_without_a_place_are_refused() -> None:
    for token in (Token(EPOCH, 1, 2), Token(EPOCH, 1, None, 0, PLACE)):
        with pytest.raises(InvalidInput):
            Token.of(token.text())


def test_another_version_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Token.of(Token(EPOCH, 1, version=2).text())


def test_a_page_of_the_release_before_is_refused_as_it_refuses_ours() -> None:
    """It counted update ids, in another order: who went on from there would miss something."""
    with pytest.raises(InvalidInput, match="invalid_since"):
        Token.of(_text((EPOCH, 1, 2, 0, (EPOCH, 500), 1)))
    assert Token.of(_text((EPOCH, 1, 2, 0, (EPOCH, None), 1))).place == Place(EPOCH, None)


def test_a_text_longer_than_any_token_is_refused_whatever_it_holds() -> None:
    token = Token(EPOCH, 1)
    text = _text((*msgspec.structs.astuple(token), bytes(400)))  # what a later version might add at the end
    assert len(text) > 512
    with pytest.raises(InvalidInput, match="invalid_since"):
        Token.of(text)


@pytest.mark.parametrize(
    ("token", "good"),
    [
        (Token(EPOCH, 10), True),
        (Token(EPOCH, None), True),
        (Token(EPOCH, 11), False),
        (Token(EPOCH, None, 11, 0, PLACE), False),
        (Token(UUID(int=8), 10), False),
    ],
)
def test_a_token_of_another_database_or_of_the_future_is_refused(token: Token, good: bool) -> None:
    if good:
        token.check(EPOCH, 10)
    else:
        with pytest.raises(InvalidInput, match="invalid_since"):
            token.check(EPOCH, 10)


def test_the_first_pages_horizon_holds_for_all_pages() -> None:
    first = Token(EPOCH, 5)
    second = first.further(PLACE, 20)
    third = second.further(Place(EPOCH, None), 30)
    assert (second.until, third.until) == (20, 20)
    assert third.done(40) == Token(EPOCH, 20)
    assert first.done(40) == Token(EPOCH, 40)
