"""Who is let in, as whom, by which protocol; and every way to be refused."""

import ipaddress
import json
from http import HTTPStatus

import pytest

from tests.gateway_fakes import request
from tidings.errors import InvalidToken, TokenExpired, UnknownKey
from tidings.gateway.frames import Encoding
from tidings.gateway.handshake import Accepted, Gatekeeper, Policy, parse_request
from tidings.gateway.refusals import Origin, Refused, refusal
from tidings.tokens import Claims

NOW = 1_000.0
PEER = "192.0.2.1"


def verify(token: str, now: float) -> Claims:
    """A token is the user's name; `name@seconds` ends then."""
    user, _, ends = token.partition("@")
    if user == "bad":
        raise InvalidToken("the token is bad")
    if user == "unknown":
        raise UnknownKey("no such key")
    if user == "expired":
        raise TokenExpired("the token has expired")
    expires_at = float(ends or 2_000)
    return Claims(user, expires_at, expires_at + 10, {})


def decide(head: bytes, policy: Policy | None = None, peer: str = PEER) -> Accepted:
    return Gatekeeper(policy or Policy(), verify).decide(parse_request(head), peer, NOW)


def refused(head: bytes, policy: Policy | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        decide(head, policy)
    return caught.value


def answer(accepted: Accepted) -> dict[str, str]:
    _, *lines = accepted.response.decode().split("\r\n")[:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def without_upgrade(path: str, *lines: str, token: str | None = "alice") -> bytes:
    return request(path, *lines, token=token, upgrade=False)


# ---- token sources

SOURCES = {
    "authorization": "Authorization: Bearer a",
    "internal": "X-Internal-Token: b",
    "subprotocol": "Sec-WebSocket-Protocol: bearer.c, tidings.v1",
    "cookie": "Cookie: other=1; tidings_token=d; more=2",
}


def test_the_first_source_that_has_a_token_wins() -> None:
    order = list(SOURCES.values())
    for index, user in enumerate("abcd"):
        assert decide(request("/ws?token=e", *reversed(order[index:]), token=None)).user == user
    assert decide(request("/ws?token=e", token=None)).user == "e"


@pytest.mark.parametrize(
    "lines",
    [
        ["Authorization: Bearer", "X-Internal-Token:", "Cookie: tidings_token="],
        ["Authorization: Bearer  ", "X-Internal-Token: Bearer ", 'Cookie: tidings_token=""'],
        ["Authorization: Basic YTpi", "X-Internal-Token: bearer", "Cookie: tidings_token= ; a=b"],
        ["Authorization:", "Cookie: not_tidings_token=x; xtidings_token=y"],
        ["Sec-WebSocket-Protocol: bearer., tidings.v1"],
    ],
)
def test_an_empty_source_is_passed_over(lines: list[str]) -> None:
    assert decide(request("/ws?token=e", *lines, token=None)).user == "e"


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: bearer tok",
        "Authorization: BEARER   tok ",
        "X-Internal-Token: tok",
        "X-Internal-Token: Bearer tok",
        'Cookie: tidings_token="tok"',
        "Cookie: tidings_token=tok",
        "Sec-WebSocket-Protocol: tidings.plain , bearer.tok",
    ],
)
def test_a_token_may_be_written_in_these_ways(line: str) -> None:
    assert decide(request("/ws", line, token=None)).user == "tok"


def test_without_a_token_it_is_401_and_says_how_to_send_one() -> None:
    no = refused(request("/ws", token=None))
    assert (no.status, no.error) == (401, "invalid_token")
    assert ("WWW-Authenticate", 'Bearer realm="tidings"') in no.headers
    assert refused(request("/ws?token=", token=None)).status == 401


def test_a_refused_token_is_401_with_its_code_and_never_shown() -> None:
    bad, ended = refused(request(token="bad@1")), refused(request(token="expired"))
    assert (bad.status, bad.error) == (401, "invalid_token")
    assert (ended.status, ended.error) == (401, "token_expired")
    assert b"bad@1" not in refusal(bad)


def test_an_unknown_key_is_not_refused_yet() -> None:
    with pytest.raises(UnknownKey):
        decide(request(token="unknown"))
    with pytest.raises(UnknownKey):
        decide(without_upgrade("/sse", token="unknown"))


def test_the_tokens_end_is_watched_unless_it_came_internally_or_the_setting_says_not() -> None:
    assert decide(request(token="a@1500")).expires_at == 1500
    assert decide(request("/ws", "X-Internal-Token: a@1500", token=None)).expires_at is None
    assert decide(request(token="a@1500"), Policy(watch_expiry=False)).expires_at is None


def test_let_in_by_the_leeway_alone_it_ends_with_the_leeway() -> None:
    assert decide(request(token="a@995")).expires_at == 1005


