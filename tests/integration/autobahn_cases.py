"""The cases of groups 1 to 7 of the Autobahn|Testsuite's fuzzing client, by their numbers: octets and allowed outcomes.

A gateway is no echo server, so an echo is asked for in another way: `Message` stands where the list wants one. A
`tidings.v1` connection answers each message with `$error`, in the order of the messages; a plain one says nothing. Both
must be alive afterwards, which a ping shows, and end with a clean close where the list wants one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.integration.clients import BINARY, CLOSE, PING, PONG, TEXT, client_frame, close_frame

__all__ = ["CASES", "MESSAGE", "Case", "Pong", "Send", "Wait"]


class Send(NamedTuple):
    """Octets, at once or in pieces of `chop`."""

    data: bytes
    chop: int = 0


class Wait(NamedTuple):
    """A pause in which the list looks whether the connection still stands."""

    name: str


class Pong(NamedTuple):
    payload: bytes


class _Message(NamedTuple):
    pass


MESSAGE: Final = _Message()


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        number: In the list.
        steps: What the client does.
        ok: What it must get, in order, before the end.
        non_strict: What is tolerated instead.
        by_gateway: The gateway ends the connection with one of `codes` (dropping it without one is tolerated);
            otherwise the client does, and gets its close frame answered by one of them.
        client_closes: The close frame is among the steps: nothing may come after its answer.
        waits: Names of the pauses that a connection must survive, and those that it may.
        informational: The list records what happens and demands nothing.
    """

    number: str
    steps: tuple[Send | Wait, ...]
    ok: tuple[_Message | Pong, ...] = ()
    non_strict: tuple[_Message | Pong, ...] | None = None
    by_gateway: bool = False
    codes: tuple[int, ...] = (1000,)
    client_closes: bool = False
    waits: tuple[str, ...] = ()
    waits_tolerated: tuple[str, ...] = ()
    informational: bool = False


def _one(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, chop: int = 0) -> Send:
    return Send(client_frame(opcode, payload, fin=fin, rsv=rsv), chop)


def _together(*sends: Send) -> Send:
    return Send(b"".join(send.data for send in sends))


def _refused(number: str, *steps: Send, after_message: bool = False) -> Case:
    return Case(
        number,
        steps,
        ok=(MESSAGE,) if after_message else (),
        non_strict=() if after_message else None,
        by_gateway=True,
        codes=(1002,),
    )


HELLO: Final = b"Hello, world!"


def _group_1() -> Iterator[Case]:
    sizes = ((0, 0), (125, 0), (126, 0), (127, 0), (128, 0), (65535, 0), (65536, 0), (65536, 997))
    for group, (opcode, octet) in enumerate(((TEXT, b"*"), (BINARY, b"\xfe")), 1):
        for index, (size, chop) in enumerate(sizes, 1):
            yield Case(f"1.{group}.{index}", (_one(opcode, octet * size, chop=chop),), (MESSAGE,))


