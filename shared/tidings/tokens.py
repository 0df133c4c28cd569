"""From a token to a user id, by a time and a key set that the caller passes.

Signatures are PyJWT's part; what the claims must be is decided here, because PyJWT would look at its own clock. The
configured key decides which algorithms count, never the token: a secret takes HS256, HS384 and HS512, an RSA key RS256,
RS384 and RS512, an EC key the one ES algorithm of its curve. Nothing else does, `none` least of all.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import HMACAlgorithm
from jwt.api_jws import PyJWS

from tidings.errors import ConfigError, InvalidToken, TokenExpired
from tidings.keys import CURVES, PEM_LABEL, Key, KeySet

__all__ = [
    "LEEWAY_S",
    "MAX_TOKEN_CHARS",
    "Claims",
    "Key",
    "KeySet",
    "TokenRules",
    "issue",
    "verify",
]

LEEWAY_S: Final = 10.0
"""How far the issuer's clock and ours may be apart."""

MAX_TOKEN_CHARS: Final = 8_192
"""Longer tokens are refused before they are looked at."""

MAX_USER_CHARS: Final = 256
"""As long as a receiver in a record may be."""

_MAX_TIME: Final = 253_402_300_800
"""The end of the year 9999: a larger time is one in milliseconds."""


class _Hmac(HMACAlgorithm):
    """PyJWT's, without its warning for each token whose hash is longer than the secret: see MIN_SECRET_BYTES."""

    def check_key_length(self, key: bytes) -> None:  # noqa: ARG002, RUF100
        return None


