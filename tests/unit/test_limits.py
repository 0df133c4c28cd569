"""Every limit has a metric that counts it and a test that reaches it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidings.config import GROUPS
from tidings.config.groups import marks
from tidings.metric_specs import SPECS

TESTS = Path(__file__).resolve().parents[1]
LIMITS = {
    field: marks(info) for group in GROUPS for field, info in group.model_fields.items() if marks(info).get("limit")
}


def marked_limits(source: str) -> Iterator[str]:
    """The names in `@pytest.mark.limit("name")` on functions and classes, and in a module's `pytestmark`."""
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
def reached() -> set[str]:
    files = TESTS.rglob("test_*.py")
    return {name for file in files for name in marked_limits(file.read_text(encoding="utf-8"))}


def test_there_are_limits() -> None:
    assert {"handshake_timeout_s", "max_header_bytes", "max_client_message_bytes", "max_client_frames_per_s"} <= set(
        LIMITS
    )
    assert {"max_connections", "max_connections_per_user", "max_connections_per_address", "idle_timeout_s"} <= set(
        LIMITS
    )
    assert {"max_unsent_bytes", "slow_unsent_bytes", "slow_after_s", "max_unsent_total_bytes"} <= set(LIMITS)


@pytest.mark.parametrize("field", LIMITS)
def test_a_limit_has_a_metric(field: str) -> None:
    assert LIMITS[field].get("metric") in SPECS, f"{field} names no metric of the table"


@pytest.mark.parametrize("field", LIMITS)
def test_a_limit_has_a_test(field: str, reached: set[str]) -> None:
    assert field in reached, f'no test is marked @pytest.mark.limit("{field}")'


def test_marks_name_limits_that_exist(reached: set[str]) -> None:
    assert reached <= set(LIMITS)


def test_the_scan_sees_marks() -> None:
    source = '@pytest.mark.limit("a")\ndef test(): ...\npytestmark = [pytest.mark.limit("b")]\n@other\nclass C: ...'
    assert set(marked_limits(source)) == {"a", "b"}