def test_a_renewal_is_checked_like_a_first_token() -> None:
    gatekeeper = Gatekeeper(Policy(), verify)
    assert gatekeeper.check("a", NOW).user == "a"
    with pytest.raises(InvalidToken):
        gatekeeper.check("bad", NOW)


# ---- subprotocols


@pytest.mark.parametrize(
    ("offered", "encoding", "chosen"),
    [
        (None, Encoding.PLAIN, None),
        ("tidings.plain", Encoding.PLAIN, "tidings.plain"),
        ("tidings.v1", Encoding.V1, "tidings.v1"),
        ("x, tidings.v1, tidings.plain", Encoding.V1, "tidings.v1"),
        ("tidings.plain, tidings.v1", Encoding.PLAIN, "tidings.plain"),
        ("bearer.tok, tidings.v1", Encoding.V1, "tidings.v1"),
    ],
)
def test_the_clients_first_known_subprotocol_is_chosen(
    offered: str | None, encoding: Encoding, chosen: str | None
) -> None:
    accepted = decide(request("/ws", *([f"Sec-WebSocket-Protocol: {offered}"] if offered else [])))
    assert accepted.encoding is encoding
    assert answer(accepted).get("sec-websocket-protocol") == chosen


def test_a_bearer_entry_is_never_echoed_and_alone_it_is_400_that_says_so() -> None:
    accepted = decide(request("/ws", "Sec-WebSocket-Protocol: bearer.tok, tidings.plain", token=None))
    assert b"tok" not in accepted.response
    alone = refused(request("/ws", "Sec-WebSocket-Protocol: bearer.tok", token=None))
    assert (alone.status, alone.error) == (400, "subprotocol_missing")
    assert "tidings.v1" in alone.reason
    assert b"tok" not in refusal(alone).replace(b"token", b"")


def test_unknown_subprotocols_are_400() -> None:
    assert refused(request("/ws", "Sec-WebSocket-Protocol: soap, bearer.x")).error == "subprotocol_unknown"


# ---- web socket handshake


def test_a_web_socket_is_opened_as_rfc_6455_says() -> None:
    accepted = decide(request())
    assert accepted.response.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert accepted.response.endswith(b"\r\n\r\n")
    assert answer(accepted) == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }


def test_cursor_and_log_are_taken_from_the_query() -> None:
    accepted = decide(request("/ws?cursor=0%3A1,1:2&log=L&x=y"))
    assert (accepted.cursor, accepted.log) == ("0:1,1:2", "L")
    assert (decide(request()).cursor, decide(request()).log) == ("", "")


def test_a_plain_get_of_the_web_sockets_path_is_426() -> None:
    no = refused(without_upgrade("/ws"))
    assert (no.status, no.error) == (426, "upgrade_required")
    assert ("Upgrade", "websocket") in no.headers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"),
    ],
)
def test_a_wrong_web_socket_handshake_is_400(old: bytes, new: bytes) -> None:
    head = request().replace(old, new)
    assert (refused(head).status, refused(head).error) == (400, "bad_handshake")


@pytest.mark.parametrize("path", ["/ws", "/sse"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"HEAD", b"OPTIONS"])
def test_other_methods_are_405(path: str, method: bytes) -> None:
    no = refused(request(path).replace(b"GET", method, 1))
    assert (no.status, no.error) == (405, "method_not_allowed")
    assert ("Allow", "GET") in no.headers


@pytest.mark.parametrize("path", ["/", "/ws/", "/WS", "/sse/x", "/metrics", "*", "http://gateway.test/ws"])
def test_other_paths_are_404(path: str) -> None:
    assert (refused(request(path)).status, refused(request(path)).error) == (404, "not_found")


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /ws HTTP/2\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nA: b\r\nContent-Length: 5\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nA: b",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_request_is_400(head: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(head)
    assert (caught.value.status, caught.value.error) == (400, "bad_request")


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_HEADER_BYTES")
def test_a_line_or_a_number_of_headers_that_is_too_big_is_431() -> None:
    for head in (
        request("/ws?" + "x" * 9_000),
        request("/ws", "X: " + "y" * 9_000),
        request("/ws", *(f"X-{number}: 1" for number in range(200))),
    ):
        with pytest.raises(Refused) as caught:
            parse_request(head)
        assert (caught.value.status, caught.value.error) == (431, "header_too_big")


# ---- origin


@pytest.mark.parametrize(
    "origin",
    ["http://gateway.test", "https://gateway.test", "http://gateway.test:80", "https://gateway.test:443"],
)
def test_a_page_of_the_same_host_is_allowed(origin: str) -> None:
    assert decide(request("/ws", f"Origin: {origin}")).user == "alice"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.test",
        "http://gateway.test:8080",
        "http://gateway.test.evil.test",
        "null",
        "ftp://gateway.test",
        "http://gateway.test:port",
        "http://[",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/ws", "/sse"])