def _signatures() -> PyJWS:
    jws = PyJWS(algorithms=["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
    for name, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        jws.register_algorithm(name, _Hmac(digest))
    return jws


_JWS: Final = _signatures()


@dataclass(frozen=True)
class TokenRules:
    """What a token must hold beside a good signature and `exp`.

    Attributes:
        user_claim: The claim that names the user.
        audience: Must be among `aud`; None: `aud` is not looked at, a token that has one is accepted.
        issuer: Must be `iss`; None: not looked at.
        leeway_s: Seconds that clocks may differ.
    """

    user_claim: str = "sub"
    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = LEEWAY_S


@dataclass(frozen=True)
class Claims:
    """What an accepted token says.

    Attributes:
        user: The user's id as it stands in the receivers of records.
        expires_at: The token's `exp`, in Unix seconds.
        ends_at: From this moment on `verify` refuses the token: `exp` and the leeway.
        claims: All of them.
    """

    user: str
    expires_at: float
    ends_at: float
    claims: Mapping[str, Any] = field(repr=False)


def verify(token: str, keys: KeySet, rules: TokenRules, now: float) -> Claims:
    """Check a token and say whose it is.

    Args:
        token: In compact form, without a scheme in front.
        now: Unix time in seconds.
    Raises:
        UnknownKey: The token names a key that `keys` lacks; after a refresh of the keys it may be good.
        TokenExpired: Rightly signed, but `exp` is `rules.leeway_s` or more ago.
        InvalidToken: Anything else. No message holds any part of the token.
    Cost: about 65 µs for RS256 with 2,048 bits, of which the signature is a third; see docs/decisions/0103.
    """
    if not token:
        raise InvalidToken("the token is empty")
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidToken(f"the token is longer than {MAX_TOKEN_CHARS} characters")
    alg, kid = _header(token)
    key = keys.find(alg, kid)
    try:
        payload: bytes = _JWS.decode_complete(token, key.material, algorithms=[alg])["payload"]
    except jwt.InvalidSignatureError:
        raise InvalidToken("the token's signature is not by the configured key") from None
    except Exception:  # noqa: BLE001, RUF100 - hostile bytes: whatever a decoder raises means one thing here
        raise InvalidToken("the token is not well formed") from None
    return _claims(_object(payload, "claims"), rules, now)


def _header(token: str) -> tuple[str, str | None]:
    """Algorithm and key id, unproved."""
    head, dot, rest = token.partition(".")
    if not dot or rest.count(".") != 1 or not token.isascii():
        raise InvalidToken("the token is not three parts with dots between")
    try:
        raw = base64.urlsafe_b64decode(head.rstrip("=") + "=" * (-len(head.rstrip("=")) % 4))
    except ValueError:
        raise InvalidToken("the token's header is not base64url") from None
    header = _object(raw, "header")
    if "crit" in header:
        raise InvalidToken("the token demands extensions (crit) that are not known here")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        raise InvalidToken("the token names no algorithm")
    if kid is not None and not isinstance(kid, str):
        raise InvalidToken("the token's key id is no string")
    return alg, kid


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):  # a header may nest as deep as it is long
        raise InvalidToken(f"the token's {what} is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {what} is no JSON object")
    return value


def _claims(claims: dict[str, Any], rules: TokenRules, now: float) -> Claims:
    if "exp" not in claims:
        raise InvalidToken("the token has no exp")
    ends = _time(claims["exp"], "exp")
    if "nbf" in claims and _time(claims["nbf"], "nbf") > now + rules.leeway_s:
        raise InvalidToken("the token is not valid yet (nbf)")
    if "iat" in claims and _time(claims["iat"], "iat") > now + rules.leeway_s:
        raise InvalidToken("the token was issued in the future (iat)")
    if rules.audience is not None:
        audience = claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidToken("the token is for another audience (aud)")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise InvalidToken("the token is by another issuer (iss)")
    user = _user(claims.get(rules.user_claim), rules.user_claim)
    if now >= ends + rules.leeway_s:
        raise TokenExpired("the token has expired")
    return Claims(user, ends, ends + rules.leeway_s, claims)


def _time(value: object, claim: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {claim} is no number")
    # Compared before it becomes a float, which an integer of 400 digits can't; NaN is in no range.
    if not -_MAX_TIME < value < _MAX_TIME:
        raise InvalidToken(f"the token's {claim} is no time in seconds")
    return float(value)


def _user(value: object, claim: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidToken(f"the token's user claim ({claim}) is missing or neither a string nor an integer")
    if not 1 <= len(value) <= MAX_USER_CHARS:
        raise InvalidToken(f"the token's user claim ({claim}) has not 1 to {MAX_USER_CHARS} characters")
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates: no record can name such a receiver
        raise InvalidToken(f"the token's user claim ({claim}) is not valid Unicode") from None
    return value


def issue(
    user: str,
    key: str | bytes | RSAPrivateKey | EllipticCurvePrivateKey,
    ttl_s: float,
    now: float,
    *,
    name: str | None = None,
    algorithm: str | None = None,
    kid: str | None = None,
    user_claim: str = "sub",
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """Make a token, for development and tests: a real issuer is another service.

    Args:
        key: A shared secret (HS256), or a private key as PEM or object (RS256, or the ES algorithm of the curve).
        ttl_s: Seconds from `now` to `exp`; negative for one that has ended.
        algorithm: Instead of the key's usual one.
    Raises:
        ConfigError: The key is a PEM that can't be read as an RSA or EC private key, or does not fit `algorithm`.
    """
    material: Any = key
    if isinstance(key, str | bytes):
        raw = key.encode() if isinstance(key, str) else key
        material = _private(raw) if PEM_LABEL.search(raw.decode("latin-1")) else raw
    if algorithm is None:
        if isinstance(material, EllipticCurvePrivateKey):
            algorithm = CURVES.get(material.curve.name, "ES256")
        else:
            algorithm = "RS256" if isinstance(material, RSAPrivateKey) else "HS256"
    claims: dict[str, Any] = {user_claim: user, "iat": int(now), "exp": now + ttl_s}
    optional = {"name": name, "aud": audience, "iss": issuer}
    claims |= {claim: value for claim, value in optional.items() if value is not None}
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        return _JWS.encode(payload, material, algorithm, {"typ": "JWT"} | ({"kid": kid} if kid else {}))
    except (jwt.InvalidKeyError, TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError([f"the key does not fit {algorithm}: {type(error).__name__}"]) from None


def _private(pem: bytes) -> RSAPrivateKey | EllipticCurvePrivateKey:
    try:
        parsed = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(["the key is a PEM, but no private key that can be read without a password"]) from None
    if not isinstance(parsed, RSAPrivateKey | EllipticCurvePrivateKey):
        raise ConfigError(["the key is neither an RSA nor an EC private key"])
    return parsed
