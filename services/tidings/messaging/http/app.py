"""The HTTP application: routes inside a shell that knows who asks, what may be asked, and how refusals look."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import DEBUG, INFO, getLogger
from typing import Any, Final, cast
from urllib.parse import unquote, unquote_to_bytes

import structlog
from litestar import Litestar, Request, Response, Router
from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.plugins import InitPlugin

from tidings.errors import DependencyError, DomainError, HandshakeError, InvalidState
from tidings.messaging.domain.model import Actor
from tidings.messaging.http.cors import Cors
from tidings.messaging.http.guard import SLASH, Guard
from tidings.messaging.http.idempotency import Keeper, Once
from tidings.messaging.http.problems import Answered, Detail, Refused, answer
from tidings.messaging.http.requests import Asked
from tidings.messaging.http.routing import Handler
from tidings.messaging.http.schema import schema_route

__all__ = ["Api", "HttpOptions", "build"]

log = structlog.get_logger(__name__)
_level = getLogger(__name__)

_STATUSES: Final = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}
_ENCODED_SLASH: Final = re.compile(b"%2f", re.IGNORECASE)
_PRIVATE: Final = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_WHICH: Final = "OPTIONS?"
"""No route has this method, so Litestar says which ones a path has: all of them, where its own answer to OPTIONS knows
only those of one handler."""
_MISSING: Final = re.compile(r"Missing required (\w+) parameter '([^']*)'")
_CAMEL: Final = re.compile(r"_([a-z])")


@dataclass(frozen=True)
class HttpOptions:
    """What can be set about the shell.

    Attributes:
        origins: Pages that may call, with the cookie too; `*`: every one, without it; empty: those of the same host.
        forbidden_as_403: Say 403 where chakchat says 400.
        max_body_bytes: A request's body, then 413.
        body_timeout_s: Seconds for a body to arrive, then 408.
        access_log: One line for each request at level info; without it at debug.
    """

    origins: Sequence[str] = ()
    forbidden_as_403: bool = False
    max_body_bytes: int = 1 << 20
    body_timeout_s: float = 30.0
    access_log: bool = False


Observe = Callable[[int, float], None]
"""Told of every answer: its status and the seconds it took."""


class Api(Litestar):
    """The ASGI application. Around Litestar it does what no route can: HEAD, CORS, odd paths, the access log."""

    cors: Cors
    observe: Observe | None = None
    access_level: int = DEBUG

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        start = time.perf_counter()
        method, path, status = scope["method"], scope["path"], 0
        lines, preflight = self.cors.lines(scope["headers"], method)
        lines += _PRIVATE
        no_body = method == "HEAD"
        if no_body:
            scope = {**scope, "method": "GET"}
        elif method == "OPTIONS":
            scope = {**scope, "method": _WHICH}

        async def answered(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *lines]}
            elif no_body:
                message = {**message, "body": b""}
            await send(message)

        try:
            if preflight:
                await answered({"type": "http.response.start", "status": 204, "headers": []})
                await answered({"type": "http.response.body", "body": b""})
            elif fault := _odd(scope):
                await _send(fault, answered)
            else:
                await super().__call__(scope, receive, answered)
        finally:
            took_s = time.perf_counter() - start
            if self.observe is not None:
                self.observe(status, took_s)
            level = self.access_level
            if _level.isEnabledFor(level):
                user = scope.get("user")
                log.log(
                    level,
                    "request",
                    method=method,
                    path=path,
                    status=status,
                    ms=round(took_s * 1000, 2),
                    user=user.id if user is not None else None,
                )


def build(
    routes: Sequence[Handler],
    *,
    guard: Guard,
    keeper: Keeper,
    options: HttpOptions = HttpOptions(),
    observe: Observe | None = None,
) -> Api:
    """The application.

    Args:
        routes: Declared with `routing`, paths below /v1.0.
        guard: Says who asks.
        keeper: Keeps answers to POSTs.
        observe: Told of every answer.
    Raises:
        InvalidState: Two routes have one operation id.
    """
    cors = Cors(options.origins)

    # Litestar copies what it is given, deeply, but for plain functions: the pool behind the guard can't be.
    async def admit(request: "Request[Any, Any, Any]") -> None:
        await guard.admit(request, cors.may_use_cookie)

    def provide_actor(request: Asked) -> Actor:
        return request.user  # noted by the guard

    # It takes the actor so that Litestar resolves one after the other: two at once cost a task group.
    async def provide_once(actor: NamedDependency[Actor], request: Asked) -> Once:
        return await Once.of(keeper, actor, request)

    ids = Counter(route.operation_id for route in routes)
    if twice := [str(id_) for id_, count in ids.items() if count > 1]:
        # Litestar would tell with a 500 at /schema.
        raise InvalidState(f"operation ids that are not unique: {', '.join(twice)}")
    api = Api(
        route_handlers=[
            Router(
                "/v1.0",
                route_handlers=list(routes),
                before_request=admit,
                dependencies={
                    "actor": Provide(provide_actor, sync_to_thread=False),
                    "once": Provide(provide_once),
                },
                security=[{"bearer": []}],
            ),
            schema_route(),
        ],
        request_class=Asked,
        request_max_body_size=options.max_body_bytes,
        exception_handlers={Exception: _handler(options.forbidden_as_403)},
        logging_config=None,
        openapi_config=None,
        opt={"body_timeout_s": options.body_timeout_s},
        signature_types=[Actor, Once, Asked],
    )
    api.cors = cors
    api.observe = observe
    api.access_level = INFO if options.access_log else DEBUG
    # Litestar's own pages stay out: it would register routes that answer errors in another shape.
    cast("InitPlugin", api.plugins.get("OpenAPIPlugin")).on_app_init(AppConfig(openapi_config=_openapi()))
    return api


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Tidings messaging",
        version="1.0",
        description='Chats, messages and what belongs to them. Answers are `{"data": …}`, refusals'
        ' `{"error_type", "error_message", "error_details"}`.',
        servers=[Server(url="/")],
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
        ),
    )


def _odd(scope: Any) -> Answered | None:
    """Refuse what can't be text that Postgres keeps; let encoded slashes stay inside of their part of the path."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    if "\0" in path or b"%00" in scope["query_string"]:
        return answer(Refused("validation_failed", "NUL characters can't be kept."))
    if "\ufffd" in path:
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return answer(Refused("validation_failed", "The path is not UTF-8."))
    if b"%" in raw and _ENCODED_SLASH.search(raw):
        scope["path"] = SLASH.join(unquote(part.decode("latin-1")) for part in _ENCODED_SLASH.split(raw))
    return None


