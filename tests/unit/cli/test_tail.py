"""Where `tidings tail` connects, and what it writes."""

import json
from io import StringIO

import click
import pytest
from rich.console import Console

from tidings.cli.tail import Mode, Printer, _close_code, client_url


@pytest.mark.parametrize(
    ("base", "mode", "url"),
    [
        ("http://h:1", "v1", "ws://h:1/ws"),
        ("http://h:1/", "plain", "ws://h:1/ws"),
        ("https://h", "v1", "wss://h/ws"),
        ("wss://h", "sse", "https://h/sse"),
        ("ws://h:1/ws", "v1", "ws://h:1/ws"),
        ("h:1", "sse", "http://h:1/sse"),
        ("https://h/chat/ws", "v1", "wss://h/chat/ws"),
    ],
)
def test_the_address_follows_from_the_node_and_the_protocol(base: str, mode: Mode, url: str) -> None:
    assert client_url(base, mode) == url


@pytest.mark.parametrize("base", ["ftp://h", "http://", "ws:///ws"])
def test_what_is_no_address_is_refused(base: str) -> None:
    with pytest.raises(click.BadParameter):
        client_url(base, "v1")


def test_json_lines_hold_the_frame_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(as_json=True)
    printer.frame('n"1', '{"type":"t","data":{"a": 1.50}}')
    printer.frame("n", "no json")
    printer.state("n", "connected")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == '{"node":"n\\"1","frame":{"type":"t","data":{"a": 1.50}}}'
    assert json.loads(second) == {"node": "n", "frame": "no json"}
    assert json.loads(third) == {"node": "n", "state": "connected"}


def test_control_frames_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(as_json=True, count=1)
    printer.frame("n", '{"type":"$welcome","data":{}}')
    assert not printer.done.is_set()
    printer.frame("n", '{"type":"t","data":1}')
    assert printer.done.is_set()
    printer.frame("n", '{"type":"late","data":1}')
    assert "late" not in capsys.readouterr().out


def test_for_people_nothing_in_a_frame_is_taken_for_markup() -> None:
    out = StringIO()
    printer = Printer(as_json=False, console=Console(file=out, soft_wrap=True))
    printer.frame("n", '{"type":"[bold]t","at":"1:2","data":"[red]x"}')
    printer.state("n", "[link]")
    assert "[bold]t 1:2" in out.getvalue()
    assert '"[red]x"' in out.getvalue()
    assert "[link]" in out.getvalue()


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ('{"type":"$close","data":{"code":4002}}', 4002),
        ('{"type":"$close","data":{}}', None),
        ('{"type":"$close","data":{"code":"4002"}}', None),
        ('{"type":"close","data":{"code":4002}}', None),
        ('{"type":"t","data":"$close"}', None),
        ('["$close"]', None),
        ("no json", None),
    ],
)
def test_a_close_event_of_server_sent_events_gives_its_code(event: str, code: int | None) -> None:
    assert _close_code(event) == code
