"""The settings in each library's own words."""

from pathlib import Path

from pydantic import SecretStr

from tests.integration.test_handshake import self_signed
from tidings.config import KafkaSettings
from tidings.kafka.connection import aiokafka_options, librdkafka_options


def test_plaintext_needs_the_servers_alone() -> None:
    kafka = KafkaSettings(bootstrap_servers="a:1,b:2")
    assert aiokafka_options(kafka) == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}
    options = librdkafka_options(kafka)
    assert (options["bootstrap.servers"], options["security.protocol"]) == ("a:1,b:2", "PLAINTEXT")


def test_sasl_over_tls(tmp_path: Path) -> None:
    kafka = KafkaSettings(
        security_protocol="SASL_SSL",
        security_sasl_mechanism="SCRAM-SHA-512",
        security_sasl_username="u",
        security_sasl_password=SecretStr("p"),
    )
    options = aiokafka_options(kafka)
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
    assert options["ssl_context"].check_hostname
    other = librdkafka_options(kafka)
    assert (other["sasl.mechanism"], other["sasl.username"], other["sasl.password"]) == ("SCRAM-SHA-512", "u", "p")


def test_certificate_files_are_named_to_librdkafka(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    files = {"ca": certificate, "cert": certificate, "key": key}
    kafka = KafkaSettings(
        security_protocol="SSL",
        security_ca_file=files["ca"],
        security_cert_file=files["cert"],
        security_key_file=files["key"],
    )
    options = librdkafka_options(kafka)
    assert options["ssl.ca.location"] == str(files["ca"])
    assert options["ssl.certificate.location"] == str(files["cert"])
    assert options["ssl.key.location"] == str(files["key"])
