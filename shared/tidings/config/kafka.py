"""Where Kafka is, and the names of the topics."""

import ssl
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import CrossFault, SettingsGroup, given_together, variable
from tidings.config.values import (
    ReadableFile,
    Servers,
    TopicName,
    upper,
)

__all__ = ["KafkaSettings", "TopicSettings"]


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
        yield from given_together(self, "security_cert_file", "security_key_file")
        yield from self._unusable_files()

    def _unusable_files(self) -> Iterable[CrossFault]:
        """Told at the start: later the clients would fail on them, or ask the terminal for a pass phrase."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority, certificate, key = self.security_ca_file, self.security_cert_file, self.security_key_file
        if authority is not None:
            try:
                context.load_verify_locations(authority)
            except OSError as error:
                yield CrossFault(("security_ca_file",), f"given {authority}, which can't be used: {error}")
        if certificate is not None and key is not None:
            try:
                context.load_cert_chain(certificate, key, _no_pass_phrase)
            except (OSError, ValueError) as error:
                text = f"given {certificate}, and {key} as its key, which can't be used: {error}"
                yield CrossFault(("security_cert_file", "security_key_file"), text)


def _no_pass_phrase() -> str:
    raise ValueError("the key is encrypted")


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
