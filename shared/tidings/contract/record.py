"""The record `<receivers, type, data>`: how its bytes are read and written, and which bytes no reader may accept.

One decision for the whole fleet: gateways skip exactly what the dead letter writer keeps. The limits are constants, not
settings, so that two nodes can never disagree, and `vectors/records.json` holds examples of both sides of each limit.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from tidings.errors import ContractError, MalformedRecord, RecordTooBig

__all__ = [
    "MAX_DEPTH",
    "MAX_RECEIVERS",
    "MAX_RECEIVER_CHARS",
    "MAX_TYPE_CHARS",
    "MAX_VALUE_BYTES",
    "REASONS",
    "SPLIT_RECEIVERS",
    "Record",
    "decode",
    "decode_signal",
    "encode",
    "encode_signal",
]

MAX_VALUE_BYTES: Final = 1_048_576
"""Of a record's value, as it lies in Kafka after decompression."""
MAX_DEPTH: Final = 128
"""Objects and arrays within each other, the record's own object included."""
MAX_RECEIVERS: Final = 100_000
"""Entries of `receivers`, repeats included."""
MAX_RECEIVER_CHARS: Final = 256
"""Unicode code points of one receiver; of an integer: characters of its decimal string, sign included."""
MAX_TYPE_CHARS: Final = 256
"""Unicode code points of `type`."""
SPLIT_RECEIVERS: Final = 5_000
"""Receivers per record that our own producers write at most; readers take `MAX_RECEIVERS`."""

VALUE_TOO_BIG: Final = "value_too_big"
NOT_UTF8: Final = "not_utf8"
TOO_DEEP: Final = "too_deep"
NOT_JSON: Final = "not_json"
LONE_SURROGATE: Final = "lone_surrogate"
NOT_OBJECT: Final = "not_object"
RECEIVERS_MISSING: Final = "receivers_missing"
RECEIVERS_NOT_ARRAY: Final = "receivers_not_array"
RECEIVERS_TOO_MANY: Final = "receivers_too_many"
RECEIVER_NOT_STRING: Final = "receiver_not_string"
RECEIVER_EMPTY: Final = "receiver_empty"
RECEIVER_TOO_LONG: Final = "receiver_too_long"
TYPE_MISSING: Final = "type_missing"
TYPE_NOT_STRING: Final = "type_not_string"
TYPE_EMPTY: Final = "type_empty"
TYPE_TOO_LONG: Final = "type_too_long"
DATA_MISSING: Final = "data_missing"
CONTEXT_NOT_OBJECT: Final = "context_not_object"
TYPE_RESERVED: Final = "type_reserved"

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        VALUE_TOO_BIG: f"The value is over {MAX_VALUE_BYTES:,} bytes.",
        NOT_UTF8: "The value is not strict UTF-8, or begins with a byte order mark.",
        TOO_DEEP: f"Objects and arrays lie deeper than {MAX_DEPTH} within each other.",
        NOT_JSON: "The value is not exactly one JSON text by RFC 8259.",
        LONE_SURROGATE: "An escape such as \\ud800 stands without its other half.",
        NOT_OBJECT: "The value is JSON, but not an object.",
        RECEIVERS_MISSING: "There is no `receivers`.",
        RECEIVERS_NOT_ARRAY: "`receivers` is not an array.",
        RECEIVERS_TOO_MANY: f"`receivers` has over {MAX_RECEIVERS:,} entries.",
        RECEIVER_NOT_STRING: "A receiver is neither a string nor an integer.",
        RECEIVER_EMPTY: "A receiver is the empty string.",
        RECEIVER_TOO_LONG: f"A receiver is over {MAX_RECEIVER_CHARS} characters.",
        TYPE_MISSING: "There is no `type`.",
        TYPE_NOT_STRING: "`type` is not a string.",
        TYPE_EMPTY: "`type` is the empty string.",
        TYPE_TOO_LONG: f"`type` is over {MAX_TYPE_CHARS} characters.",
        DATA_MISSING: "There is no `data`.",
        CONTEXT_NOT_OBJECT: "`context` is there and not an object.",
        TYPE_RESERVED: "`type` begins with `$`, which is reserved (on `modifications` only).",
    }
)
"""The closed list of what makes a record poison. Of several faults, the first in this order is named."""

_TOO_BIG: Final = frozenset({VALUE_TOO_BIG, RECEIVERS_TOO_MANY, RECEIVER_TOO_LONG, TYPE_TOO_LONG})

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_RECEIVER_CHARS)]
if TYPE_CHECKING:
    # What a reader sees once `decode` is done with it.
    _Receivers = list[str]
    _Context = msgspec.Raw | None
