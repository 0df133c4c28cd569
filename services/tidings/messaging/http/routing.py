"""How a route is declared: its handler, and beside it what OpenAPI shows of it.

`read`, `create`, `change` and `remove` are GET, POST, PUT and DELETE. A handler is a function inside `routes(commands)`
of its module; it takes by name what it needs: `actor`, `once` (POST), `data` (the body), its path and query parameters.
The first line of its docstring is the summary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import cleandoc, signature
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin

from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from litestar.params import JSONBody, ParameterKwarg, PathParameter, QueryParameter
from msgspec import Raw, json

from tidings.messaging.http.problems import PROBLEMS, Problem, status_of

__all__ = ["Handler", "change", "create", "read", "remove"]

Handler: TypeAlias = HTTPRouteHandler
Decorator: TypeAlias = "Callable[[Callable[..., Any]], HTTPRouteHandler]"

_ALWAYS: Final = ("unauthorized", "origin_refused", "too_many_requests", "internal", "unavailable", "validation_failed")
_WITH_BODY: Final = ("invalid_json", "body_too_large", "request_timeout")
_WITH_KEY: Final = ("idempotency_key_missing", "idempotency_key_reused")
_WITH_QUERY: Final = ("invalid_query_param",)
_NOT_PARAMETERS: Final = frozenset({"actor", "once", "data", "request"})
_STATUS: Final = 200
_BODY: Final = get_args(JSONBody)[1]
_NAMED: Final = get_args(NamedDependency)[1]
_DESCRIPTIONS: Final = {
    400: "Refused.",
    401: "No token, or one that is refused.",
    403: "Not allowed.",
    404: "There is no such thing, or it is not for this user to know.",
    408: "The body took too long.",
    409: "The key came before with another request.",
    413: "The body is too large.",
    422: "The body is no JSON.",
    429: "Too many requests.",
    500: "An error of the service.",
    503: "The service can't do this now; try again.",
}


def read(path: str, **about: Any) -> Decorator:
    """GET; HEAD comes with it. See `_route` for what can be said."""
    return _route("GET", path, **about)


def create(path: str, **about: Any) -> Decorator:
    """POST. A handler that takes `once` needs the header Idempotency-Key."""
    return _route("POST", path, **about)


def change(path: str, **about: Any) -> Decorator:
    """PUT."""
    return _route("PUT", path, **about)


def remove(path: str, **about: Any) -> Decorator:
    """DELETE."""
    return _route("DELETE", path, **about)


def _route(
    method: str,
    path: str,
    *,
    tag: str,
    example: Any,
    answer: Any = dict[str, Any],
    body: Any = None,
    problems: Sequence[str] = (),
    parameters: dict[str, Any] | None = None,
    name: str | None = None,
) -> Decorator:
    """Declare one.

    Args:
        path: Below /v1.0, such as /chat/{chat_id:str}. Every path parameter is a `str` there and has its real type in
            the handler, so that a wrong one is 400 with the field's name.
        tag: Group in the documentation.
        example: What `data` of a good answer looks like.
        answer: Its type.
        body: Example of the request's body, as a struct or plain.
        problems: Codes of refusals beyond those that every route has.
        parameters: Examples of path and query parameters, by name as in the request.
        name: The operation's id, unique in the API; else the handler's name.
    """

    def declare(handler: Callable[..., Any]) -> HTTPRouteHandler:
        takes = signature(handler).parameters
        handler.__annotations__.update(
            {name: _marked(name, parameter.annotation, path) for name, parameter in takes.items()}
        )
        summary, _, rest = cleandoc(handler.__doc__ or handler.__name__).partition("\n\n")
        codes = [*_ALWAYS, *problems]
        codes += _WITH_BODY if "data" in takes else ()
        codes += _WITH_KEY if "once" in takes else ()
        codes += _WITH_QUERY if any(name not in _NOT_PARAMETERS and f"{{{name}:" not in path for name in takes) else ()
        return HTTPRouteHandler(
            path,
            http_method=method,  # type: ignore[arg-type]
            status_code=_STATUS,
            media_type=MediaType.JSON,
            tags=[tag],
            summary=summary.rstrip("."),
            description=rest or None,
            operation_id=name or handler.__name__,
            operation_class=_operation(body, parameters or {}, keyed="once" in takes),
            responses=_responses(answer, example, codes),
        )(handler)

    return declare


def _marked(name: str, annotation: Any, path: str) -> Any:
    """The annotation with the word for where its value comes from, as Litestar wants it said."""
    if name == "request":
        return annotation
    if name == "data":
        return Annotated[annotation, _BODY]
    if name in ("actor", "once"):
        return Annotated[annotation, _NAMED]
    place = PathParameter if f"{{{name}:" in path else QueryParameter
    bare, *notes = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    said = next((note for note in notes if isinstance(note, ParameterKwarg)), ParameterKwarg())
    others = [note for note in notes if note is not said]
    given = {field.name: getattr(said, field.name) for field in fields(said)} | {"query": None}
    return Annotated[(bare, *others, place(**given))]


def _responses(answer: Any, example: Any, codes: Sequence[str]) -> dict[int, ResponseSpec]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(status_of(code), []).append(code)
    responses = {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=_DESCRIPTIONS[status],
            examples=[
                Example(id=code, summary=PROBLEMS[code].message, value=_shown(Problem(code, PROBLEMS[code].message)))
                for code in group
            ],
        )
        for status, group in sorted(by_status.items())
    }
    good = ResponseSpec(
        answer,
        generate_examples=False,
        description="Done.",
        examples=[Example(id="answer", value=_shown({"data": example}))],
    )
    return {_STATUS: good, **responses}


def _shown(example: Any) -> Raw:
    """An example as JSON text: of plain values Litestar drops those that are null."""
    return Raw(json.encode(example))


def _operation(body: Any, parameters: dict[str, Any], *, keyed: bool) -> type[Operation]:
    """Litestar lets an operation complete itself once its parts are known."""

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            for parameter in self.parameters or ():
                if isinstance(parameter, Parameter) and parameter.name in parameters:
                    parameter.example = parameters[parameter.name]
            if keyed:
                self.parameters = [*(self.parameters or ()), _key_parameter()]
            if body is not None and isinstance(self.request_body, RequestBody):
                for content in self.request_body.content.values():
                    content.example = _shown(body)
            good = (self.responses or {}).get(str(_STATUS))
            if isinstance(good, OpenAPIResponse):
                for content in (good.content or {}).values():
                    _wrap(content)

    return Documented


def _wrap(content: OpenAPIMediaType) -> None:
    """Say that the answer is in an envelope."""
    content.schema = Schema(
        type=OpenAPIType.OBJECT,
        required=["data"],
        properties={"data": content.schema or Schema()},
    )


def _key_parameter() -> Parameter:
    return Parameter(
        name="Idempotency-Key",
        param_in="header",
        required=True,
        description="Names this request, for 24 hours: sent again with the same key, it gets its first answer.",
        schema=Schema(type=OpenAPIType.STRING, min_length=1, max_length=255, pattern="^[!-~]+$"),
        example="5b1f0a2e-5a0c-4f57-9a55-0d5c6d4c2b11",
    )
