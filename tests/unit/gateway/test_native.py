"""The native protocol: control frames as the contract has them, client frames as they come."""

import json

import msgspec
import pytest

from tidings.contract.control import TO_CLIENT, TO_SSE_CLIENT
from tidings.gateway.protocols import native
from tidings.gateway.protocols.native import ClientError, RenewToken, interpret

CONTROLS = {**TO_CLIENT, **TO_SSE_CLIENT}
FRAMES = [
    native.welcome("s", "n", "log", "0:1", resumed=False, heartbeat_s=25.0),
    native.checkpoint("0:1,1:2"),
    native.resync("expired", "log", "0:1"),
    native.drain(0),
    native.error("no"),
    native.close_event(4008),
]


@pytest.mark.parametrize("payload", FRAMES, ids=lambda payload: str(json.loads(payload)["type"]))
def test_control_frames_are_those_of_the_contract(payload: bytes) -> None:
    frame = json.loads(payload)
    assert list(frame) == ["type", "data"]
    struct = CONTROLS[frame["type"]]
    msgspec.convert(frame["data"], struct, strict=True)
    assert set(frame["data"]) == set(struct.__struct_fields__)


def test_every_control_frame_of_the_contract_can_be_built() -> None:
    assert {json.loads(payload)["type"] for payload in FRAMES} == set(CONTROLS)


def test_a_token_is_renewed() -> None:
    assert interpret(b'{"type":"$token","data":{"token":"abc"}}') == RenewToken("abc")
    assert interpret(b' {"data":{"more":1,"token":"x"},"other":[],"type":"$token"} ') == RenewToken("x")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "a client frame is {type, data}"),
        (b"hello", "a client frame is {type, data}"),
        (b"[]", "a client frame is {type, data}"),
        (b'{"type":"$token"}', "a client frame is {type, data}"),
        (b'{"type":1,"data":{}}', "a client frame is {type, data}"),
        (b"[" * 60_000, "a client frame is {type, data}"),
        (b'{"type":"typing","data":{}}', "only $token is understood"),
        (b'{"type":"$disconnect","data":{}}', "only $token is understood"),
        (b'{"type":"$token","data":{}}', "$token wants data {token}"),
        (b'{"type":"$token","data":{"token":7}}', "$token wants data {token}"),
        (b'{"type":"$token","data":null}', "$token wants data {token}"),
        (b'{"type":"$token","data":' + b"[" * 60_000 + b"]" * 60_000 + b"}", ""),
    ],
)
def test_anything_else_is_answered_with_a_reason(payload: bytes, reason: str) -> None:
    answer = interpret(payload)
    assert isinstance(answer, ClientError)
    assert not reason or answer.reason == reason
