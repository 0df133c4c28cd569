"""What is read from the environment, and that every fault is told at once, by name, without a secret."""

import ipaddress
from pathlib import Path
from typing import Annotated

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, SecretStr, ValidationError

from tests.integration.test_handshake import self_signed
from tests.unit.test_tokens import SECRET, ec_key, pem, rsa_key
from tidings.config import (
    GROUPS,
    GatewaySettings,
    JwtSettings,
    KafkaSettings,
    LogSettings,
    TopicSettings,
    load,
    render,
    warnings,
)
from tidings.config.groups import SettingsGroup, accepted, is_secret, marks, rows, variable
from tidings.errors import ConfigError

KEY = {"TIDINGS_JWT_SECRET": SECRET}


def faults(*groups: type[SettingsGroup], **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*groups, environ=environ)
    return list(caught.value.faults)


def gateway(**environ: str) -> GatewaySettings:
    return load(GatewaySettings, environ={f"TIDINGS_GATEWAY_{name}": value for name, value in environ.items()})[0]


def gateway_fault(**environ: str) -> str:
    (line,) = faults(GatewaySettings, **{f"TIDINGS_GATEWAY_{name}": value for name, value in environ.items()})
    return line


def test_defaults_need_nothing_but_a_key() -> None:
    kafka, topics, jwt, node, log = load(
        KafkaSettings, TopicSettings, JwtSettings, GatewaySettings, LogSettings, environ=KEY
    )
    assert kafka.bootstrap_servers == "127.0.0.1:9092"
    assert topics.dead_letter == "modifications.dead"
    assert (jwt.user_claim, jwt.expiry) == ("sub", "connected")
    assert (node.port, node.admin_port, node.admin_host) == (8080, 9100, "0.0.0.0")
    assert (node.max_connections, node.max_connections_per_user, node.max_connections_per_address) == (None, 20, 0)
    assert log.format == "auto"


def test_the_names_of_the_contract() -> None:
    names = {variable(group, field) for group in GROUPS for field in group.model_fields}
    assert names >= {
        "TIDINGS_KAFKA_BOOTSTRAP_SERVERS",
        *(f"TIDINGS_{t}_TOPIC" for t in ("MODIFICATIONS", "SIGNALS", "SESSIONS", "NOTIFICATIONS", "DEAD_LETTER")),
        *(
            f"TIDINGS_JWT_{part}"
            for part in [
                "SECRET",
                "PUBLIC_KEY",
                "PUBLIC_KEY_FILE",
                "JWKS_URL",
                "USER_CLAIM",
                "AUDIENCE",
                "ISSUER",
                "EXPIRY",
            ]
        ),
        *(
            f"TIDINGS_GATEWAY_{part}"
            for part in [
                "HOST",
                "PORT",
                "ADMIN_PORT",
                "WORKERS",
                "ORIGINS",
                "TRUSTED_PROXIES",
                "DRAIN_S",
                "MAX_CONNECTIONS",
                "MAX_CONNECTIONS_PER_USER",
                "MAX_CONNECTIONS_PER_ADDRESS",
                "WINDOW_BYTES",
            ]
        ),
        "TIDINGS_LOG_LEVEL",
        "TIDINGS_LOG_FORMAT",
    }


def test_every_field_is_described() -> None:
    for group in GROUPS:
        for field, info in group.model_fields.items():
            assert info.description, f"{group.__name__}.{field}"
            assert accepted(info)


