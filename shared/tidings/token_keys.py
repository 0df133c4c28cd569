"""Where token keys come from: one configured key, or the issuer's key set."""

from tidings.config import JwtSettings
from tidings.jwks import JwksCache
from tidings.keys import KeySet
from tidings.metrics import Metrics

__all__ = ["TokenKeys"]


class TokenKeys:
    """The keys to verify with now, whichever way they are configured."""

    def __init__(self, jwt: JwtSettings, metrics: Metrics) -> None:
        self._fixed = jwt.key_set()
        self._cache: JwksCache | None = None
        if jwt.jwks_url is not None:
            self._cache = JwksCache(
                jwt.jwks_url,
                max_age_s=jwt.jwks_max_age_s,
                cooldown_s=jwt.jwks_cooldown_s,
                timeout_s=jwt.jwks_timeout_s,
                metrics=metrics,
            )

    @property
    def current(self) -> KeySet:
        """Never waits. Before a key set was fetched it is empty."""
        if self._fixed is not None:
            return self._fixed
        return self._cache.keys if self._cache is not None else KeySet()

    @property
    def known(self) -> bool:
        """Whether tokens can be judged."""
        return self._fixed is not None or (self._cache is not None and self._cache.ready)

    async def start(self) -> None:
        """Return when keys are known."""
        if self._cache is not None:
            self._cache.start()
            await self._cache.wait_ready()

    async def refresh_for_unknown(self) -> bool:
        """Ask the issuer for newer keys, at most once per cooldown for all who ask; whether there are some."""
        return await self._cache.refresh_for_unknown() if self._cache is not None else False

    async def close(self) -> None:
        """Stop fetching."""
        if self._cache is not None:
            await self._cache.close()
