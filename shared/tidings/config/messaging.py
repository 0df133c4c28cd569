"""One process of the messaging service: its ports, its wire and its limits."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import CrossFault, SettingsGroup
from tidings.config.values import ByteCount, Host, Origins, lower

__all__ = ["MessagingSettings"]

_LIMIT: Final[dict[str, Any]] = {"limit": True, "metric": "tidings_messaging_refused_total"}


class MessagingSettings(SettingsGroup):
    """One process of the messaging service. Limits are per process."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_MESSAGING_")

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - a server in a container; the load balancer is in front
        min_length=1,
        description="Address to listen on for clients.",
        json_schema_extra={"accepts": "an address or host name of this machine"},
    )
    port: int = Field(
        default=8081, ge=0, le=65535, description="Port for clients.", json_schema_extra={"zero": "any free"}
    )
    admin_host: Host = Field(
        default_factory=lambda known: str(known.get("host", "0.0.0.0")),  # noqa: S104
        min_length=1,
        description="Address of the admin port.",
        json_schema_extra={
            "accepts": "an address or host name of this machine",
            "default_text": "TIDINGS_MESSAGING_HOST",
        },
    )
    admin_port: int = Field(
        default=9120,
        ge=0,
        le=65535,
        description="Port of /metrics, /healthz and /readyz; not for the public.",
        json_schema_extra={"zero": "any free"},
    )
    wire: Annotated[Literal["seed", "chakchat"], BeforeValidator(lower)] = Field(
        default="seed",
        description="Shapes of what is answered and emitted: `seed` is the contract's, `chakchat` that of chakchat's"
        " code. Both are accepted from clients.",
    )
    forbidden_as_403: bool = Field(
        default=False,
        description="Answer what a user may not do with 403; else with 400 and the same error type, as chakchat does.",
        json_schema_extra={"accepts": "true or false", "default_text": "`false`"},
    )
    origins: Origins = Field(
        default=(),
        description="Origins of the web pages that may ask from a browser (CORS), such as https://chat.example; without"
        " it, pages of the same host.",
        json_schema_extra={
            "accepts": "scheme://host[:port], several separated by commas, or * for every page",
            "default_text": "the same host",
        },
    )
    max_body_bytes: ByteCount = Field(
        default=1 << 20,
        ge=1_024,
        le=64 << 20,
        description="Bytes of a request's body, then 413.",
        json_schema_extra=_LIMIT,
    )
    body_timeout_s: float = Field(
        default=30,
        gt=0,
        le=600,
        description="Seconds that a client has for a request's body, then 408.",
        json_schema_extra=_LIMIT,
    )
    header_timeout_s: float = Field(
        default=10,
        gt=0,
        le=300,
        description="Seconds that a client has for a request's headers, from the connect or the first byte of a further"
        " request, then 408; who has sent nothing of a request is closed.",
        json_schema_extra=_LIMIT,
    )
    max_header_bytes: ByteCount = Field(
        default=16_384,
        ge=1_024,
        le=1 << 20,
        description="Bytes of a request's line and headers, then 431.",
        json_schema_extra=_LIMIT,
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Connections in all, then 503; fewer if the limit of open files is lower.",
        json_schema_extra=_LIMIT,
    )
    max_requests_per_s: float = Field(
        default=50,
        gt=0,
        le=100_000,
        description="Requests per second that one user may make in the long run, then 429 with Retry-After.",
        json_schema_extra=_LIMIT,
    )
    max_requests_burst: int = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description="Requests that one user may make at once before the rate counts.",
        json_schema_extra=_LIMIT,
    )
    access_log: bool = Field(
        default=False,
        description="One line in the log for each request, never with its token; else only at level debug.",
        json_schema_extra={"accepts": "true or false", "default_text": "`false`"},
    )
    drain_s: float = Field(
        default=10,
        ge=0,
        le=3_600,
        description="Seconds for requests under way to finish after SIGTERM, and as many for the relay to hand over.",
    )
    relay_batch_records: int = Field(
        default=500, ge=1, le=10_000, description="Most records that the relay writes in one Kafka transaction."
    )
    relay_batch_bytes: ByteCount = Field(
        default=4 << 20, ge=65_536, le=64 << 20, description="And most bytes; one record is always taken."
    )
    relay_poll_s: float = Field(
        default=1,
        ge=0.05,
        le=60,
        description="Seconds after which the relay looks for rows although nobody has told it of any.",
    )
    expiry_interval_s: float = Field(
        default=1, ge=0.1, le=60, description="Seconds between two looks for secret updates whose time is over."
    )

    def cross_faults(self) -> Iterable[CrossFault]:
        """Ports apart."""
        if self.port and self.port == self.admin_port:
            yield CrossFault(("admin_port", "port"), f"given {self.admin_port}, as is TIDINGS_MESSAGING_PORT")
