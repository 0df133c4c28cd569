"""Clients of `tidings messaging` that repeat a request until somebody answers it, and what they were told.

A POST is repeated with its key, to whichever process comes to hand; PUT and DELETE have none.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.integration.messaging.serving import Messaging
from tests.integration.processes import SECRET
from tidings.tokens import issue

__all__ = ["Crowd", "Deed"]

_REACTIONS: Final = ("heart", "like", "thunder")
_TIMEOUT_S: Final = 10.0
_ANSWERED_S: Final = 60.0
_DEVICES: Final = 2
_LATEST: Final = 20


@dataclass
class Deed:
    """One thing that somebody did, and how it ended.

    Attributes:
        about: What tells it from others: a text, the update that it changes, a guest, a name.
        answer: The data of the answer; None if it was refused, then see `refused`.
        tries: Requests made for it, whether or not they were answered.
    """

    kind: str
    user: str
    chat: str
    about: Any
    answer: Any = None
    refused: str = ""
    tries: int = 0


@dataclass
class _Device:
    """A user's, which does one thing after the other."""

    user: str
    own: list[tuple[str, int]] = field(default_factory=list)
    """Its messages that nobody has deleted, by chat and update id."""


class Crowd:
    """Users who write in groups of all of them, from `async with` on until `stop`.

    Args:
        running: The processes; they may be replaced at any time.
    Attributes:
        cut_off: Requests that reached a process and were not answered, so that nobody knows whether they were done.
        replayed: Answers that had been given before.
        pause_s: Between what one device does and does next, on average.
    """

    def __init__(self, running: Sequence[Messaging], chance: random.Random, *, users: int = 6, chats: int = 10) -> None:
        self._running = running
        self._chance = chance
        self._users = [f"user{number}" for number in range(users)]
        self._chats = chats
        self._admins: dict[str, str] = {}
        self._latest: dict[str, list[int]] = {}
        self._given: set[tuple[str, str, int, str]] = set()
        self._numbers = iter(range(1_000_000))
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self.deeds: list[Deed] = []
        self.cut_off = 0
        self.replayed = 0
        self.pause_s = 0.0

    async def __aenter__(self) -> "Crowd":
        now = time.time()
        self._tokens = {user: issue(user, SECRET, 3600, now) for user in self._users}
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_TIMEOUT_S))
        for user in self._users:  # whom nobody named before is not told of
            await self._insist(Deed("come", user, "", None), "GET", "/users/me")
        for number in range(self._chats):
            await self._begin(self._users[number % len(self._users)])
        devices = [_Device(user) for user in self._users for _ in range(_DEVICES)]
        self._tasks = [asyncio.create_task(self._live(device)) for device in devices]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def stop(self) -> None:
        """Begin nothing new, and wait until everything was answered."""
        self._stopped = True
        async with asyncio.timeout(_ANSWERED_S):
            await asyncio.gather(*self._tasks)

    def done(self, kind: str) -> list[Deed]:
        """What was answered, of one kind."""
        return [deed for deed in self.deeds if deed.kind == kind and not deed.refused]

    async def _live(self, device: _Device) -> None:
        common = [self._send] * 10 + [self._react] * 4 + [self._edit] * 3 + [self._delete] * 2
        rare = [self._like, self._read, self._join, self._rename]
        while not self._stopped:
            if self._chance.random() < 0.01:
                await self._begin(device.user)
            else:
                await self._chance.choice(common + rare)(device)
            await asyncio.sleep(self._chance.uniform(0, 2 * self.pause_s))

    async def _begin(self, user: str) -> None:
        name = f"group {next(self._numbers)}"
        deed = Deed("begin", user, "", name)
        await self._post(deed, "/chat/group", {"name": name, "members": self._users})
        deed.chat = deed.answer["chat_id"]
        self._latest[deed.chat] = []
        self._admins[deed.chat] = user

    async def _send(self, device: _Device) -> None:
        chat = self._chance.choice(list(self._latest))
        text = f"text {next(self._numbers)}"
        deed = Deed("send", device.user, chat, text)
        body = {"text": text}
        if named := self._chance.random() < 0.5:
            body["client_message_id"] = f"name of {text}"
        path = f"/chat/group/{chat}/update/message/text"
        await self._post(deed, path, body)
        update_id = deed.answer["update_id"]
        if named and self._chance.random() < 0.2:
            again = Deed("send", device.user, chat, text)
            await self._insist(again, "POST", path, body, str(uuid.uuid4()))
            assert again.answer["update_id"] == update_id, "one name, one message, whatever the key"
        device.own.append((chat, update_id))
        self._latest[chat] = [*self._latest[chat][1 - _LATEST :], update_id]

    async def _react(self, device: _Device) -> None:
        chat = self._chance.choice(list(self._latest))
        if self._latest[chat]:
            target, reaction = self._chance.choice(self._latest[chat]), self._chance.choice(_REACTIONS)
            if (device.user, chat, target, reaction) in self._given:  # one that stands is not given again
                return
            self._given.add((device.user, chat, target, reaction))
            deed = Deed("react", device.user, chat, (target, reaction))
            await self._post(deed, f"/chat/group/{chat}/update/reaction", {"reaction": reaction, "message_id": target})
            assert deed.refused in ("", "update_deleted"), deed

    async def _edit(self, device: _Device) -> None:
        if device.own:
            chat, target = self._chance.choice(device.own)
            text = f"text {next(self._numbers)}"
            deed = Deed("edit", device.user, chat, (target, text))
            await self._change(deed, "PUT", f"/chat/group/{chat}/update/message/text/{target}", {"text": text})
            assert not deed.refused, deed

    async def _delete(self, device: _Device) -> None:
        if device.own:
            chat, target = device.own.pop(self._chance.randrange(len(device.own)))
            mode = self._chance.choice(("all", "only_me"))
            deed = Deed("delete", device.user, chat, (target, mode))
            await self._change(deed, "DELETE", f"/chat/group/{chat}/update/message/{target}/{mode}")
            self._was_done(deed, "update_deleted")

    async def _join(self, device: _Device) -> None:
        if chat := self._own_group(device):
            deed = Deed("join", device.user, chat, f"guest{next(self._numbers)}")
            await self._change(deed, "PUT", f"/chat/group/{chat}/member/{deed.about}")
            self._was_done(deed, "user_already_member")

    async def _rename(self, device: _Device) -> None:
        if chat := self._own_group(device):
            deed = Deed("rename", device.user, chat, f"name {next(self._numbers)}")
            await self._change(deed, "PUT", f"/chat/group/{chat}", {"name": deed.about})
            assert not deed.refused, deed

    async def _like(self, device: _Device) -> None:
        chat = self._chance.choice(list(self._latest))
        await self._post(Deed("like", device.user, chat, None), f"/chat/{chat}/like", None)

    async def _read(self, device: _Device) -> None:
        chat = self._chance.choice(list(self._latest))
        await self._post(Deed("read", device.user, chat, None), f"/chat/{chat}/marks", {"kind": "read"})

    def _own_group(self, device: _Device) -> str | None:
        own = [chat for chat, admin in self._admins.items() if admin == device.user]
        return self._chance.choice(own) if own else None

    def _was_done(self, deed: Deed, refused: str) -> None:
        """Without a key, a repeat of what was done but not answered is refused: then it is done."""
        assert not deed.refused or (deed.refused == refused and deed.tries > 1), deed
        deed.refused = ""

    async def _post(self, deed: Deed, path: str, body: Any) -> None:
        """With a key. Now and then also a second time, at the same time or once the first has its answer."""
        key = str(uuid.uuid4())
        dice = self._chance.random()
        if dice < 0.1:
            other = Deed(deed.kind, deed.user, deed.chat, deed.about)
            await asyncio.gather(*(self._insist(one, "POST", path, body, key) for one in (deed, other)))
        else:
            await self._insist(deed, "POST", path, body, key)
            other = deed
            if dice < 0.2:
                other = Deed(deed.kind, deed.user, deed.chat, deed.about)
                await self._insist(other, "POST", path, body, key)
        if deed.kind != "read":  # a mark needs no key: it says how far one is by now
            assert (deed.answer, deed.refused) == (other.answer, other.refused), "one key, one answer"
        assert deed.kind == "react" or not deed.refused, deed
        self.deeds.append(deed)

    async def _change(self, deed: Deed, method: str, path: str, body: Any = None) -> None:
        await self._insist(deed, method, path, body)
        self.deeds.append(deed)

    async def _insist(self, deed: Deed, method: str, path: str, body: Any = None, key: str = "") -> None:
        while True:
            deed.tries += 1
            status, answer = await self._try(deed.user, method, path, body, key)
            if 0 < status < 500:
                break
            await asyncio.sleep(self._chance.uniform(0.01, 0.1))
        if status == 200:
            deed.answer = answer["data"]
        else:
            deed.refused = answer["error_type"]

    async def _try(self, user: str, method: str, path: str, body: Any, key: str) -> tuple[int, Any]:
        """Status and body; status 0: no answer."""
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        if key:
            headers["Idempotency-Key"] = key
        url = f"{self._chance.choice(self._running).url}/v1.0{path}"
        try:
            async with self._client.request(method, url, json=body, headers=headers) as answer:
                self.replayed += "idempotency-replayed" in answer.headers
                return answer.status, await answer.json()
        except aiohttp.ClientConnectorError:
            return 0, None
        except (aiohttp.ClientError, TimeoutError):
            self.cut_off += 1
            return 0, None
