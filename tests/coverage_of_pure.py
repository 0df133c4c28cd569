"""Fails when a pure module's branch coverage or its line coverage is below the floor.

    pytest tests/unit tests/property tests/contract tests/chaos tests/mutants -m "not slow" \\
        --cov=tidings --cov-branch --cov-report=json:.cache/coverage.json
    python -m tests.coverage_of_pure .cache/coverage.json

Which modules are pure stands in `tests/unit/test_rings.py`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.unit.test_rings import FILES, RINGS, ROOT

__all__ = ["FLOOR_PERCENT", "Covered", "covered", "main", "table"]

FLOOR_PERCENT: Final = 95.0
"""Of a module's branches, and of its lines: each by itself, since many covered lines would outweigh a few branches."""


class Covered(NamedTuple):
    """How much of a module was run, in percent; of nothing, all of it."""

    branches: float
    lines: float

    @property
    def enough(self) -> bool:
        return min(self) >= FLOOR_PERCENT


def covered(summary: Mapping[str, int]) -> Covered:
    """What coverage.py's summary of one file says, counted with `--cov-branch`."""
    return Covered(
        _percent(summary["covered_branches"], summary["num_branches"]),
        _percent(summary["covered_lines"], summary["num_statements"]),
    )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def table(report: Mapping[str, Any]) -> dict[str, Covered]:
    """Each pure module with anything to cover; nothing was run of one that the report does not know."""
    files = {(ROOT / name).resolve(): entry["summary"] for name, entry in report["files"].items()}
    rows = {}
    for module, ring in sorted(RINGS.items()):
        if ring != "pure" or module not in FILES or not FILES[module].read_text(encoding="utf-8").strip():
            continue
        summary = files.get(FILES[module].resolve())
        rows[module] = covered(summary) if summary is not None else Covered(0.0, 0.0)
    return rows


def main(arguments: list[str]) -> int:
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if not report["meta"]["branch_coverage"]:
        print("the report was made without --cov-branch")
        return 2
    rows = table(report)
    print("branches    lines")
    for module, row in rows.items():
        below = "" if row.enough else f"  <- below {FLOOR_PERCENT:g} %"
        print(f"{row.branches:6.1f} %  {row.lines:5.1f} %  {module}{below}")
    return int(not all(row.enough for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
