"""Whose token is accepted, and every way in which one is not."""

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings.errors import ConfigError, HandshakeError, InvalidToken, TokenExpired, UnknownKey
from tidings.keys import Key, KeySet
from tidings.tokens import LEEWAY_S, MAX_TOKEN_CHARS, Claims, TokenRules, issue, verify

NOW = 1_700_000_000.0
SECRET = "0123456789abcdef0123456789abcdef"
HS = KeySet.from_secret(SECRET, "X")
RULES = TokenRules()


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    payload: bytes | Mapping[str, Any], header: bytes | Mapping[str, Any] | None = None, key: str = SECRET
) -> str:
    """A token with any header and payload, signed with HS256."""
    head = header if isinstance(header, bytes) else json.dumps(header or {"alg": "HS256"}).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{b64(head)}.{b64(body)}"
    return f"{signed}.{b64(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())}"


def check(token: str, keys: KeySet = HS, rules: TokenRules = RULES, now: float = NOW) -> Claims:
    return verify(token, keys, rules, now)


def good(**claims: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": NOW + 60, **claims}


def test_a_good_token_says_who_and_until_when() -> None:
    claims = check(issue("alice", SECRET, 60, NOW, name="Alice"))
    assert (claims.user, claims.expires_at, claims.ends_at) == ("alice", NOW + 60, NOW + 60 + LEEWAY_S)
    assert claims.claims["name"] == "Alice"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_takes_its_three_algorithms(algorithm: str) -> None:
    assert check(issue("alice", SECRET, 60, NOW, algorithm=algorithm)).user == "alice"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_an_rsa_key_takes_its_three_algorithms(algorithm: str) -> None:
    keys = KeySet.from_pem(pem(rsa_key()), "X")
    assert check(issue("alice", rsa_key(), 60, NOW, algorithm=algorithm), keys).user == "alice"


CURVES = {ec.SECP256R1: "ES256", ec.SECP384R1: "ES384", ec.SECP521R1: "ES512"}


@pytest.mark.parametrize("curve", CURVES)
def test_an_ec_key_takes_the_algorithm_of_its_curve(curve: type[ec.EllipticCurve]) -> None:
    keys = KeySet.from_pem(pem(ec_key(curve)), "X")
    assert check(issue("alice", ec_key(curve), 60, NOW), keys).user == "alice"


def test_another_curve_is_refused() -> None:
    keys = KeySet.from_pem(pem(ec_key(ec.SECP256R1)), "X")
    with pytest.raises(InvalidToken, match="algorithm"):
        check(issue("alice", ec_key(ec.SECP384R1), 60, NOW), keys)


def test_another_key_of_the_same_kind_is_refused() -> None:
    for keys, token in [
        (HS, issue("alice", SECRET[::-1], 60, NOW)),
        (KeySet.from_pem(pem(rsa_key()), "X"), issue("alice", rsa.generate_private_key(65537, 2048), 60, NOW)),
        (KeySet.from_pem(pem(ec_key(ec.SECP256R1)), "X"), issue("a", ec.generate_private_key(ec.SECP256R1()), 60, NOW)),
    ]:
        with pytest.raises(InvalidToken, match="signature"):
            check(token, keys)


def test_a_public_key_is_never_used_as_a_secret() -> None:
    text = pem(rsa_key())
    for secret in (text, text.strip(), text + "\n"):
        with pytest.raises(InvalidToken, match="algorithm"):
            check(forge(good(), key=secret), KeySet.from_pem(text, "X"))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS257", "PS256", "EdDSA", "RS256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_no_other_algorithm(alg: str, signature: str) -> None:
    token = forge(good(), {"alg": alg}).rpartition(".")[0] + "." + signature
    with pytest.raises(InvalidToken, match="algorithm"):
        check(token)


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": 5}, {"alg": ["HS256"]}, {"alg": {"HS256": 1}}])
def test_an_algorithm_that_is_no_string(header: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        check(forge(good(), json.dumps(header).encode()))


@pytest.mark.parametrize("crit", [["exp"], [], None, ["b64"]])
def test_crit_is_refused(crit: object) -> None:
    with pytest.raises(InvalidToken, match="crit"):
        check(forge(good(), {"alg": "HS256", "crit": crit, "exp": 1}))


def test_a_detached_payload_is_refused() -> None:
    with pytest.raises(InvalidToken):
        check(forge(good(), {"alg": "HS256", "b64": False}))


@pytest.mark.parametrize(
    "token",
    [
        *["", ".", "..", "a", "a.b", "a.b.c", "a.b.c.d", " ", "é.é.é", "....", "\ud800.a.b", "Bearer x.y.z"],
        forge(good())[:-1],
        forge(good())[:-4],
        forge(good()) + "A",
        forge(good()) + ".e30",
        forge(good()) + "\n",
        " " + forge(good()),
        forge(b"[]"),
        forge(b"null"),
        forge(b'"alice"'),
        forge(b"{"),
        forge(b"\xff\xfe"),
        forge(b"[" * 3_000),
        forge(good(), b"[" * 3_000),
        forge(good(), b"[]"),
        forge(good(), b"\xff"),
        forge(good(), b'{"alg":"HS256","kid":7}'),
        forge(b'{"sub":"a","exp":' + b"9" * 5_000 + b"}"),
    ],
)
def test_malformed_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        check(token)


def test_a_token_over_the_limit_is_refused_unread() -> None:
    token = forge(good(pad="x" * MAX_TOKEN_CHARS))
    with pytest.raises(InvalidToken, match="longer"):
        check(token)
    assert check(forge(good(pad="x" * (MAX_TOKEN_CHARS * 3 // 4 - 200)))).user == "alice"


# ---- time


def test_expiry_at_the_leeway_boundary() -> None:
    token = forge(good(exp=NOW))
    assert check(token, now=NOW + LEEWAY_S - 0.001).expires_at == NOW
    for now in (NOW + LEEWAY_S, NOW + LEEWAY_S + 0.001, NOW + 1e6):
        with pytest.raises(TokenExpired):
            check(token, now=now)


def test_ends_at_is_the_first_moment_of_refusal() -> None:
    token = forge(good(exp=NOW + 5))
    with pytest.raises(TokenExpired):
        check(token, now=check(token).ends_at)


def test_exp_is_required() -> None:
    with pytest.raises(InvalidToken, match="no exp"):
        check(forge({"sub": "alice"}))


BAD_TIMES: list[object] = [
    True,
    False,
    None,
    "1800000000",
    "",
    [],
    {},
    float("inf"),
    float("nan"),
    10**400,
    NOW * 1000,
    -(10**300),
]


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", BAD_TIMES)
def test_times_are_finite_numbers_of_seconds(claim: str, value: object) -> None:
    with pytest.raises(InvalidToken, match=claim) as caught:
        check(forge(good(**{claim: value})))
    assert not isinstance(caught.value, TokenExpired)


def test_integers_and_fractions_are_times() -> None:
    assert check(forge(good(exp=int(NOW) + 1, nbf=NOW - 0.5, iat=int(NOW)))).expires_at == NOW + 1


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_of_the_future_is_refused(claim: str) -> None:
    assert check(forge(good(**{claim: NOW + LEEWAY_S}))).user == "alice"
    with pytest.raises(InvalidToken, match=claim):
        check(forge(good(**{claim: NOW + LEEWAY_S + 0.001})))


def test_an_ended_token_with_other_faults_is_invalid_not_expired() -> None:
    with pytest.raises(InvalidToken) as caught:
        check(forge({"exp": NOW - 100}))
    assert not isinstance(caught.value, TokenExpired)


# ---- audience, issuer, user


def test_an_audience_is_not_looked_at_unless_configured() -> None:
    for aud in ("chat", ["chat"], [], None, 5, {"a": 1}):
        assert check(forge(good(aud=aud))).user == "alice"


@pytest.mark.parametrize("aud", ["chat", ["chat"], ["x", "chat"]])
def test_a_configured_audience_must_be_there(aud: object) -> None:
    assert check(forge(good(aud=aud)), rules=TokenRules(audience="chat")).user == "alice"


@pytest.mark.parametrize("aud", ["chats", "", [], ["x"], None, 5, {"chat": 1}, ["cha", "t"], "missing"])
def test_another_audience_is_refused(aud: object) -> None:
    claims = good() if aud == "missing" else good(aud=aud)
    with pytest.raises(InvalidToken, match="aud"):
        check(forge(claims), rules=TokenRules(audience="chat"))


def test_a_configured_issuer_must_be_the_tokens() -> None:
    rules = TokenRules(issuer="identity")
    assert check(forge(good(iss="identity")), rules=rules).user == "alice"
    assert check(forge(good(iss="other"))).user == "alice"
    for claims in (good(), good(iss="other"), good(iss=["identity"]), good(iss=None)):
        with pytest.raises(InvalidToken, match="iss"):
            check(forge(claims), rules=rules)


@pytest.mark.parametrize(
    ("value", "user"),
    [
        ("a", "a"),
        ("Ünï 😀", "Ünï 😀"),
        ("x" * 256, "x" * 256),
        (0, "0"),
        (42, "42"),
        (-7, "-7"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_users_are_strings_or_integers(value: object, user: str) -> None:
    assert check(forge(good(sub=value))).user == user


@pytest.mark.parametrize("value", ["", "x" * 257, 10**256, True, False, None, 1.0, [], ["a"], {}, "\ud800"])
def test_other_users_are_refused(value: object) -> None:
    with pytest.raises(InvalidToken, match="user claim"):
        check(forge(good(sub=value)))


def test_the_user_claim_is_a_setting() -> None:
    rules = TokenRules(user_claim="uid")
    assert check(issue("alice", SECRET, 60, NOW, user_claim="uid"), rules=rules).user == "alice"
    with pytest.raises(InvalidToken, match="uid"):
        check(forge(good()), rules=rules)


# ---- kid


def test_kid_is_ignored_with_a_single_configured_key() -> None:
    assert check(issue("alice", SECRET, 60, NOW, kid="anything")).user == "alice"


def named(**keys: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> KeySet:
    parsed = [(kid, KeySet.from_pem(pem(key), "X").keys[0]) for kid, key in keys.items()]
    return KeySet([Key(key.algorithms, key.material, kid) for kid, key in parsed], named=True)


def test_kid_chooses_the_key() -> None:
    keys = named(a=rsa_key(), b=ec_key(ec.SECP256R1))
    assert check(issue("alice", rsa_key(), 60, NOW, kid="a"), keys).user == "alice"
    assert check(issue("alice", ec_key(ec.SECP256R1), 60, NOW, kid="b"), keys).user == "alice"
    with pytest.raises(InvalidToken, match="algorithm") as caught:
        check(issue("alice", rsa_key(), 60, NOW, kid="b"), keys)
    assert not isinstance(caught.value, UnknownKey)


def test_an_unknown_kid_is_told_apart() -> None:
    with pytest.raises(UnknownKey):
        check(issue("alice", rsa_key(), 60, NOW, kid="c"), named(a=rsa_key()))
    with pytest.raises(UnknownKey):
        check(issue("alice", rsa_key(), 60, NOW, kid="c"), KeySet(named=True))


def test_without_kid_the_only_fitting_key_is_meant() -> None:
    token = issue("alice", rsa_key(), 60, NOW)
    assert check(token, named(a=rsa_key(), b=ec_key(ec.SECP256R1))).user == "alice"
    with pytest.raises(InvalidToken, match="several"):
        check(token, named(a=rsa_key(), b=rsa_key()))


def test_a_set_without_ids_takes_tokens_with_one() -> None:
    keys = KeySet([Key(("RS256",), rsa_key().public_key())], named=True)
    assert check(issue("alice", rsa_key(), 60, NOW, kid="x"), keys).user == "alice"


# ---- what must never be seen


@pytest.mark.parametrize(
    "token",
    [
        forge(good(exp=1)),
        forge(good())[:-2] + "!!",
        forge(good(sub=None)),
        forge(good(), key="x" * 32),
        forge(good(aud="b")),
    ],
)
def test_no_message_holds_the_token(token: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        check(token, rules=TokenRules(audience="chat"))
    for part in token.split("."):
        assert part not in repr(caught.value)
        assert part not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_not_in_a_repr() -> None:
    assert SECRET not in repr(HS.keys)


# ---- making tokens


def test_issue_reads_private_pems() -> None:
    for key in (rsa_key(), ec_key(ec.SECP384R1)):
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        token = issue("alice", text, 60, NOW, audience="chat", issuer="me")
        assert check(token, KeySet.from_pem(pem(key), "X"), TokenRules(audience="chat", issuer="me")).user == "alice"


def test_issue_refuses_unfit_keys() -> None:
    with pytest.raises(ConfigError, match="private key"):
        issue("alice", pem(rsa_key()), 60, NOW)
    with pytest.raises(ConfigError, match="does not fit ES256"):
        issue("alice", rsa_key(), 60, NOW, algorithm="ES256")
    with pytest.raises(ConfigError, match="does not fit ES384"):
        issue("alice", ec_key(ec.SECP256R1), 60, NOW, algorithm="ES384")
    with pytest.raises(ConfigError, match="does not fit none"):
        issue("alice", SECRET, 60, NOW, algorithm="none")
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ConfigError, match="neither"):
        issue("alice", edwards, 60, NOW)


# ---- anything at all


def outcome(token: str, keys: KeySet) -> None:
    with contextlib.suppress(HandshakeError):
        assert isinstance(check(token, keys), Claims)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.fixed_dictionaries({}, optional={"alg": JSON | st.just("HS256"), "kid": JSON, "crit": JSON, "b64": JSON})
PAYLOADS = st.fixed_dictionaries(
    {}, optional={"sub": JSON, "exp": JSON | st.floats(NOW, 2 * NOW), "nbf": JSON, "iat": JSON, "aud": JSON}
)


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=300))
def test_any_text_gives_claims_or_a_refusal(token: str) -> None:
    outcome(token, HS)
    outcome(token, KeySet(named=True))


@settings(deadline=None)  # the machine may be busy
@given(HEADERS, PAYLOADS)
def test_any_signed_header_and_payload_gives_claims_or_a_refusal(
    header: dict[str, Any], payload: dict[str, Any]
) -> None:
    outcome(forge(payload, json.dumps(header).encode()), HS)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_signed_bytes_give_claims_or_a_refusal(header: bytes, payload: bytes) -> None:
    outcome(forge(payload, header), HS)
    outcome(forge(payload), HS)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 2**20), st.sampled_from("abAB01-_.="))
def test_no_changed_character_is_accepted(position: int, character: str) -> None:
    token = forge(good())
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        with pytest.raises(InvalidToken):
            check(changed)
