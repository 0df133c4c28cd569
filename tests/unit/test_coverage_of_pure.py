"""The floor of the pure modules' coverage: branches and lines each by itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.coverage_of_pure import main, table
from tests.unit.test_rings import FILES, ROOT

MODULE = "tidings.gateway.registry"


def report(branches: tuple[int, int], lines: tuple[int, int]) -> dict[str, Any]:
    """Of covered and all in `MODULE`; every other module was run altogether."""
    whole = {"covered_branches": 0, "num_branches": 0, "covered_lines": 0, "num_statements": 0}
    part = dict(zip(whole, (*branches, *lines), strict=True))
    return {
        "meta": {"branch_coverage": True},
        "files": {
            str(file.relative_to(ROOT)): {"summary": part if module == MODULE else whole}
            for module, file in FILES.items()
        },
    }


def verdict(tmp_path: Path, given: dict[str, Any]) -> int:
    file = tmp_path / "coverage.json"
    file.write_text(json.dumps(given), encoding="utf-8")
    return main([str(file)])


@pytest.mark.parametrize(
    ("branches", "lines", "code"),
    [
        ((19, 20), (95, 100), 0),
        ((0, 0), (0, 0), 0),
        ((14, 16), (300, 300), 1),  # 99 % of lines and branches together
        ((300, 300), (14, 16), 1),
    ],
    ids=["at-the-floor", "nothing-to-cover", "branches-below", "lines-below"],
)
def test_branches_and_lines_must_each_reach_the_floor(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    branches: tuple[int, int],
    lines: tuple[int, int],
    code: int,
) -> None:
    assert verdict(tmp_path, report(branches, lines)) == code
    told = [line for line in capsys.readouterr().out.splitlines() if "below" in line]
    assert [MODULE in line for line in told] == [True] * code


def test_both_percentages_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdict(tmp_path, report((14, 16), (99, 100)))
    assert f"  87.5 %   99.0 %  {MODULE}  <- below 95 %\n" in capsys.readouterr().out


def test_a_module_that_the_report_does_not_know_was_not_run() -> None:
    given = report((1, 1), (1, 1))
    del given["files"][str(FILES[MODULE].relative_to(ROOT))]
    assert table(given)[MODULE] == (0, 0)
    assert [module for module, row in table(given).items() if not row.enough] == [MODULE]


def test_a_report_without_branches_is_no_report(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"meta": {"branch_coverage": False}, "files": {}}) == 2
