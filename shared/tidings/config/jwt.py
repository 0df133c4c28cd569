"""Whose tokens are accepted."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import CrossFault, SettingsGroup, variable
from tidings.config.values import (
    ClaimName,
    ReadableFile,
    WebAddress,
    lower,
)
from tidings.errors import ConfigError
from tidings.keys import KeySet
from tidings.tokens import TokenRules

__all__ = ["JwtSettings"]


class JwtSettings(SettingsGroup):
    """Whose tokens are accepted. Exactly one of the four key sources is given."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_JWT_")

    secret: SecretStr | None = Field(
        default=None,
        description="Shared secret; tokens are HS256, HS384 or HS512.",
        json_schema_extra={"accepts": "at least 32 bytes, no PEM"},
    )
    public_key: str | None = Field(
        default=None,
        description="PEM public key itself (line breaks also as \\n); tokens are RS256/384/512 for RSA, or the one of"
        " ES256/384/512 that belongs to the curve.",
        json_schema_extra={"accepts": "one PEM public key, RSA of at least 2048 bits or EC on P-256, P-384 or P-521"},
    )
    public_key_file: ReadableFile | None = Field(default=None, description="File with such a PEM public key.")
    jwks_url: WebAddress | None = Field(
        default=None,
        description="Address of a JSON Web Key Set with the issuer's RSA and EC keys; follows their rotation.",
        json_schema_extra={"accepts": "an http or https address without user name and password"},
    )
    user_claim: ClaimName = Field(
        default="sub",
        min_length=1,
        max_length=128,
        description="Claim that holds the user's id, a string or an integer.",
        json_schema_extra={"accepts": "the name of a claim, other than exp, nbf, iat and aud"},
    )
    audience: str | None = Field(
        default=None, description="Must be among the token's `aud`; without it `aud` is not checked."
    )
    issuer: str | None = Field(default=None, description="Must be the token's `iss`; without it `iss` is not checked.")
    expiry: Annotated[Literal["connected", "handshake"], BeforeValidator(lower)] = Field(
        default="connected",
        description="When the token's end counts: `connected` also closes open connections with 4001; `handshake`"
        " checks only when connecting.",
    )
    jwks_max_age_s: float = Field(
        default=300, ge=1, le=86_400, description="Seconds after which the key set is fetched again in the background."
    )
    jwks_cooldown_s: float = Field(
        default=10, ge=0.1, le=3_600, description="Least seconds between two fetches that unknown key ids ask for."
    )
    jwks_timeout_s: float = Field(default=5, ge=0.1, le=60, description="Seconds that one fetch may take in all.")

    def cross_faults(self) -> Iterable[CrossFault]:
        """Exactly one key source, and one that a key can be made of."""
        sources = ("secret", "public_key", "public_key_file", "jwks_url")
        given = [field for field in sources if getattr(self, field) is not None]
        names = ", ".join(variable(type(self), field) for field in sources)
        if not given:
            yield CrossFault(sources, f"not given; exactly one of {names} is needed")
        elif len(given) > 1:
            others = " and ".join(variable(type(self), field) for field in given[1:])
            yield CrossFault(tuple(given), f"given together with {others}; accepted: exactly one of {names}")
        for field in given:
            try:
                self._keys_of(field)
            except ConfigError as error:
                for fault in error.faults:
                    yield CrossFault((field,), fault.removeprefix(f"{variable(type(self), field)}: "))

    def _keys_of(self, field: str) -> KeySet | None:
        name = variable(type(self), field)
        if field == "secret" and self.secret is not None:
            return KeySet.from_secret(self.secret.get_secret_value(), name)
        if field == "public_key" and self.public_key is not None:
            return KeySet.from_pem(self.public_key.replace("\\n", "\n"), name)
        if field == "public_key_file" and self.public_key_file is not None:
            return KeySet.from_pem(_read_text(self.public_key_file, name), name)
        return None

    def key_set(self) -> KeySet | None:
        """The configured key, ready for use; None with a JWKS address (see `tidings.jwks`). Reads the key file."""
        return next(
            (keys for field in ("secret", "public_key", "public_key_file") if (keys := self._keys_of(field))), None
        )

    def rules(self) -> TokenRules:
        """What `tidings.tokens.verify` demands beside the signature."""
        return TokenRules(user_claim=self.user_claim, audience=self.audience, issuer=self.issuer)


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(65_536).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError([f"{name}: given {str(path)!r}, which can't be read: {error.strerror}"]) from None
