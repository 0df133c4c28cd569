"""The gateway's pure parts against models that are too simple to be wrong."""

import json
from collections import defaultdict
from functools import partial
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway_fakes import LogEntry, Member, client_frame, parse_sse, record, server_frames, unchunked
from tidings.errors import UnknownKey
from tidings.gateway.backlog import Backlog, Verdict
from tidings.gateway.frames import Encoding, sse_event
from tidings.gateway.handshake import Gatekeeper, Policy, parse_request
from tidings.gateway.protocols.native import ClientError, RenewToken, interpret
from tidings.gateway.refusals import Refused, refusal
from tidings.gateway.registry import Registry
from tidings.gateway.repeats import REPEAT_RECORDS, REPEAT_SECONDS, Repeats
from tidings.gateway.router import Routed, Router, Subscriber
from tidings.gateway.timers import TimerWheel
from tidings.gateway.window import Window
from tidings.gateway.wsframes import ClientEvent, ClientFrames, ProtocolViolation, deflate
from tidings.tokens import Claims

calm = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# ---- registry and router

USERS = ["alice", "bob", "carol", "1"]
receiver = st.sampled_from([*USERS, "stranger", 1])
value = st.one_of(
    st.lists(receiver, max_size=6).map(lambda names: ("good", names)),
    st.sampled_from(
        [b"", b"{", b'{"receivers":["alice"],"type":"$x","data":1}', b'{"receivers":[1.5],"type":"t"}']
    ).map(lambda poison: ("poison", poison)),
    st.just(("null", None)),
)
step = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(USERS), st.sampled_from(list(Encoding))),
    st.tuples(st.just("close"), st.integers(0, 30), st.none()),
    st.tuples(
        st.just("batch"),
        st.integers(0, 2),
        st.lists(
            st.tuples(value, st.sampled_from([None, b"a", b"b", b"c"]), st.integers(1, 3)), min_size=1, max_size=8
        ),
    ),
    st.tuples(st.just("gather"), st.booleans(), st.none()),
)


def read(member: Member) -> list[tuple[str | None, Any]]:
    """Position (where the encoding has one) and data of each frame that a member got."""
    stream = b"".join(member.got)
    if member.encoding == Encoding.SSE:
        return [(None, json.loads(data)["data"]) for data, _ in parse_sse(unchunked(stream))]
    frames = [frame.json for frame in server_frames(stream)]
    return [(frame.get("at"), frame["data"]) for frame in frames]


@calm(max_examples=200)
@given(st.lists(step, max_size=40))
def test_nothing_is_lost_repeated_reordered_or_delivered_to_a_stranger(steps: list[Any]) -> None:
    registry: Registry[Subscriber] = Registry()
    router = Router(registry, compress_min_bytes=1, window=Window(1 << 20, 3600))
    members: list[Member] = []
    open_: list[Member] = []
    wanted: dict[int, list[tuple[str | None, Any]]] = defaultdict(list)
    offsets = {0: 100, 1: 200, 2: 300}
    for partition, offset in offsets.items():
        router.begin(partition, offset, None)
    ids: set[tuple[int, bytes]] = set()
    serial = 0
    gather = False
    waiting: list[Subscriber] = []
    for kind, one, other in steps:
        if kind == "connect":
            member = Member(one, other)
            members.append(member)
            first = all(present.user != one for present in open_)
            open_.append(member)
            assert registry.add(member) == first
        elif kind == "close":
            if open_:
                member = open_.pop(one % len(open_))
                member.flush()  # as a connection does before it ends
                assert registry.remove(member) == all(present.user != member.user for present in open_)
        elif kind == "gather":
            gather = one
        else:
            partition, entries = one, []
            for (what, content), id_, hole in other:
                offsets[partition] += hole
                offset = offsets[partition]
                serial += 1
                body = record(content, data=str(serial)) if what == "good" else content
                entries.append(LogEntry(offset, body, headers=[("id", id_)] if id_ else []))
                if what != "good":
                    continue
                if id_ is not None and (partition, id_) in ids:
                    continue
                if id_ is not None:
                    ids.add((partition, id_))
                for member in open_:
                    if member.user in {str(name) for name in content}:
                        has_at = member.encoding in (Encoding.V1, Encoding.V1_DEFLATE)
                        wanted[id(member)].append((f"{partition}:{offset + 1}" if has_at else None, serial))
            routed = Routed()
            router.route_modifications("m", partition, entries, offsets[partition] + 1, routed)
            before = {id(member): member.writes for member in members}
            waited = {id(member) for member in waiting}
            waiting = routed.write(waiting, gather=gather)
            assert gather or not waiting
            assert waited.isdisjoint(id(member) for member in waiting), "nobody waits twice"
            assert all(member.writes - before[id(member)] <= 1 for member in members)
            assert router.positions[partition] == offsets[partition] + 1
            assert sum(routed.outcomes.values()) == len(entries)
        assert set(registry) == set(open_)
        assert len(registry) == len(open_)
    Routed().write(waiting)
    for member in members:
        assert read(member) == wanted[id(member)]
        assert member.inbox == []


