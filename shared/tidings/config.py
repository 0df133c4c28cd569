"""Every setting of Tidings, one class per group; names, units, defaults and limits are on the fields.

`load(KafkaSettings, GatewaySettings)` reads the environment and reports every fault of all named groups in one
`ConfigError`; `warnings()` names what looks like a setting and is none. docs/settings.md is generated from here.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, overload

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tidings.errors import ConfigError
from tidings.keys import KeySet
from tidings.setting_values import (
    ByteCount,
    ClaimName,
    Host,
    Networks,
    NodeName,
    Origins,
    ReadableFile,
    Servers,
    TopicName,
    WebAddress,
    lower,
    own_name,
    upper,
)
from tidings.settings import CrossFault, SettingsGroup, closest, load_groups, rows, variable
from tidings.tokens import TokenRules

__all__ = [
    "GROUPS",
    "GatewaySettings",
    "JwtSettings",
    "KafkaSettings",
    "LogSettings",
    "SettingsGroup",
    "TopicSettings",
    "load",
    "render",
    "warnings",
]

_G1 = TypeVar("_G1", bound=SettingsGroup)
_G2 = TypeVar("_G2", bound=SettingsGroup)
_G3 = TypeVar("_G3", bound=SettingsGroup)
_G4 = TypeVar("_G4", bound=SettingsGroup)
_G5 = TypeVar("_G5", bound=SettingsGroup)


# ---- Kafka


class KafkaSettings(SettingsGroup):
    """Where Kafka is and how to be let in."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_KAFKA_")

    bootstrap_servers: Servers = Field(
        default="127.0.0.1:9092",
        description="Brokers to ask first; the rest of the cluster is learnt from them.",
        json_schema_extra={"accepts": "host:port, several separated by commas, without a scheme"},
    )
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(upper)] = (
        Field(default="PLAINTEXT", description="How connections to the brokers are protected.")
    )
    security_sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(upper)] = (
        Field(default="PLAIN", description="SASL mechanism, with the protocols SASL_PLAINTEXT and SASL_SSL.")
    )
    security_sasl_username: str | None = Field(default=None, description="SASL user name.")
    security_sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    security_ca_file: ReadableFile | None = Field(
        default=None,
        description="PEM file of the authorities that brokers' certificates are checked against;"
        " without it, the machine's own.",
    )
    security_cert_file: ReadableFile | None = Field(
        default=None, description="PEM file of the client certificate, where brokers ask for one."
    )
    security_key_file: ReadableFile | None = Field(
        default=None, description="PEM file of the client certificate's private key, not encrypted."
    )

    def cross_faults(self) -> Iterable[CrossFault]:
        """SASL and TLS settings must fit the protocol: one that would be ignored is a fault, not a surprise."""
        protocol = self.security_protocol
        sasl = ("security_sasl_username", "security_sasl_password")
        tls = ("security_ca_file", "security_cert_file", "security_key_file")
        for field in sasl:
            if protocol.startswith("SASL") and getattr(self, field) is None:
                yield CrossFault((field, "security_protocol"), f"not given, but {protocol} needs it")
            if not protocol.startswith("SASL") and getattr(self, field) is not None:
                yield CrossFault(
                    (field, "security_protocol"),
                    f"given, but unused with TIDINGS_KAFKA_SECURITY_PROTOCOL={protocol};"
                    " accepted with SASL_PLAINTEXT or SASL_SSL",
                )
        if not protocol.endswith("SSL"):
            for field in tls:
                if getattr(self, field) is not None:
                    yield CrossFault(
                        (field, "security_protocol"),
                        f"given, but unused with TIDINGS_KAFKA_SECURITY_PROTOCOL={protocol};"
                        " accepted with SSL or SASL_SSL",
                    )
        yield from _pair(self, "security_cert_file", "security_key_file")


def _pair(group: SettingsGroup, one: str, other: str) -> Iterable[CrossFault]:
    """Both or neither."""
    for missing, given in ((one, other), (other, one)):
        if getattr(group, missing) is None and getattr(group, given) is not None:
            yield CrossFault((missing, given), f"not given, but {variable(type(group), given)} is; give both or none")


# ---- topics


def _topic(default: str, purpose: str) -> Any:
    return Field(
        default=default,
        description=purpose,
        validation_alias=f"TIDINGS_{default.replace('modifications.dead', 'dead_letter').upper()}_TOPIC",
        json_schema_extra={"accepts": "1 to 249 of the characters A-Z a-z 0-9 . _ -"},
    )


