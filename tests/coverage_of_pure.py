"""Fails when the branch coverage of a pure module is below the floor.

    pytest tests/unit tests/property tests/contract --cov=tidings --cov-branch --cov-report=json:.cache/coverage.json
    python -m tests.coverage_of_pure .cache/coverage.json

Which modules are pure stands in `tests/unit/test_rings.py`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.unit.test_rings import FILES, RINGS, ROOT

__all__ = ["FLOOR_PERCENT", "table"]

FLOOR_PERCENT: Final = 95.0
"""Of lines and branches together, as coverage.py counts them with `--cov-branch`."""


def table(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Each pure module with anything to cover, and its percentage; 0 for one that the report does not know."""
    files = {(ROOT / name).resolve(): entry["summary"] for name, entry in report["files"].items()}
    rows = []
    for module, ring in sorted(RINGS.items()):
        if ring != "pure" or module not in FILES or not FILES[module].read_text(encoding="utf-8").strip():
            continue
        summary = files.get(FILES[module].resolve())
        rows.append((module, float(summary["percent_covered"]) if summary is not None else 0.0))
    return rows


def main(arguments: list[str]) -> int:
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if not report["meta"]["branch_coverage"]:
        print("the report was made without --cov-branch")
        return 2
    rows = table(report)
    for module, percent in rows:
        print(f"{percent:6.1f} %  {module}{'' if percent >= FLOOR_PERCENT else f'  <- below {FLOOR_PERCENT:g} %'}")
    return int(any(percent < FLOOR_PERCENT for _, percent in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
