"""Guarantees that no test elsewhere would miss."""

from collections.abc import Mapping

import pytest

from tests.chaos.truth import REPEAT_MS, REPEAT_RECORDS
from tests.gateway_fakes import LogEntry, Party, record, server_frames
from tidings.gateway import repeats
from tidings.gateway.cursor_check import Log
from tidings.gateway.drain import WAVE_S, waves
from tidings.gateway.resumes import STEP_BYTES


def test_the_reach_of_an_id_is_the_contract_s() -> None:
    assert (repeats.REPEAT_RECORDS, repeats.REPEAT_SECONDS * 1000) == (REPEAT_RECORDS, REPEAT_MS)


@pytest.mark.parametrize("drain_s", [2.0, 10.0, 60.0])
def test_a_drain_is_spread_over_its_time(drain_s: float) -> None:
    plan = waves(10_000, drain_s)
    assert (len(plan) - 1) * WAVE_S > drain_s / 2
    assert max(plan) < 10_000 / drain_s


def test_a_replay_waits_for_its_socket_and_takes_no_memory_of_its_own() -> None:
    party = Party()
    data = '"' + "x" * 5_000 + '"'
    party.deliver(*(LogEntry(10 + number, record(["alice"], data=data)) for number in range(1_000)))
    alice = party.connect("alice", "/ws?cursor=0:10,1:20&log=log1", "Sec-WebSocket-Protocol: tidings.v1", room=20_000)
    for _ in range(10):
        party.run_resumes()
    assert len(alice.buffered) + party.node.backlog_bytes < 2 * STEP_BYTES
    taken = len(alice.sent)
    for _ in range(1_000):
        alice.drain(50_000)
        party.run_resumes()
        assert len(alice.buffered) + party.node.backlog_bytes < 2 * STEP_BYTES
    assert len(alice.sent) - taken > 1_000 * 5_000 - 3 * STEP_BYTES


def test_a_partition_that_the_node_does_not_know_is_looked_up() -> None:
    """Before the cursor that names it is refused: another node may have learned of it first."""
    party = Party()

    async def unchanged() -> bool:
        return False

    async def find_partitions() -> None:
        party.node.router.begin(2, 0, None)

    async def ends() -> Mapping[int, int]:
        return {0: 10, 1: 20, 2: 5}

    async def starts() -> Mapping[int, int]:
        return {0: 0, 1: 0, 2: 0}

    party.node.resumes.log = Log(
        stale=lambda: False, check=unchanged, find_partitions=find_partitions, ends=ends, starts=starts
    )
    alice = party.connect(
        "alice", "/ws?cursor=0:10,1:20,2:0&log=log1", "Sec-WebSocket-Protocol: tidings.v1", inspected=True
    )
    (welcome,) = [frame.json for frame in server_frames(alice.sent)]
    assert welcome["data"]["resumed"] is True
    assert welcome["data"]["cursor"] == "0:10,1:20,2:0"