def test_all_faults_of_all_groups_at_once() -> None:
    lines = faults(
        KafkaSettings,
        TopicSettings,
        JwtSettings,
        GatewaySettings,
        LogSettings,
        TIDINGS_KAFKA_BOOTSTRAP_SERVERS="kafka:99999",
        TIDINGS_KAFKA_SECURITY_CA_FILE="/nowhere/ca.pem",
        TIDINGS_SIGNALS_TOPIC="no spaces",
        TIDINGS_JWT_SECRET="short",
        TIDINGS_JWT_EXPIRY="never",
        TIDINGS_GATEWAY_PORT="eighty",
        TIDINGS_GATEWAY_PING_INTERVAL_S="80",
        TIDINGS_GATEWAY_DRAIN_S="nan",
        TIDINGS_GATEWAY_HOST="http://x/",
        TIDINGS_LOG_LEVEL="loud",
    )
    assert {line.split(":")[0] for line in lines} == {
        "TIDINGS_KAFKA_BOOTSTRAP_SERVERS",
        "TIDINGS_KAFKA_SECURITY_CA_FILE",
        "TIDINGS_SIGNALS_TOPIC",
        "TIDINGS_JWT_SECRET",
        "TIDINGS_JWT_EXPIRY",
        "TIDINGS_GATEWAY_PORT",
        "TIDINGS_GATEWAY_PING_INTERVAL_S",
        "TIDINGS_GATEWAY_DRAIN_S",
        "TIDINGS_GATEWAY_HOST",
        "TIDINGS_LOG_LEVEL",
    }
    assert len(lines) == 10
    assert all("\n" not in line for line in lines)


def test_a_fault_says_what_was_given_and_what_is_accepted() -> None:
    assert gateway_fault(PORT="70000") == (
        "TIDINGS_GATEWAY_PORT: given '70000'; accepted: a whole number from 0 to 65535; 0 = any free"
    )
    assert "one of debug, info, warning, error" in faults(LogSettings, TIDINGS_LOG_LEVEL="x")[0]
    assert "(500 characters)" in gateway_fault(PORT="9" * 500)


def test_a_cross_fault_is_not_told_of_a_faulty_field() -> None:
    assert len(faults(JwtSettings, TIDINGS_JWT_JWKS_URL="ftp://x")) == 1


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_not_set(blank: str) -> None:
    assert gateway(PORT=blank, MAX_CONNECTIONS=blank, ORIGINS=blank).port == 8080
    assert load(JwtSettings, environ={**KEY, "TIDINGS_JWT_PUBLIC_KEY": blank})[0].public_key is None


def test_the_environment_is_read_by_load_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_GATEWAY_PORT", "1234")
    assert GatewaySettings().port == 8080
    assert load(GatewaySettings)[0].port == 1234


def test_a_group_can_be_built_by_field_names() -> None:
    assert TopicSettings(modifications="m", dead_letter="d").modifications == "m"
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate({"no_such_setting": 1})
    with pytest.raises(ValidationError, match="TIDINGS_GATEWAY_PING_INTERVAL_S"):
        GatewaySettings(ping_interval_s=100)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        GatewaySettings().port = 1


def test_a_kubernetes_service_link_is_recognised() -> None:
    line = gateway_fault(PORT="tcp://10.96.0.12:8080")
    assert "Service named 'tidings-gateway'" in line
    assert "enableServiceLinks: false" in line
    (only,) = warnings({"TIDINGS_GATEWAY_SERVICE_HOST": "10.0.0.1", "TIDINGS_GATEWAY_PORT_8080_TCP_ADDR": "10.0.0.1"})
    assert "Kubernetes" in only


def test_unknown_names_are_warnings_with_a_suggestion() -> None:
    assert warnings({"TIDINGS_GATEWAY_PROT": "1"}) == [
        "TIDINGS_GATEWAY_PROT: no setting has this name; TIDINGS_GATEWAY_PORT was meant?"
    ]
    assert warnings({"TIDINGS_ZZZ": "1"}) == ["TIDINGS_ZZZ: no setting has this name"]
    assert warnings({"TIDINGS_GATEWAY_PORT": "x", "TIDINGS_POSTGRES_DSN": "y", "PATH": "z"}) == []
    load(GatewaySettings, environ={"TIDINGS_GATEWAY_PROT": "1"})


def test_a_secret_with_a_line_break_is_a_warning() -> None:
    (line,) = warnings({"TIDINGS_JWT_SECRET": SECRET + "\n"})
    assert line.startswith("TIDINGS_JWT_SECRET")
    assert SECRET not in line


# ---- secrets


