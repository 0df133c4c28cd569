"""The settings of the messaging service and of Postgres."""

import pytest

from tidings.config import (
    JwtSettings,
    KafkaSettings,
    LogSettings,
    MessagingSettings,
    PostgresSettings,
    TopicSettings,
    load,
    render,
    warnings,
)
from tidings.errors import ConfigError


def messaging(**environ: str) -> MessagingSettings:
    return load(MessagingSettings, environ={f"TIDINGS_MESSAGING_{name}": value for name, value in environ.items()})[0]


def postgres(**environ: str) -> PostgresSettings:
    return load(PostgresSettings, environ={f"TIDINGS_POSTGRES_{name}": value for name, value in environ.items()})[0]


def test_the_defaults_stand_by_themselves() -> None:
    settings = messaging()
    assert (settings.host, settings.port, settings.admin_host, settings.admin_port) == (
        "0.0.0.0",
        8081,
        "0.0.0.0",
        9120,
    )
    assert settings.wire == "seed"
    assert settings.forbidden_as_403 is False
    assert messaging(HOST="127.0.0.1").admin_host == "127.0.0.1"
    assert postgres().dsn.get_secret_value() == "postgresql://127.0.0.1:5432/tidings"


def test_the_wire_of_chakchat_s_code_is_chosen_by_name() -> None:
    assert messaging(WIRE=" ChakChat ").wire == "chakchat"
    with pytest.raises(ConfigError, match="TIDINGS_MESSAGING_WIRE: given 'paper'; accepted: one of seed, chakchat"):
        messaging(WIRE="paper")


@pytest.mark.parametrize(("given", "meant"), [("true", True), ("1", True), ("no", False), ("FALSE", False)])
def test_yes_and_no(given: str, meant: bool) -> None:
    assert messaging(FORBIDDEN_AS_403=given).forbidden_as_403 is meant


def test_what_is_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(ConfigError, match="TIDINGS_MESSAGING_ACCESS_LOG: given 'maybe'; accepted: true or false"):
        messaging(ACCESS_LOG="maybe")


def test_two_things_can_t_have_one_port() -> None:
    with pytest.raises(ConfigError, match="TIDINGS_MESSAGING_ADMIN_PORT: given 8081, as is TIDINGS_MESSAGING_PORT"):
        messaging(ADMIN_PORT="8081")
    assert messaging(PORT="0", ADMIN_PORT="0").port == 0


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://tidings:secret@db.example:6432/chats?sslmode=verify-full",
        "postgres://db/chats",
        "postgresql://[::1]:5432/chats",
        "postgresql:///chats?host=/run/postgresql",
    ],
)
def test_addresses_of_a_database(dsn: str) -> None:
    assert postgres(DSN=f" {dsn} ").dsn.get_secret_value() == dsn


@pytest.mark.parametrize(
    "dsn",
    ["db:5432", "mysql://me:hunter2@db/x", "postgresql://", "postgresql://me:hunter2@db:0/x", "postgresql://h:x/"],
)
def test_what_is_no_address_is_refused_and_never_shown(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        postgres(DSN=dsn)
    assert str(caught.value) == (
        "TIDINGS_POSTGRES_DSN: the given value (not shown); accepted:"
        " postgresql://user:password@host:port/database?options"
    )


def test_a_pool_has_room_for_what_it_keeps() -> None:
    with pytest.raises(ConfigError, match=r"POOL_MIN: given 9; accepted: at most TIDINGS_POSTGRES_POOL_MAX \(8\)"):
        postgres(POOL_MIN="9", POOL_MAX="8")


def test_the_address_is_in_no_table_and_no_repr() -> None:
    settings = postgres(DSN="postgresql://me:hunter2@db/x")
    assert "hunter2" not in render(settings) + repr(settings)


def test_the_groups_of_the_service_are_read_together() -> None:
    environ = {"TIDINGS_JWT_SECRET": "s" * 32, "TIDINGS_MESSAGING_PORT": "1", "TIDINGS_LOG_LEVEL": "debug"}
    service, database, _, _, _, log = load(
        MessagingSettings, PostgresSettings, KafkaSettings, TopicSettings, JwtSettings, LogSettings, environ=environ
    )
    assert (service.port, database.pool_max, log.level) == (1, 16, "debug")


def test_a_slip_in_a_name_is_a_warning() -> None:
    assert warnings({"TIDINGS_MESSAGING_WIER": "seed", "TIDINGS_POSTGRES_DSN": "x"}) == [
        "TIDINGS_MESSAGING_WIER: no setting has this name; TIDINGS_MESSAGING_WIRE was meant?"
    ]