def test_a_page_of_another_host_is_403(origin: str, path: str) -> None:
    no = refused(request(path, f"Origin: {origin}"))
    assert (no.status, no.error) == (403, "origin_refused")


def test_the_port_asked_counts() -> None:
    head = request("/ws", "Origin: http://gateway.test:8080").replace(b"Host: gateway.test", b"Host: Gateway.test:8080")
    assert decide(head).user == "alice"


def test_two_origins_or_two_hosts_are_403() -> None:
    same = "Origin: http://gateway.test"
    assert refused(request("/ws", same, same)).status == 403
    assert refused(request("/ws", same, "Host: gateway.test")).status == 403
    assert refused(request("/ws", same, same), Policy(origins=frozenset("*"))).status == 403


def test_a_list_opens_the_origin_and_the_same_host_stays_allowed() -> None:
    policy = Policy(origins=frozenset({"https://app.test"}))
    assert decide(request("/ws", "Origin: https://app.test"), policy).user == "alice"
    assert decide(request("/ws", "Origin: https://gateway.test"), policy).user == "alice"
    assert refused(request("/ws", "Origin: https://app.test:8443"), policy).status == 403
    assert decide(request("/ws", "Origin: null"), Policy(origins=frozenset({"*"}))).user == "alice"


def test_where_every_page_may_connect_cookies_count_only_for_those_that_are_trusted() -> None:
    cookie = "Cookie: tidings_token=alice"
    everywhere = Policy(origins=frozenset({"*", "https://app.test"}))
    for path, head in (("/ws", request), ("/sse", without_upgrade)):
        stranger = refused(head(path, "Origin: https://evil.test", cookie, token=None), everywhere)
        assert (stranger.status, stranger.error) == (401, "invalid_token")
        for page in ("https://app.test", "https://gateway.test"):
            assert decide(head(path, f"Origin: {page}", cookie, token=None), everywhere).user == "alice"
        assert decide(head(path, cookie, token=None), everywhere).user == "alice", "no browser"
        shown = decide(head(f"{path}?token=alice", "Origin: https://evil.test", cookie, token=None), everywhere)
        assert b"Allow-Credentials" not in shown.response
    ours = decide(without_upgrade("/sse", "Origin: https://app.test"), everywhere)
    assert b"Access-Control-Allow-Credentials: true\r\n" in ours.response
    other = decide(without_upgrade("/sse", "Origin: https://evil.test"), everywhere)
    assert b"Access-Control-Allow-Origin: https://evil.test\r\n" in other.response


def test_without_an_origin_it_is_no_browser() -> None:
    assert decide(request(), Policy(origins=frozenset({"https://app.test"}))).user == "alice"


# ---- addresses