def test_secrets_are_never_shown() -> None:
    hidden = "hunter2-hunter2-hunter2"
    lines = faults(KafkaSettings, JwtSettings, TIDINGS_KAFKA_SECURITY_SASL_PASSWORD=hidden, TIDINGS_JWT_SECRET=hidden)
    assert len(lines) == 2
    assert "hunter" not in "\n".join(lines)
    (jwt,) = load(JwtSettings, environ=KEY)
    for text in (repr(jwt), str(jwt), render(jwt), str(jwt.model_dump())):
        assert SECRET not in text
    assert "***" in render(jwt)
    with pytest.raises(ValidationError) as caught:
        JwtSettings.model_validate({"secret": hidden})
    assert "hunter" not in str(caught.value)


class Guarded(SettingsGroup):
    """A group whose secret is checked by its type."""

    secret: Annotated[SecretStr, Field(min_length=30)] = SecretStr("")


def test_a_secret_of_the_wrong_form_is_not_shown() -> None:
    (line,) = faults(Guarded, SECRET="hunter2")
    assert line == "SECRET: the given value (not shown); accepted: text"


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    for url in (
        "https://u:hunter2@host/keys",
        "https://hunter2@host/keys",
        "ftp://u:hunter2@host",
        "https://u:h@hunter2@x/",
    ):
        (line,) = faults(JwtSettings, TIDINGS_JWT_JWKS_URL=url)
        assert "hunter2" not in line


@pytest.mark.parametrize("url", ["issuer/keys", "http://", "http://[::1/keys", "http://issuer:0/keys", "file:///etc/x"])
def test_bad_jwks_addresses(url: str) -> None:
    assert "an http or https address" in faults(JwtSettings, TIDINGS_JWT_JWKS_URL=url)[0]


# ---- groups


@pytest.mark.parametrize("given", ["kafka:9092", "a, b:1 ,c:65535", "[::1]:9092", "10.0.0.1"])
def test_bootstrap_servers(given: str) -> None:
    (kafka,) = load(KafkaSettings, environ={"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": given})
    assert kafka.bootstrap_servers == given.replace(" ", "")


@pytest.mark.parametrize("given", ["kafka:0", "kafka:x", "PLAINTEXT://kafka:9092", ",", "a b:1", "::1:9092", "k:70000"])
def test_bad_bootstrap_servers(given: str) -> None:
    (line,) = faults(KafkaSettings, TIDINGS_KAFKA_BOOTSTRAP_SERVERS=given)
    assert "without a scheme" in line


def test_sasl_and_tls_settings_fit_the_protocol(tmp_path: Path) -> None:
    file, _ = self_signed(tmp_path)
    prefix = "TIDINGS_KAFKA_SECURITY_"
    good = {f"{prefix}PROTOCOL": "sasl_ssl", f"{prefix}SASL_USERNAME": "u", f"{prefix}SASL_PASSWORD": "p"}
    (kafka,) = load(KafkaSettings, environ={**good, f"{prefix}CA_FILE": str(file)})
    assert kafka.security_protocol == "SASL_SSL"
    assert kafka.security_ca_file == file
    assert len(faults(KafkaSettings, **{f"{prefix}PROTOCOL": "SASL_SSL"})) == 2
    assert "unused" in faults(KafkaSettings, **{f"{prefix}CA_FILE": str(file)})[0]
    assert "unused" in faults(KafkaSettings, **{f"{prefix}SASL_USERNAME": "u"})[0]
    (line,) = faults(KafkaSettings, **{f"{prefix}PROTOCOL": "SSL", f"{prefix}CERT_FILE": str(file)})
    assert line.startswith(f"{prefix}KEY_FILE: not given")


