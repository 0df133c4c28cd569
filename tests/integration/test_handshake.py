"""Who is let in: where tokens are looked for, which keys sign them, when they end; origins, proxies, TLS, refusals."""

import asyncio
import datetime
import ipaddress
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.integration.clients import (
    TEXT,
    Answer,
    TcpClient,
    Topics,
    bearer,
    client_frame,
    counter,
    eventually,
    receive_json,
    sse,
    token_for,
    upgrade_request,
    web_socket,
)
from tests.integration.processes import SECRET, Gateway, GatewayFactory
from tidings.tokens import issue

pytestmark = pytest.mark.kafka

Key = RSAPrivateKey | EllipticCurvePrivateKey
REFUSED, CLOSES = "tidings_gateway_refused_total", "tidings_gateway_closes_total"
PAGE, OTHER_PAGE = "https://chat.example", "https://evil.example"


@pytest.fixture(scope="module")
def node(nodes: GatewayFactory) -> Gateway:
    return nodes(max_connections_per_user=0)


async def ask(gateway: Gateway, head: bytes) -> Answer:
    async with await TcpClient.open(gateway) as tcp:
        return await tcp.ask(head)


async def is_user(gateway: Gateway, records: Topics, head: bytes, user: str) -> bool:
    """Whether this handshake lets in exactly that user."""
    async with await TcpClient.open(gateway) as tcp:
        answer = await tcp.ask(head)
        assert answer.status == 101, answer
        records.send([user], "for you")
        return b"for you" in (await tcp.frame_after_pings()).payload


# Where the token is


SOURCES = ("authorization", "internal", "subprotocol", "cookie", "query")


def request_with(tokens: dict[str, str]) -> bytes:
    """A handshake with these tokens in these places."""
    headers = []
    path = "/ws"
    for source, token in tokens.items():
        match source:
            case "authorization":
                headers.append(("Authorization", f"Bearer {token}"))
            case "internal":
                headers.append(("X-Internal-Token", token))
            case "subprotocol":
                headers.append(("Sec-WebSocket-Protocol", f"tidings.plain, bearer.{token}"))
            case "cookie":
                headers.append(("Cookie", f"a=b; tidings_token={token}; c=d"))
            case "query":
                path = f"/ws?x=y&token={token}"
    return upgrade_request(path, headers)


@pytest.mark.parametrize("source", SOURCES)
async def test_a_token_is_found_in_each_place(node: Gateway, records: Topics, source: str) -> None:
    assert await is_user(node, records, request_with({source: token_for(f"by-{source}")}), f"by-{source}")


@pytest.mark.parametrize("first", range(len(SOURCES)))
async def test_the_first_place_that_has_one_counts(node: Gateway, records: Topics, first: int) -> None:
    tokens = {source: token_for(f"by-{source}") for source in SOURCES[first:]}
    assert await is_user(node, records, request_with(tokens), f"by-{SOURCES[first]}")
    empty = dict.fromkeys(SOURCES[:first], "")
    assert await is_user(node, records, request_with(empty | tokens), f"by-{SOURCES[first]}")


async def test_a_bad_token_in_an_earlier_place_is_not_passed_over(node: Gateway) -> None:
    for index, source in enumerate(SOURCES[:-1]):
        answer = await ask(node, request_with({source: "no.token.atall", SOURCES[index + 1]: token_for("alice")}))
        assert answer.status == 401, source


async def test_the_internal_token_may_have_a_scheme(node: Gateway, records: Topics) -> None:
    for value in (f"Bearer {token_for('internal')}", f"bearer {token_for('internal')}", token_for("internal")):
        assert await is_user(node, records, upgrade_request(headers={"X-Internal-Token": value}), "internal")


async def test_a_subprotocol_token_is_never_echoed_and_not_enough_alone(node: Gateway) -> None:
    token = token_for("alice")
    for offered, chosen in (
        (f"tidings.v1, bearer.{token}", "tidings.v1"),
        (f"bearer.{token}, tidings.plain", "tidings.plain"),
    ):
        answer = await ask(node, upgrade_request(headers={"Sec-WebSocket-Protocol": offered}))
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, chosen)
        assert token not in str(answer)
    answer = await ask(node, upgrade_request(headers={"Sec-WebSocket-Protocol": f"bearer.{token}"}))
    assert (answer.status, answer.error) == (400, "subprotocol_missing")
    assert token not in str(answer)
    assert token not in node.log
    answer = await ask(node, upgrade_request(headers=bearer("alice") | {"Sec-WebSocket-Protocol": "graphql-ws"}))
    assert (answer.status, answer.error) == (400, "subprotocol_unknown")


