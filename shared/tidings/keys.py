"""The keys that tokens are checked with: from a secret, a PEM or a JSON Web Key Set, parsed once and judged.

The configured key decides which algorithms count, never the token: a secret takes HS256, HS384 and HS512, an RSA key
RS256, RS384 and RS512, an EC key the one ES algorithm of its curve. Nothing else does, `none` least of all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tidings.errors import ConfigError, InvalidToken, UnknownKey

__all__ = ["CURVES", "MIN_RSA_BITS", "MIN_SECRET_BYTES", "PEM_LABEL", "Key", "KeySet"]

MIN_SECRET_BYTES: Final = 32
"""RFC 7518 §3.2 asks for a secret as long as the hash of HS256. Shorter ones can be guessed offline from any one token.
The same counts for HS384 and HS512: 256 bits can't be guessed either, and issuers with such secrets exist."""

MIN_RSA_BITS: Final = 2_048
"""RFC 7518 §3.3."""

MAX_RSA_BITS: Final = 8_192
"""A larger key makes each handshake slow: 16,384 bits cost about a millisecond."""

_HS: Final = ("HS256", "HS384", "HS512")
_RS: Final = ("RS256", "RS384", "RS512")
CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
"""The one algorithm of each curve that JWT uses."""

PEM_LABEL: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")


@dataclass(frozen=True)
class Key:
    """One key, parsed once.

    Attributes:
        algorithms: What a token's `alg` may be with it.
        material: The secret's bytes, or the public key object.
        kid: Its id in a key set; None for one that has none.
    """

    algorithms: tuple[str, ...]
    material: bytes | RSAPublicKey | EllipticCurvePublicKey = field(repr=False)
    kid: str | None = None


class KeySet:
    """The keys that tokens may be signed with. Immutable; a rotation makes a new one."""

    __slots__ = ("_by_kid", "_named", "keys")

    def __init__(self, keys: Iterable[Key] = (), *, named: bool = False) -> None:
        """Take these keys.

        Args:
            named: Tokens choose among the keys by `kid` (a JWKS); otherwise there is one key and `kid` is ignored.
        """
        self.keys = tuple(keys)
        self._named = named
        self._by_kid: dict[str, list[Key]] = {}
        for key in self.keys:
            if key.kid is not None:
                self._by_kid.setdefault(key.kid, []).append(key)

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self._named == other._named and self.keys == other.keys

    def __hash__(self) -> int:
        return hash((self._named, len(self.keys)))

    def find(self, alg: str, kid: str | None) -> Key:
        """The one key for a token with this header.

        Raises:
            UnknownKey: The set has no key of that id; a newer set may.
            InvalidToken: The key is not for this algorithm, or it is not clear which key is meant.
        """
        if not self._named:
            candidates: Sequence[Key] = self.keys
        elif kid is not None and (found := self._by_kid.get(kid)):
            candidates = found
        elif kid is not None and any(key.kid is not None for key in self.keys):
            raise UnknownKey("the token names a key that is not in the issuer's key set")
        else:
            candidates = self.keys
        if not candidates:
            raise UnknownKey("the issuer's keys are not known yet")
        fitting = [key for key in candidates if alg in key.algorithms]
        if not fitting:
            raise InvalidToken("the token's algorithm is not one that the configured key is for")
        if len(fitting) > 1:
            raise InvalidToken("the token does not name its key, and several fit")
        return fitting[0]

    @classmethod
    def from_secret(cls, secret: str | bytes, setting: str) -> "KeySet":
        """A shared secret, for HS256, HS384 and HS512.

        Args:
            setting: The setting's name, for the error.
        Raises:
            ConfigError: Too short, or a PEM (which would make a public text the secret).
        """
        material = secret.encode() if isinstance(secret, str) else secret
        if PEM_LABEL.search(material.decode("latin-1")):
            raise ConfigError(
                [
                    f"{setting}: the given value (not shown) is a PEM; public keys go to"
                    " TIDINGS_JWT_PUBLIC_KEY or TIDINGS_JWT_PUBLIC_KEY_FILE"
                ]
            )
        if len(material) < MIN_SECRET_BYTES:
            raise ConfigError(
                [
                    f"{setting}: the given value (not shown) has {len(material)} bytes; accepted:"
                    f" at least {MIN_SECRET_BYTES}, such as `openssl rand -hex 32` prints"
                ]
            )
        return cls([Key(_HS, material)])

    @classmethod
    def from_pem(cls, pem: str, setting: str) -> "KeySet":
        """A public key, RSA or EC.

        Raises:
            ConfigError: No such key: unreadable, several, private, a certificate, another kind, or too weak.
        """
        return cls([_pem_key(pem, setting)])

    @classmethod
    def from_jwks(cls, document: object) -> tuple["KeySet", list[str]]:
        """The signature keys of a parsed JSON Web Key Set, and why each other one was left out.

        A bad key never spoils the others; a document that is no key set gives an empty one.
        """
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            return cls(named=True), ["the document has no list `keys`"]
        keys: list[Key] = []
        left_out: list[str] = []
        taken: set[tuple[str | None, str]] = set()
        for index, entry in enumerate(listed):
            found = _jwk(entry)
            if isinstance(found, str):
                left_out.append(f"key {index}: {found}")
            elif any((found.kid, alg) in taken for alg in found.algorithms):
                left_out.append(f"key {index}: an earlier one has the same id and algorithm")
            else:
                taken.update((found.kid, alg) for alg in found.algorithms)
                keys.append(found)
        return cls(keys, named=True), left_out


