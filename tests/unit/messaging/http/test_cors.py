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