# What is refused


async def test_refusals_are_json_and_counted_and_the_log_has_no_token(node: Gateway) -> None:
    now = time.time()
    ended, foreign = token_for("alice", -60), issue("alice", "another secret of 32 bytes or so", 60, now)
    before = node.metric(REFUSED)
    cases: list[tuple[bytes, int]] = [
        (upgrade_request(), 401),
        (upgrade_request(headers={"Authorization": "Bearer"}), 401),
        (upgrade_request(headers={"Authorization": "Bearer no.token.atall"}), 401),
        (upgrade_request(headers={"Authorization": f"Bearer {ended}"}), 401),
        (upgrade_request(headers={"Authorization": f"Bearer {foreign}"}), 401),
        (upgrade_request("/sse", headers={"Authorization": f"Bearer {ended}"}), 401),
        (upgrade_request("/", bearer("alice")), 404),
        (upgrade_request("/ws/", bearer("alice")), 404),
        (upgrade_request("/metrics", bearer("alice")), 404),
        (upgrade_request(headers=bearer("alice") | {"Origin": OTHER_PAGE}), 403),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /sse HTTP/1.0\r\nHost: x\r\n\r\n", 505),
        (upgrade_request(headers=bearer("alice")).replace(b"Version: 13", b"Version: 8"), 400),
    ]
    for head, status in cases:
        answer = await ask(node, head)
        assert answer.status == status, (head, answer)
        assert answer.error
        assert answer.headers["connection"].split(", ")[-1 if status != 426 else 0] == "close"
        assert answer.headers["cache-control"] == "no-store"
    assert node.metric(REFUSED) == before + len(cases)
    assert counter(node, REFUSED, "origin_refused") == 1
    for token in (ended, foreign):
        assert token not in node.log
        assert token.split(".")[2] not in node.log


async def test_a_client_that_talks_before_it_is_let_in_is_heard(node: Gateway) -> None:
    """Frames in the same segment as the request belong to the connection."""
    async with await TcpClient.open(node) as tcp:
        await tcp.send(upgrade_request(headers=bearer("eager")) + client_frame(9, b"early"))
        assert (await tcp.answer()).status == 101
        assert (await tcp.frame()).payload == b"early"


# Keys


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_secret_takes_the_whole_family(node: Gateway, records: Topics, algorithm: str) -> None:
    token = token_for("family", algorithm=algorithm)
    assert await is_user(node, records, request_with({"authorization": token}), "family")


def public_pem(key: Key) -> str:
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (rsa.generate_private_key(65537, 2048), ["RS256", "RS384", "RS512"]),
        (ec.generate_private_key(ec.SECP384R1()), ["ES384"]),
    ],
    ids=["RSA by file", "EC by value"],
)
async def test_a_public_key_takes_its_own_family_only(
    nodes: GatewayFactory, records: Topics, tmp_path: Path, key: Key, algorithms: list[str]
) -> None:
    pem = public_pem(key)
    if isinstance(key, RSAPrivateKey):
        (tmp_path / "key.pem").write_text(pem)
        given = {"TIDINGS_JWT_PUBLIC_KEY_FILE": str(tmp_path / "key.pem")}
    else:
        given = {"TIDINGS_JWT_PUBLIC_KEY": pem.replace("\n", "\\n")}
    environ = {name: value for name, value in nodes.environ.items() if name != "TIDINGS_JWT_SECRET"}
    node = GatewayFactory(environ | given, tmp_path)
    nodes.started.append(started := node())
    now = time.time()
    for algorithm in algorithms:
        token = issue("alice", key, 60, now, algorithm=algorithm)
        assert await is_user(started, records, request_with({"authorization": token}), "alice")
    for wrong in (
        token_for("alice"),
        issue("alice", pem.replace("-----", "*****"), 60, now),  # the public text as a secret
        issue("alice", rsa.generate_private_key(65537, 2048), 60, now),
        issue("alice", ec.generate_private_key(ec.SECP256R1()), 60, now),
    ):
        assert (await ask(started, request_with({"authorization": wrong}))).status == 401


