"""The one table from an error to the answer that a client gets: status and `{"error_type","error_message",…}`."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from tidings.errors import (
    Conflict,
    DependencyError,
    DomainError,
    Forbidden,
    HandshakeError,
    InvalidInput,
    NotFound,
    TidingsError,
)

__all__ = ["PROBLEMS", "Answered", "Detail", "Kind", "Problem", "Refused", "answer", "status_of"]

Branch = Literal["http", "not_found", "forbidden", "conflict", "invalid", "dependency"]


class Kind(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        status: HTTP status; of `forbidden` kinds the compatible one, see `status_of`.
        message: For the client's developer.
        branch: Which errors carry the code; `http`: the shell itself.
    """

    status: int
    message: str
    branch: Branch


class Detail(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every refusal."""

    error_type: str
    error_message: str
    error_details: Sequence[Detail] = ()


class Answered(msgspec.Struct, frozen=True):
    """A refusal as HTTP says it."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    code: str


class Refused(TidingsError):
    """A request that HTTP itself refuses, before any rule of chats is asked.

    Attributes:
        code: A code of the table.
        detail: Instead of the table's message.
        details: Fields at fault.
        headers: Of the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        details: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.details = tuple(details)
        self.headers = dict(headers or {})
        super().__init__(code, detail)


def _kinds(branch: Branch, status: int, **messages: str) -> dict[str, Kind]:
    return {code: Kind(status, message, branch) for code, message in messages.items()}


PROBLEMS: Final[Mapping[str, Kind]] = {
    # HTTP's own.
    **_kinds("http", 401, unauthorized="Unauthorized."),
    **_kinds(
        "http",
        403,
        origin_refused="Pages of this origin can't use the cookie; TIDINGS_MESSAGING_ORIGINS lists those that can.",
    ),
    **_kinds("http", 404, not_found="There is nothing at this path."),
    **_kinds("http", 405, method_not_allowed="This path does not take that method; see Allow."),
    **_kinds("http", 408, request_timeout="The request did not arrive in time."),
    **_kinds("http", 409, idempotency_key_reused="This Idempotency-Key came before with another request."),
    **_kinds("http", 413, body_too_large="The body is larger than this service takes."),
    **_kinds("http", 422, invalid_json="The body is not valid JSON."),
    **_kinds("http", 429, too_many_requests="Too many requests; wait as long as Retry-After says."),
    **_kinds("http", 431, headers_too_large="The headers are larger than this service takes."),
    **_kinds("http", 500, internal="Something went wrong here; it is not your request's fault."),
    **_kinds(
        "http",
        400,
        bad_request="This is no request that HTTP allows.",
        idempotency_key_missing="POST needs the header Idempotency-Key.",
    ),
    **_kinds("http", 503, too_many_connections="This process has as many connections as it may; try again soon."),
    **_kinds("dependency", 503, unavailable="A part of this service is away; try again soon."),
    # The rules of chats, with the names and statuses of chakchat.
    **_kinds(
        "not_found",
        404,
        chat_not_found="There is no such chat.",
        file_not_found="There is no such file.",
        message_not_found="There is no such message.",
        reaction_not_found="There is no such reaction.",
        secret_update_not_found="There is no such secret update.",  # noqa: S106 - a code
        user_not_found="There is no such user.",
    ),
    **_kinds(
        "forbidden",
        400,
        admin_not_member="The admin must be a member.",
        chat_blocked="The chat is blocked.",
        member_is_admin="The admin can neither leave nor be removed.",
        reaction_not_from_user="The reaction is another user's.",
        sender_not_admin="Only the admin may do this.",
        user_not_member="The user is no member of this chat.",
        user_not_sender="The message is another user's.",
        not_file_owner="The file is another user's.",
    ),
    **_kinds(
        "conflict",
        400,
        already_blocked="You block this chat already.",
        already_unblocked="You do not block this chat.",
        chat_already_exists="There is such a chat already.",
        client_message_id_reused="A message of yours in another chat has that client_message_id.",
        update_deleted="The update is deleted.",
        user_already_member="The user is a member already.",
        username_taken="Another user has that username.",
    ),
    **_kinds(
        "invalid",
        400,
        chat_with_myself="A chat needs another user than yourself.",
        file_too_big="The file is too big.",
        group_description_too_long="The description is too long.",
        group_name_empty="The name is empty.",
        group_name_too_long="The name is too long.",
        group_photo_empty="There is no photo.",
        invalid_chat_type="Chats of this kind do not have that.",
        invalid_delete_mode="The mode is none of all, only_me, for_all, for_deletion_sender.",
        invalid_expiration="The expiration is not a time that can be kept.",
        invalid_photo="The file is no picture that can be a photo.",
        invalid_query_param="A parameter of the query is wrong.",
        invalid_reaction_type="There is no such reaction.",
        invalid_since="This `since` is none of ours: ask without it.",
        text_empty="The text is empty.",
        too_many_characters="The text is too long.",
        too_many_members="The group would have too many members.",
        update_not_from_chat="The update is of another chat.",
        validation_failed="The request has wrong or missing values.",
    ),
}
"""Every code that an answer may carry."""

_BRANCHES: Final[tuple[tuple[type[TidingsError], int, Branch], ...]] = (
    (NotFound, 404, "not_found"),
    (Forbidden, 400, "forbidden"),
    (Conflict, 400, "conflict"),
    (InvalidInput, 400, "invalid"),
)
_JSON: Final = {"content-type": "application/json"}
_RETRY_S: Final = "1"

_encode = msgspec.json.Encoder().encode


def status_of(code: str, *, forbidden_as_403: bool = False) -> int:
    """The status that goes with a code of the table."""
    kind = PROBLEMS[code]
    return 403 if forbidden_as_403 and kind.branch == "forbidden" else kind.status


def answer(error: Exception, *, forbidden_as_403: bool = False) -> Answered:
    """What to answer to an error. An error that nobody foresaw tells the client nothing about itself.

    Args:
        forbidden_as_403: Say 403 where chakchat's 400 hides that a permission is missing.
    """
    match error:
        case Refused():
            return _answered(error.code, error.detail, error.details, error.headers, forbidden_as_403)
        case DomainError():
            if error.code in PROBLEMS:
                return _answered(error.code, error.detail, (), {}, forbidden_as_403)
            return _unlisted(error, forbidden_as_403)
        case HandshakeError():
            return _answered(
                "unauthorized", str(getattr(error, "reason", "")), (), {"www-authenticate": 'Bearer realm="tidings"'}
            )
        case DependencyError():
            return _answered("unavailable", "", (), {"retry-after": _RETRY_S})
        case _:
            return _answered("internal")


def _answered(
    code: str,
    detail: str = "",
    details: Sequence[Detail] = (),
    headers: Mapping[str, str] | None = None,
    forbidden_as_403: bool = False,
) -> Answered:
    body = _encode(Problem(code, detail or PROBLEMS[code].message, tuple(details)))
    return Answered(status_of(code, forbidden_as_403=forbidden_as_403), body, {**_JSON, **(headers or {})}, code)


def _unlisted(error: DomainError, forbidden_as_403: bool) -> Answered:
    # A test keeps the table complete; should one slip through, its branch still says the right thing.
    for branch, status, name in _BRANCHES:
        if isinstance(error, branch):
            shown = 403 if name == "forbidden" and forbidden_as_403 else status
            words = error.detail or error.code.replace("_", " ")
            return Answered(shown, _encode(Problem(error.code, words)), _JSON, error.code)
    return _answered("internal")
