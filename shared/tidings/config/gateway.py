"""One gateway node: its ports and its limits."""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import CrossFault, SettingsGroup, given_together
from tidings.config.values import (
    ByteCount,
    Host,
    Networks,
    NodeName,
    Origins,
    ReadableFile,
    own_name,
)

__all__ = ["GatewaySettings"]


def _limit(metric: str, zero: str | None = None) -> dict[str, Any]:
    return {"limit": True, "metric": metric} | ({"zero": zero} if zero else {})


_REFUSED: Final = "tidings_gateway_refused_total"
_CLOSES: Final = "tidings_gateway_closes_total"


class GatewaySettings(SettingsGroup):
    """One gateway node. Limits are per node."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_GATEWAY_")

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - a server in a container; the load balancer is in front
        min_length=1,
        description="Address to listen on for clients.",
        json_schema_extra={"accepts": "an address or host name of this machine"},
    )
    port: int = Field(
        default=8080, ge=0, le=65535, description="Port for clients.", json_schema_extra={"zero": "any free"}
    )
    admin_host: Host = Field(
        default_factory=lambda known: str(known.get("host", "0.0.0.0")),  # noqa: S104
        min_length=1,
        description="Address of the admin port.",
        json_schema_extra={
            "accepts": "an address or host name of this machine",
            "default_text": "TIDINGS_GATEWAY_HOST",
        },
    )
    admin_port: int = Field(
        default=9100,
        ge=0,
        le=65535,
        description="Port of /metrics, /healthz and /readyz; not for the public.",
        json_schema_extra={"zero": "any free"},
    )
    node: NodeName = Field(
        default_factory=own_name,
        description="Name of this node in sessions, logs and `$welcome`; differs between nodes.",
        json_schema_extra={"accepts": "1 to 128 of the characters A-Z a-z 0-9 . _ -", "default_text": "the host name"},
    )
    workers: int = Field(default=1, ge=1, le=256, description="Processes that share the port; one core each.")
    origins: Origins = Field(
        default=(),
        description="Origins of the web pages that may connect, such as https://chat.example; without it, pages of the"
        " same host. With * any page may, but cookies count only for pages that are listed or of the same host.",
        json_schema_extra={
            "accepts": "scheme://host[:port], several separated by commas, or * for every page",
            "default_text": "the same host",
        },
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Peers whose X-Forwarded-For is believed.",
        json_schema_extra={"accepts": "addresses or networks such as 10.0.0.0/8, several separated by commas"},
    )
    tls_cert_file: ReadableFile | None = Field(
        default=None, description="PEM file of the certificate chain, to speak TLS without a load balancer."
    )
    tls_key_file: ReadableFile | None = Field(default=None, description="PEM file of its private key, not encrypted.")
    drain_s: float = Field(
        default=10, ge=0, le=3_600, description="Seconds over which clients are told to go after SIGTERM."
    )
    linger_ms: float = Field(
        default=8,
        ge=0,
        le=1_000,
        description="Most milliseconds that a busy node lets records gather before it fetches again: delay for speed. A"
        " frame that is alone for its connection then waits for those of the next fetch, twice as long at most. A"
        " node at ease waits 0.75 at most, and not at all while fetches with records are rarer than that.",
    )
    ping_interval_s: float = Field(default=25, gt=0, le=3_600, description="Seconds between pings to a connection.")
    idle_timeout_s: float = Field(
        default=75,
        gt=0,
        le=86_400,
        description="Seconds without a sign of life from a client, then 4011; looked at with each ping only, so up to"
        " TIDINGS_GATEWAY_PING_INTERVAL_S later. A client of /sse never sends: it is cut when it acknowledges nothing"
        " for so long, and idle only when it is behind and takes nothing.",
        json_schema_extra=_limit(_CLOSES),
    )
    handshake_timeout_s: float = Field(
        default=5,
        gt=0,
        le=300,
        description="Seconds that a client has for its request, TLS included, then 408.",
        json_schema_extra=_limit(_REFUSED),
    )
    max_header_bytes: ByteCount = Field(
        default=16_384,
        ge=1_024,
        le=1 << 20,
        description="Bytes of a request's line and headers, then 431; so are a single line over 8,192 bytes and more"
        " than 128 headers.",
        json_schema_extra=_limit(_REFUSED),
    )
    max_client_message_bytes: ByteCount = Field(
        default=65_536,
        ge=125,
        le=16 << 20,
        description="Bytes of one message from a client, all its fragments together and uncompressed, then 1009. A"
        " client of /sse, which has nothing to say, may send so much in all, then 1008.",
        json_schema_extra=_limit(_CLOSES),
    )
    max_client_frames_per_s: float = Field(
        default=20,
        gt=0,
        le=100_000,
        description="Frames per second that one client may send in the long run, then 1008. Fragments count, as do"
        " pings and pongs.",
        json_schema_extra=_limit(_CLOSES),
    )
    max_client_frames_burst: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Frames that one client may send at once before the rate counts.",
        json_schema_extra=_limit(_CLOSES),
    )
    max_connections: int | None = Field(
        default=None,
        ge=0,
        description="Connections in all, then 503.",
        json_schema_extra=_limit(_REFUSED, "no limit") | {"default_text": "what the limit of open files allows"},
    )
    max_connections_per_user: int = Field(
        default=20,
        ge=0,
        description="Connections of one user, then 429.",
        json_schema_extra=_limit(_REFUSED, "no limit"),
    )
    max_connections_per_address: int = Field(
        default=0,
        ge=0,
        description="Connections from one address, then 429.",
        json_schema_extra=_limit(_REFUSED, "no limit"),
    )
    max_unsent_bytes: ByteCount = Field(
        default=4 << 20,
        ge=65_536,
        le=1 << 30,
        description="Unsent bytes of one plain connection, then 4008. One that can resume never waits with so many:"
        " over TIDINGS_GATEWAY_SLOW_UNSENT_BYTES it gets the rest from the window.",
        json_schema_extra=_limit(_CLOSES),
    )
    slow_unsent_bytes: ByteCount = Field(
        default=1 << 20,
        ge=1_024,
        le=1 << 30,
        description="Unsent bytes of one connection that are too many when nothing moves, then 4008.",
        json_schema_extra=_limit(_CLOSES),
    )
    slow_after_s: float = Field(
        default=5,
        gt=0,
        le=3_600,
        description="Seconds without progress over TIDINGS_GATEWAY_SLOW_UNSENT_BYTES, then 4008.",
        json_schema_extra=_limit(_CLOSES),
    )
    max_unsent_total_bytes: ByteCount = Field(
        default=256 << 20,
        ge=1 << 20,
        description="Unsent bytes of all connections together; over it the slowest are closed with 4008.",
        json_schema_extra=_limit(_CLOSES),
    )
    socket_send_buffer_bytes: ByteCount = Field(
        default=262_144,
        ge=0,
        le=1 << 30,
        description="The kernel's send buffer of each connection; what a client has not read counts here first.",
        json_schema_extra={"zero": "the kernel decides, up to megabytes each"},
    )
    compress_min_bytes: ByteCount = Field(
        default=512,
        ge=0,
        le=1 << 20,
        description="Frames from this size on are compressed for clients that negotiated permessage-deflate.",
        json_schema_extra={"zero": "never"},
    )
    window_bytes: ByteCount = Field(
        default=67_108_864,
        ge=0,
        description="Bytes of the newest records kept in memory to resume from; the oldest go first.",
        json_schema_extra=_limit("tidings_gateway_window_bytes", "none is kept"),
    )
    window_s: float = Field(
        default=3_600,
        gt=0,
        le=604_800,
        description="Records that are this many seconds older than the newest are not kept either.",
        json_schema_extra=_limit("tidings_gateway_window_seconds"),
    )
    max_resumes_per_s: float = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Clients with a cursor that are let in per second, then 503 with Retry-After.",
        json_schema_extra=_limit(_REFUSED, "no limit"),
    )
    max_resumes_per_user_per_min: float = Field(
        default=60,
        ge=0,
        le=100_000,
        description="And of one user per minute, then 429 with Retry-After.",
        json_schema_extra=_limit(_REFUSED, "no limit"),
    )
    max_readback_bytes: ByteCount = Field(
        default=67_108_864,
        ge=0,
        description="Bytes of records older than the window that are fetched from Kafka or searched for one user per"
        " minute, then `$resync` (budget).",
        json_schema_extra=_limit("tidings_gateway_resumes_total", "none are"),
    )
    max_readbacks: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Reads of such records at once; the others wait.",
        json_schema_extra=_limit("tidings_gateway_readbacks_pending"),
    )
    readback_timeout_s: float = Field(
        default=30,
        gt=0,
        le=600,
        description="Seconds that one resume may wait for such reads, all together, then `$resync` (budget).",
        json_schema_extra=_limit("tidings_gateway_resumes_total"),
    )
    metadata_max_age_s: float = Field(
        default=5, ge=0.1, le=20, description="Seconds after which Kafka is asked for new partitions."
    )

    def cross_faults(self) -> Iterable[CrossFault]:
        """Limits in their order, ports apart, TLS complete."""
        if self.ping_interval_s >= self.idle_timeout_s:
            yield CrossFault(
                ("ping_interval_s", "idle_timeout_s"),
                f"given {self.ping_interval_s:g}; accepted: less than TIDINGS_GATEWAY_IDLE_TIMEOUT_S"
                f" ({self.idle_timeout_s:g}), or quiet clients are closed before they are asked",
            )
        if self.slow_unsent_bytes > self.max_unsent_bytes:
            yield CrossFault(
                ("slow_unsent_bytes", "max_unsent_bytes"),
                f"given {self.slow_unsent_bytes}; accepted: at most TIDINGS_GATEWAY_MAX_UNSENT_BYTES"
                f" ({self.max_unsent_bytes})",
            )
        if self.max_unsent_bytes > self.max_unsent_total_bytes:
            yield CrossFault(
                ("max_unsent_bytes", "max_unsent_total_bytes"),
                f"given {self.max_unsent_bytes}; accepted: at most TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES"
                f" ({self.max_unsent_total_bytes})",
            )
        if self.port == self.admin_port != 0 and _overlap(self.host, self.admin_host):
            yield CrossFault(
                ("admin_port", "port"), f"given {self.admin_port}, as is TIDINGS_GATEWAY_PORT; accepted: another port"
            )
        yield from given_together(self, "tls_cert_file", "tls_key_file")


def _overlap(one: str, other: str) -> bool:
    return one == other or not {"0.0.0.0", "::", ""}.isdisjoint((one, other))  # noqa: S104
