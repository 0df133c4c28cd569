"""Every limit has a metric that counts it and a test that reaches it.

A limit goes by its variable's whole name, here and in the marks: groups of settings share names of fields, and the
messaging service's `max_connections` is none of the gateway's business.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from tidings.config import GROUPS
from tidings.config.groups import SettingsGroup, marks, variable
from tidings.metric_specs import SPECS

TESTS = Path(__file__).resolve().parents[1]


def limits(groups: Iterable[type[SettingsGroup]]) -> dict[str, dict[str, Any]]:
    """Variable to marks of every limit in these groups."""
    return {
        variable(group, field): marks(info)
        for group in groups
        for field, info in group.model_fields.items()
        if marks(info).get("limit")
    }


LIMITS = limits(GROUPS)

NO_LIMITS = {
    "TIDINGS_JWT_JWKS_TIMEOUT_S": "our own fetch from the issuer; what fails is in tidings_jwks_fetches_total",
    "TIDINGS_POSTGRES_CONNECT_TIMEOUT_S": "our own connecting to the database",
    "TIDINGS_POSTGRES_IDLE_TRANSACTION_TIMEOUT_S": "set at the server, for a process of ours that went silent",
}
"""What is named like a limit but bounds nothing that a client does, and why."""


def unmarked(groups: Iterable[type[SettingsGroup]]) -> set[str]:
    """Variables of the settings that are named like limits and not marked as such."""
    fields = {variable(group, field): field for group in groups for field in group.model_fields}
    named = {name for name, field in fields.items() if field.startswith("max_") or field.endswith("_timeout_s")}
    return named - set(limits(groups))


def marked_limits(source: str) -> Iterator[str]:
    """The names in `@pytest.mark.limit("NAME")` on functions and classes, and in a module's `pytestmark`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found: list[ast.expr] = node.decorator_list
        elif isinstance(node, ast.Assign) and any(ast.unparse(target) == "pytestmark" for target in node.targets):
            found = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
        else:
            continue
        for call in found:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.limit":
                yield from (str(part.value) for part in call.args if isinstance(part, ast.Constant))


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Every test file's text but this one's."""
    return [file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py") if file != Path(__file__).resolve()]


@pytest.fixture(scope="module")
def reached(sources: list[str]) -> set[str]:
    return {name for source in sources for name in marked_limits(source)}


@pytest.fixture(scope="module")
def metrics_in_tests(sources: list[str]) -> set[str]:
    return {name for source in sources for name in re.findall(r"\btidings_[a-z0-9_]+\b", source)}


def test_there_are_limits() -> None:
    gateway = {name.removeprefix("TIDINGS_GATEWAY_") for name in LIMITS if name.startswith("TIDINGS_GATEWAY_")}
    assert {"HANDSHAKE_TIMEOUT_S", "MAX_HEADER_BYTES", "MAX_CLIENT_MESSAGE_BYTES", "MAX_CLIENT_FRAMES_PER_S"} <= gateway
    assert {"MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_USER", "MAX_CONNECTIONS_PER_ADDRESS", "IDLE_TIMEOUT_S"} <= gateway
    assert {"MAX_UNSENT_BYTES", "SLOW_UNSENT_BYTES", "SLOW_AFTER_S", "MAX_UNSENT_TOTAL_BYTES"} <= gateway
    assert {"TIDINGS_MESSAGING_MAX_HEADER_BYTES", "TIDINGS_MESSAGING_MAX_CONNECTIONS"} <= set(LIMITS)
    assert "TIDINGS_POSTGRES_STATEMENT_TIMEOUT_S" in LIMITS


def test_limits_of_one_name_in_two_groups_are_two_limits() -> None:
    class Inbound(SettingsGroup):
        model_config = SettingsConfigDict(env_prefix="TIDINGS_INBOUND_")
        max_things: int = Field(default=1, json_schema_extra={"limit": True, "metric": "inbound_refused"})

    class Outbound(SettingsGroup):
        model_config = SettingsConfigDict(env_prefix="TIDINGS_OUTBOUND_")
        max_things: int = Field(default=1, json_schema_extra={"limit": True, "metric": "outbound_refused"})
        batch: int = 1

    found = limits([Inbound, Outbound])
    assert {name: each["metric"] for name, each in found.items()} == {
        "TIDINGS_INBOUND_MAX_THINGS": "inbound_refused",
        "TIDINGS_OUTBOUND_MAX_THINGS": "outbound_refused",
    }
    assert set(found) - set(marked_limits('@pytest.mark.limit("TIDINGS_OUTBOUND_MAX_THINGS")\ndef test(): ...')) == {
        "TIDINGS_INBOUND_MAX_THINGS"
    }


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_a_metric(name: str) -> None:
    assert LIMITS[name].get("metric") in SPECS, f"{name} names no metric of the table"


@pytest.mark.parametrize("name", LIMITS)
def test_the_metric_of_a_limit_is_in_a_test(name: str, metrics_in_tests: set[str]) -> None:
    assert LIMITS[name]["metric"] in metrics_in_tests, f"no test looks at {LIMITS[name]['metric']}"


def test_what_is_named_like_a_limit_is_one() -> None:
    assert unmarked(GROUPS) - set(NO_LIMITS) == set(), "mark it as a limit, or say in NO_LIMITS why it is none"
    assert set(NO_LIMITS) - unmarked(GROUPS) == set(), "there is nothing to explain any more"


def test_a_limit_without_its_mark_is_seen() -> None:
    class Careless(SettingsGroup):
        model_config = SettingsConfigDict(env_prefix="TIDINGS_CARELESS_")
        max_things: int = 1
        read_timeout_s: int = 1
        things_max: int = 1
        max_marked: int = Field(default=1, json_schema_extra={"limit": True, "metric": "refused"})

    assert unmarked([Careless]) == {"TIDINGS_CARELESS_MAX_THINGS", "TIDINGS_CARELESS_READ_TIMEOUT_S"}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_a_test(name: str, reached: set[str]) -> None:
    assert name in reached, f'no test is marked @pytest.mark.limit("{name}")'


def test_marks_name_limits_that_exist(reached: set[str]) -> None:
    assert reached - set(LIMITS) == set(), "a mark names the variable of a setting that is a limit"


def test_the_scan_sees_marks() -> None:
    source = '@pytest.mark.limit("A", "B")\ndef f(): ...\npytestmark = [pytest.mark.limit("C")]\n@other\nclass D: ...'
    assert set(marked_limits(source)) == {"A", "B", "C"}
