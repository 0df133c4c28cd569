"""Every setting of Tidings, one class per group; names, units, defaults and limits are on the fields.

`load(KafkaSettings, GatewaySettings)` reads the environment and reports every fault of all named groups in one
`ConfigError`; `warnings()` names what looks like a setting and is none. docs/settings.md is generated from here.
"""

import os
import re
from collections.abc import Mapping
from typing import Final, TypeVar, overload

from tidings.config.gateway import GatewaySettings
from tidings.config.groups import SettingsGroup, closest, load_groups, rows, variable
from tidings.config.jwt import JwtSettings
from tidings.config.kafka import KafkaSettings, TopicSettings
from tidings.config.log import LogSettings
from tidings.config.messaging import MessagingSettings
from tidings.config.postgres import PostgresSettings

__all__ = [
    "GROUPS",
    "GatewaySettings",
    "JwtSettings",
    "KafkaSettings",
    "LogSettings",
    "MessagingSettings",
    "PostgresSettings",
    "SettingsGroup",
    "TopicSettings",
    "load",
    "render",
    "warnings",
]

_G1 = TypeVar("_G1", bound=SettingsGroup)
_G2 = TypeVar("_G2", bound=SettingsGroup)
_G3 = TypeVar("_G3", bound=SettingsGroup)
_G4 = TypeVar("_G4", bound=SettingsGroup)
_G5 = TypeVar("_G5", bound=SettingsGroup)
_G6 = TypeVar("_G6", bound=SettingsGroup)

GROUPS: Final[tuple[type[SettingsGroup], ...]] = (
    KafkaSettings,
    TopicSettings,
    JwtSettings,
    GatewaySettings,
    PostgresSettings,
    MessagingSettings,
    LogSettings,
)
"""Every group, in the order of the reference page."""

# Of the services that share an environment with these: set there, not read here.
_OTHERS: Final = (
    "TIDINGS_PRESENCE_",
    "TIDINGS_MQTT_",
    "TIDINGS_TEST_",
    "TIDINGS_UP_",
)
_SERVICE_LINK_NAME: Final = re.compile(
    r"TIDINGS(_[A-Z0-9_]+?)?_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP).*)?)"
)


@overload
def load(g1: type[_G1], /, *, environ: Mapping[str, str] | None = None) -> tuple[_G1]: ...
@overload
def load(g1: type[_G1], g2: type[_G2], /, *, environ: Mapping[str, str] | None = None) -> tuple[_G1, _G2]: ...
@overload
def load(
    g1: type[_G1], g2: type[_G2], g3: type[_G3], /, *, environ: Mapping[str, str] | None = None
) -> tuple[_G1, _G2, _G3]: ...
@overload
def load(
    g1: type[_G1], g2: type[_G2], g3: type[_G3], g4: type[_G4], /, *, environ: Mapping[str, str] | None = None
) -> tuple[_G1, _G2, _G3, _G4]: ...
@overload
def load(
    g1: type[_G1],
    g2: type[_G2],
    g3: type[_G3],
    g4: type[_G4],
    g5: type[_G5],
    /,
    *,
    environ: Mapping[str, str] | None = None,
) -> tuple[_G1, _G2, _G3, _G4, _G5]: ...
@overload
def load(
    g1: type[_G1],
    g2: type[_G2],
    g3: type[_G3],
    g4: type[_G4],
    g5: type[_G5],
    g6: type[_G6],
    /,
    *,
    environ: Mapping[str, str] | None = None,
) -> tuple[_G1, _G2, _G3, _G4, _G5, _G6]: ...
def load(*groups: type[SettingsGroup], environ: Mapping[str, str] | None = None) -> tuple[SettingsGroup, ...]:
    """Read these groups from the environment; always a tuple, in their order.

    Args:
        environ: Instead of the process's environment.
    Raises:
        ConfigError: Every fault of every group, one line each, beginning with the variable's name.
    """
    return load_groups(*groups, environ=os.environ if environ is None else environ)


def warnings(environ: Mapping[str, str] | None = None) -> list[str]:
    """What in the environment looks like a setting and has no effect, or looks like a slip. One line each."""
    given = os.environ if environ is None else environ
    known = [variable(group, field) for group in GROUPS for field in group.model_fields]
    found: list[str] = []
    links: list[str] = []
    for name in sorted(given):
        if not name.startswith("TIDINGS_") or name in known or name.startswith(_OTHERS):
            continue
        if _SERVICE_LINK_NAME.fullmatch(name):
            links.append(name)
            continue
        meant = closest(name, known)
        found.append(f"{name}: no setting has this name" + (f"; {meant} was meant?" if meant else ""))
    if links:
        found.append(
            f"{links[0]}{f' and {len(links) - 1} more' if len(links) > 1 else ''}: no setting; injected by Kubernetes"
            " for a Service (enableServiceLinks: false keeps them away)"
        )
    secret = given.get("TIDINGS_JWT_SECRET", "")
    if secret != secret.strip():
        found.append("TIDINGS_JWT_SECRET: begins or ends with white space, which counts as part of the secret")
    return found


def render(*groups: SettingsGroup) -> str:
    """The settings in effect as an aligned table of name, value, default and source; secrets as `***`."""
    table = [("name", "value", "default", "source")]
    table += [(row.name, row.value, row.default, row.source) for group in groups for row in rows(group)]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3])) for line in table
    )
