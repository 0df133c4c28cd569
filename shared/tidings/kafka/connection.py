"""How to reach the brokers, said to each of the two client libraries."""

import ssl
from typing import Any, Final

from tidings.config import KafkaSettings

__all__ = ["aiokafka_options", "librdkafka_options"]

_CRITICAL: Final = 2


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's producer, consumer and admin client.

    Reads the certificate files, so call it again for a new connection after they were rotated.

    Raises:
        OSError, ssl.SSLError: A certificate file vanished, or is none.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(kafka.security_ca_file) if kafka.security_ca_file else None)
        if kafka.security_cert_file is not None:
            context.load_cert_chain(kafka.security_cert_file, kafka.security_key_file)
        options["ssl_context"] = context
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.security_sasl_password is not None
        options["sasl_mechanism"] = kafka.security_sasl_mechanism
        options["sasl_plain_username"] = kafka.security_sasl_username
        options["sasl_plain_password"] = kafka.security_sasl_password.get_secret_value()
    return options


def librdkafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Configuration for confluent-kafka's clients. Holds the password: never print it."""
    options: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        # What goes wrong is told by the calls; librdkafka's own lines on stderr would break structured logs.
        "log_level": _CRITICAL,
    }
    files = {
        "ssl.ca.location": kafka.security_ca_file,
        "ssl.certificate.location": kafka.security_cert_file,
        "ssl.key.location": kafka.security_key_file,
    }
    options |= {name: str(file) for name, file in files.items() if file is not None}
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.security_sasl_password is not None
        options["sasl.mechanism"] = kafka.security_sasl_mechanism
        options["sasl.username"] = kafka.security_sasl_username
        options["sasl.password"] = kafka.security_sasl_password.get_secret_value()
    return options
