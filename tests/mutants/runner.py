"""Applies one mutant after the other to a copy of the tree and sees the named test go red."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.mutants.entries import Mutant

__all__ = ["ROOT", "Outcome", "Trial", "faults_of", "run"]

ROOT: Final = Path(__file__).parents[2]

_COPIED: Final = ("services", "shared", "tests", "schemas", "docs", "pyproject.toml", "README.md", "Makefile")
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "node_modules", ".pytest_cache", ".hypothesis")
_TIMEOUT_S: Final = 300.0
_FAILED: Final = 1
"""pytest's exit code for tests that failed; any other than this and 0 means that it could not run them."""

Outcome = Literal["killed", "hung", "SURVIVED", "NOT FOUND", "BROKEN", "RED BEFORE"]
"""Hung counts as killed: nobody would wait for that test. In capitals what must not be."""


class Trial(NamedTuple):
    """What became of one mutant."""

    mutant: Mutant
    outcome: Outcome
    took_s: float
    output: str

    @property
    def good(self) -> bool:
        return self.outcome in ("killed", "hung")


def faults_of(mutants: Iterable[Mutant], root: Path = ROOT) -> list[str]:
    """What is wrong with the entries themselves, one line each: texts that are not there exactly once, names twice."""
    lines = []
    names: set[str] = set()
    for mutant in mutants:
        if mutant.name in names:
            lines.append(f"{mutant.name}: the name stands twice")
        names.add(mutant.name)
        file = root / mutant.file
        count = file.read_text(encoding="utf-8").count(mutant.old) if file.is_file() else 0
        if count != 1:
            lines.append(f"{mutant.name}: its text stands {count} times in {mutant.file}")
        if mutant.old == mutant.new:
            lines.append(f"{mutant.name}: it changes nothing")
        test_file = root / mutant.test.partition("::")[0]
        function = mutant.test.partition("::")[2].partition("[")[0]
        if not test_file.is_file() or (function and f"def {function}(" not in test_file.read_text(encoding="utf-8")):
            lines.append(f"{mutant.name}: there is no {mutant.test}")
    return lines


def run(mutants: Sequence[Mutant], folder: Path, say: Callable[[str], None]) -> list[Trial]:
    """Copy the tree into the folder, see all named tests pass there, then try each mutant."""
    copy = folder / "tree"
    copy.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=_IGNORED)
        elif source.exists():
            shutil.copy2(source, copy / name)
    cache = ROOT / ".cache"
    if cache.is_dir():
        (copy / ".cache").symlink_to(cache, target_is_directory=True)
    environ = _environ(copy)
    _check_imports(copy, environ)
    say("the named tests without any mutant")
    red = {test for test in dict.fromkeys(mutant.test for mutant in mutants) if _test(copy, environ, test, say)[0] != 0}
    trials = []
    for mutant in mutants:
        trial = _try(mutant, copy, environ, red)
        say(f"{trial.outcome:<10} {trial.took_s:6.1f} s  {mutant.name}")
        trials.append(trial)
    return trials


def _try(mutant: Mutant, copy: Path, environ: Mapping[str, str], red: set[str]) -> Trial:
    if mutant.test in red:
        return Trial(mutant, "RED BEFORE", 0, "")
    file = copy / mutant.file
    before = file.read_text(encoding="utf-8")
    if before.count(mutant.old) != 1:
        return Trial(mutant, "NOT FOUND", 0, "")
    began = time.monotonic()
    file.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, output = _test(copy, environ, mutant.test)
    finally:
        file.write_text(before, encoding="utf-8")
    outcomes: dict[int | None, Outcome] = {None: "hung", 0: "SURVIVED", _FAILED: "killed"}
    return Trial(mutant, outcomes.get(code, "BROKEN"), time.monotonic() - began, output)


def _test(
    copy: Path, environ: Mapping[str, str], test: str, say: Callable[[str], None] = lambda line: None
) -> tuple[int | None, str]:
    """pytest's exit code and output; no code: it was ended for taking too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", test]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output = process.communicate(timeout=_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()  # what it started ends with it: see `tidings.children`
        return None, process.communicate()[0]
    if process.returncode:
        say(f"  {test}: exit code {process.returncode}\n{output[-3000:]}")
    return process.returncode, output


def _environ(copy: Path) -> dict[str, str]:
    # Before the installed tree, which may be the one that was copied. No bytecode: a change within the same second that
    # leaves the size as it was would not be noticed.
    path = os.pathsep.join(str(copy / name) for name in ("services", "shared"))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TIDINGS_", "PYTEST_"))},
        "PYTHONPATH": os.pathsep.join([path, str(copy)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _check_imports(copy: Path, environ: Mapping[str, str]) -> None:
    """The copy is what is tested, not the tree that is installed."""
    code = "import tidings.gateway.node, tidings.errors; print(tidings.gateway.node.__file__, tidings.errors.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environ, capture_output=True, text=True, check=True
    )
    for file in done.stdout.split():
        assert Path(file).is_relative_to(copy.resolve()), f"{file} is not of the copy"
