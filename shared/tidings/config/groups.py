"""How settings are read: one class per group, one environment variable per field, all faults told at once.

A group (see `tidings.config`) is a pydantic-settings class. Building one directly reads nothing but its arguments, so
that tests and tools stay independent of the machine; `load` alone looks at the environment.

Marks on a field, in `json_schema_extra`: `limit` (True: refuses or closes when passed) with its `metric`; `zero` (what
0 means); `accepts` (the allowed values in words, where the type does not say it); `default_text` (for a default that
depends on the machine or on another field).
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args, get_origin

from pydantic import BeforeValidator, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from tidings.config.values import byte_count
from tidings.errors import ConfigError

__all__ = [
    "CrossFault",
    "Row",
    "SettingsGroup",
    "accepted",
    "closest",
    "default_text",
    "given_together",
    "is_secret",
    "load_groups",
    "marks",
    "rows",
    "shown",
    "variable",
]

_SHOWN_CHARS: Final = 80
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+")


# ---- the base class


@dataclass(frozen=True)
class CrossFault:
    """A fault that lies between settings.

    Attributes:
        fields: The fields it is about; the first one names the line. Not reported if one of them is faulty itself.
        text: What is given and what is accepted; never a secret.
    """

    fields: tuple[str, ...]
    text: str


class _CrossFaultsError(ValueError):
    def __init__(self, group: "type[SettingsGroup]", faults: Sequence[CrossFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{variable(group, f.fields[0])}: {f.text}" for f in faults))


class SettingsGroup(BaseSettings):
    """The base of all groups. Immutable; reads no environment and no file of settings by itself."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        return (init_settings,)

    def cross_faults(self) -> Iterable[CrossFault]:
        """Faults between the fields of this group, each of which is accepted by itself."""
        return ()

    @model_validator(mode="after")
    def _check_across(self) -> Self:
        if faults := list(self.cross_faults()):
            raise _CrossFaultsError(type(self), faults)
        return self


class _GivenEnvironment(EnvSettingsSource):
    """pydantic-settings' reading of an environment, of a mapping that is passed instead of the process's own."""

    def __init__(self, group: type[SettingsGroup], environ: Mapping[str, str]) -> None:
        # An empty or blank variable counts as not set: what `FOO=` in a compose or unit file means.
        self._given = {name.lower(): value for name, value in environ.items() if value.strip()}
        super().__init__(group)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def variable(group: type[SettingsGroup], field: str) -> str:
    """The environment variable of a field."""
    alias = group.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"{group.model_config.get('env_prefix', '')}{field}".upper()


def marks(info: FieldInfo) -> dict[str, Any]:
    """The marks of a field (see the module)."""
    return dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}


def is_secret(info: FieldInfo) -> bool:
    """Whether the value must never be shown."""
    return SecretStr in (info.annotation, *_parts(info.annotation))


# ---- loading


def load_groups(*groups: type[SettingsGroup], environ: Mapping[str, str]) -> tuple[SettingsGroup, ...]:
    """Read these groups from `environ`, in their order.

    Raises:
        ConfigError: Every fault of every group, one line each, beginning with the variable's name.
    """
    loaded: list[SettingsGroup] = []
    faults: list[str] = []
    for group in groups:
        given: dict[str, Any] = _GivenEnvironment(group, environ)()
        instance, found = _build(group, given)
        faults += found
        if instance is not None:
            loaded.append(instance)
    if faults:
        raise ConfigError(faults)
    return tuple(loaded)


def _build(group: type[SettingsGroup], given: dict[str, Any]) -> tuple[SettingsGroup | None, list[str]]:
    """Validate; with faulty fields left out validate again, for the faults between the others."""
    try:
        return group(**given), []
    except ValidationError as error:
        faulty: dict[str, str] = {}
        lines: list[str] = []
        for item in error.errors():
            if item["type"] == "default_factory_not_called":
                continue  # its default comes from another field, which is faulty and told by itself
            if item["loc"]:
                field = _field_of(group, str(item["loc"][0]))
                faulty.setdefault(field, str(item.get("ctx", {}).get("error", "")))
            else:
                lines += _cross_lines(group, item, set())
    for field, why in faulty.items():
        key = field if field in given else variable(group, field)
        raw = given.get(key, given.get(key.lower()))
        lines.append(_fault_line(group, field, raw, why))
    if faulty:
        rest = {name: value for name, value in given.items() if _field_of(group, name) not in faulty}
        try:
            group(**rest)
        except ValidationError as error:
            for item in error.errors():
                if not item["loc"]:
                    lines += _cross_lines(group, item, set(faulty))
    return None, lines