# ---- the frame parser

LIMIT = 300
payload = st.text(max_size=60).map(str.encode)
mask = st.binary(min_size=4, max_size=4)


@st.composite
def message(draw: st.DrawFn) -> tuple[list[bytes], list[ClientEvent]]:
    """The frames of one message, control frames between them, and the events they come to."""
    opcode = draw(st.sampled_from([1, 2]))
    parts = draw(st.lists(payload, min_size=1, max_size=4))
    compressed = draw(st.booleans())
    whole = b"".join(parts)
    if compressed:
        body = _body_of(deflate(whole))
        cut = draw(st.integers(0, len(body)))
        parts = draw(st.sampled_from([[body], [body[:cut], body[cut:]]]))
    frames, events = [], []
    for index, part in enumerate(parts):
        frames.append(
            client_frame(
                opcode if index == 0 else 0,
                part,
                fin=index == len(parts) - 1,
                rsv=4 if compressed and index == 0 else 0,
                mask=draw(mask),
                length_form=draw(st.sampled_from([0, 126, 127])),
            )
        )
        if index < len(parts) - 1 and draw(st.booleans()):
            control, text = draw(st.sampled_from([9, 10])), draw(st.binary(max_size=125))
            frames.append(client_frame(control, text, mask=draw(mask)))
            events.append(ClientEvent(control, text))
    events.append(ClientEvent(opcode, whole))
    return frames, events


def fed(parser: ClientFrames, chunk: bytes) -> tuple[list[ClientEvent], ProtocolViolation | None]:
    try:
        return parser.feed(chunk), None
    except ProtocolViolation as violation:
        return violation.events, violation


def _body_of(frame: bytes) -> bytes:
    length = frame[1]
    return frame[2:] if length < 126 else frame[4:]


@calm(max_examples=100)
@given(st.lists(message(), max_size=4), st.lists(st.integers(1, 80), min_size=1, max_size=20))
def test_any_chunking_of_valid_frames_gives_the_same_events(
    messages: list[tuple[list[bytes], list[ClientEvent]]], sizes: list[int]
) -> None:
    stream = b"".join(frame for frames, _ in messages for frame in frames)
    wanted = [event for _, events in messages for event in events]
    parser = ClientFrames(1_000, inflate=True)
    got: list[ClientEvent] = []
    for size in cycle(sizes):
        if not stream:
            break
        got += parser.feed(stream[:size])
        stream = stream[size:]
        assert parser.held_bytes <= 1_000 + 14
    assert got == wanted
    assert parser.held_bytes == 0


@calm(max_examples=150)
@given(
    st.lists(st.one_of(st.binary(max_size=60), message().map(lambda made: b"".join(made[0]))), max_size=20),
    st.booleans(),
)
def test_any_bytes_give_events_or_a_violation_and_little_is_held(chunks: list[bytes], inflate: bool) -> None:
    parser = ClientFrames(LIMIT, inflate=inflate)
    for chunk in chunks:
        events, violation = fed(parser, chunk)
        if violation is not None:
            assert violation.code in (1002, 1007, 1009)
            assert violation.reason
            break
        assert all(len(event.payload) <= LIMIT for event in events)
        # A message up to the limit, and a control frame that came only half between its fragments.
        assert parser.held_bytes <= LIMIT + 1 + 14 + 125
        if any(event.opcode == 8 for event in events):
            break


# ---- handshake

piece = st.one_of(
    st.sampled_from(
        [
            b"GET /ws HTTP/1.1\r\n",
            b"OPTIONS /sse?cursor=1 HTTP/1.1\r\n",
            b"GET /sse?token=%ff&a=b HTTP/1.1\r\n",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            b"Sec-WebSocket-Extensions: ",
            b"Sec-WebSocket-Protocol: ",
            b"Authorization: Bearer ",
            b"Origin: ",
            b"Cookie: tidings_token=",
            b"Host: ",
            b"X-Forwarded-For: ",
            b"Last-Event-ID: ",
            b"permessage-deflate; server_max_window_bits=",
            b"tidings.v1, bearer.x",
            b"http://h",
            b"[::1",
            b"\r\n",
            b"\xff",
        ]
    ),
    st.binary(max_size=8),
)


def _verify(token: str, now: float) -> Claims:
    return Claims(token, now + 60, now + 70, {})


