"""Where a token may stand, and what of it becomes the actor."""

from typing import Any

import pytest

from tidings.errors import InvalidToken
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.guard import actor_of, find_token
from tidings.tokens import Claims

INTERNAL = (b"x-internal-token", b"Bearer two")
COOKIE = (b"cookie", b"theme=dark; tidings_token=three; x=y")


def claims(user: str = "alice", **more: Any) -> Claims:
    return Claims(user, 100.0, 110.0, more)


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"authorization", b"Bearer one"), INTERNAL, COOKIE], "one"),
        ([COOKIE, INTERNAL, (b"authorization", b"bearer  one ")], "one"),
        ([(b"authorization", b""), INTERNAL, COOKIE], "two"),
        ([(b"authorization", b"Basic YTpi"), INTERNAL], "two"),
        ([(b"authorization", b"Bearer"), (b"x-internal-token", b"two")], "two"),
        ([(b"x-internal-token", b"Bearer"), COOKIE], "three"),
        ([(b"cookie", b'tidings_token="three"')], "three"),
    ],
)
def test_the_first_place_that_has_a_token_counts(headers: list[tuple[bytes, bytes]], token: str) -> None:
    assert find_token(headers).token == token


def test_it_is_the_cookies_only_where_nothing_else_has_one() -> None:
    assert find_token([COOKIE]).in_cookie
    assert find_token([(b"authorization", b"Basic YTpi"), (b"x-internal-token", b"Bearer"), COOKIE]).in_cookie
    assert not find_token([COOKIE, INTERNAL]).in_cookie
    assert not find_token([COOKIE, (b"authorization", b"Bearer one")]).in_cookie


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"Bearer ")], [(b"cookie", b"not_tidings_token=a")]])
def test_no_token_is_an_invalid_one(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidToken):
        find_token(headers)


def test_the_tokens_names_are_the_actors() -> None:
    assert actor_of(claims(preferred_username="ali", name="Alice", picture="https://a.example/a.png"), "s1") == Actor(
        id="alice", username="ali", name="Alice", avatar="https://a.example/a.png", session="s1"
    )
    assert actor_of(claims(username="a", preferred_username="b")).username == "a"


def test_names_that_no_row_can_hold_are_cut_to_what_can_be_held() -> None:
    actor = actor_of(claims(name="a\0b\ud800" + "c" * 1_000, username=5, avatar=None))
    assert actor == Actor(id="alice", name="ab" + "c" * 254)


def test_a_user_id_that_no_row_can_hold_is_refused() -> None:
    with pytest.raises(InvalidToken):
        actor_of(claims("a\0b"))
