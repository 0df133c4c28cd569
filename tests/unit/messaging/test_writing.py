"""What may be written and changed, rule by rule."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from tidings.errors import Conflict, DomainError, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain import writing
from tidings.messaging.domain.limits import (
    MAX_ATTACHMENTS,
    MAX_CLIENT_MESSAGE_ID_CHARS,
    MAX_META_BYTES,
    MAX_SECRET_CHARS,
    MAX_TEXT_CHARS,
)
from tidings.messaging.domain.model import Message, Update, UpdateType, User

CHAT = UUID("b4c3f591-ef52-4b85-a04e-cf61ee243449")
AT = datetime(2025, 12, 4, 17, 0, 0, 7, UTC)
BIG = (1 << 63) - 1


def refused(error: type[DomainError], work: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        work()
    return caught.value.code


def message(**fields: Any) -> Message:
    ann = User(id="ann", number=1)
    return Message(
        id=CHAT, number=1, chat_id=CHAT, update_id=1, message_no=1, sender=ann, created_at=AT, modified_at=AT, **fields
    )


def update(type_: UpdateType, **fields: Any) -> Update:
    return Update(chat_id=CHAT, update_id=1, type=type_, sender_id="ann", created_at=AT, **fields)


@pytest.mark.parametrize(
    ("value", "named"), [(1, 1), ("1", 1), ("007", 7), (BIG, BIG), (str(BIG), BIG), (str(CHAT), CHAT), (CHAT.hex, CHAT)]
)
def test_a_message_is_named_by_its_update_id_or_its_uuid(value: int | str, named: int | UUID) -> None:
    assert writing.reference(value, "message") == named


@pytest.mark.parametrize("value", [0, -1, BIG + 1, "0", "-1", "+1", "1.0", " 1", "", "x", "٣", str(BIG + 1), "9" * 30])
def test_other_names_of_messages_are_refused(value: int | str) -> None:
    assert refused(InvalidInput, lambda: writing.reference(value, "message")) == "validation_failed"


def test_a_text_has_1_to_2000_characters() -> None:
    for text in ("a", " ", "😀" * MAX_TEXT_CHARS):
        assert writing.checked_message_text(text) == text
    assert refused(InvalidInput, lambda: writing.checked_message_text("")) == "text_empty"
    assert refused(InvalidInput, lambda: writing.checked_message_text("a" * 2001)) == "too_many_characters"
    assert writing.checked_message_text("", may_be_empty=True) == ""


@pytest.mark.parametrize("text", ["\0", "a\0", "\ud800"])
def test_a_text_that_cannot_be_kept_is_refused(text: str) -> None:
    assert refused(InvalidInput, lambda: writing.checked_message_text(text)) == "validation_failed"
    assert refused(InvalidInput, lambda: writing.checked_client_message_id(text)) == "validation_failed"


def test_a_client_message_id_has_1_to_128_characters() -> None:
    assert writing.checked_client_message_id(None) is None
    longest = "c" * MAX_CLIENT_MESSAGE_ID_CHARS
    assert writing.checked_client_message_id(longest) == longest
    for name in ("", longest + "c"):
        assert refused(InvalidInput, partial(writing.checked_client_message_id, name)) == "validation_failed"


@pytest.mark.parametrize("name", ["66d93f9b-a8ff-4f18-a092-c19bdeb31fa4", "c1", "1700500000000:7", "a b/+=", "Ä 😀 名"])
def test_a_client_message_id_is_any_text_that_can_be_printed(name: str) -> None:
    assert writing.checked_client_message_id(name) == name


@pytest.mark.parametrize("name", ["\1" * 128, "a\nb", "a\t", "\x7f", "\x9f", "a\u2028", "\u202e", "\ufeff", "\ue000"])
def test_a_client_message_id_that_cannot_be_printed_is_refused(name: str) -> None:
    """Control characters take six bytes in every record that names the message."""
    assert refused(InvalidInput, lambda: writing.checked_client_message_id(name)) == "validation_failed"


@pytest.mark.parametrize("text", ["", "a", "aGk", "aGk==", "=", "====", "aG k", "aGk=\n", "aG-_", "aGk=aGk="])
def test_what_is_no_base64_with_padding_is_no_secret(text: str) -> None:
    assert refused(InvalidInput, lambda: writing.checked_secret(text, "AAAA", "AAAA")) == "validation_failed"
    assert refused(InvalidInput, lambda: writing.checked_secret("AAAA", text, "AAAA")) == "validation_failed"
    assert refused(InvalidInput, lambda: writing.checked_secret("AAAA", "AAAA", text)) == "validation_failed"


def test_a_secret_has_a_limit() -> None:
    largest = "A" * MAX_SECRET_CHARS
    assert writing.checked_secret(largest, "aGk=", "aA==")["payload"] == largest
    too_large = largest + "AAAA"
    assert refused(InvalidInput, lambda: writing.checked_secret(too_large, "A", "A")) == "too_many_characters"


def test_attachments_have_limits() -> None:
    files: dict[UUID, dict[str, Any]] = {UUID(int=n): {} for n in range(MAX_ATTACHMENTS)}
    writing.checked_attachments(files)
    files[UUID(int=99)] = {}
    assert refused(InvalidInput, lambda: writing.checked_attachments(files)) == "validation_failed"
    writing.checked_attachments({CHAT: {"a": "b" * (MAX_META_BYTES - 8)}})
    for meta in ({"a": "b" * (MAX_META_BYTES - 7)}, {"a": ["\0"]}, {"\0": 1}):
        assert refused(InvalidInput, partial(writing.checked_attachments, {CHAT: meta})) == "validation_failed"


def test_a_backslash_before_a_zero_is_no_nul() -> None:
    writing.checked_attachments({CHAT: {"a": "\\u0000"}})


def test_what_is_said_about_a_file_is_unicode() -> None:
    assert refused(InvalidInput, lambda: writing.checked_attachments({CHAT: {"a": "\ud800"}})) == "validation_failed"


def test_ranges_are_of_64_bits() -> None:
    assert writing.checked_range(5, 1) == (5, 1)
    assert writing.checked_range(-BIG, BIG) == (-BIG, BIG)
    for first, last in ((-BIG - 1, 1), (1, BIG + 1)):
        code = refused(InvalidInput, partial(writing.checked_range, first, last))
        assert code == "validation_failed"


def test_only_known_reactions() -> None:
    assert writing.checked_reaction("bzZZ") == "bzZZ"
    assert refused(InvalidInput, lambda: writing.checked_reaction("bzzz")) == "invalid_reaction_type"


def test_what_was_deleted_does_not_stand() -> None:
    standing = update(UpdateType.TEXT)
    assert writing.must_stand(standing) is standing
    assert refused(Conflict, lambda: writing.must_stand(update(UpdateType.TEXT, deleted_at=AT))) == "update_deleted"


def test_comments_have_no_comments() -> None:
    root = message()
    assert writing.must_be_root(root) is root
    assert refused(InvalidInput, lambda: writing.must_be_root(message(parent=root))) == "validation_failed"


def test_only_one_s_own_texts_are_edited() -> None:
    text = update(UpdateType.TEXT, message=message())
    assert writing.must_be_own_text(text, "ann") is text.message
    assert refused(Forbidden, lambda: writing.must_be_own_text(text, "ben")) == "user_not_sender"
    for other in (update(UpdateType.FILE, message=message()), update(UpdateType.REACTION)):
        assert refused(NotFound, partial(writing.must_be_own_text, other, "ann")) == "message_not_found"


def test_only_one_s_own_reaction_is_taken_back() -> None:
    writing.must_be_own_reaction(update(UpdateType.REACTION), "ann")
    taken = refused(Forbidden, lambda: writing.must_be_own_reaction(update(UpdateType.REACTION), "ben"))
    assert taken == "reaction_not_from_user"
