"""What people may be called."""

import pytest

from tidings.errors import InvalidInput
from tidings.messaging.domain.profile import checked_profile, claimed


@pytest.mark.parametrize("username", ["", "a", "x" * 64, "Zoë", "名前", "a.b-c_d", "🙂"])
def test_a_username_is_one_word(username: str) -> None:
    checked_profile(username, None, None)
    assert claimed(username) == username


@pytest.mark.parametrize("username", ["a b", " a", "a\n", "a\0", "x" * 65, "\u2003", "a\u00a0b", "\ud800"])
def test_what_is_no_username_is_refused_and_left_out_of_a_token(username: str) -> None:
    with pytest.raises(InvalidInput, match="validation_failed"):
        checked_profile(username, None, None)
    assert claimed(username) == ""


@pytest.mark.parametrize(("name", "avatar"), [("x" * 257, None), (None, "x" * 4_097), ("\0", None), (None, "\udc00")])
def test_names_and_avatars_have_their_limits(name: str | None, avatar: str | None) -> None:
    with pytest.raises(InvalidInput, match="validation_failed"):
        checked_profile(None, name, avatar)
    checked_profile(None, "x" * 256, "x" * 4_096)


def test_nothing_given_is_nothing_to_refuse() -> None:
    checked_profile(None, None, None)
