"""Who may do what to a chat, and which names and numbers a chat may have."""

import pytest

from tests.unit.messaging.chats import chat, refused
from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain import grouping, rules
from tidings.messaging.domain.model import Kind

GROUPS = (Kind.GROUP, Kind.SECRET_GROUP)
PAIRS = (Kind.PERSONAL, Kind.SECRET_PERSONAL)


@pytest.mark.parametrize("kind", Kind)
def test_a_chat_of_others_looks_like_none(kind: Kind) -> None:
    refused(NotFound, "chat_not_found", rules.membership, chat(kind, "alice", "bob"), "mallory")
    assert rules.membership(chat(kind, "alice", "bob"), "bob").id == "bob"


def test_a_chat_of_another_kind_looks_like_none() -> None:
    group = chat(Kind.GROUP, "alice")
    refused(NotFound, "chat_not_found", rules.checked_kind, group, Kind.PERSONAL, Kind.SECRET_GROUP)
    assert rules.checked_kind(group, *Kind) is group


@pytest.mark.parametrize("blocked", [("alice",), ("bob",), ("alice", "bob")])
def test_a_blocked_chat_is_closed_for_both(blocked: tuple[str, ...]) -> None:
    refused(Forbidden, "chat_blocked", rules.must_be_open, chat(Kind.PERSONAL, "alice", "bob", blocked=blocked))


@pytest.mark.parametrize("kind", Kind)
def test_a_chat_that_nobody_blocks_is_open(kind: Kind) -> None:
    rules.must_be_open(chat(kind, "alice", "bob"))


def test_the_other_one_may_block_too_and_only_its_own_block_comes_off() -> None:
    by_alice = chat(Kind.PERSONAL, "alice", "bob", blocked=["alice"])
    refused(Conflict, "already_blocked", rules.checked_blockable, by_alice, "alice")
    assert rules.checked_blockable(by_alice, "bob").id == "bob"
    refused(Conflict, "already_unblocked", rules.checked_unblockable, by_alice, "bob")
    assert rules.checked_unblockable(by_alice, "alice").id == "alice"


@pytest.mark.parametrize("kind", set(Kind) - {Kind.PERSONAL})
def test_only_personal_chats_are_blocked(kind: Kind) -> None:
    refused(NotFound, "chat_not_found", rules.checked_blockable, chat(kind, "alice", "bob"), "alice")
    refused(NotFound, "chat_not_found", rules.checked_unblockable, chat(kind, "alice", "bob"), "alice")


def test_nobody_else_blocks() -> None:
    refused(NotFound, "chat_not_found", rules.checked_blockable, chat(Kind.PERSONAL, "alice", "bob"), "mallory")
    refused(NotFound, "chat_not_found", rules.checked_unblockable, chat(Kind.PERSONAL, "alice", "bob"), "mallory")


def test_nobody_chats_with_itself() -> None:
    refused(InvalidInput, "chat_with_myself", rules.checked_pair, "alice", "alice")
    assert rules.checked_pair("alice", "bob") == ("alice", "bob")


def test_a_pair_has_one_key_of_each_kind_and_shares_it_with_nobody() -> None:
    assert rules.pair_key(Kind.PERSONAL, "a", "b") == rules.pair_key(Kind.PERSONAL, "b", "a")
    keys = {
        rules.pair_key(kind, *pair)
        for kind in PAIRS
        for pair in [("a", "b"), ("a,b", "c"), ("a", "b,c"), ('a","b', "c"), ("a", 'b","c'), ("A", "b")]
    }
    assert len(keys) == 12


@pytest.mark.parametrize("user", ["", "x" * 257, "a\0b", "\ud800"])
def test_what_no_token_can_carry_is_no_user(user: str) -> None:
    refused(InvalidInput, "validation_failed", rules.checked_user_id, user, "member_id")
    refused(InvalidInput, "validation_failed", rules.checked_pair, "alice", user)
    refused(InvalidInput, "validation_failed", grouping.checked_group_members, "alice", ["alice", user])


def test_an_id_of_256_characters_is_a_user() -> None:
    assert rules.checked_user_id("é" * 256, "member_id") == "é" * 256


@pytest.mark.parametrize("kind", GROUPS)
def test_only_the_admin_changes_a_group(kind: Kind) -> None:
    group = chat(kind, "alice", "bob")
    rules.must_be_admin(group, "alice")
    refused(Forbidden, "sender_not_admin", rules.must_be_admin, group, "bob")
    refused(NotFound, "chat_not_found", rules.must_be_admin, group, "mallory")


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"),
    [(None, None), (1_000_000_000, 1), (1_999_999_999, 1), (86_400_000_000_000, 86_400), ((1 << 63) - 1, 9223372036)],
)
def test_an_expiration_is_whole_seconds(nanoseconds: int | None, seconds: int | None) -> None:
    assert rules.checked_expiration_s(nanoseconds) == seconds


@pytest.mark.parametrize("nanoseconds", [-1, 0, 999_999_999, -(10**9), 1 << 64])
def test_an_expiration_is_at_least_a_second(nanoseconds: int) -> None:
    refused(InvalidInput, "invalid_expiration", rules.checked_expiration_s, nanoseconds)


def test_of_two_either_one_decides_the_expiration_in_a_group_the_admin() -> None:
    for user in ("alice", "bob"):
        rules.must_decide_expiration(chat(Kind.SECRET_PERSONAL, "alice", "bob"), user)
    rules.must_decide_expiration(chat(Kind.SECRET_GROUP, "alice", "bob"), "alice")
    refused(Forbidden, "sender_not_admin", rules.must_decide_expiration, chat(Kind.SECRET_GROUP, "alice", "bob"), "bob")
    for kind in Kind:
        refused(NotFound, "chat_not_found", rules.must_decide_expiration, chat(kind, "alice", "bob"), "mallory")


@pytest.mark.parametrize("kind", [Kind.PERSONAL, Kind.GROUP])
def test_only_secret_chats_have_an_expiration(kind: Kind) -> None:
    refused(NotFound, "chat_not_found", rules.must_decide_expiration, chat(kind, "alice", "bob"), "alice")


def test_a_file_has_at_most_a_gibibyte() -> None:
    rules.checked_file("a", "text/plain", 1 << 30, "https://x")
    refused(InvalidInput, "file_too_big", rules.checked_file, "a", "text/plain", (1 << 30) + 1, "https://x")
    refused(InvalidInput, "validation_failed", rules.checked_file, "a", "text/plain", -1, "https://x")


@pytest.mark.parametrize(
    ("name", "mime_type", "url"),
    [
        ("", "a/b", "https://x"),
        ("a", "", "https://x"),
        ("a", "a/b", ""),
        ("x" * 1025, "a/b", "https://x"),
        ("a", "x" * 257, "https://x"),
        ("a", "a/b", "x" * 4097),
        ("\0", "a/b", "https://x"),
        ("a", "\ud800", "https://x"),
    ],
)
def test_facts_of_a_file_that_are_none_are_refused(name: str, mime_type: str, url: str) -> None:
    refused(InvalidInput, "validation_failed", rules.checked_file, name, mime_type, 1, url)


@pytest.mark.parametrize("messages", [-1, 101])
def test_a_preview_has_at_most_100_messages(messages: int) -> None:
    refused(InvalidInput, "invalid_query_param", rules.checked_preview, messages)
    assert [rules.checked_preview(asked) for asked in (None, 0, 100)] == [None, 0, 100]


def test_no_refusal_says_what_was_written() -> None:
    error = refused(InvalidInput, "validation_failed", rules.checked_user_id, "secret\0", "members")
    assert "secret" not in str(error)
