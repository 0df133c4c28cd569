"""Three minutes of faults in an order that a seed gives."""

import os
import random
from pathlib import Path

import pytest

from tests.chaos.faults import DECKS
from tests.chaos.loops import fast_loop
from tests.chaos.schedule import Plan, run
from tidings.kafka.apache import ApacheKafka

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

SECONDS = 180.0
SEED = "TIDINGS_CHAOS_SEED"
"""Set it in the environment to run a schedule again."""


@fast_loop
async def test_a_random_schedule_of_faults(
    cluster: ApacheKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))

    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    say("")
    report = await run(Plan(SECONDS, seed), cluster, tmp_path, say)
    for line in report.lines():
        say(line)
    assert report.verdict.ok, f"seed {seed}: {report.verdict}"
    assert set(report.faults) == {kind.kind for deck in DECKS.values() for kind in deck}
    assert report.verdict.devices >= 200
    assert report.verdict.records >= 100_000
    assert report.recoveries_s
