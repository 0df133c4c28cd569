"""The runner itself, on a tree of two files: what each kind of mutant comes to, and that it leaves no trace."""

import os
import textwrap
from pathlib import Path

import pytest

from tests.mutants.entries import Mutant
from tests.mutants.runner import faults_of, has_node, try_all

CODE = "def double(number):\n    return number * 2\n"
TESTS = """\
import logging
import sys
import threading

from code_ import double


def test_double():
    assert double(2) == 4


def test_what_swallows_errors():
    result = []

    def work():
        try:
            result.append(double(2))
        except Exception:
            logging.exception("failed")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [4]


def test_that_provokes_errors():
    try:
        double()
    except TypeError:
        logging.exception("as it should be")
    assert double(2) == 4


def test_red():
    assert double(2) == 5
"""


def mutant(new: str, test: str = "test_double", old: str = "number * 2") -> Mutant:
    return Mutant("it", "It holds.", "code_.py", old, new, f"test_code.py::{test}")


def test_what_becomes_of_mutants(tmp_path: Path) -> None:
    (tmp_path / "code_.py").write_text(CODE)
    (tmp_path / "test_code.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    mutants = [
        mutant("number * 3"),
        mutant("number + 2"),
        mutant("double(number, 2)"),
        mutant("round(nunber)", "test_what_swallows_errors"),
        mutant("number * 3", "test_that_provokes_errors"),
        mutant("number * 3", "test_red"),
    ]
    said: list[str] = []
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    trials = try_all(mutants, tmp_path, environ, said.append)
    assert [(trial.outcome, trial.good) for trial in trials] == [
        ("killed", True),
        ("SURVIVED", False),
        ("NO PROGRAM", False),
        ("NO PROGRAM", False),
        ("killed", True),
        ("RED BEFORE", False),
    ]
    assert trials[2].reason == "TypeError: double() takes 1 positional argument but 2 were given"
    assert trials[3].reason.startswith("NameError: name 'nunber' is not defined")  # Python 3.13 adds a guess
    assert any(trials[2].reason in line for line in said)
    assert (tmp_path / "code_.py").read_text() == CODE


@pytest.mark.skipif(
    not has_node() and os.environ.get("CI") != "true", reason="no Node 20 or newer for the JavaScript client"
)
def test_a_test_of_the_javascript_client_is_run_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "clients" / "js" / "test"
    folder.mkdir(parents=True)
    runner = Path(__file__).parents[2] / "clients" / "js" / "test" / "run.js"
    (folder / "run.js").write_text(runner.read_text())
    (tmp_path / "clients" / "js" / "package.json").write_text('{"type": "module"}')
    (folder.parent / "code.js").write_text("export const double = (number) => number * 2;\n")
    (folder / "code.test.js").write_text(
        textwrap.dedent("""\
            import assert from "node:assert/strict";
            import { test } from "node:test";
            import { double } from "../code.js";

            test("two of it ($, more)", () => assert.equal(double(2), 4));
            test("another that is red", () => assert.equal(double(2), 5));
        """)
    )
    name = "clients/js/test/code.test.js::two of it ($, more)"
    good = Mutant("it", "It holds.", "clients/js/code.js", "number * 2", "number * 3", name)
    mutants = [good, good._replace(new="number + 2"), good._replace(new="nunber * 2")]
    assert faults_of([good], tmp_path) == []
    assert faults_of([good._replace(test=name + "!")], tmp_path) == [f"it: there is no {name}!"]
    trials = try_all(mutants, tmp_path, dict(os.environ), lambda line: None)
    assert [trial.outcome for trial in trials] == ["killed", "SURVIVED", "NO PROGRAM"]
