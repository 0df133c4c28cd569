"""Fetching an issuer's keys and keeping them fresh, with as few requests as a hostile crowd of clients allows.

The keys in use are replaced as a whole when a newer set is there and otherwise stay: an issuer that is away, or answers
nonsense, takes nothing from those who hold good tokens. Which entries of a set count: `tidings.keys`.
"""

import asyncio
import json
import random
from typing import Final, Self

import aiohttp
import structlog
import tenacity

from tidings.clock import Clock, SystemClock
from tidings.errors import DependencyError
from tidings.keys import KeySet
from tidings.metrics import Metrics

__all__ = ["MAX_DOCUMENT_BYTES", "JwksCache", "JwksUnavailable"]

MAX_DOCUMENT_BYTES: Final = 65_536
"""A hundred keys fit; what is larger is no key set, or one meant to cost memory."""

log = structlog.get_logger(__name__)


class JwksUnavailable(DependencyError):
    """No usable key set could be had.

    Attributes:
        outcome: The label of `tidings_jwks_fetches_total`.
    """

    def __init__(self, outcome: str, detail: str) -> None:
        self.outcome = outcome
        super().__init__(f"{outcome}: {detail}")


class JwksCache:
    """The current keys behind one address.

    `start` fetches until there are keys, then again at every `max_age_s`; both in the background. `keys` never waits.
    """

    def __init__(
        self,
        url: str,
        *,
        max_age_s: float = 300.0,
        cooldown_s: float = 10.0,
        timeout_s: float = 5.0,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is fetched yet.

        Args:
            url: Of the key set; redirects are not followed.
            max_age_s: Seconds between two fetches in the background.
            cooldown_s: Least seconds from the start of one fetch to one that an unknown key id asks for.
            timeout_s: Seconds that one fetch may take from connecting to the last byte.
        """
        self._url = url
        self._max_age_s = max_age_s
        self._cooldown_s = cooldown_s
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._clock: Clock = clock or SystemClock()
        self._keys = KeySet(named=True)
        self._session: aiohttp.ClientSession | None = None
        self._background: asyncio.Task[None] | None = None
        self._flight: asyncio.Task[None] | None = None
        self._last_start: float | None = None
        self._have_keys = asyncio.Event()

    @property
    def keys(self) -> KeySet:
        """The keys to verify with now; empty (every token is `UnknownKey`) before the first fetch succeeded."""
        return self._keys

    @property
    def ready(self) -> bool:
        """Whether there ever were keys: part of the gateway's readiness."""
        return self._have_keys.is_set()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to fetch in the background; returns at once. Needs a running loop."""
        if self._background is None:
            self._background = asyncio.create_task(self._run(), name="jwks")

    async def wait_ready(self) -> None:
        """Until there are keys, however long that takes."""
        await self._have_keys.wait()

    async def close(self) -> None:
        """Stop; the keys stay readable."""
        for task in (self._background, self._flight):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def refresh_for_unknown(self) -> bool:
        """A token named a key that is not in `keys`: see whether the issuer has a newer set.

        However many ask, one fetch is under way at most and none begins within `cooldown_s` of the last one's start.
        Cancelling one caller leaves the fetch to the others.

        Returns:
            Whether the keys are others than when this was called. If the token was judged earlier than that, judge it
            again in any case.
        Cost: nothing within the cooldown; else waits up to `timeout_s`.
        """
        before = self._keys
        if self._flight is None or self._flight.done():
            now = self._clock.monotonic()
            if self._last_start is not None and now - self._last_start < self._cooldown_s:
                return False
        try:
            await asyncio.shield(self._fly())
        except JwksUnavailable:
            return False
        return self._keys is not before

    def _fly(self) -> "asyncio.Task[None]":
        """The fetch under way, or a new one."""
        if self._flight is None or self._flight.done():
            self._last_start = self._clock.monotonic()
            self._flight = asyncio.create_task(self._refresh(), name="jwks-fetch")
            self._flight.add_done_callback(_seen)
        return self._flight

    async def _run(self) -> None:
        while True:
            async for attempt in tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(JwksUnavailable),
                wait=tenacity.wait_exponential(multiplier=0.25, max=min(30.0, self._max_age_s))
                + tenacity.wait_random(0, 0.25),
            ):
                with attempt:
                    await asyncio.shield(self._fly())
            # Nodes that were started together must not ask together for ever.
            await asyncio.sleep(self._max_age_s * random.uniform(0.9, 1.0))  # noqa: S311 - no secret in it

    async def _refresh(self) -> None:
        try:
            keys = await self._fetch()
        except JwksUnavailable as error:
            self._count(error.outcome)
            log.warning("jwks_unavailable", url=self._url, reason=str(error), keys_in_use=len(self._keys))
            raise
        self._count("ok")
        if keys != self._keys:
            self._keys = keys
            log.info("jwks_keys", url=self._url, kids=[key.kid for key in keys.keys])
        self._have_keys.set()

    def _count(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.counter("tidings_jwks_fetches_total", outcome=outcome).inc()

    async def _fetch(self) -> KeySet:
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._body()
        except TimeoutError:
            raise JwksUnavailable("timeout", f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise JwksUnavailable("connection", f"{type(error).__name__}: {error}") from None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise JwksUnavailable("invalid", "the answer is not JSON") from None
        keys, left_out = KeySet.from_jwks(document)
        if left_out:
            log.warning("jwks_keys_left_out", url=self._url, reasons=left_out[:10], count=len(left_out))
        if not keys:
            # An empty set would refuse everybody; it is far more often a fault than a wish.
            raise JwksUnavailable("invalid", "no usable key in the answer")
        return keys

    async def _body(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Accept": "application/jwk-set+json, application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=2, force_close=True),  # minutes lie between two uses
            )
        async with self._session.get(self._url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise JwksUnavailable("status", f"HTTP {answer.status}")
            body = bytearray()
            async for chunk in answer.content.iter_chunked(16_384):
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise JwksUnavailable("too_big", f"more than {MAX_DOCUMENT_BYTES} bytes")
        return bytes(body)


def _seen(task: "asyncio.Task[None]") -> None:
    """Take the fault of a fetch that nobody waits for any more; the log has it."""
    if not task.cancelled():
        task.exception()
