"""The API's description: OpenAPI as JSON at /schema, and the same as a page to read at /schema/ or for browsers."""

import asyncio
from collections.abc import Iterator
from html import escape
from typing import Any, Final

import msgspec
from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import get_serializer

from tidings.messaging.http.problems import Problem
from tidings.messaging.http.requests import Asked

__all__ = ["describe", "page", "schema_route"]

_JSON: Final = "application/json"
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.7rem;overflow:auto;font-size:13px}code{font-size:13px}"
    "details{border-top:1px solid #8884;padding:.4rem 0}summary{cursor:pointer}"
    "b.m{display:inline-block;width:4.5rem}table{border-collapse:collapse}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
)
_OWN: Final = frozenset({"200", "400", "404"})
"""Answers that differ between operations; the others are described once."""
_METHODS: Final = ("get", "post", "put", "delete")


def schema_route() -> HTTPRouteHandler:
    """GET /schema; both forms are made once, at the first request, in a thread: it takes a second."""
    made: dict[str, bytes] = {}
    making = asyncio.Lock()

    def make(app: Litestar) -> None:
        described = describe(app)
        made["html"] = page(described).encode()
        made["json"] = msgspec.json.encode(described)

    @get("/schema", include_in_schema=False, media_type=_JSON)
    async def schema(request: Asked) -> Response[bytes]:
        async with making:
            if "json" not in made:
                await asyncio.to_thread(make, request.app)
        raw: bytes = request.scope.get("raw_path") or b""
        if raw.endswith(b"/") or "text/html" in request.headers.get("accept", ""):
            return Response(
                made["html"],
                media_type="text/html; charset=utf-8",
                headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "vary": "Accept"},
            )
        return Response(made["json"], media_type=_JSON, headers={"vary": "Accept"})

    return schema


def describe(app: Litestar) -> dict[str, Any]:
    """The OpenAPI document as plain values.

    Litestar's, with two things mended: it loses bounds inside of unions, and repeats the refusals that all operations
    share.
    """
    raw = msgspec.json.encode(app.openapi_schema.to_schema(), enc_hook=get_serializer(app.type_encoders))
    document: dict[str, Any] = msgspec.json.decode(raw)
    schemas: dict[str, Any] = document["components"].setdefault("schemas", {})
    _, exact = msgspec.json.schema_components(list(_structs(app)), ref_template="#/components/schemas/{name}")
    schemas.update(exact)
    shared: dict[str, Any] = {}
    for item in document["paths"].values():
        for operation in item.values():
            responses = operation["responses"]
            for status, response in responses.items():
                for content in response["content"].values():
                    for example in content["examples"].values():
                        del example["id"]
                name = f"Refused{status}"
                if status not in _OWN and shared.setdefault(name, response) == response:
                    responses[status] = {"$ref": f"#/components/responses/{name}"}
    document["components"]["responses"] = shared
    return document


def _structs(app: Litestar) -> Iterator[Any]:
    """The types of all bodies and answers."""
    yield Problem
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.resolve_include_in_schema():
                if "data" in handler.parsed_fn_signature.parameters:
                    yield handler.parsed_fn_signature.parameters["data"].annotation
                if handler.responses and 200 in handler.responses:
                    yield handler.responses[200].data_container


def page(schema: dict[str, Any]) -> str:
    """The description as one page without scripts: every operation with its parameters, examples and refusals."""
    info = schema["info"]
    groups: dict[str, list[str]] = {}
    for path, item in schema["paths"].items():
        for method in _METHODS:
            if method in item:
                groups.setdefault(item[method]["tags"][0], []).append(_operation(schema, method, path, item[method]))
    title = escape(info["title"])
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1><p>{escape(info.get('description', ''))}</p>",
        "<p><a href=/schema>OpenAPI 3.1 as JSON</a></p>",
    ]
    parts += (f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in sorted(groups.items()))
    return "".join(parts)


def _operation(schema: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<details><summary><b class=m>{method.upper()}</b> <code>{escape(path)}</code>"
        f" {escape(operation.get('summary', ''))}</summary>"
    ]
    if operation.get("description"):
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if parameters := operation.get("parameters"):
        rows = (
            f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{_type(one.get('schema', {}))}"
            f"<td>{'needed' if one.get('required') else ''}<td>{escape(one.get('description', ''))}"
            for one in parameters
        )
        parts.append(f"<table>{''.join(rows)}</table>")
    contents = operation.get("requestBody", {}).get("content", {}).values()
    parts += (f"Body: {_shown(content['example'])}" for content in contents if "example" in content)
    for status, response in operation["responses"].items():
        for content in _found(schema, response).get("content", {}).values():
            for name, example in content.get("examples", {}).items():
                if status == "200":
                    parts.append(f"Answer {status}: {_shown(example['value'])}")
                else:
                    parts.append(
                        f"<div>{status} <code>{escape(name)}</code> {escape(example.get('summary', ''))}</div>"
                    )
    return "".join([*parts, "</details>"])


def _found(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """What a reference names."""
    if "$ref" in part:
        for step in part["$ref"].split("/")[1:]:
            schema = schema[step]
        return schema
    return part


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("format") or schema.get("type") or ""
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _shown(value: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"
