"""The AsyncAPI 3.0 document: topics, sockets, control frames, close codes and ways to show a token."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidings.closing import ADVICE, SSE_CODES, CloseCode
from tidings.contract.control import FROM_CLIENT, OBEYED_SIGNALS, TO_CLIENT, TO_SSE_CLIENT
from tidings.contract.events import MODIFICATIONS
from tidings.contract.record import REASONS
from tidings.contract.schemas import Document, components, record_properties

__all__ = ["asyncapi"]

_REF: Final = "#/components/schemas/{name}"
_DEAD_LETTER_HEADERS: Final = {
    "tidings-topic": "Where the record was.",
    "tidings-partition": "In which partition, as decimal text.",
    "tidings-offset": "At which offset, as decimal text.",
    "tidings-timestamp": "The broker's time of the record, unix milliseconds as decimal text.",
    "tidings-reason": "Why no reader may accept it.",
}
_TOPICS: Final = {
    "modifications": (
        "What happened in chats. The partition, and with it the order, follows the key and the producer's partitioner,"
        " murmur2 in ours and Java's (librdkafka: `partitioner=murmur2_random`).",
        "Chat id.",
    ),
    "signals": ("Typing, online and offline, control: never replayed, never dead-lettered.", "User id or chat id."),
    "sessions": (
        "Who is connected where; compacted, the topic is the table.",
        "`<node>.<boot>/<bucket>` or `<node>.<boot>`.",
    ),
    "notifications": ("As modifications; the receivers are those with no session anywhere.", "The source's key."),
    "dead_letter": ("Poison, its bytes unchanged; the headers tell where from and why.", "The source's key."),
}
_KINDS: Final = {"cleanup.policy": lambda value: value.split(","), "message.timestamp.type": str}


def asyncapi(topics: Mapping[str, tuple[str, int, Mapping[str, str]]]) -> Document:
    """The document for these topics.

    Args:
        topics: By role (`modifications`, `signals`, `sessions`, `notifications`, `dead_letter`): name, partitions and
            Kafka's settings.
    """
    data, definitions = components(MODIFICATIONS, _REF)
    controls = {**TO_CLIENT, **TO_SSE_CLIENT, **FROM_CLIENT, **OBEYED_SIGNALS}
    control_data, control_definitions = components(controls, _REF)
    messages = _record_messages(data) | _frame_messages(control_data)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidings",
            "version": "1",
            "description": "Carries what happens in a chat to the people it concerns.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _topic_channels(topics, list(data)) | _socket_channels(),
        "operations": _operations(),
        "components": {
            "schemas": {
                **definitions,
                **control_definitions,
                "Record": _object(record_properties(reserved=False), ["receivers", "type", "data"]),
                "SignalRecord": _object(record_properties(reserved=True), ["receivers", "type", "data"]),
            },
            "messages": messages,
            "securitySchemes": _security_schemes(),
        },
    }


def _object(properties: Document, required: list[str], description: str = "") -> Document:
    schema: Document = {"type": "object", "properties": properties, "required": required}
    return {"description": description, **schema} if description else schema


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


def _record(data: Document | None, type_: str | None, base: str = "Record") -> Document:
    narrowed = {key: value for key, value in (("type", type_ and {"const": type_}), ("data", data)) if value}
    return {"allOf": [_ref("schemas", base), {"properties": narrowed}]} if narrowed else _ref("schemas", base)


def _record_messages(data: Mapping[str, Document]) -> Document:
    id_header = _object(
        {"id": {"type": "string", "description": "Names one modification; a repeat within 10 minutes is dropped."}}, []
    )
    keyed = {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}}
    messages: Document = {
        type_: {"title": type_, "headers": id_header, "payload": _record(schema, type_), "bindings": keyed}
        for type_, schema in data.items()
    }
    messages["other"] = {
        "title": "any other type",
        "headers": id_header,
        "payload": _record(None, None),
        "bindings": keyed,
    }
    messages["signal"] = {"title": "a signal that is delivered", "payload": _record(None, None, "Record")}
    for type_ in OBEYED_SIGNALS:
        name = type_.removeprefix("$")
        messages[name] = {
            "title": type_,
            "payload": _record(_ref("schemas", OBEYED_SIGNALS[type_].__name__), type_, "SignalRecord"),
        }
    messages["sessions"] = {
        "title": "the sessions of a bucket of users, or a heartbeat",
        "summary": "Between gateways and presence nodes only; not for others to build on.",
        "payload": {},
        "bindings": keyed,
    }
    messages["deadLetter"] = {
        "title": "a record that no reader may accept",
        "contentType": "application/octet-stream",
        "headers": _object(
            {
                name: {"type": "string", "description": text}
                | ({"enum": list(REASONS)} if name == "tidings-reason" else {})
                for name, text in _DEAD_LETTER_HEADERS.items()
            },
            list(_DEAD_LETTER_HEADERS),
            "Besides the record's own.",
        ),
        "payload": {},
        "bindings": keyed,
    }
    return messages


def _frame_messages(control_data: Mapping[str, Document]) -> Document:
    type_ = {"type": "string", "minLength": 1, "maxLength": 256}
    at = {
        "type": "string",
        "pattern": "^[0-9]+:[0-9]+$",
        "description": "`<partition>:<next offset>`; replaces the entry of its partition. Absent on signals.",
    }
    data = {"description": "The bytes that were produced."}
    messages: Document = {
        "frame": {
            "title": "a frame without position",
            "payload": _object({"type": type_, "data": data}, ["type", "data"]),
        },
        "positionedFrame": {
            "title": "a frame with its position",
            "payload": _object({"type": type_, "at": at, "data": data}, ["type", "data"]),
        },
    }
    for name, schema in control_data.items():
        if name not in OBEYED_SIGNALS:
            messages[_control(name)] = {
                "title": name,
                "payload": _object({"type": {"const": name}, "data": schema}, ["type", "data"]),
            }
    return messages


def _control(type_: str) -> str:
    return f"control.{type_.removeprefix('$')}"


def _servers() -> Document:
    tokens = ("bearer", "internalToken", "subprotocol", "cookie", "query")
    return {
        "kafka": {
            "host": "127.0.0.1:9092",
            "protocol": "kafka",
            "security": [_ref("securitySchemes", name) for name in ("saslPlain", "scramSha256", "scramSha512", "x509")],
        },
        "gateway": {
            "host": "127.0.0.1:8080",
            "protocol": "ws",
            "security": [_ref("securitySchemes", name) for name in tokens],
        },
        "events": {
            "host": "127.0.0.1:8080",
            "protocol": "http",
            "security": [_ref("securitySchemes", name) for name in tokens if name != "subprotocol"],
        },
    }


def _security_schemes() -> Document:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Looked for first. Of all ways the first that is present and not empty counts.",
        },
        "internalToken": {
            "type": "httpApiKey",
            "in": "header",
            "name": "X-Internal-Token",
            "description": "With or without `Bearer`; checked at the handshake only.",
        },
        "subprotocol": {
            "type": "httpApiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": "An entry `bearer.<jwt>` beside `tidings.v1` or `tidings.plain`; never echoed.",
        },
        "cookie": {"type": "httpApiKey", "in": "cookie", "name": "tidings_token"},
        "query": {"type": "httpApiKey", "in": "query", "name": "token"},
        "saslPlain": {"type": "plain"},
        "scramSha256": {"type": "scramSha256"},
        "scramSha512": {"type": "scramSha512"},
        "x509": {"type": "X509", "description": "Where brokers ask for a client certificate."},
    }


def _topic_channels(topics: Mapping[str, tuple[str, int, Mapping[str, str]]], types: list[str]) -> Document:
    messages = {
        "modifications": [*types, "other"],
        "signals": ["signal", *(type_.removeprefix("$") for type_ in OBEYED_SIGNALS)],
        "sessions": ["sessions"],
        "notifications": [*types, "other"],
        "dead_letter": ["deadLetter"],
    }
    channels: Document = {}
    for role, (name, partitions, settings) in topics.items():
        description, key = _TOPICS[role]
        channels[role] = {
            "address": name,
            "description": f"{description} Key: {key}",
            "servers": [{"$ref": "#/servers/kafka"}],
            "messages": {message: _ref("messages", message) for message in messages[role]},
            "bindings": {
                "kafka": {
                    "topic": name,
                    "partitions": partitions,
                    "topicConfiguration": {key: _KINDS.get(key, _number)(value) for key, value in settings.items()},
                    "bindingVersion": "0.5.0",
                }
            },
        }
    return channels


def _number(value: str) -> Any:
    return int(value) if value.isdigit() else {"true": True, "false": False}.get(value, value)


def _socket_channels() -> Document:
    resume: Document = {
        "cursor": {"type": "string", "description": "Resume here: every record at or after it, then live."},
        "log": {"type": "string", "description": "The log that the cursor belongs to."},
    }
    token: Document = {"token": {"type": "string"}}
    handshake = "Offer `tidings.plain` or nothing for plain frames, `tidings.v1` for positions and control frames."

    def socket(query: Document, messages: list[str], description: str) -> Document:
        return {
            "address": "/ws",
            "description": description,
            "servers": [{"$ref": "#/servers/gateway"}],
            "messages": {name: _ref("messages", name) for name in messages},
            "bindings": {
                "ws": {
                    "method": "GET",
                    "query": _object(query, []),
                    "headers": _object({"Sec-WebSocket-Protocol": {"type": "string", "description": handshake}}, []),
                    "bindingVersion": "0.1.0",
                }
            },
            "x-close-codes": _close_codes(ADVICE),
        }

    return {
        "plain": socket(token, ["frame"], "Frames are exactly `type` and `data`; client frames are not answered."),
        "v1": socket(
            token | resume,
            ["frame", "positionedFrame", *map(_control, TO_CLIENT), *map(_control, FROM_CLIENT)],
            "Subprotocol `tidings.v1`. `control.welcome` comes first.",
        ),
        "sse": {
            "address": "/sse",
            "description": "Server-Sent Events: `data:` is the frame without position, `id:` the whole cursor.",
            "servers": [{"$ref": "#/servers/events"}],
            "messages": {name: _ref("messages", name) for name in ["frame", *map(_control, TO_SSE_CLIENT)]},
            "x-close-codes": _close_codes(SSE_CODES),
        },
    }


def _close_codes(codes: Iterable[CloseCode]) -> Document:
    return {str(int(code)): ADVICE[code] for code in sorted(codes)}


def _operations() -> Document:
    """From the view of Tidings: what it sends, and what it receives."""

    def operation(action: str, channel: str, summary: str, messages: list[str] | None = None) -> Document:
        named: Document = (
            {}
            if messages is None
            else {"messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages]}
        )
        return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary, **named}

    query = _object({name: {"type": "string"} for name in ("token", "cursor", "log")}, [])
    return {
        "consumeModifications": operation("receive", "modifications", "Any service may produce to this topic."),
        "produceModifications": operation("send", "modifications", "The messaging service's own."),
        "consumeSignals": operation("receive", "signals", "Read by every gateway, from the end."),
        "produceSignals": operation("send", "signals", "Typing and presence."),
        "produceSessions": operation("send", "sessions", "Written by gateways."),
        "consumeSessions": operation("receive", "sessions", "Read by every presence node."),
        "produceNotifications": operation("send", "notifications", "For a push service to consume."),
        "produceDeadLetters": operation("send", "dead_letter", "At least once; the headers identify a record."),
        "sendPlain": operation("send", "plain", "To every connection of every receiver."),
        "sendV1": operation("send", "v1", "With positions.", ["frame", "positionedFrame", *map(_control, TO_CLIENT)]),
        "receiveV1": operation("receive", "v1", "Renew the token.", [*map(_control, FROM_CLIENT)]),
        "sendEvents": {
            **operation("send", "sse", "The same stream."),
            "bindings": {"http": {"method": "GET", "query": query, "bindingVersion": "0.3.0"}},
        },
    }
