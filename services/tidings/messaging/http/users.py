"""Routes of people."""

from typing import Annotated, Any, Final

from litestar.params import Parameter
from msgspec import Struct

from tidings.messaging.commands.users import Users
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.bodies import Me
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import Handler, change, read

__all__ = ["UserData", "routes"]

_USER: Final[dict[str, Any]] = {
    "user_id": "alice",
    "number": 1,
    "username": "alice",
    "name": "Alice Liddell",
    "avatar": "https://files.example.org/alice.jpg",
}


class UserData(Struct):
    """A person; `number` is the same person for protocols that count."""

    user_id: str
    number: int
    username: str
    name: str
    avatar: str


def routes(users: Users) -> list[Handler]:
    """/users/…"""

    @read("/users/me", tag="Users", example=_USER, answer=UserData)
    async def get_me(actor: Actor) -> Reply:
        """Who I am here."""
        return reply(await users.me(actor))

    @change(
        "/users/me",
        tag="Users",
        example=_USER,
        answer=UserData,
        body=Me(name="Alice Liddell"),
        problems=["username_taken"],
    )
    async def change_me(actor: Actor, data: Me) -> Reply:
        """Call me something else.

        What is not given stays; "" takes it away for good: tokens only fill what was never set here. All who share a
        chat with me get `user_updated`.
        """
        return reply(await users.change(actor, username=data.username, name=data.name, avatar=data.avatar))

    @read(
        "/users/{user_id:str}",
        tag="Users",
        example=_USER,
        answer=UserData,
        problems=["user_not_found"],
        parameters={"user_id": "alice"},
    )
    async def get_user(actor: Actor, user_id: Annotated[str, Parameter(max_length=256)]) -> Reply:
        """A person."""
        return reply(await users.get(actor, user_id))

    return [get_me, change_me, get_user]
