"""The list of mutants is in order: each text stands where it should, each named test exists."""

from pathlib import Path

from tests.mutants.entries import MUTANTS, Mutant
from tests.mutants.runner import faults_of

GOOD = Mutant("one", "It holds.", "code.py", "x = 1", "x = 2", "test_code.py::test_x")


def test_every_entry_is_in_order() -> None:
    assert faults_of(MUTANTS) == []


def test_a_fault_of_an_entry_is_told(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\ny = 1\ny = 1\n")
    (tmp_path / "test_code.py").write_text("def test_x() -> None: ...\n")
    assert faults_of([GOOD], tmp_path) == []
    assert faults_of([GOOD, GOOD], tmp_path) == ["one: the name stands twice"]
    assert faults_of([GOOD._replace(old="y = 1")], tmp_path) == ["one: its text stands 2 times in code.py"]
    assert faults_of([GOOD._replace(old="z")], tmp_path) == ["one: its text stands 0 times in code.py"]
    assert faults_of([GOOD._replace(file="gone.py")], tmp_path) == ["one: its text stands 0 times in gone.py"]
    assert faults_of([GOOD._replace(new="x = 1")], tmp_path) == ["one: it changes nothing"]
    assert faults_of([GOOD._replace(new="x = (")], tmp_path) == [
        "one: code.py would be no Python, line 1: '(' was never closed"
    ]
    assert faults_of([GOOD._replace(test="test_code.py::test_y")], tmp_path) == [
        "one: there is no test_code.py::test_y"
    ]