else:
    # What msgspec checks in C. It does not know `Raw | None`: every context would fail.
    _Receivers = Annotated[list[_Name | int], msgspec.Meta(max_length=MAX_RECEIVERS)]
    _Context = msgspec.Raw


class Record(msgspec.Struct, frozen=True, gc=False):
    """One modification or signal.

    Attributes:
        receivers: In the order produced; integers are decimal strings by now; repeats may remain.
        type: What kind of thing happened; known or not.
        data: The bytes of the JSON value, exactly as produced, without white space around them.
        context: The bytes of the JSON object for edges that need more than `data`; native clients never see it.

    `data` and `context` are copies of their own: a kept record does not keep the value it came from, which for a long
    list of receivers is many times bigger.
    """

    receivers: _Receivers
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPE_CHARS)]
    data: msgspec.Raw
    context: _Context = None


class _Written(msgspec.Struct):
    receivers: list[Any]
    type: Any
    data: msgspec.Raw
    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_record = msgspec.json.Decoder(Record).decode
_any = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_set = msgspec.structs.force_setattr

_BOM: Final = b"\xef\xbb\xbf"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_ESCAPE: Final = re.compile(rb"\\(?:(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


def decode(value: bytes) -> Record:
    """Read one value of the `modifications` topic.

    Nothing in it is repaired and nothing is lost: `data` is byte for byte what was produced. Unknown keys are ignored;
    of a repeated key the last counts, whatever the earlier ones hold.

    Raises:
        ContractError: The value is poison; `reason` is the first in `REASONS` that applies. Nothing else is raised,
            whatever the bytes, if the caller leaves `MAX_DEPTH` frames of Python's stack free.
    Cost: msgspec's decode and 1.3 to 2 µs for 100 receivers; linear in the length, for poison too.
    """
    record = decode_signal(value)
    if record.type[0] == "$":
        raise _poison(TYPE_RESERVED)
    return record


def decode_signal(value: bytes) -> Record:
    """Read one value of the `signals` topic: as `decode`, but names that begin with `$` are allowed."""
    _check_text(value)
    try:
        record = _record(value)
    except msgspec.DecodeError:
        return _decide(value)
    receivers = record.receivers
    try:
        # Fails at the first integer, at a quarter of the price of asking each entry for its type.
        "".join(receivers)
    except TypeError:
        _set(record, "receivers", _as_strings(receivers))
    _set(record, "data", record.data.copy())
    context = record.context
    if context is not None:
        if memoryview(context)[0] != 0x7B:
            raise _poison(CONTEXT_NOT_OBJECT)
        _set(record, "context", context.copy())
    return record


def encode(
    receivers: Iterable[object],
    type: str,  # noqa: A002 - the name in the contract
    data: object,
    context: object = None,
) -> bytes:
    """Write one value for the `modifications` topic, or refuse to.

    Args:
        receivers: Strings or integers (or what msgspec writes as such: UUIDs), at most `MAX_RECEIVERS`.
        type: 1 to `MAX_TYPE_CHARS` characters, not beginning with `$`.
        data: Bytes (or `msgspec.Raw`) are JSON already and become part of the value unchanged; anything else is
            written by msgspec, to which NaN and infinities are null.
        context: An object, in either form; None for none.
    Raises:
        ContractError: A reader would find the result poison, or `data` has no JSON form; nothing was written.
    Cost: about that of `decode` on top of the writing, since the result is read once.
    """
    value = encode_signal(receivers, type, data, context)
    if type[0] == "$":
        raise _poison(TYPE_RESERVED)
    return value


def encode_signal(
    receivers: Iterable[object],
    type: str,  # noqa: A002 - the name in the contract
    data: object,
    context: object = None,
) -> bytes:
    """Write one value for the `signals` topic: as `encode`, but names that begin with `$` are allowed."""
    if isinstance(receivers, str | bytes | bytearray | memoryview | Mapping):
        raise _poison(RECEIVERS_NOT_ARRAY)
    written = _Written(list(receivers), type, _piece(data), msgspec.UNSET if context is None else _piece(context))
    value = _write(written)
    decode_signal(value)
    return value


def _piece(part: object) -> msgspec.Raw:
    """One JSON value, proven to be one: spliced in, it can't end the record early or add keys to it."""
    text = bytes(part) if isinstance(part, bytes | bytearray | memoryview | msgspec.Raw) else _write(part)
    _check_text(text)
    try:
        return _any(text)
    except msgspec.DecodeError as error:
        raise _syntax_fault(text, error) from None


def _write(thing: object) -> bytes:
    try:
        return _encode(thing)
    except UnicodeEncodeError:
        raise _poison(LONE_SURROGATE) from None
    except RecursionError:
        raise _poison(TOO_DEEP) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise _poison(NOT_JSON, str(error)) from None


def _poison(reason: str, detail: str = "") -> ContractError:
    return (RecordTooBig if reason in _TOO_BIG else MalformedRecord)(reason, detail)


def _check_text(value: bytes) -> None:
    """Size, encoding and depth: what must be known before msgspec looks at the value.

    msgspec lets invalid UTF-8 pass in a `Raw`, and meets deep nesting with a RecursionError whose limit depends on
    how deep the caller is in Python's stack.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise _poison(VALUE_TOO_BIG, f"{len(value)} bytes")
    if not value.isascii():
        try:
            str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise _poison(NOT_UTF8, f"{error.reason} (byte {error.start})") from None
        if value.startswith(_BOM):
            raise _poison(NOT_UTF8, "byte order mark")
    # At most 64 of each bracket can't be over 128 deep. To replace 64 and look for one more takes 0.6 µs of a 4.5 KB
    # value where two count() take 3.0 µs: CPython searches with memchr, but counts byte by byte.
    if value.replace(b"[", b" ", 64).find(b"[") >= 0 or value.replace(b"{", b" ", 64).find(b"{") >= 0:
        _check_depth(value)


def _check_depth(value: bytes) -> None:
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return
    # Without escaped backslashes and then escaped quotes, every other piece between quotes lies outside strings. That
    # is exact up to the first byte that is no JSON, and msgspec does not go further than that either. (A backslash
    # outside strings, never JSON, counts as one inside: the vectors pin which of two reasons is then named.)
    outside = value.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NOT_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise _poison(TOO_DEEP)


def _as_strings(receivers: Iterable[str | int]) -> list[str]:
    names = list(map(str, receivers))
    # msgspec has checked the strings; it takes integers of up to 4,300 digits.
    if names and max(map(len, names)) > MAX_RECEIVER_CHARS:
        raise _poison(RECEIVER_TOO_LONG)
    return names


def _decide(value: bytes) -> Record:
    """The rules one by one, on the last of each key, for what the quick decoder refused.

    That one stops at the first value of a wrong type, also where a later one of the same key is the one that counts.
    """
    try:
        whole = _any(value)
    except msgspec.DecodeError as error:
        raise _syntax_fault(value, error) from None
    if memoryview(whole)[0] != 0x7B:
        raise _poison(NOT_OBJECT)
    members = _members(value)
    if "receivers" not in members:
        raise _poison(RECEIVERS_MISSING)
    receivers = _decide_receivers(members["receivers"])
    if "type" not in members:
        raise _poison(TYPE_MISSING)
    try:
        type_ = _string(members["type"])
    except msgspec.ValidationError:
        raise _poison(TYPE_NOT_STRING) from None
    if not type_:
        raise _poison(TYPE_EMPTY)
    if len(type_) > MAX_TYPE_CHARS:
        raise _poison(TYPE_TOO_LONG, f"{len(type_)} characters")
    if "data" not in members:
        raise _poison(DATA_MISSING)
    context = members.get("context")
    if context is not None and memoryview(context)[0] != 0x7B:
        raise _poison(CONTEXT_NOT_OBJECT)
    return Record(receivers, type_, members["data"].copy(), None if context is None else context.copy())


def _decide_receivers(raw: msgspec.Raw) -> list[str]:
    try:
        entries = _entries(raw)
    except msgspec.ValidationError:
        raise _poison(RECEIVERS_NOT_ARRAY) from None
    if len(entries) > MAX_RECEIVERS:
        raise _poison(RECEIVERS_TOO_MANY, f"{len(entries)} entries")
    names = []
    for index, entry in enumerate(map(bytes, entries)):
        if entry[0] == 0x22:
            name = _string(entry)
        elif _INTEGER.fullmatch(entry):
            # RFC 8259 knows no leading zeros and no plus sign: the text is the decimal string, but for -0.
            name = "0" if entry == b"-0" else entry.decode("ascii")
        else:
            raise _poison(RECEIVER_NOT_STRING, f"entry {index}")
        if not name:
            raise _poison(RECEIVER_EMPTY, f"entry {index}")
        if len(name) > MAX_RECEIVER_CHARS:
            raise _poison(RECEIVER_TOO_LONG, f"entry {index}: {len(name)} characters")
        names.append(name)
    return names


def _syntax_fault(value: bytes, error: msgspec.DecodeError) -> ContractError:
    """Is a lone surrogate all that is wrong? Then the value is JSON once all surrogates are harmless escapes."""
    if b"\\u" in value:
        mended = _ESCAPE.sub(lambda match: rb"\n" if match[1] else match[0], value)
        try:
            _any(mended)
        except msgspec.DecodeError:
            pass
        else:
            return _poison(LONE_SURROGATE)
    return _poison(NOT_JSON, str(error))
