"""Fetching what an account missed from the messaging service, where no gateway can fill the gap."""

import asyncio
import http.client
import json
import ssl as tls
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from tidings_client.errors import SyncFailed
from tidings_client.token_keeper import TokenSource

__all__ = ["Page", "sync"]

_MAX_PAGE_BYTES: Final = 64 << 20
_MAX_REFUSAL_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what was missed, as the service sent it. Updates apply by chat and update id, all else is state.

    Attributes:
        chats: Those that changed, whole. Where `newly_joined` is true, the account became a member, or one again, after
            `since` (in a whole state: always), so `updates` does not have all of it: drop what was kept of the chat
            before, and read its earlier updates by range.
        removed: Ids of chats that are no more, or not the account's any more.
        updates: By chat, then by update id. Some may be known already.
        marks: How far people are.
        users: Those whose names changed or are new to the user.
        next: Save it once all pages are dealt with: the next time's `since`.
        more: Whether there are more pages.
        whole: Of the account's state from the beginning, so what is not in these pages is no more. So also when the
            service did not know `since` any more.
    """

    chats: list[dict[str, Any]]
    removed: list[str]
    updates: list[dict[str, Any]]
    marks: list[dict[str, Any]]
    users: list[dict[str, Any]]
    next: str
    more: bool
    whole: bool


async def sync(
    url: str,
    *,
    token: TokenSource,
    since: str | None = None,
    preview: int = 1,
    timeout_s: float = 30.0,
    ssl: tls.SSLContext | None = None,
) -> AsyncIterator[Page]:
    """All that the account missed since an earlier `next`, page by page; without one, its present state.

    For `on_resync`, which calls it again if it fails; and for the start of a program. What happens meanwhile may be
    both in a page and among the client's events.

    Args:
        url: Of the messaging service: `http` or `https`; without a path `/v1.0/sync` is meant.
        token: A JWT, or an async function that gets one; asked for each page.
        since: The `next` of the last page, at an earlier time.
        preview: Of a whole state: so many newest messages of each chat, 0 to 20.
        timeout_s: For each step of a request.
    Raises:
        SyncFailed: The service refused, could not be reached, or is none. Nothing is tried again.
        ValueError: An address that can't be used.
    """
    address = _address(url)
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=ssl))
    whole = since is None
    while True:
        query = {"preview": str(preview)} if since is None else {"since": since}
        text = token if isinstance(token, str) else await token()
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            address + ("&" if urlsplit(address).query else "?") + urlencode(query),
            headers={"Authorization": f"Bearer {text.strip()}", "Accept": "application/json"},
        )
        try:
            page = await asyncio.to_thread(_fetch, opener, request, timeout_s, whole)
        except SyncFailed as refusal:
            if refusal.error != "invalid_since" or since is None or whole:
                raise
            since, whole = None, True
            continue
        yield page
        if not page.more:
            return
        if page.next == since:
            raise SyncFailed(200, "no_progress", "the same page would come again")
        since = page.next


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for the host that it was given for."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _fetch(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout_s: float, whole: bool
) -> Page:
    try:
        with opener.open(request, timeout=timeout_s) as response:
            body = response.read(_MAX_PAGE_BYTES + 1)
            status = response.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            raise _refusal(refusal.code, refusal.read(_MAX_REFUSAL_BYTES)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # no connection, no answer, half of one
        raise SyncFailed(0, "unreachable", str(error)) from error
    if len(body) > _MAX_PAGE_BYTES:
        raise SyncFailed(status, "too_big", f"a page of over {_MAX_PAGE_BYTES} bytes")
    try:
        data = json.loads(body)["data"]
        parts = {name: list(data[name]) for name in ("chats", "removed", "updates", "marks", "users")}
        if not isinstance(data["next"], str) or not isinstance(data["more"], bool):
            raise TypeError("next, more")
        return Page(**parts, next=data["next"], more=data["more"], whole=whole)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SyncFailed(status, "not_a_page", f"not the answer of a messaging service: {error!r}") from error


def _refusal(status: int, body: bytes) -> SyncFailed:
    try:
        answer = json.loads(body)
        return SyncFailed(status, str(answer["error_type"])[:80], str(answer.get("error_message", ""))[:200])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return SyncFailed(status)


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"no address like https://messaging.example: {url!r}")
    return parts._replace(path=parts.path.rstrip("/") or "/v1.0/sync", fragment="").geturl()
