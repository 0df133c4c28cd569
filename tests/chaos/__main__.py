"""`python -m tests.chaos --seconds N --seed S`: the random schedule of faults, by hand and for as long as wanted."""

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos.conftest import BROKER_SETTINGS
from tests.chaos.schedule import Plan, run
from tests.integration.processes import ROOT
from tidings.kafka import apache_jars
from tidings.kafka.apache import ApacheKafka


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, default=None, help="another one each time if not given")
    parser.add_argument("--users", type=int, default=Plan.users)
    parser.add_argument("--rate", type=float, default=Plan.rate, help="records per second")
    parser.add_argument("--window-bytes", type=int, default=None, help="of the nodes; their default if not given")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the folder with the logs of all processes, which stays after a failure anyway",
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    plan = Plan(options.seconds, seed, options.rate, options.users, options.window_bytes)
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="tidings-chaos-"))
    print(f"processes log to {folder}", flush=True)
    with ApacheKafka(folder / "kafka", brokers=3, settings=BROKER_SETTINGS) as cluster:
        report = uvloop.run(run(plan, cluster, folder, lambda line: print(line, flush=True)))
    print("\n".join(report.lines()), flush=True)
    if report.verdict.ok and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if report.verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
