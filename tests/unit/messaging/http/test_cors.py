"""Pages of listed origins may call; others get no permission; the cookie is never for every page."""

from tidings.messaging.http.cors import Cors

PAGE = (b"origin", b"https://chat.example")
ASKS = (b"access-control-request-method", b"POST")


def names(cors: Cors, *headers: tuple[bytes, bytes], method: str = "GET") -> tuple[dict[bytes, bytes], bool]:
    lines, preflight = cors.lines(headers, method)
    assert len(dict(lines)) == len(lines)
    return dict(lines), preflight


def test_without_a_list_no_page_of_another_host_is_allowed() -> None:
    lines, preflight = names(Cors([]), PAGE)
    assert b"access-control-allow-origin" not in lines
    assert not preflight


def test_a_listed_page_may_read_answers_and_use_the_cookie() -> None:
    lines, _ = names(Cors(["https://chat.example"]), PAGE)
    assert lines[b"access-control-allow-origin"] == b"https://chat.example"
    assert lines[b"access-control-allow-credentials"] == b"true"
    assert lines[b"vary"] == b"Origin"


def test_other_pages_get_no_permission_but_caches_know_that_it_depends() -> None:
    lines, _ = names(Cors(["https://chat.example"]), (b"origin", b"https://chat.example.evil.example"))
    assert lines == {b"vary": b"Origin"}
    assert names(Cors(["https://chat.example"])) == ({b"vary": b"Origin"}, False)


def test_every_page_may_call_but_not_with_the_cookie() -> None:
    lines, _ = names(Cors(["*"]), PAGE)
    assert lines[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in lines


def test_a_browsers_question_beforehand_is_answered_with_methods_and_headers() -> None:
    lines, preflight = names(Cors(["https://chat.example"]), PAGE, ASKS, method="OPTIONS")
    assert preflight
    assert b"DELETE" in lines[b"access-control-allow-methods"]
    assert b"Idempotency-Key" in lines[b"access-control-allow-headers"]


def test_that_question_from_another_page_is_answered_with_nothing() -> None:
    lines, preflight = names(Cors(["https://chat.example"]), (b"origin", b"null"), ASKS, method="OPTIONS")
    assert preflight
    assert lines == {b"vary": b"Origin"}


def test_options_without_that_question_is_an_ordinary_request() -> None:
    assert not names(Cors(["*"]), PAGE, method="OPTIONS")[1]
    assert not names(Cors(["*"]), PAGE, ASKS)[1]
    assert not names(Cors(["*"]), PAGE, (b"host", b"chat.example"), (b"accept", b"*/*"), method="OPTIONS")[1]


def test_the_cookie_counts_for_no_page_and_for_those_of_the_same_host_or_the_list() -> None:
    host = (b"host", b"api.example:8081")
    own = (b"origin", b"http://api.example:8081")
    for cors in (Cors([]), Cors(["https://chat.example"]), Cors(["*"])):
        assert cors.may_use_cookie([host])
        assert cors.may_use_cookie([host, own])
        assert not cors.may_use_cookie([host, (b"origin", b"http://api.example:3000")])
        assert not cors.may_use_cookie([host, (b"origin", b"null")])
    assert Cors(["https://chat.example"]).may_use_cookie([host, PAGE])
    assert Cors(["*", "https://chat.example"]).may_use_cookie([host, PAGE])
    assert not Cors(["*"]).may_use_cookie([host, PAGE])
    assert not Cors(["*"]).may_use_cookie([host, (b"origin", b"*")])


def test_of_two_origins_or_two_hosts_none_is_believed() -> None:
    host = (b"host", b"api.example")
    own = (b"origin", b"https://api.example")
    assert not Cors(["https://chat.example"]).may_use_cookie([host, PAGE, PAGE])
    assert not Cors([]).may_use_cookie([host, host, own])
    assert not Cors([]).may_use_cookie([own])


def test_a_listed_page_may_use_the_cookie_also_where_every_page_may_call() -> None:
    cors = Cors(["*", "https://chat.example"])
    listed, _ = names(cors, PAGE)
    assert listed[b"access-control-allow-origin"] == b"https://chat.example"
    assert listed[b"access-control-allow-credentials"] == b"true"
    other, _ = names(cors, (b"origin", b"https://other.example"))
    assert other[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in other
    for lines in (listed, other, names(cors)[0]):
        assert lines[b"vary"] == b"Origin"
    assert b"vary" not in names(Cors(["*"]), PAGE)[0]