def test_certificate_files_of_kafka_are_looked_into(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    no_pem, encrypted = tmp_path / "no.pem", tmp_path / "encrypted.pem"
    no_pem.write_text("x")
    encrypted.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    prefix = "TIDINGS_KAFKA_SECURITY_"
    tls = {f"{prefix}PROTOCOL": "SSL", f"{prefix}CA_FILE": str(certificate)}
    load(KafkaSettings, environ={**tls, f"{prefix}CERT_FILE": str(certificate), f"{prefix}KEY_FILE": str(key)})
    (line,) = faults(KafkaSettings, **{**tls, f"{prefix}CA_FILE": str(no_pem)})
    assert line.startswith(f"{prefix}CA_FILE: given {no_pem}, which can't be used")
    for bad in (no_pem, encrypted, certificate):
        own = {f"{prefix}CERT_FILE": str(certificate), f"{prefix}KEY_FILE": str(bad)}
        (line,) = faults(KafkaSettings, **tls, **own)
        assert line.startswith(f"{prefix}CERT_FILE: given {certificate}, and {bad} as its key, which can't be used")
        assert line.endswith("the key is encrypted") == (bad is encrypted)


def test_topics_have_names_of_their_own() -> None:
    (line,) = faults(TopicSettings, TIDINGS_SIGNALS_TOPIC="modifications")
    assert line.startswith("TIDINGS_SIGNALS_TOPIC: given 'modifications', as is TIDINGS_MODIFICATIONS_TOPIC")
    for name in (".", "..", "a/b", "x" * 250, "é"):
        assert len(faults(TopicSettings, TIDINGS_SIGNALS_TOPIC=name)) == 1
    assert load(TopicSettings, environ={"TIDINGS_DEAD_LETTER_TOPIC": "d"})[0].dead_letter == "d"


def test_exactly_one_key_source(tmp_path: Path) -> None:
    assert "exactly one of" in faults(JwtSettings)[0]
    (line,) = faults(JwtSettings, TIDINGS_JWT_JWKS_URL="https://x/keys", **KEY)
    assert "exactly one of" in line
    file = tmp_path / "key.pem"
    file.write_text(pem(ec_key(ec.SECP256R1)))
    for environ, keys in [
        (KEY, 1),
        ({"TIDINGS_JWT_PUBLIC_KEY": pem(rsa_key()).replace("\n", "\\n")}, 1),
        ({"TIDINGS_JWT_PUBLIC_KEY": pem(rsa_key())}, 1),
        ({"TIDINGS_JWT_PUBLIC_KEY_FILE": str(file)}, 1),
        ({"TIDINGS_JWT_JWKS_URL": "http://issuer:8000/keys"}, None),
    ]:
        found = load(JwtSettings, environ=environ)[0].key_set()
        assert (found and len(found)) == keys


def test_bad_keys_are_told_with_all_other_faults(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"\xff\x00hello")
    assert faults(JwtSettings, TIDINGS_JWT_PUBLIC_KEY_FILE=str(file))[0].startswith(
        "TIDINGS_JWT_PUBLIC_KEY_FILE: no PEM"
    )
    lines = faults(JwtSettings, GatewaySettings, TIDINGS_JWT_PUBLIC_KEY=pem(rsa_key(1024)), TIDINGS_GATEWAY_PORT="x")
    assert lines[0].startswith("TIDINGS_JWT_PUBLIC_KEY: an RSA key of 1024 bits")
    assert len(lines) == 2
    assert "that is not a file" in faults(JwtSettings, TIDINGS_JWT_PUBLIC_KEY_FILE=str(tmp_path))[0]


def test_a_key_file_that_goes_away_is_a_config_error(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem(rsa_key()))
    (jwt,) = load(JwtSettings, environ={"TIDINGS_JWT_PUBLIC_KEY_FILE": str(file)})
    file.unlink()
    with pytest.raises(ConfigError, match=r"^TIDINGS_JWT_PUBLIC_KEY_FILE"):
        jwt.key_set()


def test_rules_come_from_the_settings() -> None:
    (jwt,) = load(JwtSettings, environ={**KEY, "TIDINGS_JWT_AUDIENCE": "chat", "TIDINGS_JWT_USER_CLAIM": "uid"})
    assert (jwt.rules().audience, jwt.rules().user_claim, jwt.rules().issuer) == ("chat", "uid", None)
    assert len(faults(JwtSettings, TIDINGS_JWT_USER_CLAIM="exp", **KEY)) == 1


def test_lists_are_comma_separated() -> None:
    node = gateway(
        ORIGINS="https://A.example:443, http://b.example:8080/,https://a.example,null",
        TRUSTED_PROXIES="10.0.0.0/8, ::1 ,fd00::/8",
    )
    assert node.origins == ("https://a.example", "http://b.example:8080", "null")
    assert node.trusted_proxies == tuple(ipaddress.ip_network(n) for n in ("10.0.0.0/8", "::1/128", "fd00::/8"))
    assert gateway(ORIGINS="*").origins == ("*",)
    assert gateway(ORIGINS="http://[::1]:3000").origins == ("http://[::1]:3000",)


@pytest.mark.parametrize(
    "origin",
    ["a.example", "https://*.example", "https://a/b", "ftp://a", "https://a?x", "https://u@a", "https://a:x", "//a"],
)
def test_bad_origins(origin: str) -> None:
    assert "scheme://host" in gateway_fault(ORIGINS=f"https://good.example,{origin}")


@pytest.mark.parametrize(("given", "says"), [("10.0.0.1/8", "10.0.0.0/8 or a single address"), ("proxy", "no network")])
def test_bad_proxies(given: str, says: str) -> None:
    assert says in gateway_fault(TRUSTED_PROXIES=given)


def test_numbers_of_bytes_have_units() -> None:
    assert gateway(WINDOW_BYTES="64MiB").window_bytes == 64 << 20
    assert gateway(WINDOW_BYTES=" 2 gib ").window_bytes == 2 << 30
    assert gateway(WINDOW_BYTES="1000").window_bytes == 1000
    for bad in ("64MB", "-1", "1.5MiB", "MiB", "1_000"):
        assert "KiB, MiB or GiB" in gateway_fault(WINDOW_BYTES=bad)


@pytest.mark.parametrize(
    "environ",
    [
        {"PING_INTERVAL_S": "75"},
        {"SLOW_UNSENT_BYTES": "8MiB"},
        {"MAX_UNSENT_BYTES": "512MiB"},
        {"ADMIN_PORT": "8080"},
        {"HOST": "127.0.0.1", "PORT": "9100"},
        {"ADMIN_HOST": "127.0.0.1", "ADMIN_PORT": "8080"},
        {"TLS_CERT_FILE": __file__},
        {"TLS_KEY_FILE": __file__},
        {"MAX_CONNECTIONS": "-1"},
        {"MAX_CONNECTIONS_PER_USER": "1.5"},
        {"DRAIN_S": "-1"},
        {"DRAIN_S": "inf"},
        {"PING_INTERVAL_S": "0"},
        {"METADATA_MAX_AGE_S": "31"},
        {"NODE": "a/b"},
        {"WORKERS": "0"},
    ],
)
def test_gateway_settings_that_do_not_go_together(environ: dict[str, str]) -> None:
    assert "accepted" in gateway_fault(**environ) or "give both" in gateway_fault(**environ)


def test_ports_may_be_free_or_on_addresses_of_their_own() -> None:
    assert gateway(PORT="0", ADMIN_PORT="0").port == 0
    assert gateway(HOST="10.0.0.1", ADMIN_HOST="127.0.0.1", ADMIN_PORT="8080").admin_port == 8080
    assert gateway(HOST="127.0.0.1").admin_host == "127.0.0.1"


# ---- what is shown


def test_rows_tell_values_and_sources() -> None:
    found = {row.name: row for row in rows(gateway(PORT="8090", DRAIN_S="2.5"))}
    assert (found["TIDINGS_GATEWAY_PORT"].value, found["TIDINGS_GATEWAY_PORT"].source) == ("8090", "environment")
    assert found["TIDINGS_GATEWAY_DRAIN_S"].value == "2.5"
    assert found["TIDINGS_GATEWAY_ADMIN_PORT"].source == "default"
    assert found["TIDINGS_GATEWAY_MAX_CONNECTIONS"].default == "what the limit of open files allows"


def test_render_is_one_line_per_setting() -> None:
    lines = render(*load(GatewaySettings, LogSettings, environ={})).splitlines()
    assert len(lines) == 1 + len(GatewaySettings.model_fields) + len(LogSettings.model_fields)
    assert lines[0].split() == ["name", "value", "default", "source"]


def test_marks_and_secrecy() -> None:
    assert is_secret(JwtSettings.model_fields["secret"])
    assert is_secret(KafkaSettings.model_fields["security_sasl_password"])
    assert not is_secret(JwtSettings.model_fields["public_key"])
    assert marks(GatewaySettings.model_fields["max_connections"])["limit"] is True
    assert marks(GatewaySettings.model_fields["workers"]) == {}