class Issuer:
    """A key set on a local port that counts its fetches."""

    def __init__(self) -> None:
        self.fetches = 0
        self.keys: dict[str, Key] = {}
        self.url = ""

    def token(self, kid: str, user: str = "alice", ttl_s: float = 60) -> str:
        return issue(user, self.keys[kid], ttl_s, time.time(), kid=kid)

    async def answer(self, _: web.Request) -> web.Response:
        self.fetches += 1
        keys = []
        for kid, key in self.keys.items():
            public = RSAAlgorithm.to_jwk(key.public_key()) if isinstance(key, RSAPrivateKey) else None
            keys.append({**json.loads(public or ECAlgorithm.to_jwk(key.public_key())), "kid": kid})  # type: ignore[arg-type]
        return web.json_response({"keys": keys})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.keys["rsa-1"] = rsa.generate_private_key(65537, 2048)
    app = web.Application()
    app.router.add_get("/keys", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield issuer
    await runner.cleanup()


async def test_a_key_set_is_followed_through_rotation_with_few_fetches(
    nodes: GatewayFactory, records: Topics, issuer: Issuer, tmp_path: Path
) -> None:
    environ = {name: value for name, value in nodes.environ.items() if name != "TIDINGS_JWT_SECRET"}
    cooldown_s = 2
    factory = GatewayFactory(
        environ | {"TIDINGS_JWT_JWKS_URL": issuer.url, "TIDINGS_JWT_JWKS_COOLDOWN_S": str(cooldown_s)}, tmp_path
    )
    node = await asyncio.to_thread(factory)
    nodes.started.append(node)
    assert await is_user(node, records, request_with({"authorization": issuer.token("rsa-1")}), "alice")
    assert issuer.fetches == 1
    # Keys that nobody has: none of these handshakes may cost the issuer a request of its own.
    stranger = issue("mallory", ec.generate_private_key(ec.SECP256R1()), 60, time.time(), kid="nobody's")
    await asyncio.sleep(cooldown_s)
    answers = await asyncio.gather(*(ask(node, request_with({"authorization": stranger})) for _ in range(100)))
    assert {(answer.status, answer.error) for answer in answers} == {(401, "unknown_key")}
    assert issuer.fetches == 2
    # A new key is there: the first token that names it fetches it, and its client is let in.
    issuer.keys["ec-2"] = ec.generate_private_key(ec.SECP256R1())
    await asyncio.sleep(cooldown_s)
    heads = [request_with({"authorization": issuer.token("ec-2")})] * 20
    assert {answer.status for answer in await asyncio.gather(*(ask(node, head) for head in heads))} == {101}
    assert issuer.fetches == 3
    assert await is_user(node, records, request_with({"authorization": issuer.token("rsa-1")}), "alice")
    # An eager client's frames wait while its key is fetched; a renewal may name a new key too.
    issuer.keys["ec-3"] = ec.generate_private_key(ec.SECP521R1())
    del issuer.keys["rsa-1"]
    await asyncio.sleep(cooldown_s)
    async with web_socket(
        node, "x", "tidings.v1", additional_headers={"Authorization": f"Bearer {issuer.token('ec-2', ttl_s=2)}"}
    ) as ws:
        await receive_json(ws)
        await ws.send(json.dumps({"type": "$token", "data": {"token": issuer.token("ec-3")}}))
        await eventually(lambda: issuer.fetches == 4)
        await asyncio.sleep(2.5)
        await (await ws.ping())
    assert issuer.fetches == 4
    retired = issue("alice", rsa.generate_private_key(65537, 2048), 60, time.time(), kid="rsa-1")
    assert (await ask(node, request_with({"authorization": retired}))).status == 401
    assert node.metric("tidings_jwks_fetches_total") == issuer.fetches


# The token's end


async def test_a_token_that_ends_while_connected_ends_the_connection_with_4001(node: Gateway) -> None:
    before = counter(node, CLOSES, "4001")
    async with await TcpClient.open(node) as tcp:
        token = token_for("brief", 1.5)
        started = time.monotonic()
        head = upgrade_request(headers={"Authorization": f"Bearer {token}"})
        assert (await tcp.ask(head)).status == 101
        assert await tcp.alive()
        assert await tcp.closed() == 4001
        assert 1.2 < time.monotonic() - started < 2.5
    await eventually(lambda: counter(node, CLOSES, "4001") == before + 1)
    async with sse(node, "brief", Authorization=f"Bearer {token_for('brief', 1)}") as events:
        await events.event()
        assert (await events.event()).json == {"type": "$close", "data": {"code": 4001}}


async def test_an_internal_token_counts_at_the_handshake_only(node: Gateway, records: Topics) -> None:
    async with await TcpClient.open(node) as tcp:
        head = upgrade_request(headers={"X-Internal-Token": token_for("internal", 1)})
        assert (await tcp.ask(head)).status == 101
        await asyncio.sleep(1.8)
        records.send(["internal"], "still here")
        assert b"still here" in (await tcp.frame_after_pings()).payload


async def test_expiry_may_be_set_to_count_at_the_handshake_only(nodes: GatewayFactory, records: Topics) -> None:
    lenient = nodes(environ={"TIDINGS_JWT_EXPIRY": "handshake"})
    async with await TcpClient.open(lenient) as tcp:
        head = upgrade_request(headers={"Authorization": f"Bearer {token_for('alice', 1)}"})
        assert (await tcp.ask(head)).status == 101
        await asyncio.sleep(1.8)
        records.send(["alice"], "still here")
        assert b"still here" in (await tcp.frame_after_pings()).payload
    assert (await ask(lenient, request_with({"authorization": token_for("alice", -60)}))).status == 401


async def test_a_renewed_token_keeps_the_connection(node: Gateway, records: Topics) -> None:
    short = {"Authorization": f"Bearer {token_for('renewing', 1.5)}"}
    async with web_socket(node, "renewing", "tidings.v1", additional_headers=short) as ws:
        await receive_json(ws)
        await ws.send(json.dumps({"type": "$token", "data": {"token": token_for("renewing", 600)}}))
        await asyncio.sleep(2)
        records.send(["renewing"], "still here")
        assert (await receive_json(ws))["data"] == "still here"


async def test_a_renewal_may_also_shorten(node: Gateway) -> None:
    async with web_socket(node, "shorter", "tidings.v1") as ws:
        await receive_json(ws)
        await ws.send(json.dumps({"type": "$token", "data": {"token": token_for("shorter", 1)}}))
        await asyncio.wait_for(ws.wait_closed(), 3)
        assert ws.close_code == 4001


async def test_another_users_token_or_a_bad_one_renews_nothing(node: Gateway) -> None:
    short = {"Authorization": f"Bearer {token_for('own', 2)}"}
    async with web_socket(node, "own", "tidings.v1", additional_headers=short) as ws:
        await receive_json(ws)
        others = token_for("other", 600)
        for token in (others, token_for("own", -60), "no.token.atall", ""):
            await ws.send(json.dumps({"type": "$token", "data": {"token": token}}))
            answer = await receive_json(ws)
            assert answer["type"] == "$error"
            assert answer["data"]["reason"].startswith("$token: ")
            assert not token or token not in answer["data"]["reason"]
        for text in (
            '{"type":"$token","data":{}}',
            '{"type":"$token"}',
            '{"type":"hello","data":1}',
            "[" * 60_000,
            "x",
        ):
            await ws.send(text)
            assert (await receive_json(ws))["type"] == "$error"
        await asyncio.wait_for(ws.wait_closed(), 5)
        assert ws.close_code == 4001
        assert others not in node.log


# Pages and proxies


async def test_pages_of_the_same_host_are_let_in_and_others_not(node: Gateway) -> None:
    for host, origin, status in (
        ("chat.example", "https://chat.example", 101),
        ("chat.example:8080", "http://chat.example:8080", 101),
        ("chat.example", "https://evil.example", 403),
        ("chat.example", "https://chat.example.evil.example", 403),
        ("chat.example", "https://chat.example:444", 403),
        ("chat.example", "null", 403),
        ("chat.example", "", 403),
    ):
        answer = await ask(node, upgrade_request(headers=bearer("page") | {"Origin": origin}, host=host))
        assert answer.status == status, (host, origin)
        assert status == 101 or answer.error == "origin_refused"


async def test_a_list_of_origins_opens_to_those(nodes: GatewayFactory) -> None:
    listed = nodes(origins=f"{PAGE},https://second.example:8443")
    for origin, status in ((PAGE, 101), ("https://second.example:8443", 101), (OTHER_PAGE, 403)):
        answer = await ask(listed, upgrade_request(headers=bearer("page") | {"Origin": origin}))
        assert answer.status == status, origin

    def get(method: str, origin: str, more: str = "") -> bytes:
        return f"{method} /sse HTTP/1.1\r\nHost: api.example\r\nOrigin: {origin}\r\n{more}\r\n".encode()

    preflight = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization,last-event-id\r\n"
    answer = await ask(listed, get("OPTIONS", PAGE, preflight))
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "GET" in answer.headers["access-control-allow-methods"]
    allowed = re.split(r",\s*", answer.headers["access-control-allow-headers"].lower())
    assert {"authorization", "last-event-id"} <= set(allowed)
    assert answer.headers["vary"] == "Origin"
    async with sse(listed, "page", Origin=PAGE) as events:
        assert events.answer.headers["access-control-allow-origin"] == PAGE
        assert events.answer.headers["access-control-allow-credentials"] == "true"
        assert events.answer.headers["vary"] == "Origin"
    for method in ("OPTIONS", "GET"):
        answer = await ask(listed, get(method, OTHER_PAGE, preflight))
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    answer = await ask(listed, get("GET", PAGE))
    assert (answer.status, answer.error) == (401, "invalid_token")
    assert answer.headers["access-control-allow-origin"] == PAGE, "the page may read why"


async def test_the_address_behind_trusted_proxies_is_the_clients(nodes: GatewayFactory) -> None:
    """One connection per address is allowed here, so addresses show in who is refused."""
    node = nodes(trusted_proxies="127.0.0.1/32,10.0.0.0/8", max_connections_per_address=1, max_connections_per_user=0)

    async def status(forwarded: str) -> int:
        return (await ask(node, upgrade_request(headers=bearer("far") | {"X-Forwarded-For": forwarded}))).status

    async with await TcpClient.open(node) as tcp:
        await tcp.upgrade("far", X_Forwarded_For="198.51.100.7")
        assert await status("198.51.100.7") == 429
        assert await status("198.51.100.8") == 101
        assert await status("198.51.100.9, 198.51.100.7") == 429, "only what the last untrusted hop says counts"
        assert await status("198.51.100.7, 198.51.100.10") == 101
        assert await status("198.51.100.7, 10.1.2.3") == 429, "proxies in between are looked through"
        assert await status("198.51.100.7, nonsense") == 101


async def test_nobody_else_is_believed_about_addresses(nodes: GatewayFactory) -> None:
    plain = nodes(max_connections_per_address=1)
    async with await TcpClient.open(plain) as tcp:
        await tcp.upgrade("near", X_Forwarded_For="198.51.100.7")
        answer = await ask(plain, upgrade_request(headers=bearer("near") | {"X-Forwarded-For": "198.51.100.8"}))
        assert (answer.status, answer.error) == (429, "address_limit")


# TLS


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def test_two_settings_make_it_speak_tls(nodes: GatewayFactory, records: Topics, tmp_path: Path) -> None:
    cert_file, key_file = self_signed(tmp_path)
    node = nodes(
        tls_cert_file=cert_file, tls_key_file=key_file, handshake_timeout_s=1.5, idle_timeout_s=3, ping_interval_s=1
    )
    trusting = ssl.create_default_context(cafile=str(cert_file))
    url = node.ws_url.replace("ws://", "wss://")
    async with web_socket(node, "alice", "tidings.v1", url=url, ssl=trusting) as ws:
        await receive_json(ws)
        records.send(["alice"], "x" * 900_000)
        assert (await receive_json(ws))["data"] == "x" * 900_000
    async with await TcpClient.open(node, trusting) as tcp:
        answer = await tcp.ask(upgrade_request())
        assert (answer.status, answer.error) == (401, "invalid_token")
    async with await TcpClient.open(node, trusting) as tcp:
        await tcp.upgrade("bob")
        await tcp.send(client_frame(TEXT, b"\xff"))
        assert await tcp.closed() == 1007
        assert await tcp.ended() == b""
    # No TLS, and TLS that never gets anywhere: ended in time, and nobody else notices.
    async with await TcpClient.open(node) as clear, await TcpClient.open(node) as stalled:
        await clear.send(upgrade_request(headers=bearer("alice")))
        assert b"101" not in await clear.ended()
        await stalled.send(b"\x16\x03\x01")
        started = time.monotonic()
        await stalled.ended()
        assert time.monotonic() - started < 4
    async with web_socket(node, "alice", url=url, ssl=trusting) as ws:
        await (await ws.ping())
    await eventually(lambda: not any(counts_of(node).values()))


def counts_of(node: Gateway) -> dict[str, Any]:
    return {
        "pending": node.metric("tidings_gateway_handshakes_pending"),
        "connections": node.metric("tidings_gateway_connections"),
    }


async def test_neither_the_secret_nor_a_token_is_in_the_log_at_any_level(
    nodes: GatewayFactory, records: Topics
) -> None:
    node = nodes(environ={"TIDINGS_LOG_LEVEL": "debug"}, max_connections_per_user=0)
    tokens: list[str] = []

    def sent(token: str) -> str:
        tokens.append(token)
        return token

    def bad_ones() -> list[str]:
        foreign = issue("alice", "another secret of 32 bytes or so", 60, time.time())
        return [sent(token_for("alice", -60)), sent(foreign), sent(token_for("alice")[:-4] + "AAAA")]

    for source in SOURCES:
        assert await is_user(node, records, request_with({source: sent(token_for(f"by-{source}"))}), f"by-{source}")
        for token in bad_ones():
            assert (await ask(node, request_with({source: token}))).status == 401, source
    for path, headers in (
        ("/sse?token=", {}),
        ("/sse", {"Authorization": "Bearer "}),
        ("/sse", {"Cookie": "tidings_token="}),
    ):
        for token, status in [(sent(token_for("alice")), 200), *((bad, 401) for bad in bad_ones())]:
            lines = [f"{name}: {value}{token}" for name, value in headers.items()]
            target = path if headers else path + token
            request = "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", ""])
            assert (await ask(node, request.encode())).status == status, path
    async with web_socket(node, "alice", "tidings.v1", additional_headers={}) as ws:
        await receive_json(ws)
        for token in [*bad_ones(), sent(token_for("bob"))]:
            await ws.send(json.dumps({"type": "$token", "data": {"token": token}}))
            assert (await receive_json(ws))["type"] == "$error"
        await ws.send(json.dumps({"type": "$token", "data": {"token": sent(token_for("alice", 300))}}))
        await (await ws.ping())
    # Where no token belongs, and where the request is refused for something else.
    for head in (
        upgrade_request(f"/{sent(token_for('alice', 301))}"),
        upgrade_request(f"/ws?access_token={sent(token_for('alice', 302))}"),
        upgrade_request(headers={"Sec-WebSocket-Protocol": f"bearer.{sent(token_for('alice', 303))}"}),
        upgrade_request(headers={"Authorization": f"Basic {sent(token_for('alice', 304))}"}),
        upgrade_request(headers={"Authorization": f"Bearer {sent(token_for('alice', 305))}", "Origin": OTHER_PAGE}),
        f"GET /ws?token={sent(token_for('alice', 306))} HTTP/9\r\n\r\n".encode(),
    ):
        assert (await ask(node, head)).status >= 400
    assert await asyncio.to_thread(node.stop) == 0
    assert node.events("stopped"), "all of it was written"
    assert '"level":"debug"' in node.log, "the level has an effect"
    assert len(tokens) > 40
    for started in nodes.started:
        assert SECRET not in started.log
    for token in tokens:
        # A signature is as good as the token; the parts before it are alike in many.
        assert token not in node.log
        assert token.split(".")[2] not in node.log
