"""Keys over real HTTP: rotation, an issuer that is away or answers nonsense, and how few requests it all takes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from prometheus_client import CollectorRegistry

from tidings.clock import ManualClock
from tidings.errors import UnknownKey
from tidings.jwks import MAX_DOCUMENT_BYTES, JwksCache
from tidings.metrics import Metrics
from tidings.tokens import TokenRules, issue, verify

NOW = 1_700_000_000.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Issuer:
    """An issuer on a local port that counts the fetches of its key set."""

    def __init__(self) -> None:
        self.fetches = 0
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.answer: Answer | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    def rotate(self, *kids: str) -> None:
        self.keys = {kid: self.keys.get(kid) or ec.generate_private_key(ec.SECP256R1()) for kid in kids}

    def token(self, kid: str) -> str:
        return issue("alice", self.keys[kid], 60, NOW, kid=kid)

    def document(self) -> dict[str, Any]:
        public = {kid: json.loads(ECAlgorithm.to_jwk(key.public_key())) for kid, key in self.keys.items()}
        return {"keys": [{**key, "kid": kid} for kid, key in public.items()]}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        await self.gate.wait()
        return await self.answer(request) if self.answer else web.json_response(self.document())


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.rotate("k1")
    app = web.Application()
    app.router.add_get("/keys", issuer.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield issuer
    issuer.gate.set()
    await runner.cleanup()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a server and tells nobody
            await asyncio.sleep(0.005)


def accepted(cache: JwksCache, token: str) -> bool:
    try:
        return verify(token, cache.keys, TokenRules(), NOW).user == "alice"
    except UnknownKey:
        return False


async def test_keys_are_there_once_ready(issuer: Issuer, metrics: Metrics) -> None:
    async with JwksCache(issuer.url, metrics=metrics) as cache:
        assert not cache.ready
        assert not accepted(cache, issuer.token("k1"))
        await cache.wait_ready()
        assert cache.ready
        assert accepted(cache, issuer.token("k1"))
        assert issuer.fetches == 1
        assert metrics.value("tidings_jwks_fetches_total", outcome="ok") == 1


async def test_a_new_key_is_found_by_the_first_token_that_names_it(issuer: Issuer) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock) as cache:
        await cache.wait_ready()
        issuer.rotate("k1", "k2")
        clock.advance(10)
        assert not accepted(cache, issuer.token("k2"))
        assert await cache.refresh_for_unknown()
        assert accepted(cache, issuer.token("k2"))
        assert accepted(cache, issuer.token("k1"))
        old = issuer.token("k1")
        issuer.rotate("k2")
        clock.advance(10)
        assert await cache.refresh_for_unknown()
        assert not accepted(cache, old)


async def test_a_thousand_unknown_kids_cost_one_fetch(issuer: Issuer, metrics: Metrics) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, cooldown_s=10, clock=clock, metrics=metrics) as cache:
        await cache.wait_ready()
        assert issuer.fetches == 1
        assert not any(await asyncio.gather(*(cache.refresh_for_unknown() for _ in range(1_000))))
        assert issuer.fetches == 1, "the fetch of the start counts: the set is fresh"
        clock.advance(10)
        assert not any(await asyncio.gather(*(cache.refresh_for_unknown() for _ in range(1_000))))
        for _ in range(1_000):
            assert not await cache.refresh_for_unknown()
        assert issuer.fetches == 2
        clock.advance(9.99)
        assert not await cache.refresh_for_unknown()
        assert issuer.fetches == 2


async def test_who_waits_for_the_one_fetch_gets_its_keys(issuer: Issuer) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock) as cache:
        await cache.wait_ready()
        issuer.rotate("k2")
        issuer.gate.clear()
        clock.advance(10)
        waiting = [asyncio.create_task(cache.refresh_for_unknown()) for _ in range(50)]
        await until(lambda: issuer.fetches == 2)
        waiting[0].cancel()
        issuer.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [True] * 49
        assert accepted(cache, issuer.token("k2"))
        assert issuer.fetches == 2


async def test_a_failed_fetch_also_starts_the_cooldown(issuer: Issuer) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock) as cache:
        await cache.wait_ready()
        issuer.answer = lambda _: _respond(web.Response(status=500))
        clock.advance(10)
        for _ in range(100):
            assert not await cache.refresh_for_unknown()
        assert issuer.fetches == 2


async def _respond(response: web.Response) -> web.Response:
    return response


def answering(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    return lambda _: _respond(web.Response(body=body, status=status, headers=headers))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answering(status=500), "status"),
        (answering(status=404), "status"),
        (answering(status=302, Location="/keys"), "status"),
        (answering(b"<html>"), "invalid"),
        (answering(b"[" * 50_000), "invalid"),
        (answering(b'{"keys":[]}'), "invalid"),
        (answering(b'{"keys":[{"kty":"oct","k":"AAAA"}]}'), "invalid"),
        (answering(b'{"keys":[' + b" " * MAX_DOCUMENT_BYTES + b"]}"), "too_big"),
    ],
)
async def test_nonsense_leaves_the_keys_in_use(issuer: Issuer, metrics: Metrics, answer: Answer, outcome: str) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock, metrics=metrics) as cache:
        await cache.wait_ready()
        issuer.answer = answer
        clock.advance(10)
        assert not await cache.refresh_for_unknown()
        assert issuer.fetches == 2
        assert metrics.value("tidings_jwks_fetches_total", outcome=outcome) == 1
        assert accepted(cache, issuer.token("k1"))


async def test_an_endless_answer_is_cut_off(issuer: Issuer, metrics: Metrics) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 4_096)

    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock, metrics=metrics) as cache:
        await cache.wait_ready()
        issuer.answer = endless
        clock.advance(10)
        assert not await cache.refresh_for_unknown()
        assert metrics.value("tidings_jwks_fetches_total", outcome="too_big") == 1


async def test_a_silent_issuer_is_waited_for_no_longer_than_told(issuer: Issuer, metrics: Metrics) -> None:
    clock = ManualClock()
    async with JwksCache(issuer.url, clock=clock, timeout_s=0.2, metrics=metrics) as cache:
        await cache.wait_ready()
        issuer.gate.clear()
        clock.advance(10)
        async with asyncio.timeout(2):
            assert not await cache.refresh_for_unknown()
        assert metrics.value("tidings_jwks_fetches_total", outcome="timeout") == 1
        assert accepted(cache, issuer.token("k1"))


async def test_the_start_is_tried_again_until_it_succeeds(issuer: Issuer, metrics: Metrics) -> None:
    issuer.answer = answering(status=503)
    async with JwksCache(issuer.url, metrics=metrics) as cache:
        await until(lambda: issuer.fetches >= 2)
        assert not cache.ready
        issuer.answer = None
        async with asyncio.timeout(5):
            await cache.wait_ready()
        assert accepted(cache, issuer.token("k1"))


async def test_nobody_at_the_address(unused_port: int, metrics: Metrics) -> None:
    async with JwksCache(f"http://127.0.0.1:{unused_port}/keys", metrics=metrics) as cache:
        await until(lambda: metrics.value("tidings_jwks_fetches_total", outcome="connection") >= 1)
        assert not cache.ready


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_keys_are_refreshed_by_age_and_removed_ones_end(issuer: Issuer) -> None:
    async with JwksCache(issuer.url, max_age_s=0.1) as cache:
        await cache.wait_ready()
        old = issuer.token("k1")
        issuer.rotate("k2")
        await until(lambda: accepted(cache, issuer.token("k2")))
        assert not accepted(cache, old)


async def test_an_outage_of_the_issuer_is_not_seen_by_clients(issuer: Issuer) -> None:
    async with JwksCache(issuer.url, max_age_s=0.05) as cache:
        await cache.wait_ready()
        issuer.answer = answering(status=503)
        before = issuer.fetches
        await until(lambda: issuer.fetches > before + 1)
        assert accepted(cache, issuer.token("k1"))
        issuer.answer = None
        issuer.rotate("k3")
        await until(lambda: accepted(cache, issuer.token("k3")))


async def test_close_ends_everything(issuer: Issuer) -> None:
    cache = JwksCache(issuer.url, max_age_s=0.05)
    cache.start()
    cache.start()
    await cache.wait_ready()
    issuer.gate.clear()
    before = issuer.fetches
    await until(lambda: issuer.fetches > before)
    await cache.close()
    fetches = issuer.fetches
    await asyncio.sleep(0.15)
    assert issuer.fetches == fetches
    assert accepted(cache, issuer.token("k1"))
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("jwks")]