@calm(max_examples=200)
@given(st.lists(piece, max_size=20), st.booleans())
def test_any_request_is_accepted_or_refused_and_the_answer_can_be_written(pieces: list[bytes], anywhere: bool) -> None:
    gatekeeper = Gatekeeper(Policy(origins=frozenset("*" if anywhere else "")), _verify)
    origin = None
    try:
        request = parse_request(b"".join(pieces) + b"\r\n\r\n")
        origin = gatekeeper.allowed_origin(request)
        accepted = gatekeeper.decide(request, "192.0.2.1", 0.0)
    except Refused as refused:
        answer = refusal(refused, origin)
        assert answer.startswith(b"HTTP/1.1 ")
        assert answer.partition(b"\r\n\r\n")[0].count(b"\n") == answer.partition(b"\r\n\r\n")[0].count(b"\r\n")
    except UnknownKey:
        pytest.fail("no key is unknown here")
    else:
        assert accepted.response.endswith(b"\r\n\r\n")


@calm()
@given(st.one_of(st.binary(max_size=100), st.text(max_size=50).map(str.encode)))
def test_any_client_message_gives_a_command_or_an_error(message: bytes) -> None:
    assert isinstance(interpret(message), RenewToken | ClientError)


# ---- backlog, timers, repeats, events


@calm(max_examples=200)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.integers(0, 120)), max_size=60))
def test_a_backlog_neither_reorders_nor_loses_and_counts_exactly(steps: list[bytes | int]) -> None:
    backlog = Backlog(limit_bytes=400, slow_bytes=0, slow_after_s=1, now=0.0)
    model: list[bytes] = []
    for one in steps:
        if isinstance(one, bytes):
            model.append(one)
            verdict = backlog.push(one, 7)
            assert (verdict is Verdict.CLOSE_SLOW) == (sum(map(len, model)) + 7 > 400)
        else:
            taken = backlog.take(one)
            assert taken == model[: len(taken)]
            assert bool(taken) == bool(model)
            assert len(taken) <= 1 or sum(map(len, taken)) <= one
            del model[: len(taken)]
            assert not model or sum(map(len, taken)) + len(model[0]) > one
        assert backlog.bytes == sum(map(len, model))
        assert len(backlog) == len(model)
    assert backlog.take(1 << 30) == model


SLOT = 0.25


@calm(max_examples=300)
@given(st.lists(st.one_of(st.floats(0, 400), st.tuples(st.floats(0, 100))), max_size=60))
def test_the_timer_wheel_agrees_with_a_list(steps: list[float | tuple[float]]) -> None:
    now = 50.0
    wheel: TimerWheel[int] = TimerWheel(SLOT, now)
    waiting: dict[int, float] = {}
    for number, one in enumerate(steps):
        if isinstance(one, float):
            wheel.enter(number, one)
            waiting[number] = max(one, now)
            continue
        now += one[0]
        out = list(wheel.due(now))
        assert len(out) == len(set(out))
        for item in out:
            assert waiting.pop(item) <= now
        # At most two slots late: its own, and the one in which it was entered too late for the turn.
        assert all(due_at > now - 2 * SLOT for due_at in waiting.values())
    assert sorted(wheel.due(now + 1_000)) == sorted(waiting)


@calm(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", None]), st.integers(0, 9_000), st.integers(0, 200_000)),
        max_size=60,
    )
)
def test_repeats_are_those_of_a_model_that_keeps_everything(steps: list[tuple[bytes | None, int, int]]) -> None:
    repeats = Repeats(None)
    firsts: dict[bytes, tuple[int, int]] = {}
    timestamp_ms = 0
    for id_, records_between, ms in steps:
        repeats.records += 1 + records_between
        timestamp_ms += ms
        known = firsts.get(id_) if id_ is not None else None
        within = (
            known is not None
            and repeats.records - known[0] <= REPEAT_RECORDS
            and timestamp_ms - known[1] <= REPEAT_SECONDS * 1_000
        )
        assert repeats.is_repeat(id_, 0, timestamp_ms) == within
        if id_ is not None and not within:
            firsts[id_] = (repeats.records, timestamp_ms)


line = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=10)
text = st.lists(st.one_of(line, st.sampled_from(["\r", "\n", "\r\n", ":", " ", "data: ", "id: "])), min_size=1).map(
    "".join
)


@calm(max_examples=100)
@given(st.lists(st.tuples(text, st.sampled_from([None, "log.1.2", "x.0"])), max_size=5))
def test_an_event_reads_back_as_its_payload_but_for_the_kind_of_line_breaks(
    events: list[tuple[str, str | None]],
) -> None:
    stream = b"".join(sse_event(payload.encode(), event_id) for payload, event_id in events)
    last = None
    wanted = []
    for payload_, event_id in events:
        last = event_id or last
        wanted.append((payload_.replace("\r\n", "\n").replace("\r", "\n"), last))
    assert parse_sse(stream) == wanted
