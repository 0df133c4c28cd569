"""No token, password or cookie passes; nothing is unbounded; nothing breaks on odd values."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_tokens import NOW, SECRET, forge, good
from tidings.redaction import HIDDEN, bounded, is_secret_name, plain, redact
from tidings.tokens import issue

TOKEN = issue("alice", SECRET, 60, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "GET /ws?token={}&log=x HTTP/1.1",
        "GET /ws?x=1&token={} HTTP/1.1",
        "Authorization: Bearer {}",
        "authorization: {}",
        "{{'Authorization': 'Bearer {}'}}",
        "('X-Internal-Token', 'Bearer {}')",
        "Cookie: a=b; tidings_token={}; c=d",
        "Sec-WebSocket-Protocol: tidings.v1, bearer.{}",
        '{{"token":"{}"}}',
        "access_token%3D{}",
        "id-{}-x",
        "({})",
        "\n{}\n",
    ],
)
@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        forge(good(), b'{ "alg":"HS256"}'),
        forge(good(), b'{\n"alg":"HS256"}'),
        forge(good(), b'{\t"alg":"HS256"}'),
    ],
)
def test_tokens_are_redacted_wherever_they_stand(text: str, token: str) -> None:
    seen = redact(text.format(token))
    assert HIDDEN in seen
    for part in token.split("."):
        assert part not in seen


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@host/x",
        "redis://:hunter2@host",
        "password=hunter2",
        '"password": "hunter2"',
        "sasl_password = 'hunter2'",
        "api_key=hunter2",
        "Cookie: sid=hunter2; x=hunter2",
        "Set-Cookie: sid=hunter2",
        "Authorization: Basic hunter2",
        "bearer hunter2hunter2",
        "token=hunter2",
    ],
)
def test_other_secrets_are_redacted(text: str) -> None:
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "the token has expired",
        "topic modifications, partition 3, offset 12345",
        "broker-0.kafka.svc.cluster.local:9092",
        "eyeglasses-service.example.org",
        "ewallet-service.example.org",
        "tidings_jwks_fetches_total",
        "57a85f64-5717-4562-b3fc-2c54636a123f",
        "aiokafka.consumer.group_coordinator",
        "http://127.0.0.1:8080/readyz",
        "2026-11-21T09:05:15.669020Z",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_redacting_twice_changes_nothing() -> None:
    once = redact(f"GET /ws?token={TOKEN} Authorization: Bearer {TOKEN}")
    assert redact(once) == once


@pytest.mark.parametrize(
    "unit", ["a-", "ey", "-eyJ", "token", "token=", "bearer ", "cookie", "://", "://a:", "a.", "aaaaaaaaaa.", "e", " "]
)
def test_no_text_takes_long(unit: str) -> None:
    text = (unit * 8_192)[:8_192]
    start = time.process_time()
    redact(text)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("name", ["token", "access_token", "X-Internal-Token", "Cookie", "PASSWORD", "jwt", "api_key"])
def test_fields_with_such_names_are_hidden_whole(name: str) -> None:
    assert is_secret_name(name, "x")
    assert plain({name: "x"}, 100) == {name: HIDDEN}


def test_numbers_of_such_names_are_not_hidden() -> None:
    assert not is_secret_name("token", 5)
    assert not is_secret_name("token_ttl_s", "5")
    assert not is_secret_name(5, "x")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Telling:
    def __repr__(self) -> str:
        return f"<Request {TOKEN}>"


def test_any_value_becomes_plain() -> None:
    assert plain(None, 9) is None
    assert plain(True, 9) is True
    assert plain(1.5, 9) == 1.5
    assert plain(float("nan"), 9) == "nan"
    assert plain(2**63, 90) == hex(2**63)
    assert plain(10**5000, 20).endswith("characters)")
    assert plain(b"token=abc\xff", 90) == f"token={HIDDEN}"
    assert plain((1, {"a": {2}}), 90) == [1, {"a": [2]}]
    assert plain(Broken(), 90) == "<Broken: RuntimeError in repr>"
    assert plain(Telling(), 90) == f"<Request {HIDDEN}>"
    deep: object = "x"
    for _ in range(50):
        deep = [deep]
    assert "[[[" in str(plain(deep, 90))
    assert len(plain(list(range(1000)), 90)) == 50


def test_long_text_is_cut_after_it_was_redacted() -> None:
    assert bounded("x" * 100, 10) == "xxxxxxxxxx… (100 characters)"
    assert TOKEN[:12] not in bounded("y " * 5 + TOKEN, 30)
    assert len(bounded("x " * 10**6, 100)) < 130


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_token_in_any_text_is_gone(before: str, after: str) -> None:
    assert TOKEN.split(".")[2] not in redact(before + TOKEN + after) or after[:1].isalnum()


@settings(deadline=None)  # the machine may be busy
@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.binary() | st.integers(), lambda x: st.lists(x) | st.tuples(x)
    )
)
def test_any_structure_becomes_plain(value: object) -> None:
    plain(value, 50)