async def _send(refusal: Answered, send: Any) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers.items()]
    headers.append((b"content-length", str(len(refusal.body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})


def _handler(forbidden_as_403: bool) -> Callable[[Any, Exception], Response[Any]]:
    def handle(request: Any, error: Exception) -> Response[Any]:
        if isinstance(error, MethodNotAllowedException):
            allowed = {"allow": _allowed(error)}
            if request.scope["method"] == _WHICH:
                return Response(None, status_code=204, headers=allowed)
            error = Refused("method_not_allowed", headers=allowed)
        refusal = answer(_translated(error, _names(request)), forbidden_as_403=forbidden_as_403)
        if refusal.code == "internal":
            log.error("request_failed", method=request.method, path=request.scope["path"], exc_info=error)
        elif refusal.code == "unavailable":
            log.warning("dependency_away", path=request.scope["path"], reason=str(error))
        return Response(
            refusal.body,
            status_code=refusal.status,
            headers={name: value for name, value in refusal.headers.items() if name != "content-type"},
            media_type=refusal.headers["content-type"],
        )

    return handle


def _allowed(error: MethodNotAllowedException) -> str:
    methods = set((error.headers or {}).get("allow", "").split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _translated(error: Exception, names: Mapping[str, str]) -> Exception:
    """Litestar's refusals in our words."""
    match error:
        case Refused() | DomainError() | HandshakeError() | DependencyError():
            return error
        case ValidationException():
            return _validation(error, names)
        case HTTPException() if error.status_code < 500:
            return Refused(_STATUSES.get(error.status_code, "bad_request"), headers=dict(error.headers or {}))
    return error


def _names(request: Any) -> dict[str, str]:
    """How the request calls what the handler calls otherwise."""
    handler = request.scope.get("route_handler")
    if not isinstance(handler, HTTPRouteHandler):
        return {}
    return {
        field: name
        for field, definition in handler.parsed_fn_signature.parameters.items()
        if (name := getattr(definition.kwarg_definition, "name", None))
    }


def _validation(error: ValidationException, names: Mapping[str, str]) -> Refused:
    details = []
    code = "validation_failed"
    if missing := _MISSING.match(error.detail):
        return Refused(_code_of(missing[1], missing[2]), details=[Detail(missing[2], "missing")])
    for fault in error.extra if isinstance(error.extra, list) else []:
        field, message = str(fault.get("key", "")), str(fault.get("message", ""))
        source = fault.get("source")
        if message == repr(field):
            # A KeyError's text: the field is not there.
            if field != "data":
                continue
            return Refused("invalid_json", "A body is needed.")
        field = names.get(field, field)
        if source == "path":
            # Where the documentation says chat_id chakchat says chatId.
            field = _CAMEL.sub(lambda match: match[1].upper(), field)
        code = _code_of(source, field)
        details.append(Detail(field, message))
    return Refused(code, details=details)


def _code_of(source: Any, field: str) -> str:
    # Compared by value: Litestar gives an enum of strings here and plain ones there.
    return "invalid_query_param" if source == "query" and field not in ("from", "to") else "validation_failed"
