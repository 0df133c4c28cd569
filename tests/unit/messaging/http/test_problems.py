"""One table from error to answer: complete, compatible with chakchat, and silent about what nobody foresaw."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tidings.messaging
from tidings.errors import (
    Conflict,
    DatabaseUnavailable,
    DomainError,
    Forbidden,
    InvalidInput,
    InvalidToken,
    NotFound,
    TokenExpired,
)
from tidings.messaging.http.problems import PROBLEMS, Detail, Refused, answer, status_of

SOURCES = Path(next(iter(tidings.messaging.__path__)))
BRANCHES: dict[str, tuple[type[DomainError], str]] = {
    "NotFound": (NotFound, "not_found"),
    "Forbidden": (Forbidden, "forbidden"),
    "Conflict": (Conflict, "conflict"),
    "InvalidInput": (InvalidInput, "invalid"),
}
CHAKCHAT = {
    404: "chat_not_found file_not_found message_not_found reaction_not_found secret_update_not_found not_found",
    400: "chat_already_exists invalid_chat_type invalid_photo admin_not_member already_blocked already_unblocked"
    " chat_blocked chat_with_myself file_too_big group_description_too_long group_name_empty group_name_too_long"
    " group_photo_empty member_is_admin reaction_not_from_user sender_not_admin text_empty too_many_characters"
    " update_deleted update_not_from_chat user_already_member user_not_member user_not_sender invalid_delete_mode"
    " invalid_reaction_type validation_failed invalid_query_param idempotency_key_missing",
    422: "invalid_json",
    401: "unauthorized",
    413: "body_too_large",
    500: "internal",
}


def raised() -> Iterator[tuple[str, str, str]]:
    """File, error and code of every refusal that the service writes out."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                code = node.args[0]
                known = node.func.id in BRANCHES or node.func.id == "Refused"
                if known and isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield file.name, node.func.id, code.value


def body(error: Exception, **options: bool) -> tuple[int, Any]:
    answered = answer(error, **options)
    return answered.status, msgspec.json.decode(answered.body)


def test_every_code_that_the_service_raises_is_in_the_table_with_its_branch() -> None:
    found = list(raised())
    assert len(found) > 20
    for file, error, code in found:
        assert code in PROBLEMS, f"{file} raises {error}({code!r})"
        if error != "Refused":
            assert PROBLEMS[code].branch == BRANCHES[error][1], f"{file} raises {error}({code!r})"


@pytest.mark.parametrize(
    ("status", "code"), [(status, code) for status in CHAKCHAT for code in CHAKCHAT[status].split()]
)
def test_chakchats_error_types_keep_their_statuses(status: int, code: str) -> None:
    assert status_of(code) == status


def test_only_a_setting_turns_missing_permissions_into_403() -> None:
    error = Forbidden("sender_not_admin")
    assert body(error) == (400, {"error_type": "sender_not_admin", "error_message": "Only the admin may do this."})
    assert body(error, forbidden_as_403=True)[0] == 403
    for other in (NotFound("chat_not_found"), Conflict("already_blocked"), InvalidInput("text_empty")):
        assert body(other, forbidden_as_403=True)[0] == body(other)[0] != 403


def test_a_detail_is_told_and_empty_parts_are_left_out() -> None:
    assert body(InvalidInput("text_empty", "Say something."))[1] == {
        "error_type": "text_empty",
        "error_message": "Say something.",
    }
    refused = Refused("validation_failed", details=[Detail("chatId", "Invalid UUID")])
    assert body(refused)[1]["error_details"] == [{"field": "chatId", "message": "Invalid UUID"}]


@pytest.mark.parametrize("error", [InvalidToken("the token is not well formed"), TokenExpired("the token has expired")])
def test_a_refused_token_is_401_and_says_how_to_ask(error: InvalidToken) -> None:
    assert body(error)[0] == 401
    assert body(error)[1]["error_type"] == "unauthorized"
    assert answer(error).headers["www-authenticate"].startswith("Bearer")


def test_a_dependency_that_is_away_is_503_and_worth_another_try() -> None:
    answered = answer(DatabaseUnavailable("connection refused by 10.0.0.5"))
    assert (answered.status, answered.headers["retry-after"]) == (503, "1")
    assert b"10.0.0.5" not in answered.body


def test_an_unforeseen_error_says_nothing_about_itself() -> None:
    answered = answer(RuntimeError("password=hunter2"))
    assert answered.status == 500
    assert b"hunter2" not in answered.body
    assert b"RuntimeError" not in answered.body


@pytest.mark.parametrize(("error", "status"), [(NotFound, 404), (Forbidden, 400), (Conflict, 400), (InvalidInput, 400)])
def test_a_code_that_slipped_past_the_table_still_gets_its_branchs_status(
    error: type[DomainError], status: int
) -> None:
    assert body(error("brand_new")) == (status, {"error_type": "brand_new", "error_message": "brand new"})


def test_a_refusal_of_no_branch_is_unforeseen() -> None:
    answered = answer(DomainError("brand_new", "row 17 of chats"))
    assert (answered.status, answered.code) == (500, "internal")
    assert b"row 17" not in answered.body
