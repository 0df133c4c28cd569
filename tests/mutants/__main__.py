"""`python -m tests.mutants [NAME…]`: all mutants, or those whose names begin so; 1 if one survives."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.mutants.entries import MUTANTS
from tests.mutants.runner import faults_of, has_node, is_javascript, run

_FAST = ("tests/unit/", "tests/property/", "clients/python/")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="how their names begin; all if none is given")
    parser.add_argument("--fast", action="store_true", help="only those whose test needs no process")
    parser.add_argument("--verbose", action="store_true", help="show what the tests of those that survive printed")
    options = parser.parse_args()
    chosen = [
        mutant
        for mutant in MUTANTS
        if (not options.names or mutant.name.startswith(tuple(options.names)))
        and (not options.fast or mutant.test.startswith(_FAST))
    ]
    faults = faults_of(chosen)
    for fault in faults:
        print(fault)
    if faults or not chosen:
        print(f"{len(chosen)} mutants, {len(faults)} faults of their entries")
        return 1
    left_out = 0
    if not has_node():
        left_out = sum(is_javascript(mutant.test) for mutant in chosen)
        chosen = [mutant for mutant in chosen if not is_javascript(mutant.test)]
    with tempfile.TemporaryDirectory(prefix="tidings-mutants-") as folder:
        trials = run(chosen, Path(folder), lambda line: print(line, flush=True))
    print()
    for trial in trials:
        print(f"{trial.outcome:<10} {trial.mutant.name:<32} {trial.mutant.guarantee}")
        if not trial.good:
            print(f"{'':<10} {trial.mutant.test} {trial.reason}".rstrip())
            if options.verbose:
                print(trial.output[-4000:])
    bad = sum(not trial.good for trial in trials)
    print(f"{len(trials)} mutants, {len(trials) - bad} killed, {bad} not")
    if left_out:
        print(f"{left_out} of the JavaScript client left out: no Node 20 or newer")
        bad += os.environ.get("CI") == "true"
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
