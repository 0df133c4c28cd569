"""One line per event, the same for ours and the libraries', bounded, without a token, never in the way."""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from tests.unit.test_redaction import TOKEN
from tidings.config import LogSettings
from tidings.log import MAX_LINE_CHARS, QUEUE_LINES, Stopper, setup

Start = Callable[..., Stopper]


@pytest.fixture
def start() -> Iterator[Start]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    stoppers: list[Stopper] = []

    def begin(stream: io.TextIOBase, **settings: Any) -> Stopper:
        stoppers.append(setup(LogSettings(**settings), stream))  # type: ignore[arg-type]
        return stoppers[-1]

    yield begin
    for stop in stoppers:
        stop()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_of_both_loggers(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, format="json")
    structlog.get_logger("tidings.x").info("started", port=8080, node="n1")
    logging.getLogger("aiokafka.fetcher").warning("lost %s", "broker", extra={"partition": 3})
    stop()
    ours, theirs = lines(out)
    assert list(ours) == ["ts", "level", "logger", "event", "port", "node"]
    assert (ours["level"], ours["event"], ours["port"], ours["logger"]) == ("info", "started", 8080, "tidings.x")
    assert ours["ts"].endswith("Z")
    assert (theirs["level"], theirs["event"], theirs["partition"]) == ("warning", "lost broker", 3)


def test_no_token_in_any_field(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, format="json")
    log = structlog.get_logger("x")
    log.info(
        f"GET /ws?token={TOKEN}", url=f"ws://h/?token={TOKEN}", headers={"Cookie": TOKEN, "a": [TOKEN]}, token="abc"
    )
    log.bind(path=TOKEN).info("bound %s", TOKEN)
    logging.getLogger("websockets.server").warning("< GET /ws?token=%s HTTP/1.1", TOKEN)
    logging.getLogger("aiohttp").warning("%r", {"Authorization": f"Bearer {TOKEN}"})
    logging.getLogger("y").warning("x", extra={"authorization": "Basic abcdefgh", TOKEN: 1})
    try:
        raise ValueError(f"bad token {TOKEN}")
    except ValueError as error:
        log.exception("failed", error=error)
        logging.getLogger("z").exception("failed")
        log.warning("with stack", stack_info=True, cause=error)
    stop()
    text = out.getvalue()
    assert len(lines(out)) == 8
    for part in TOKEN.split("."):
        assert part not in text
    assert "abcdefgh" not in text
    assert '"token":"[redacted]"' in text


def test_console_for_people_and_nothing_paints_it(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, format="console")
    structlog.get_logger("x").info("started", token=TOKEN, name="a\x1b[31mb")
    logging.getLogger("y").warning("one\ntwo \x1b]0;title\x07 %s", TOKEN)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("z").exception("failed")
    stop()
    text = out.getvalue()
    assert "\x1b" not in text
    assert TOKEN not in text
    assert "one\\ntwo" in text
    assert "\nValueError: boom\n" in text
    assert not text.startswith("{")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_auto_is_console_on_a_terminal_and_json_elsewhere(start: Start) -> None:
    for out, json_expected in [(io.StringIO(), True), (Terminal(), False)]:
        stop = start(out)
        structlog.get_logger("x").info("hello")
        stop()
        assert out.getvalue().startswith("{") == json_expected


def test_the_level_counts_for_all(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, level="warning", format="json")
    structlog.get_logger("x").info("no")
    logging.getLogger("aiokafka").info("no")
    structlog.get_logger("x").warning("yes")
    stop()
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_libraries_are_quiet_below_warning(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, level="info", format="json")
    logging.getLogger("aiokafka.consumer").info("no")
    logging.getLogger("websockets.server").info("connection open")
    stop()
    assert lines(out) == []


def test_lines_are_bounded(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, format="json")
    log = structlog.get_logger("x")
    log.info("x" * 100_000)
    log.info("many", **{f"field{n}": "y" * 3_000 for n in range(30)})
    log.info("nested", value={str(n): ["z" * 3_000] * 100 for n in range(100)})
    try:
        raise ValueError("w" * 100_000)
    except ValueError:
        log.exception("failed", **{f"field{n}": "y" * 3_000 for n in range(30)})
    stop()
    assert all(len(line) <= MAX_LINE_CHARS for line in out.getvalue().splitlines())
    found = lines(out)
    assert [line["event"][:6] for line in found] == ["xxxxxx", "many", "nested", "failed"]
    assert found[1]["cut_chars"] > MAX_LINE_CHARS
    assert "ValueError" in found[3]["exception"]


class Blocked(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(10)
        return super().write(text)


def test_a_reader_that_stands_still_holds_nobody(start: Start) -> None:
    out = Blocked()
    stop = start(out, format="json")
    log = logging.getLogger("x")
    for number in range(QUEUE_LINES + 500):
        log.warning("line %d", number)
    assert stop.handler.dropped >= 490
    out.go.set()
    stop(10)
    events = [line["event"] for line in lines(out)]
    assert "log_lines_dropped" in events
    assert events[0] == "line 0"


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_is_survived(start: Start) -> None:
    stop = start(Closed(), format="json")
    logging.getLogger("x").warning("one")
    logging.getLogger("x").warning("two")
    stop()
    assert stop.handler.dropped == 2


def test_odd_text_is_written_somehow(start: Start) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    stop = start(out, format="json")
    logging.getLogger("x").warning("\ud800 ü 😀")
    logging.getLogger("x").warning("%d", "not a number")
    stop()
    out.flush()
    found = raw.getvalue().decode().splitlines()
    assert len(found) == 2
    assert "log_failed" in found[1]


def test_a_line_says_what_the_standard_library_would_say(start: Start) -> None:
    fields = {"text": 'ü 😀 \u2028\x7f\x01"\\', "many": [1, -(1 << 63), 0.1, None, True], "inner": {"a": {"b": "c"}}}
    for text in ("whole", "half a pair: \ud800"):
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="utf-8")
        stop = start(out, format="json")
        structlog.get_logger("x").info(text, **fields)
        stop()
        out.flush()
        line = raw.getvalue().decode().removesuffix("\n")
        content = json.loads(line)
        assert {name: content[name] for name in fields} == fields
        assert content["event"] == text.replace("\ud800", "?")
        assert line == json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def test_lines_are_written_by_orjson(start: Start) -> None:
    out = io.StringIO()
    stop = start(out, format="json")
    structlog.get_logger("x").info("share", of=1e-7)
    stop()
    assert out.getvalue().endswith(',"of":1e-7}\n')  # the standard library: 1e-07


def test_a_second_setup_replaces_the_first(start: Start) -> None:
    first, second = io.StringIO(), io.StringIO()
    start(first, format="json")
    stop = start(second, format="json")
    logging.getLogger("x").warning("hello")
    stop()
    assert first.getvalue() == ""
    assert len(lines(second)) == 1
