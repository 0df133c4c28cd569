"""Frames from their text: what a gateway may send is understood, everything else is named."""

import contextlib
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from tidings_client import Event, ProtocolViolation, Resync
from tidings_client.frames import Checkpoint, Drain, Problem, Welcome, decode, may_be_control, token_frame


def text(type_: str, data: Any, **more: Any) -> bytes:
    return json.dumps({"type": type_, **more, "data": data}).encode()


def test_an_event_with_its_place() -> None:
    assert decode(b'{"type":"update","at":"3:18","data":{"a":[1]}}') == Event("update", {"a": [1]}, "3:18")


def test_a_signal_has_no_place() -> None:
    assert decode(b'{"type":"typing","data":null}') == Event("typing", None, None)


def test_control_frames() -> None:
    greeting = {"session": "s", "node": "n", "log": "l", "cursor": "0:1", "resumed": True, "heartbeat_s": 25}
    assert decode(text("$welcome", greeting | {"new": 1})) == Welcome("s", "n", "l", "0:1", True, 25.0)
    assert decode(text("$checkpoint", {"cursor": ""})) == Checkpoint("")
    assert decode(text("$drain", {"reconnect_after_ms": 1500})) == Drain(1.5)
    assert decode(text("$error", {"reason": "r"})) == Problem("r")
    found = decode(text("$resync", {"reason": "ahead", "log": "l", "cursor": "0:1"}))
    assert isinstance(found, Resync)
    assert (found.type, found.reason, found.log, found.cursor) == ("$resync", "ahead", "l", "0:1")


def test_a_kind_of_control_frame_of_a_later_version_is_passed_over() -> None:
    assert decode(text("$later", {"x": 1})) is None


def test_every_control_frame_is_noticed_before_it_is_decoded() -> None:
    assert may_be_control(text("$checkpoint", {"cursor": ""}))
    assert may_be_control(b'{"data":{},"type" : "$checkpoint"}')
    assert not may_be_control(b'{"type":"update","at":"3:18","data":"it costs 5$"}')


def test_an_integer_that_python_does_not_convert_is_no_reason_to_stop() -> None:
    event = decode(b'{"type":"u","at":"0:1","data":[1,' + b"9" * 5000 + b"]}")
    assert isinstance(event, Event)
    assert event.data == [1, Decimal("9" * 5000)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"type":"u"}',
        b'{"type":1,"data":1}',
        b'{"type":"u","at":7,"data":1}',
        b'{"type":"u","at":"7","data":1}',
        b'{"type":"$welcome","data":{}}',
        b'{"type":"$checkpoint","data":{"cursor":"x"}}',
        b'{"type":"$checkpoint","data":{"cursor":5}}',
        b'{"type":"$drain","data":{"reconnect_after_ms":"soon"}}',
        b'{"type":"$drain","data":{"reconnect_after_ms":1' + b"0" * 400 + b"}}",
        b'{"type":"$resync","data":[]}',
        b'{"type":"u","data":' + b"[" * 100_000,
    ],
)
def test_what_no_gateway_sends_is_a_violation(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode(payload)


def test_any_bytes_are_a_frame_or_a_violation() -> None:
    rnd = random.Random(7)
    good = text("$welcome", {"session": "s", "node": "n", "log": "l", "cursor": "0:1", "resumed": 1, "heartbeat_s": 1})
    for _ in range(3000):
        broken = bytearray(good)
        for _ in range(rnd.randrange(1, 4)):
            broken[rnd.randrange(len(broken))] = rnd.randrange(256)
        with contextlib.suppress(ProtocolViolation):
            decode(bytes(broken))


def test_a_token_is_shown_as_agreed() -> None:
    assert json.loads(token_frame("a.b.c")) == {"type": "$token", "data": {"token": "a.b.c"}}
