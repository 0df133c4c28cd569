"""Where Postgres is, and how much of it one process takes."""

from collections.abc import Iterable
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import CrossFault, SettingsGroup

__all__ = ["PostgresSettings"]

_DEFAULT: Final = "postgresql://127.0.0.1:5432/tidings"
_LIMIT: Final[dict[str, Any]] = {"limit": True, "metric": "tidings_messaging_refused_total"}


def _address(value: SecretStr) -> SecretStr:
    dsn = value.get_secret_value().strip()
    try:
        parts = urlsplit(dsn)
        fits = parts.scheme in {"postgres", "postgresql"} and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or not (parts.hostname or parse_qs(parts.query).get("host")):
        raise ValueError
    return SecretStr(dsn)


class PostgresSettings(SettingsGroup):
    """Where Postgres (14 or newer) is, and how much of it one process takes."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_POSTGRES_")

    dsn: Annotated[SecretStr, AfterValidator(_address)] = Field(
        default=SecretStr(_DEFAULT),
        description="Address of the database, as libpq takes it, with user, password and TLS (`?sslmode=verify-full`).",
        json_schema_extra={
            "accepts": "postgresql://user:password@host:port/database?options",
            "default_text": f"`{_DEFAULT}`",
        },
    )
    pool_min: int = Field(default=2, ge=0, le=1_000, description="Connections that are kept open.")
    pool_max: int = Field(
        default=16,
        ge=2,
        le=1_000,
        description="Connections for requests; the relay takes up to 7 more. All processes together must stay under"
        " the server's max_connections.",
    )
    connect_timeout_s: float = Field(default=5, gt=0, le=60, description="Seconds that a new connection may take.")
    acquire_timeout_s: float = Field(
        default=5,
        gt=0,
        le=60,
        description="Seconds that a request waits for a connection, then 503.",
        json_schema_extra=_LIMIT,
    )
    statement_timeout_s: float = Field(
        default=10,
        ge=0.1,
        le=3_600,
        description="Seconds that one statement may take, waiting for a chat's lock included, then 503.",
        json_schema_extra=_LIMIT,
    )
    idle_transaction_timeout_s: float = Field(
        default=10,
        ge=0.1,
        le=3_600,
        description="Seconds after which the server ends a transaction whose process has gone silent, so that no chat"
        " stays locked by it.",
    )

    def cross_faults(self) -> Iterable[CrossFault]:
        """A pool has room for what it keeps."""
        if self.pool_min > self.pool_max:
            yield CrossFault(
                ("pool_min", "pool_max"),
                f"given {self.pool_min}; accepted: at most TIDINGS_POSTGRES_POOL_MAX ({self.pool_max})",
            )