def _field_of(group: type[SettingsGroup], name: str) -> str:
    if name in group.model_fields:
        return name
    return next(f for f in group.model_fields if variable(group, f).lower() == name.lower())


def _cross_lines(group: type[SettingsGroup], item: Any, faulty: set[str]) -> Iterator[str]:
    error = item["ctx"]["error"]
    if not isinstance(error, _CrossFaultsError):
        raise error
    for fault in error.faults:
        if not faulty.intersection(fault.fields):
            yield f"{variable(group, fault.fields[0])}: {fault.text}"


def _fault_line(group: type[SettingsGroup], field: str, raw: object, why: str) -> str:
    info = group.model_fields[field]
    name = variable(group, field)
    given = "the given value (not shown)" if is_secret(info) else f"given {_short(raw)}"
    line = f"{name}: {given}{f' ({why})' if why else ''}; accepted: {accepted(info)}"
    if isinstance(raw, str) and _SERVICE_LINK.fullmatch(raw.strip()) and not is_secret(info):
        service = name.lower().removesuffix("_port").replace("_", "-")
        line += (
            f" - this looks like what Kubernetes injects for a Service named {service!r}:"
            " set enableServiceLinks: false in the pod, or name the Service otherwise"
        )
    return line


def _short(raw: object) -> str:
    text = re.sub(r"://.*@", "://…@", repr(raw))  # a password in an address
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(str(raw))} characters)"


# ---- describing


def _parts(annotation: object) -> Iterator[object]:
    """What `X | None` and `Annotated[X, …]` are made of."""
    for part in get_args(annotation):
        yield part
        yield from _parts(part)


def accepted(info: FieldInfo) -> str:
    """What values a field takes, in words."""
    extra = marks(info)
    zero = f"; 0 = {extra['zero']}" if "zero" in extra else ""
    if "accepts" in extra:
        return f"{extra['accepts']}{zero}"
    kinds = [info.annotation, *_parts(info.annotation)]
    if get_origin(info.annotation) is Literal:
        return "one of " + ", ".join(str(v) for v in get_args(info.annotation))
    if int in kinds or float in kinds:
        bounds = _bounds(info)
        what = "a whole number" if int in kinds else "a number"
        if any(isinstance(m, BeforeValidator) and m.func is byte_count for m in info.metadata):
            what = "a number of bytes, also as KiB, MiB or GiB,"
        return f"{what}{bounds}{zero}"
    if Path in kinds:
        return "the path of a file that can be read"
    return "text"


def _bounds(info: FieldInfo) -> str:
    low = high = ""
    for mark in info.metadata:
        if (least := getattr(mark, "ge", None)) is not None:
            low = f" from {least}"
        if (over := getattr(mark, "gt", None)) is not None:
            low = f" greater than {over}"
        if (most := getattr(mark, "le", None)) is not None:
            high = f" to {most}" if low.startswith(" from") else f", at most {most}"
    return low + high


@dataclass(frozen=True)
class Row:
    """One setting as people see it; `value` and `default` never show a secret."""

    name: str
    value: str
    default: str
    source: Literal["environment", "default"]
    description: str


def rows(group: SettingsGroup) -> Iterator[Row]:
    """The settings of one group with their values and where these come from."""
    for field, info in type(group).model_fields.items():
        value = getattr(group, field)
        yield Row(
            name=variable(type(group), field),
            value="***" if is_secret(info) and value is not None else shown(value),
            default=default_text(info),
            source="environment" if field in group.model_fields_set else "default",
            description=info.description or "",
        )


def default_text(info: FieldInfo) -> str:
    """The default in words; empty if there is none."""
    text = marks(info).get("default_text")
    if text is not None:
        return str(text)
    return "" if info.default is PydanticUndefined else shown(info.default)


def shown(value: object) -> str:
    """A value as it would be written in the environment; empty for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)), None)


def given_together(group: SettingsGroup, one: str, other: str) -> Iterable[CrossFault]:
    """Both or neither."""
    for missing, given in ((one, other), (other, one)):
        if getattr(group, missing) is None and getattr(group, given) is not None:
            yield CrossFault((missing, given), f"not given, but {variable(type(group), given)} is; give both or none")
