"""Secrets, tokens and the state file."""

import os
from pathlib import Path

import jwt
import pytest

from tidings.cli.state import (
    GatewayAddress,
    UpState,
    User,
    demo_secret,
    kafka_settings,
    make_token,
    read_state,
    token_secret,
    write_state,
)
from tidings.cli.up import _prepare
from tidings.config import JwtSettings, load
from tidings.errors import ConfigError
from tidings.tokens import verify

NOW = 1_700_000_000
SECRET = "a secret of this test, and of nothing else"
STATE = UpState([GatewayAddress("http://h:1", "http://h:2")], "h:3", "http://h:4", [User("a", "A", "t")])


def running(folder: Path) -> None:
    (folder / "up.pid").write_text(str(os.getpid()))


def test_the_state_reads_back_and_only_this_user_may(tmp_path: Path) -> None:
    running(tmp_path)
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    assert (tmp_path / "up.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b'{"gateways":1}'])
def test_what_is_no_state_counts_as_none(tmp_path: Path, content: bytes) -> None:
    running(tmp_path)
    (tmp_path / "up.json").write_bytes(content)
    assert read_state(tmp_path) is None


def test_a_state_left_behind_by_a_process_that_is_gone_counts_as_none(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) is None
    (tmp_path / "up.pid").write_text("999999999")
    assert read_state(tmp_path) is None


def test_the_demo_secret_is_made_once_for_each_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    assert demo_secret(first) == demo_secret(first) != demo_secret(second)
    assert len(demo_secret(first)) >= 32
    assert (first / "jwt-secret").stat().st_mode & 0o777 == 0o600


def test_the_environment_s_secret_wins_over_the_demo_secret(tmp_path: Path) -> None:
    made = demo_secret(tmp_path)
    assert token_secret(tmp_path, {}) == made
    assert token_secret(tmp_path, {"TIDINGS_JWT_SECRET": SECRET}) == SECRET


@pytest.mark.parametrize("secret", [f" {SECRET}", f"{SECRET}\n", "\t" * 40 + "x"])
def test_white_space_around_the_secret_belongs_to_it_as_for_a_gateway(tmp_path: Path, secret: str) -> None:
    environ = {"TIDINGS_JWT_SECRET": secret}
    used = token_secret(tmp_path, environ)
    made = make_token("ann", used, environ, ttl_s=60, now=NOW)
    (gateway,) = load(JwtSettings, environ=environ)
    keys = gateway.key_set()
    assert keys is not None
    assert verify(made, keys, gateway.rules(), NOW).user == "ann"
    assert _prepare(tmp_path, environ)[1] == used


def test_a_blank_secret_counts_as_none(tmp_path: Path) -> None:
    made = demo_secret(tmp_path)
    environ = {"TIDINGS_JWT_SECRET": "  \n"}
    assert token_secret(tmp_path, environ) == _prepare(tmp_path, environ)[1] == made


def test_a_token_can_only_be_made_with_a_shared_secret(tmp_path: Path) -> None:
    demo_secret(tmp_path)
    with pytest.raises(ConfigError, match="TIDINGS_JWT_JWKS_URL"):
        token_secret(tmp_path, {"TIDINGS_JWT_JWKS_URL": "https://issuer.example/keys"})


def test_a_token_has_the_claims_that_the_settings_demand() -> None:
    environ = {"TIDINGS_JWT_USER_CLAIM": "uid", "TIDINGS_JWT_ISSUER": "i", "TIDINGS_JWT_AUDIENCE": "a"}
    made = make_token("ann", SECRET, environ, ttl_s=60, name="Ann", now=NOW)
    claims = jwt.decode(made, SECRET, algorithms=["HS256"], options={"verify_signature": False})
    assert claims == {"uid": "ann", "name": "Ann", "iat": NOW, "exp": NOW + 60, "iss": "i", "aud": "a"}


def test_a_secret_that_no_gateway_would_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="TIDINGS_JWT_SECRET"):
        make_token("ann", "short", {}, ttl_s=60, now=NOW)


def test_kafka_is_the_named_one_else_the_running_one_else_the_default(tmp_path: Path) -> None:
    assert kafka_settings(tmp_path, {})[0].bootstrap_servers == "127.0.0.1:9092"
    running(tmp_path)
    write_state(tmp_path, STATE)
    assert kafka_settings(tmp_path, {})[0].bootstrap_servers == "h:3"
    assert kafka_settings(tmp_path, {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "k:1"})[0].bootstrap_servers == "k:1"
