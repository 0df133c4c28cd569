"""Which keys are accepted from the configuration and from a key set, and what the refusals say."""

import datetime
import json
import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.unit.test_tokens import ec_key, pem, rsa_key
from tidings.errors import ConfigError, UnknownKey
from tidings.keys import KeySet

NAME = "TIDINGS_JWT_PUBLIC_KEY"


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        KeySet.from_pem(text, NAME)
    (line,) = caught.value.faults
    assert line.startswith(f"{NAME}: ")
    return line


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_secrets_have_at_least_32_bytes() -> None:
    assert len(KeySet.from_secret("x" * 32, "S")) == 1
    assert len(KeySet.from_secret("é" * 16, "S")) == 1  # bytes, not characters
    with pytest.raises(ConfigError, match=r"^S: .*31 bytes.*at least 32") as caught:
        KeySet.from_secret("q" * 31, "S")
    assert "qqq" not in str(caught.value)


def test_a_pem_is_no_secret() -> None:
    with pytest.raises(ConfigError, match="PEM") as caught:
        KeySet.from_secret(pem(rsa_key()), "S")
    assert pem(rsa_key())[60:80] not in str(caught.value)


def test_pkcs1_and_spki_are_accepted() -> None:
    old = rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1).decode()
    assert KeySet.from_pem(old, NAME).keys[0].algorithms == ("RS256", "RS384", "RS512")
    assert KeySet.from_pem(f"\n  {pem(ec_key(ec.SECP521R1))}  \n", NAME).keys[0].algorithms == ("ES512",)


def test_weak_and_huge_rsa_keys_are_refused() -> None:
    assert "1024 bits" in fault(pem(rsa_key(1024)))
    assert "2048 to 8192" in fault(pem(rsa_key(1024)))


def test_a_private_key_is_refused_and_not_shown() -> None:
    text = private_pem(rsa_key())
    line = fault(text)
    assert "private key" in line
    assert "openssl pkey -pubout" in line
    assert text.splitlines()[1] not in line


def test_a_certificate_is_refused_with_the_way_out() -> None:
    name = x509.Name([])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, rsa_key().public_key(), 1, now, now + datetime.timedelta(1))
        .sign(rsa_key(), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    assert "openssl x509 -noout -pubkey" in fault(certificate)


def test_other_pems_are_refused() -> None:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    edwards = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(serialization.Encoding.PEM, spki).decode()
    assert "neither an RSA nor an EC key" in fault(edwards)
    assert "secp256k1" in fault(pem(ec_key(ec.SECP256K1)))
    assert "no PEM" in fault("hello")
    assert "2 PEM blocks" in fault(pem(rsa_key()) * 2)
    assert "can't be read" in fault(pem(rsa_key()).replace("M", "!"))
    assert "can't be read" in fault("-----BEGIN PUBLIC KEY-----")


# ---- key sets


def rsa_jwk(**members: Any) -> dict[str, Any]:
    return {**json.loads(RSAAlgorithm.to_jwk(rsa_key().public_key())), **members}


def ec_jwk(curve: type[ec.EllipticCurve] = ec.SECP256R1, **members: Any) -> dict[str, Any]:
    return {**json.loads(ECAlgorithm.to_jwk(ec_key(curve).public_key())), **members}


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


def test_a_set_of_both_kinds() -> None:
    keys, left_out = KeySet.from_jwks(
        {"keys": [rsa_jwk(kid="a", use="sig"), ec_jwk(kid="b"), ec_jwk(ec.SECP384R1, kid="c", alg="ES384")]}
    )
    assert [key.kid for key in keys.keys] == ["a", "b", "c"]
    assert keys.find("ES384", "c").algorithms == ("ES384",)
    assert left_out == []


def test_alg_narrows_a_key() -> None:
    keys, _ = KeySet.from_jwks({"keys": [without(rsa_jwk(kid="a", alg="RS512"), "key_ops")]})
    assert keys.keys[0].algorithms == ("RS512",)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (None, "no object"),
        ("x", "no object"),
        ({}, "neither RSA nor EC"),
        ({"kty": "oct", "k": "AAAA"}, "neither RSA nor EC"),
        ({"kty": ["RSA"]}, "neither RSA nor EC"),
        ({"kty": "RSA"}, "unreadable"),
        ({"kty": "EC", "crv": []}, "unreadable"),
        (rsa_jwk(use="enc"), "not for signatures"),
        (rsa_jwk(use=[]), "not for signatures"),
        (rsa_jwk(key_ops=["encrypt"]), "not for verifying"),
        (rsa_jwk(key_ops=5), "not for verifying"),
        (rsa_jwk(kid=5), "its id is no string"),
        (rsa_jwk(alg="ES256"), "does not fit"),
        (rsa_jwk(alg=["RS256"]), "does not fit"),
        (rsa_jwk(n="AQAB"), "bits|unreadable"),
        (rsa_jwk(d="AQAB"), "private"),
        (ec_jwk(crv="P-999"), "unreadable"),
        (ec_jwk(ec.SECP256K1), "secp256k1|unreadable"),
        (ec_jwk(x="AAAA"), "unreadable"),
    ],
)
def test_a_bad_key_is_left_out_and_spoils_nothing(entry: object, why: str) -> None:
    keys, left_out = KeySet.from_jwks({"keys": [entry, ec_jwk(kid="good")]})
    assert [key.kid for key in keys.keys] == ["good"]
    assert len(left_out) == 1
    assert re.search(why, left_out[0]), left_out


@pytest.mark.parametrize("document", [None, [], "x", {}, {"keys": None}, {"keys": {}}, 5])
def test_a_document_that_is_no_key_set(document: object) -> None:
    keys, left_out = KeySet.from_jwks(document)
    assert len(keys) == 0
    assert left_out
    with pytest.raises(UnknownKey):
        keys.find("RS256", None)


def test_of_two_keys_with_one_id_the_first_counts() -> None:
    keys, left_out = KeySet.from_jwks({"keys": [rsa_jwk(kid="a"), rsa_jwk(kid="a"), ec_jwk(kid="a")]})
    assert len(keys) == 2
    assert len(left_out) == 1
    assert keys.find("ES256", "a").algorithms == ("ES256",)


def test_equal_sets_are_equal() -> None:
    one, _ = KeySet.from_jwks({"keys": [rsa_jwk(kid="a")]})
    same, _ = KeySet.from_jwks({"keys": [rsa_jwk(kid="a")]})
    other, _ = KeySet.from_jwks({"keys": [rsa_jwk(kid="b")]})
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "x"