def _group_2() -> Iterator[Case]:
    for number, payload, chop in (
        (1, b"", 0),
        (2, HELLO, 0),
        (3, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", 0),
        (4, b"\xfe" * 125, 0),
        (6, b"\xfe" * 125, 1),
    ):
        yield Case(f"2.{number}", (_one(PING, payload, chop=chop),), (Pong(payload),))
    yield _refused("2.5", _one(PING, b"\xfe" * 126))
    unsolicited = _one(PONG, b"unsolicited pong payload")
    yield Case("2.7", (_one(PONG), Send(close_frame())), client_closes=True)
    yield Case("2.8", (unsolicited, Send(close_frame())), client_closes=True)
    yield Case("2.9", (unsolicited, _one(PING, b"ping payload")), (Pong(b"ping payload"),))
    payloads = [b"payload-%d" % index for index in range(10)]
    pongs = tuple(map(Pong, payloads))
    yield Case("2.10", tuple(_one(PING, payload) for payload in payloads), pongs)
    yield Case("2.11", tuple(_one(PING, payload, chop=1) for payload in payloads), pongs)


def _group_3() -> Iterator[Case]:
    yield _refused("3.1", _one(TEXT, HELLO, rsv=1))
    good, ping = _one(TEXT, HELLO), _one(PING)
    yield _refused("3.2", _together(good, _one(TEXT, HELLO, rsv=2), ping), after_message=True)
    yield _refused("3.3", good, _one(TEXT, HELLO, rsv=3), ping, after_message=True)
    octets = Send(_together(good, _one(TEXT, HELLO, rsv=4), ping).data, 1)
    yield _refused("3.4", octets, after_message=True)
    yield _refused("3.5", _one(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5))
    yield _refused("3.6", _one(BINARY, HELLO, rsv=6))
    yield _refused("3.7", _one(CLOSE, rsv=7))


def _group_4() -> Iterator[Case]:
    good, ping = _one(TEXT, HELLO), _one(PING)
    for group, first in ((1, 3), (2, 11)):
        yield _refused(f"4.{group}.1", _one(first))
        yield _refused(f"4.{group}.2", _one(first + 1, b"reserved opcode payload"))
        yield _refused(f"4.{group}.3", _together(good, _one(first + 2), ping), after_message=True)
        yield _refused(f"4.{group}.4", _together(good, _one(first + 3, HELLO), ping), after_message=True)
        octets = Send(_together(good, _one(first + 4, HELLO), ping).data, 1)
        yield _refused(f"4.{group}.5", octets, after_message=True)


def _group_5() -> Iterator[Case]:
    def three_ways(*frames: Send) -> tuple[tuple[Send, ...], ...]:
        """In one write, a write per frame, a write per octet."""
        whole = _together(*frames)
        return (whole,), frames, (Send(whole.data, 1),)

    one, two = _one(TEXT, b"fragment1", fin=False), _one(0, b"fragment2")
    for number, opcode in ((1, PING), (2, PONG)):
        yield _refused(f"5.{number}", _together(_one(opcode, b"fragment1", fin=False), two))
    for number, steps in enumerate(three_ways(one, two), 3):
        yield Case(f"5.{number}", steps, (MESSAGE,))
    ping = _one(PING, b"ping payload")
    for number, steps in enumerate(three_ways(one, ping, two), 6):
        yield Case(f"5.{number}", steps, (Pong(b"ping payload"), MESSAGE))
    for first_number, fin in ((9, True), (12, False)):
        frames = (_one(0, b"non-continuation payload", fin=fin), _one(TEXT, HELLO))
        for number, steps in enumerate(three_ways(*frames), first_number):
            yield _refused(f"5.{number}", *steps)
    yield _refused(
        "5.15", _together(one, two, _one(0, b"fragment3", fin=False), _one(TEXT, b"fragment4")), after_message=True
    )
    for number, fin in ((16, False), (17, True)):
        three = (_one(0, b"fragment1", fin=fin), _one(TEXT, b"fragment2", fin=False), _one(0, b"fragment3"))
        yield _refused(f"5.{number}", _together(*three, *three))
    yield _refused("5.18", _together(one, _one(TEXT, b"fragment2")))
    before = (one, _one(0, b"fragment2", fin=False), _one(PING, b"pongme 1!"))
    after = (
        _one(0, b"fragment3", fin=False),
        _one(0, b"fragment4", fin=False),
        _one(PING, b"pongme 2!"),
        _one(0, b"fragment5"),
    )
    answers = (Pong(b"pongme 1!"), Pong(b"pongme 2!"), MESSAGE)
    yield Case("5.19", (_together(*before), Wait("A"), _together(*after)), answers)
    yield Case("5.20", (*before, Wait("A"), *after), answers)


_UMLAUTS: Final = "Hello-µ@ßöäüàá-UTF-8!!"
_KOSME_OXIA: Final = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
"""As the list has it: the accent is the polytonic one, three octets."""


def _in_fragments(payload: bytes, size: int = 1) -> Send:
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    last = len(pieces) - 1
    return _together(*(_one(0 if index else TEXT, piece, fin=index == last) for index, piece in enumerate(pieces)))


def _not_utf8(number: str, *steps: Send | Wait, waits: tuple[str, ...] = (), tolerated: tuple[str, ...] = ()) -> Case:
    return Case(number, steps, by_gateway=True, codes=(1007,), waits=waits, waits_tolerated=tolerated or waits)


def _group_6_by_hand() -> Iterator[Case]:
    yield Case("6.1.1", (_one(TEXT),), (MESSAGE,))
    empty = _one(TEXT, fin=False)
    yield Case("6.1.2", (_together(empty, _one(0, fin=False), _one(0)),), (MESSAGE,))
    yield Case("6.1.3", (_together(empty, _one(0, b"middle frame payload", fin=False), _one(0)),), (MESSAGE,))
    umlauts = _UMLAUTS.encode()
    cut = len("Hello-µ@ßöä".encode())
    yield Case("6.2.1", (_one(TEXT, umlauts),), (MESSAGE,))
    yield Case("6.2.2", (_together(_one(TEXT, umlauts[:cut], fin=False), _one(0, umlauts[cut:])),), (MESSAGE,))
    yield Case("6.2.3", (_in_fragments(umlauts),), (MESSAGE,))
    yield Case("6.2.4", (_in_fragments(_KOSME_OXIA),), (MESSAGE,))
    surrogate = _KOSME_OXIA + b"\xed\xa0\x80edited"
    yield _not_utf8("6.3.1", _one(TEXT, surrogate))
    yield _not_utf8("6.3.2", _in_fragments(surrogate))
    # Valid, then what makes it invalid, then the rest: as frames, and as pieces of one frame. Fast is before the rest.
    beyond = _KOSME_OXIA + b"\xf4\x90\x80\x80edited"
    for number, (first, second) in ((1, (11, 15)), (2, (12, 13))):
        frames = (
            _one(TEXT, beyond[:first], fin=False),
            Wait("A"),
            _one(0, beyond[first:second], fin=False),
            Wait("B"),
            _one(0, beyond[second:]),
        )
        yield _not_utf8(f"6.4.{number}", *frames, waits=("A",), tolerated=("A", "B"))
        whole = client_frame(TEXT, beyond)
        head = len(whole) - len(beyond)
        pieces = (
            Send(whole[: head + first]),
            Wait("A"),
            Send(whole[head + first : head + second]),
            Wait("B"),
            Send(whole[head + second :]),
        )
        yield _not_utf8(f"6.4.{number + 2}", *pieces, waits=("A",), tolerated=("A", "B"))


def _lonely(first: int, last: int) -> bytes:
    return b"".join(bytes([octet, 0x20]) for octet in range(first, last))


def _hex(*texts: str) -> list[bytes]:
    return [bytes.fromhex(octets) for text in texts for octets in text.split()]


_CUT_SHORT: Final = _hex("c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf")
_NONCHARACTERS: Final = [chr(plane << 16 | last).encode() for plane in range(17) for last in (0xFFFE, 0xFFFF)]
_PREFIXES: Final = [_KOSME_OXIA[:end] for end in range(1, 12)]
_WHOLE: Final = (2, 5, 7, 9, 11)
"""Lengths of those prefixes that end with a character."""

_ONE_KIND: Final[tuple[tuple[int, list[tuple[bytes, bool]]], ...]] = tuple(
    (number, [(payload, valid) for payload in payloads])
    for number, valid, payloads in (
        # Some correct text.
        (5, True, [*(f"hello{sign}world".encode() for sign in "$¢€\U00024b62"), _KOSME_OXIA]),
        # The first and the last sequence of each length; those of five and six octets, and above U+10FFFF, are none.
        (7, True, _hex("00 c280 e0a080 f0908080")),
        (8, False, _hex("f888808080 fc8480808080")),
        (9, True, _hex("7f dfbf efbfbf f48fbfbf")),
        (10, False, _hex("f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf")),
        # Continuations of nothing, starts of nothing, sequences whose last octet is missing, octets that never occur.
        (12, False, [*_hex("80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf"), bytes(range(0x80, 0xBF))]),
        (13, False, [_lonely(0xC0, 0xDF), _lonely(0xE0, 0xEF), _lonely(0xF0, 0xF7), _lonely(0xF8, 0xFB), b"\xfc "]),
        (14, False, _CUT_SHORT),
        (15, False, [b"".join(_CUT_SHORT)]),
        (16, False, _hex("fe ff fefeffff")),
        # Longer than need be: a slash, the last of each length, the zero character.
        (17, False, _hex("c0af e080af f08080af f8808080af fc80808080af")),
        (18, False, _hex("c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf")),
        (19, False, _hex("c080 e08080 f0808080 f880808080 fc8080808080")),
        # Surrogates, alone and in pairs.
        (20, False, _hex("eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf")),
        (
            21,
            False,
            _hex(
                "eda080edb080 eda080edbfbf edadbfedb080 edadbfedbfbf",
                "edae80edb080 edae80edbfbf edafbfedb080 edafbfedbfbf",
            ),
        ),
        # Characters that are none but well encoded, and the special ones.
        (22, True, _NONCHARACTERS),
        (23, True, _hex("efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf")),
    )
)
_UTF8: Final = (
    *_ONE_KIND,
    (6, [(prefix, len(prefix) in _WHOLE) for prefix in _PREFIXES]),
    (11, [*((text, True) for text in _hex("ed9fbf ee8080 efbfbd f48fbfbf")), (b"\xf4\x90\x80\x80", False)]),
)


def _group_6_utf8() -> Iterator[Case]:
    for group, payloads in sorted(_UTF8):
        for index, (payload, valid) in enumerate(payloads, 1):
            number, step = f"6.{group}.{index}", _one(TEXT, payload)
            yield Case(number, (step,), (MESSAGE,)) if valid else _not_utf8(number, step)


def _closing(number: str, *steps: Send, codes: tuple[int, ...] = (1000,), informational: bool = False) -> Case:
    """The client's last frame of interest is a close frame."""
    return Case(number, steps, codes=codes, client_closes=True, informational=informational)


def _wrong_close(number: str, payload: bytes, *codes: int) -> Case:
    return Case(number, (_one(CLOSE, payload),), by_gateway=True, codes=codes or (1002,))


def _group_7() -> Iterator[Case]:
    text, normal = _one(TEXT, b"Hello World!"), Send(close_frame(1000))
    yield Case("7.1.1", (text,), (MESSAGE,))
    yield _closing("7.1.2", _together(normal, Send(close_frame(None))))
    yield _closing("7.1.3", _together(normal, _one(PING)))
    yield _closing("7.1.4", _together(normal, text))
    yield _closing("7.1.5", _together(_one(TEXT, b"fragment1", fin=False), normal, _one(0, b"fragment2")))
    long_text = _one(TEXT, (b"BAsd7&jh23" * 26215)[: 256 * 1024])
    yield Case(
        "7.1.6",
        (_together(long_text, text, normal, _one(PING)),),
        (MESSAGE, MESSAGE),
        client_closes=True,
        informational=True,
    )
    yield _closing("7.3.1", Send(close_frame(None)), codes=(1000, 1005))
    yield _wrong_close("7.3.2", b"a")
    yield _closing("7.3.3", normal)
    yield _closing("7.3.4", Send(close_frame(1000, b"Hello World!")))
    yield _closing("7.3.5", Send(close_frame(1000, b"*" * 123)))
    yield _wrong_close("7.3.6", b"\x03\xe8" + b"*" * 124)
    yield _wrong_close("7.5.1", b"\x03\xe8" + _KOSME_OXIA + b"\xed\xa0\x80edited", 1002, 1007)
    valid = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for index, code in enumerate(valid, 1):
        yield _closing(f"7.7.{index}", Send(close_frame(code)), codes=(1000, code))
    invalid = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
    for index, code in enumerate(invalid, 1):
        yield _wrong_close(f"7.9.{index}", code.to_bytes(2, "big"))
    for index, code in enumerate((5000, 65535), 1):
        yield _closing(f"7.13.{index}", Send(close_frame(code)), codes=(1000, 1002, code), informational=True)


CASES: Final[tuple[Case, ...]] = (
    *_group_1(),
    *_group_2(),
    *_group_3(),
    *_group_4(),
    *_group_5(),
    *_group_6_by_hand(),
    *_group_6_utf8(),
    *_group_7(),
)