def _pem_key(pem: str, setting: str) -> Key:
    labels = PEM_LABEL.findall(pem)
    wanted = "accepted: one PEM public key"
    if not labels:
        raise ConfigError([f"{setting}: no PEM in it (nothing like -----BEGIN PUBLIC KEY-----); {wanted}"])
    if any("PRIVATE KEY" in label for label in labels):
        raise ConfigError(
            [
                f"{setting}: holds a private key, which belongs to the issuer alone; {wanted},"
                " such as `openssl pkey -pubout` makes of it"
            ]
        )
    if any("CERTIFICATE" in label for label in labels):
        raise ConfigError(
            [
                f"{setting}: holds a certificate, whose dates and issuer nobody would check; {wanted},"
                " such as `openssl x509 -noout -pubkey` makes of it"
            ]
        )
    if len(labels) > 1:
        raise ConfigError(
            [
                f"{setting}: holds {len(labels)} PEM blocks; {wanted}"
                " (to change keys without a gap use TIDINGS_JWT_JWKS_URL)"
            ]
        )
    try:
        parsed = serialization.load_pem_public_key(pem.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError([f"{setting}: the PEM can't be read as a public key; {wanted}"]) from None
    key = _public_key(parsed)
    if isinstance(key, str):
        raise ConfigError([f"{setting}: {key}; {wanted}"])
    return key


def _public_key(parsed: object, kid: str | None = None) -> Key | str:
    """The key, or why it is not accepted."""
    if isinstance(parsed, RSAPublicKey):
        if not MIN_RSA_BITS <= parsed.key_size <= MAX_RSA_BITS:
            return f"an RSA key of {parsed.key_size} bits; RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        return Key(_RS, parsed, kid)
    if isinstance(parsed, EllipticCurvePublicKey):
        algorithm = CURVES.get(parsed.curve.name)
        if algorithm is None:
            return f"curve {parsed.curve.name} is not P-256, P-384 or P-521"
        return Key((algorithm,), parsed, kid)
    return "neither an RSA nor an EC key"


def _jwk(entry: object) -> Key | str:
    """The key of one entry of a key set, or why it is left out."""
    if not isinstance(entry, dict):
        return "no object"
    kty, kid, use, ops, alg = (entry.get(name) for name in ("kty", "kid", "use", "key_ops", "alg"))
    if kty not in ("RSA", "EC"):
        return "neither RSA nor EC"
    if use is not None and use != "sig":
        return "not for signatures"
    if ops is not None and not (isinstance(ops, list) and "verify" in ops):
        return "not for verifying"
    if kid is not None and not isinstance(kid, str):
        return "its id is no string"
    if any(name in entry for name in ("d", "p", "q", "k")):
        return "it is a private key"
    try:
        parsed = jwt.PyJWK(entry, algorithm="RS256" if kty == "RSA" else _jwk_alg(entry)).key
    except Exception as error:  # noqa: BLE001, RUF100 - whatever a bad key raises, it is that key alone that is left out
        return f"unreadable ({type(error).__name__})"
    key = _public_key(parsed, kid)
    if isinstance(key, Key) and alg is not None:
        if alg not in key.algorithms:
            return "its algorithm does not fit its kind"
        return Key((alg,), key.material, kid)
    return key


def _jwk_alg(entry: Mapping[str, Any]) -> str:
    return {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}.get(entry.get("crv", ""), "ES256")