class TopicSettings(SettingsGroup):
    """Names of the topics."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_TOPIC_")

    modifications: TopicName = _topic("modifications", "What happened in chats: every gateway reads all of it.")
    signals: TopicName = _topic("signals", "Typing, online and offline, control: read from the end, never replayed.")
    sessions: TopicName = _topic("sessions", "Who is connected where; compacted.")
    notifications: TopicName = _topic("notifications", "What happened to those who are connected nowhere.")
    dead_letter: TopicName = _topic("modifications.dead", "Records that no reader may accept, unchanged.")
    partitions: int = Field(
        default=12, ge=1, le=10_000, description="Partitions of each topic that `tidings topics create` makes."
    )

    def cross_faults(self) -> Iterable[CrossFault]:
        """One topic can't be two things."""
        seen: dict[str, str] = {}
        for field in ("modifications", "signals", "sessions", "notifications", "dead_letter"):
            name = getattr(self, field)
            if name in seen:
                other = variable(type(self), seen[name])
                yield CrossFault((field, seen[name]), f"given {name!r}, as is {other}; each topic needs its own name")
            seen.setdefault(name, field)


# ---- tokens


class JwtSettings(SettingsGroup):
    """Whose tokens are accepted. Exactly one of the four key sources is given."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_JWT_")

    secret: SecretStr | None = Field(
        default=None,
        description="Shared secret; tokens are HS256, HS384 or HS512.",
        json_schema_extra={"accepts": "at least 32 bytes, no PEM"},
    )
    public_key: str | None = Field(
        default=None,
        description="PEM public key itself (line breaks also as \\n); tokens are RS256/384/512 for RSA, or the one of"
        " ES256/384/512 that belongs to the curve.",
        json_schema_extra={"accepts": "one PEM public key, RSA of at least 2048 bits or EC on P-256, P-384 or P-521"},
    )
    public_key_file: ReadableFile | None = Field(default=None, description="File with such a PEM public key.")
    jwks_url: WebAddress | None = Field(
        default=None,
        description="Address of a JSON Web Key Set with the issuer's RSA and EC keys; follows their rotation.",
        json_schema_extra={"accepts": "an http or https address without user name and password"},
    )
    user_claim: ClaimName = Field(
        default="sub",
        min_length=1,
        max_length=128,
        description="Claim that holds the user's id, a string or an integer.",
        json_schema_extra={"accepts": "the name of a claim, other than exp, nbf, iat and aud"},
    )
    audience: str | None = Field(
        default=None, description="Must be among the token's `aud`; without it `aud` is not checked."
    )
    issuer: str | None = Field(default=None, description="Must be the token's `iss`; without it `iss` is not checked.")
    expiry: Annotated[Literal["connected", "handshake"], BeforeValidator(lower)] = Field(
        default="connected",
        description="When the token's end counts: `connected` also closes open connections with 4001; `handshake`"
        " checks only when connecting.",
    )
    jwks_max_age_s: float = Field(
        default=300, ge=1, le=86_400, description="Seconds after which the key set is fetched again in the background."
    )
    jwks_cooldown_s: float = Field(
        default=10, ge=0.1, le=3_600, description="Least seconds between two fetches that unknown key ids ask for."
    )
    jwks_timeout_s: float = Field(default=5, ge=0.1, le=60, description="Seconds that one fetch may take in all.")

    def cross_faults(self) -> Iterable[CrossFault]:
        """Exactly one key source, and one that a key can be made of."""
        sources = ("secret", "public_key", "public_key_file", "jwks_url")
        given = [field for field in sources if getattr(self, field) is not None]
        names = ", ".join(variable(type(self), field) for field in sources)
        if not given:
            yield CrossFault(sources, f"not given; exactly one of {names} is needed")
        elif len(given) > 1:
            others = " and ".join(variable(type(self), field) for field in given[1:])
            yield CrossFault(tuple(given), f"given together with {others}; accepted: exactly one of {names}")
        for field in given:
            try:
                self._keys_of(field)
            except ConfigError as error:
                for fault in error.faults:
                    yield CrossFault((field,), fault.removeprefix(f"{variable(type(self), field)}: "))

    def _keys_of(self, field: str) -> KeySet | None:
        name = variable(type(self), field)
        if field == "secret" and self.secret is not None:
            return KeySet.from_secret(self.secret.get_secret_value(), name)
        if field == "public_key" and self.public_key is not None:
            return KeySet.from_pem(self.public_key.replace("\\n", "\n"), name)
        if field == "public_key_file" and self.public_key_file is not None:
            return KeySet.from_pem(_read_text(self.public_key_file, name), name)
        return None

    def key_set(self) -> KeySet | None:
        """The configured key, ready for use; None with a JWKS address (see `tidings.jwks`). Reads the key file."""
        return next(
            (keys for field in ("secret", "public_key", "public_key_file") if (keys := self._keys_of(field))), None
        )

    def rules(self) -> TokenRules:
        """What `tidings.tokens.verify` demands beside the signature."""
        return TokenRules(user_claim=self.user_claim, audience=self.audience, issuer=self.issuer)


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(65_536).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError([f"{name}: given {str(path)!r}, which can't be read: {error.strerror}"]) from None


# ---- gateway


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
        " same host.",
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
        " node at ease waits 3 at most.",
    )
    ping_interval_s: float = Field(default=25, gt=0, le=3_600, description="Seconds between pings to a connection.")
    idle_timeout_s: float = Field(
        default=75,
        gt=0,
        le=86_400,
        description="Seconds without a sign of life from a client, then 4011.",
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
        description="Bytes of a request's line and headers, then 431.",
        json_schema_extra=_limit(_REFUSED),
    )
    max_client_message_bytes: ByteCount = Field(
        default=65_536,
        ge=125,
        le=16 << 20,
        description="Bytes of one message from a client, all its fragments together and uncompressed, then 1009.",
        json_schema_extra=_limit(_CLOSES),
    )
    max_client_frames_per_s: float = Field(
        default=20,
        gt=0,
        le=100_000,
        description="Frames per second that one client may send in the long run, then 1008.",
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
        description="Unsent bytes of one connection, then 4008.",
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
        default=67_108_864, ge=0, description="Bytes of the newest records kept in memory to resume from."
    )
    metadata_max_age_s: float = Field(
        default=5, ge=0.1, le=30, description="Seconds after which Kafka is asked for new partitions."
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
        yield from _pair(self, "tls_cert_file", "tls_key_file")


def _overlap(one: str, other: str) -> bool:
    return one == other or not {"0.0.0.0", "::", ""}.isdisjoint((one, other))  # noqa: S104


# ---- logs


class LogSettings(SettingsGroup):
    """What is logged and how it looks."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_LOG_")

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = Field(
        default="info", description="Least level that is logged."
    )
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower)] = Field(
        default="auto", description="JSON lines, or text for people; `auto` is text on a terminal, JSON elsewhere."
    )


