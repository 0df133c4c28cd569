"""What a running `tidings up` leaves for the other commands: addresses, users, and the secret of its tokens."""

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec

from tidings.config import JwtSettings, KafkaSettings, TopicSettings, load
from tidings.errors import ConfigError

__all__ = [
    "DEFAULT_GATEWAY",
    "GatewayAddress",
    "UpState",
    "User",
    "demo_secret",
    "given_secret",
    "kafka_settings",
    "make_token",
    "read_state",
    "token_secret",
    "write_state",
]

DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"

_SECRET_VARIABLE: Final = "TIDINGS_JWT_SECRET"  # noqa: S105 - a name
_SERVERS_VARIABLE: Final = "TIDINGS_KAFKA_BOOTSTRAP_SERVERS"


class GatewayAddress(msgspec.Struct, frozen=True):
    """Base addresses of one node: for clients, and the admin port."""

    url: str
    admin: str


class User(msgspec.Struct, frozen=True):
    """A demo user with a token that is good for a month."""

    id: str
    name: str
    token: str


class UpState(msgspec.Struct, frozen=True):
    """The content of `.tidings/up.json`: there while everything is ready.

    Attributes:
        postgres: Address of the database, password included.
        messaging, messaging_admin: Base addresses of the messaging service.
    """

    gateways: list[GatewayAddress]
    kafka: str
    page: str | None
    users: list[User]
    postgres: str | None = None
    messaging: str | None = None
    messaging_admin: str | None = None


def read_state(state_dir: Path) -> UpState | None:
    """What is running, or None when nothing is (or was when the file was left behind by a killed `tidings up`)."""
    try:
        state = msgspec.json.decode((state_dir / "up.json").read_bytes(), type=UpState)
        pid = int((state_dir / "up.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    return state


def write_state(state_dir: Path, state: UpState) -> None:
    """Put `up.json` there in one step, readable by this user only: it holds tokens."""
    partial = state_dir / "up.json.new"
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    partial.rename(state_dir / "up.json")


def demo_secret(state_dir: Path) -> str:
    """The secret of this state folder, made at the first call, so that tokens outlive a restart."""
    file = state_dir / "jwt-secret"
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as new:
            new.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    return file.read_text(encoding="ascii").strip()


def given_secret(environ: Mapping[str, str]) -> str | None:
    """The environment's secret as it stands there: white space around it is part of it, as it is for a gateway.

    Returns:
        None if it is not set, or blank.
    """
    secret = environ.get(_SECRET_VARIABLE, "")
    return secret if secret.strip() else None


def token_secret(state_dir: Path, environ: Mapping[str, str]) -> str:
    """The secret to sign with: the environment's, else the one `tidings up` made.

    Raises:
        ConfigError: There is neither; the message says what to do.
    """
    if (secret := given_secret(environ)) is not None:
        return secret
    given = [name for name in ("PUBLIC_KEY", "PUBLIC_KEY_FILE", "JWKS_URL") if environ.get(f"TIDINGS_JWT_{name}")]
    if given:
        raise ConfigError([f"TIDINGS_JWT_{given[0]}: with it only its issuer can make tokens; give them with --token"])
    file = state_dir / "jwt-secret"
    if not file.exists():
        raise ConfigError([f"{_SECRET_VARIABLE}: not set, and there is no {file}; `tidings up` makes one"])
    return file.read_text(encoding="ascii").strip()


def make_token(
    user: str,
    secret: str,
    environ: Mapping[str, str],
    *,
    ttl_s: float,
    name: str | None = None,
    now: float | None = None,
) -> str:
    """A token that a gateway with the same environment and secret accepts.

    Raises:
        ConfigError: The secret or another TIDINGS_JWT_* setting can't be used.
    """
    (rules,) = load(JwtSettings, environ={**environ, _SECRET_VARIABLE: secret})
    issued = time.time() if now is None else now
    claims: dict[str, Any] = {rules.user_claim: user, "iat": int(issued), "exp": int(issued + ttl_s)}
    optional = {"name": name, "aud": rules.audience, "iss": rules.issuer}
    claims |= {claim: value for claim, value in optional.items() if value is not None}
    return jwt.encode(claims, secret, algorithm="HS256")


def kafka_settings(state_dir: Path, environ: Mapping[str, str]) -> tuple[KafkaSettings, TopicSettings]:
    """How to reach Kafka and what the topics are called: the environment, else what `tidings up` runs.

    Raises:
        ConfigError: A setting can't be used.
    """
    if not environ.get(_SERVERS_VARIABLE, "").strip() and (state := read_state(state_dir)) is not None:
        environ = {**environ, _SERVERS_VARIABLE: state.kafka}
    return load(KafkaSettings, TopicSettings, environ=environ)
