"""Who missed very much gets all of it, at the pace of its own socket, and the node keeps none of it for that client."""

import asyncio
import json
import time
from typing import Any

import pytest

from tests.integration.clients import Topics, eventually, receive_json, resident_bytes, web_socket
from tests.integration.processes import Gateway, GatewayFactory
from tidings.gateway.lanes import CACHE_BYTES
from tidings.gateway.resumes import STEP_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

MIB = 1 << 20
MISSED = 100_000
FILLING = "x" * 450
"""All records together are more than the node may grow by, and still fit into the default window."""
V1 = "tidings.v1"
RESUMES = "tidings_gateway_resumes_total"


class Growth:
    """The most that a node holds while something goes on, looked at again and again."""

    def __init__(self, node: Gateway) -> None:
        self._node = node
        self.before = self.most = resident_bytes(node)
        self.most_unsent = 0.0

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes(self._node))
            unsent = await asyncio.to_thread(self._node.metric, "tidings_gateway_unsent_bytes")
            self.most_unsent = max(self.most_unsent, unsent)
            await asyncio.sleep(0.05)

    @property
    def bytes(self) -> int:
        return self.most - self.before


@pytest.mark.parametrize(
    ("settings", "source", "limit"),
    [
        ({}, "window", 16 * MIB),
        ({"window_bytes": MIB, "max_readback_bytes": 256 * MIB}, "readback", CACHE_BYTES + 16 * MIB),
    ],
    ids=["window", "read-back"],
)
async def test_100_000_missed_records_come_to_a_reader_that_pauses_in_bounded_memory(
    nodes: GatewayFactory, records: Topics, settings: dict[str, Any], source: str, limit: int
) -> None:
    node = nodes(**settings)
    async with web_socket(node, "away", V1) as ws:
        start = (await receive_json(ws))["data"]
    routed = node.metric("tidings_gateway_records_total")

    def produce() -> None:
        for number in range(MISSED):
            data = {"n": number, "filling": FILLING}
            records.send(["away"], data, partition=number % 4, flush=number % 20_000 == 0)
        records.flush()

    await asyncio.to_thread(produce)
    await eventually(lambda: node.metric("tidings_gateway_records_total") >= routed + MISSED, 30)
    growth = Growth(node)
    watching = asyncio.create_task(growth.watch())
    began = time.monotonic()
    got: dict[str, list[int]] = {str(partition): [] for partition in range(4)}
    url = f"{node.ws_url}?cursor={start['cursor']}&log={start['log']}"
    async with asyncio.timeout(60), web_socket(node, "away", V1, url=url, max_queue=16) as ws:
        assert (await receive_json(ws))["data"]["resumed"] is True
        count = 0
        while count < MISSED:
            frame = json.loads(await ws.recv())
            if frame["type"] == "$checkpoint":
                continue
            assert frame["type"] == "update", frame
            got[frame["at"].partition(":")[0]].append(frame["data"]["n"])
            count += 1
            if count % 10_000 == 0:
                await asyncio.sleep(0.3)
        took = time.monotonic() - began
        watching.cancel()
        records.send(["away"], {"n": MISSED})
        assert (await receive_json(ws))["data"]["n"] == MISSED, "and then it takes part"
    print(
        f"{MISSED} records from the {source} in {took:.1f} s: resident {growth.before / MIB:.0f} + "
        f"{growth.bytes / MIB:.0f} MiB, unsent up to {growth.most_unsent / 1024:.0f} KiB"
    )
    assert got == {str(partition): list(range(partition, MISSED, 4)) for partition in range(4)}
    assert node.metric(RESUMES, outcome=source) == 1
    assert node.metric(RESUMES) == 1
    assert 0 < growth.most_unsent <= 2 * STEP_BYTES
    assert growth.bytes < limit
    node.stop()