PROXIES = Policy(trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("192.0.2.1", ["X-Forwarded-For: 1.2.3.4"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["X-Forwarded-For: 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.2.3.4 , 10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", ["X-Forwarded-For: 10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["X-Forwarded-For: 1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["X-Forwarded-For: 1.2.3.4, 10.9.9.9:80"], "10.0.0.1"),
        ("10.0.0.1", ["X-Forwarded-For: , 10.9.9.9"], "10.9.9.9"),
        ("fd00::1", ["X-Forwarded-For: 2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["X-Forwarded-For: 1.2.3.4"], "1.2.3.4"),
        ("::ffff:192.0.2.1", ["X-Forwarded-For: 1.2.3.4"], "::ffff:192.0.2.1"),
        ("", ["X-Forwarded-For: 1.2.3.4"], ""),
    ],
)
def test_the_address_is_believed_as_far_as_proxies_are_trusted(peer: str, lines: list[str], address: str) -> None:
    assert decide(request("/ws", *lines), PROXIES, peer).address == address
    assert decide(without_upgrade("/sse", *lines), PROXIES, peer).address == address


def test_without_trusted_proxies_the_header_counts_for_nothing() -> None:
    assert decide(request("/ws", "X-Forwarded-For: 1.2.3.4"), None, "10.0.0.1").address == "10.0.0.1"


# ---- compression


def extensions(*offers: str, policy: Policy | None = None) -> tuple[Accepted, str | None]:
    lines = [f"Sec-WebSocket-Extensions: {offer}" for offer in offers]
    accepted = decide(request("/ws", "Sec-WebSocket-Protocol: tidings.v1", *lines), policy)
    return accepted, answer(accepted).get("sec-websocket-extensions")


def test_permessage_deflate_is_negotiated_without_context_on_either_side() -> None:
    accepted, agreed = extensions("permessage-deflate; client_max_window_bits")
    assert accepted.encoding is Encoding.V1_DEFLATE
    assert accepted.inflate
    assert agreed is not None
    assert {"server_no_context_takeover", "client_no_context_takeover"} <= set(agreed.split("; "))
    assert decide(request("/ws", "Sec-WebSocket-Extensions: permessage-deflate")).encoding is Encoding.PLAIN_DEFLATE


@pytest.mark.parametrize("bits", [8, 9, 10, 11])
def test_a_client_that_asks_for_a_smaller_window_is_declined_and_not_broken(bits: int) -> None:
    accepted, agreed = extensions(f"permessage-deflate; server_max_window_bits={bits}")
    assert (accepted.encoding, accepted.inflate, agreed) == (Encoding.V1, False, None)


@pytest.mark.parametrize("bits", [12, 15])
def test_a_client_that_allows_our_window_gets_it(bits: int) -> None:
    accepted, agreed = extensions(f"permessage-deflate; server_max_window_bits={bits}")
    assert accepted.encoding is Encoding.V1_DEFLATE
    assert agreed is not None
    assert "server_max_window_bits=12" in agreed


@pytest.mark.parametrize("offers", [["x-other"], ["permessage-deflate; nonsense=1"], ["permessage-deflate; x"]])
def test_other_extensions_are_declined(offers: list[str]) -> None:
    accepted, agreed = extensions(*offers)
    assert (accepted.encoding, agreed) == (Encoding.V1, None)


def test_one_clients_compression_is_not_anothers() -> None:
    gatekeeper = Gatekeeper(Policy(), verify)
    packed = parse_request(request("/ws", "Sec-WebSocket-Extensions: permessage-deflate"))
    assert gatekeeper.decide(packed, PEER, NOW).inflate
    assert not gatekeeper.decide(parse_request(request()), PEER, NOW).inflate


def test_compression_can_be_turned_off() -> None:
    accepted, agreed = extensions("permessage-deflate", policy=Policy(compress=False))
    assert (accepted.encoding, accepted.inflate, agreed) == (Encoding.V1, False, None)


# ---- Server-Sent Events


def test_an_event_stream_is_opened() -> None:
    accepted = decide(without_upgrade("/sse?cursor=q&log=L"))
    assert accepted.response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer(accepted)["content-type"] == "text/event-stream; charset=utf-8"
    assert answer(accepted)["transfer-encoding"] == "chunked"
    assert "no-cache" in answer(accepted)["cache-control"]
    assert (accepted.encoding, accepted.user, accepted.cursor, accepted.log) == (Encoding.SSE, "alice", "q", "L")
    assert "access-control-allow-origin" not in answer(accepted)


def test_last_event_id_wins_over_the_cursor_of_the_query() -> None:
    assert decide(without_upgrade("/sse?cursor=q", "Last-Event-ID: e")).cursor == "e"
    assert decide(without_upgrade("/sse?cursor=q", "Last-Event-ID:")).cursor == "q"


def test_an_allowed_page_may_read_the_stream() -> None:
    lines = answer(decide(without_upgrade("/sse", "Origin: https://gateway.test")))
    assert lines["access-control-allow-origin"] == "https://gateway.test"
    assert lines["access-control-allow-credentials"] == "true"
    assert lines["vary"] == "Origin"


def test_a_preflight_is_answered_without_a_token() -> None:
    head = without_upgrade("/sse", "Origin: https://gateway.test", token=None).replace(b"GET", b"OPTIONS", 1)
    preflight = refused(head)
    assert preflight.status == HTTPStatus.NO_CONTENT
    raw = refusal(preflight, Origin("https://gateway.test", trusted=True))
    assert raw.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Content-Length" not in raw, "RFC 9110, section 8.6"
    assert raw.endswith(b"\r\n\r\n")
    assert b"Access-Control-Allow-Methods: GET\r\n" in raw
    assert b"Access-Control-Allow-Origin: https://gateway.test\r\n" in raw
    assert b"Authorization" in raw


def test_a_preflight_of_another_origin_is_403() -> None:
    head = without_upgrade("/sse", "Origin: http://evil.test", token=None).replace(b"GET", b"OPTIONS", 1)
    assert refused(head).status == 403


def test_a_stream_over_http_1_0_is_505() -> None:
    no = refused(without_upgrade("/sse").replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"))
    assert (no.status, no.error) == (505, "http_version")


# ---- the refusal itself


def test_a_refusal_is_json_with_error_and_reason_and_closes() -> None:
    raw = refusal(Refused(HTTPStatus.TOO_MANY_REQUESTS, "user_limit", "Töö many.", [("Retry-After", "30")]))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert json.loads(body) == {"error": "user_limit", "reason": "Töö many."}
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Retry-After: 30" in head
    assert b"Connection: close" in head
    assert b"Access-Control" not in head
