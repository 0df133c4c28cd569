"""Applies one mutant after the other to a copy of the tree and sees the named test go red."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.mutants.entries import Mutant
from tests.mutants.programs import does_not_compile, signs_of_no_program

__all__ = ["ROOT", "Outcome", "Trial", "faults_of", "has_node", "is_javascript", "run", "try_all"]

ROOT: Final = Path(__file__).parents[2]

_COPIED: Final = (
    "services",
    "shared",
    "clients",
    "tests",
    "schemas",
    "docs",
    "pyproject.toml",
    "README.md",
    "Makefile",
)
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "node_modules", ".pytest_cache", ".hypothesis")
_TIMEOUT_S: Final = 300.0
_FAILED: Final = 1
"""pytest's exit code for tests that failed; any other than this and 0 means that it could not run them."""
_RUN_JAVASCRIPT: Final = "clients/js/test/run.js"
_LEAST_NODE: Final = 20

Outcome = Literal["killed", "hung", "SURVIVED", "NOT FOUND", "BROKEN", "NO PROGRAM", "RED BEFORE"]
"""Hung counts as killed: nobody would wait for that test. In capitals what must not be. No program: the test failed
because names, arguments or syntax are wrong, which proves nothing."""


class Trial(NamedTuple):
    """What became of one mutant."""

    mutant: Mutant
    outcome: Outcome
    took_s: float
    output: str
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.outcome in ("killed", "hung")


def faults_of(mutants: Iterable[Mutant], root: Path = ROOT) -> list[str]:
    """What is wrong with the entries themselves, one line each: texts that are not there exactly once, names twice,
    changes that leave no Python.
    """
    lines = []
    names: set[str] = set()
    for mutant in mutants:
        if mutant.name in names:
            lines.append(f"{mutant.name}: the name stands twice")
        names.add(mutant.name)
        file = root / mutant.file
        source = file.read_text(encoding="utf-8") if file.is_file() else ""
        count = source.count(mutant.old)
        if count != 1:
            lines.append(f"{mutant.name}: its text stands {count} times in {mutant.file}")
        elif why := does_not_compile(mutant.file, source.replace(mutant.old, mutant.new)):
            lines.append(f"{mutant.name}: {mutant.file} would be no Python, {why}")
        if mutant.old == mutant.new:
            lines.append(f"{mutant.name}: it changes nothing")
        if not _exists(mutant.test, root):
            lines.append(f"{mutant.name}: there is no {mutant.test}")
    return lines


def _exists(test: str, root: Path) -> bool:
    file, _, name = test.partition("::")
    if not (root / file).is_file():
        return False
    text = (root / file).read_text(encoding="utf-8")
    return f'test("{name}"' in text if is_javascript(test) else f"def {name.partition('[')[0]}(" in text or not name


def is_javascript(test: str) -> bool:
    """Whether Node runs this test."""
    return test.partition("::")[0].endswith(".js")


def has_node() -> bool:
    """Whether there is a Node that is new enough for the JavaScript client."""
    if (node := shutil.which("node")) is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return (match := re.match(r"v(\d+)\.", version)) is not None and int(match[1]) >= _LEAST_NODE


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
    return try_all(mutants, copy, environ, say)


def try_all(
    mutants: Sequence[Mutant], copy: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> list[Trial]:
    """Try each mutant in this folder, which is as it was afterwards; but see all named tests pass there first."""
    say("the named tests without any mutant")
    outputs: dict[str, str] = {}
    for test in dict.fromkeys(mutant.test for mutant in mutants):
        code, output = _test(copy, environ, test, "-rP")
        if code == 0:
            outputs[test] = output
        else:
            say(f"  {test}: exit code {code}\n{output[-3000:]}")
    trials = []
    for mutant in mutants:
        trial = _try(mutant, copy, environ, outputs)
        say(f"{trial.outcome:<10} {trial.took_s:6.1f} s  {mutant.name}" + (trial.reason and f": {trial.reason}"))
        trials.append(trial)
    return trials


def _try(mutant: Mutant, copy: Path, environ: Mapping[str, str], outputs: Mapping[str, str]) -> Trial:
    """`outputs`: what the tests that pass without a mutant print then."""
    if mutant.test not in outputs:
        return Trial(mutant, "RED BEFORE", 0, "")
    file = copy / mutant.file
    before = file.read_text(encoding="utf-8")
    if before.count(mutant.old) != 1:
        return Trial(mutant, "NOT FOUND", 0, "")
    began = time.monotonic()
    source = before.replace(mutant.old, mutant.new)
    file.write_text(source, encoding="utf-8")
    try:
        code, output = _test(copy, environ, mutant.test)
    finally:
        file.write_text(before, encoding="utf-8")
    took_s = time.monotonic() - began
    outcomes: dict[int | None, Outcome] = {None: "hung", 0: "SURVIVED", _FAILED: "killed"}
    outcome = outcomes.get(code, "BROKEN")
    if outcome in ("killed", "hung"):
        # A test may well provoke such an exception itself: what it also says without a mutant proves nothing.
        known = signs_of_no_program(outputs[mutant.test], mutant.file, before)
        for sign in signs_of_no_program(output, mutant.file, source):
            if sign not in known:
                return Trial(mutant, "NO PROGRAM", took_s, output, sign)
    return Trial(mutant, outcome, took_s, output)


def _command(test: str, options: Collection[str]) -> list[str]:
    if not is_javascript(test):
        return [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *options, test]
    file, _, name = test.partition("::")
    pattern = re.sub(r"[.*+?^${}()|[\]\\/]", r"\\\g<0>", name)
    return ["node", _RUN_JAVASCRIPT, "--test-reporter=spec", f"--test-name-pattern=^{pattern}$", file]


def _test(copy: Path, environ: Mapping[str, str], test: str, *options: str) -> tuple[int | None, str]:
    """Exit code and output of pytest, with these options, or of Node; no code: it was ended for taking too long."""
    process = subprocess.Popen(
        _command(test, options),
        cwd=copy,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=_TIMEOUT_S)[0]
    except BaseException as error:
        # All that it started, too: Node's processes do not end with the one that started them.
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        if isinstance(error, subprocess.TimeoutExpired):
            return None, output
        raise
    return process.returncode, output


def _environ(copy: Path) -> dict[str, str]:
    # Before the installed tree, which may be the one that was copied. No bytecode: a change within the same second that
    # leaves the size as it was would not be noticed.
    path = os.pathsep.join(str(copy / name) for name in ("services", "shared", "clients/python/src"))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TIDINGS_", "PYTEST_"))},
        "PYTHONPATH": os.pathsep.join([path, str(copy)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _check_imports(copy: Path, environ: Mapping[str, str]) -> None:
    """The copy is what is tested, not the tree that is installed."""
    names = ("tidings.gateway.node", "tidings.errors", "tidings_client")
    code = f"import sys, {', '.join(names)}; print(*(sys.modules[name].__file__ for name in {names}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environ, capture_output=True, text=True, check=True
    )
    for file in done.stdout.split():
        assert Path(file).is_relative_to(copy.resolve()), f"{file} is not of the copy"