GROUPS: Final[tuple[type[SettingsGroup], ...]] = (
    KafkaSettings,
    TopicSettings,
    JwtSettings,
    GatewaySettings,
    LogSettings,
)
"""Every group, in the order of the reference page."""

# Of the services that share an environment with these: set there, not read here.
_OTHERS: Final = (
    "TIDINGS_POSTGRES_",
    "TIDINGS_MESSAGING_",
    "TIDINGS_PRESENCE_",
    "TIDINGS_MQTT_",
    "TIDINGS_TEST_",
    "TIDINGS_UP_",
)
_SERVICE_LINK_NAME: Final = re.compile(
    r"TIDINGS(_[A-Z0-9_]+?)?_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP).*)?)"
)


@overload
def load(g1: type[_G1], /, *, environ: Mapping[str, str] | None = None) -> tuple[_G1]: ...
@overload
def load(g1: type[_G1], g2: type[_G2], /, *, environ: Mapping[str, str] | None = None) -> tuple[_G1, _G2]: ...
@overload
def load(
    g1: type[_G1], g2: type[_G2], g3: type[_G3], /, *, environ: Mapping[str, str] | None = None
) -> tuple[_G1, _G2, _G3]: ...
@overload
def load(
    g1: type[_G1], g2: type[_G2], g3: type[_G3], g4: type[_G4], /, *, environ: Mapping[str, str] | None = None
) -> tuple[_G1, _G2, _G3, _G4]: ...
@overload
def load(
    g1: type[_G1],
    g2: type[_G2],
    g3: type[_G3],
    g4: type[_G4],
    g5: type[_G5],
    /,
    *,
    environ: Mapping[str, str] | None = None,
) -> tuple[_G1, _G2, _G3, _G4, _G5]: ...
def load(*groups: type[SettingsGroup], environ: Mapping[str, str] | None = None) -> tuple[SettingsGroup, ...]:
    """Read these groups from the environment; always a tuple, in their order.

    Args:
        environ: Instead of the process's environment.
    Raises:
        ConfigError: Every fault of every group, one line each, beginning with the variable's name.
    """
    return load_groups(*groups, environ=os.environ if environ is None else environ)


def warnings(environ: Mapping[str, str] | None = None) -> list[str]:
    """What in the environment looks like a setting and has no effect, or looks like a slip. One line each."""
    given = os.environ if environ is None else environ
    known = [variable(group, field) for group in GROUPS for field in group.model_fields]
    found: list[str] = []
    links: list[str] = []
    for name in sorted(given):
        if not name.startswith("TIDINGS_") or name in known or name.startswith(_OTHERS):
            continue
        if _SERVICE_LINK_NAME.fullmatch(name):
            links.append(name)
            continue
        meant = closest(name, known)
        found.append(f"{name}: no setting has this name" + (f"; {meant} was meant?" if meant else ""))
    if links:
        found.append(
            f"{links[0]}{f' and {len(links) - 1} more' if len(links) > 1 else ''}: no setting; injected by Kubernetes"
            " for a Service (enableServiceLinks: false keeps them away)"
        )
    secret = given.get("TIDINGS_JWT_SECRET", "")
    if secret != secret.strip():
        found.append("TIDINGS_JWT_SECRET: begins or ends with white space, which counts as part of the secret")
    return found


def render(*groups: SettingsGroup) -> str:
    """The settings in effect as an aligned table of name, value, default and source; secrets as `***`."""
    table = [("name", "value", "default", "source")]
    table += [(row.name, row.value, row.default, row.source) for group in groups for row in rows(group)]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3])) for line in table
    )
