"""`python -m tests.mutants [NAME…]`: all mutants, or those whose names begin so; 1 if one survives."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.mutants.entries import MUTANTS
from tests.mutants.runner import faults_of, run


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
        and (not options.fast or mutant.test.startswith(("tests/unit/", "tests/property/")))
    ]
    faults = faults_of(chosen)
    for fault in faults:
        print(fault)
    if faults or not chosen:
        print(f"{len(chosen)} mutants, {len(faults)} faults of their entries")
        return 1
    with tempfile.TemporaryDirectory(prefix="tidings-mutants-") as folder:
        trials = run(chosen, Path(folder), lambda line: print(line, flush=True))
    print()
    for trial in trials:
        print(f"{trial.outcome:<10} {trial.mutant.name:<32} {trial.mutant.guarantee}")
        if not trial.good:
            print(f"{'':<10} {trial.mutant.test}")
            if options.verbose:
                print(trial.output[-4000:])
    bad = sum(not trial.good for trial in trials)
    print(f"{len(trials)} mutants, {len(trials) - bad} killed, {bad} not")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
