"""What a client missed comes exactly once, from the window and, where that is too small, read back from Kafka."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chaos.arena import Arena, arena
from tests.chaos.feed import Mix, audience
from tests.chaos.loops import fast_loop
from tests.chaos.transactions import Writer
from tidings.kafka.apache import ApacheKafka

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

RESUMES = "tidings_gateway_resumes_total"


class WindowSize(NamedTuple):
    """How much the nodes keep in memory."""

    settings: dict[str, Any]
    read_back: bool

    async def check(self, own: Arena) -> None:
        """What was missed came from where this size says, and from nowhere else."""
        outcomes = {
            outcome: sum([await node.total(RESUMES, outcome=outcome) for node in own.nodes])
            for outcome in ("window", "readback")
        }
        print(f"resumes: {outcomes}")
        if self.read_back:
            assert outcomes["readback"] > 0
        else:
            assert outcomes["window"] > 0
            assert outcomes["readback"] == 0


@pytest.fixture(params=[False, True], ids=["window", "read-back"])
def window(request: pytest.FixtureRequest) -> WindowSize:
    return WindowSize({"window_bytes": "1MiB"} if request.param else {}, request.param)


async def ballast(own: Arena, count: int = 300) -> None:
    """3 MB for somebody else: what was before it is out of a window of 1 MiB."""
    stranger = audience(["stranger-of-weight"])
    sent = [own.feed.send(stranger, partition=number % own.partitions, filling=10_000) for number in range(count)]
    await own.acknowledged(sent)


@fast_loop
async def test_what_clients_missed_while_they_were_away(
    cluster: ApacheKafka, tmp_path: Path, window: WindowSize
) -> None:
    """Away at different times, both protocols, two devices of one user, back on any node while records keep coming."""
    async with arena(cluster, tmp_path, **window.settings) as own:
        devices = own.populate(100, two_devices=0.3, sse=0.2)
        await own.crowd.start()
        own.feed.begin(Mix(rate=400, repeats=0.2))
        for first in range(3):
            away = devices[first::3]
            for device in away:
                device.go_offline()
            await asyncio.sleep(1)
            await ballast(own)
            await asyncio.sleep(0.5)
            for device in away:
                device.go_online()
            await asyncio.sleep(1)
        own.feed.stop()
        verdict = await own.verdict()
        assert verdict.ok, verdict
        print(verdict)
        assert verdict.deliveries > 1000
        assert own.crowd.counts["resumes"] > 100
        await window.check(own)


@fast_loop
async def test_two_devices_of_one_user_at_different_cursors(
    cluster: ApacheKafka, tmp_path: Path, window: WindowSize
) -> None:
    async with arena(cluster, tmp_path, **window.settings) as own:
        ann = audience(["ann"])
        devices = [own.crowd.add("ann") for _ in range(3)] + [own.crowd.add("ann", "sse")]
        await own.crowd.start()

        async def some() -> None:
            for _ in range(50):
                own.feed.send(ann)
            await ballast(own)

        for device in devices:  # each leaves at another point
            await some()
            device.go_offline()
        await some()
        for device in reversed(devices):
            device.go_online()
            await some()
        verdict = await own.verdict()
        assert verdict.ok, verdict
        assert verdict.deliveries == 9 * 50 * 4
        await window.check(own)


@fast_loop
async def test_the_same_id_before_after_and_across_a_resume(
    cluster: ApacheKafka, tmp_path: Path, window: WindowSize
) -> None:
    """Both of a pair before the resume, both while away, both afterwards, and each way across; near and far apart."""
    async with arena(cluster, tmp_path, **window.settings) as own:
        ann = audience(["ann"])
        devices = [own.crowd.add("ann"), own.crowd.add("ann", "sse")]
        await own.crowd.start()

        def send(*ids: str) -> None:
            for id_ in ids:
                for partition in range(own.partitions):
                    own.feed.send(ann, partition=partition, id_=f"{id_}{partition}".encode())

        send("both-before", "before-and-missed", "both-before", "before-and-after", "before-and-newly-live")
        await ballast(own)
        await asyncio.sleep(0.5)
        for device in devices:
            device.go_offline()
        send("missed-twice", "before-and-missed", "missed-and-after", "missed-twice")
        await ballast(own)
        send("missed-late", "before-and-after", "missed-late", "missed-late-and-after")
        await own.nodes[1].kill()
        await own.nodes[1].start()  # it must know the ids of before its start
        own.crowd.choices = [1]
        for device in devices:
            device.go_online()
        send("missed-and-after", "after-twice", "missed-late-and-after")
        await own.crowd.all_connected()
        send("before-and-newly-live", "after-twice", "last")
        verdict = await own.verdict()
        assert verdict.ok, verdict
        distinct = 10
        assert verdict.deliveries == distinct * own.partitions * len(devices)
        await window.check(own)


@fast_loop
async def test_holes_that_aborted_transactions_left(cluster: ApacheKafka, tmp_path: Path, window: WindowSize) -> None:
    """A cursor in a hole, before one, and at the end of a log that ends with one."""
    async with arena(cluster, tmp_path, **window.settings) as own:
        ann = audience(["ann"])
        devices = [own.crowd.add("ann"), own.crowd.add("ann", "sse")]
        await own.crowd.start()
        writer = Writer(own.kafka, own.topics.modifications, own.recorder, "holes")

        def transaction(count: int, *, commit: bool) -> None:
            writer.begin()
            for number in range(count):
                writer.send(ann, number % own.partitions)
            writer.flush()
            writer.commit() if commit else writer.abort()

        async def some() -> None:
            for commit in (False, True, False, False):
                own.feed.send(ann)
                await asyncio.to_thread(own.feed.flush)
                await asyncio.to_thread(transaction, 40, commit=commit)

        for _ in range(4):
            await some()
            for device in devices:
                device.go_offline()
            await some()
            await ballast(own)
            await some()
            for device in devices:
                device.go_online()
            await some()
        verdict = await own.verdict()
        assert verdict.ok, verdict
        assert verdict.deliveries == 4 * 4 * (4 + 40) * len(devices)
        await window.check(own)


@fast_loop
async def test_a_foreign_transaction_left_hanging(cluster: ApacheKafka, tmp_path: Path, window: WindowSize) -> None:
    """While it hangs nothing behind it in its partition is delivered to anybody, and whoever resumes waits too."""
    async with arena(cluster, tmp_path, **window.settings) as own:
        ann, bob = audience(["ann", "bob"]), audience(["bob"])
        leaves, stays = own.crowd.add("ann"), own.crowd.add("bob")
        await own.crowd.start()
        writer = Writer(own.kafka, own.topics.modifications, own.recorder, "hanging")
        for commit in (True, False):

            def hang() -> None:
                writer.begin()
                writer.send(ann, 0)
                writer.flush()

            await asyncio.to_thread(hang)
            stuck = [own.feed.send(ann, partition=0) for _ in range(20)]
            await ballast(own)
            leaves.go_offline()
            flowing = [own.feed.send(bob, partition=1) for _ in range(20)]
            await own.acknowledged(flowing)
            await asyncio.sleep(0.5)
            leaves.go_online()
            await asyncio.sleep(1)
            got = {number for number, _, _ in stays.seen.chain.frames()}
            assert set(flowing) <= got
            assert not set(stuck) & got
            await asyncio.to_thread(writer.commit if commit else writer.abort)
            leaves.cut()
            await asyncio.sleep(0.5)
        verdict = await own.verdict()
        assert verdict.ok, verdict
        assert verdict.deliveries == 2 * 20 * 2 + 2 + 2 * 20
        await window.check(own)


@fast_loop
async def test_a_node_frozen_for_20_s_while_its_clients_move_to_the_other_and_back(
    cluster: ApacheKafka, tmp_path: Path, window: WindowSize
) -> None:
    """On their return the node is behind them: nothing twice, nothing left out. Some sleep through it all."""
    async with arena(cluster, tmp_path, **window.settings) as own:
        asleep = own.populate(200)[::10]
        frozen, other = own.nodes
        await own.crowd.start()
        own.feed.begin(Mix(rate=300))
        for _ in range(2):
            await asyncio.sleep(1)
            for device in asleep:
                device.go_offline()
            moving = own.crowd.on(frozen.index)
            own.crowd.choices = [other.index]
            frozen.freeze()
            await asyncio.sleep(10)  # they notice by themselves that it is silent
            assert len(own.crowd.on(other.index)) == len(own.crowd.devices) - len(asleep)
            await ballast(own)
            await asyncio.sleep(10)
            own.crowd.choices = [frozen.index]
            for device in moving:
                device.cut()
            frozen.thaw()  # their requests reach it before the records of the last 20 s do
            await asyncio.sleep(1)
            for device in asleep:
                device.go_online()
            await own.crowd.all_connected()
            own.crowd.choices = [0, 1]
            frozen, other = other, frozen
        own.feed.stop()
        verdict = await own.verdict()
        print(verdict, dict(own.crowd.counts))
        assert verdict.ok, verdict
        await window.check(own)


@fast_loop
async def test_slow_clients_get_4008_and_the_rest_by_resuming(
    cluster: ApacheKafka, tmp_path: Path, window: WindowSize
) -> None:
    """Who does not read is closed and gets all of it later; the others notice nothing."""
    settings: dict[str, Any] = {
        "socket_send_buffer_bytes": 16_384,
        "slow_unsent_bytes": 65_536,
        "max_unsent_bytes": 262_144,
        "slow_after_s": 1,
        "max_resumes_per_user_per_min": 0,
    }
    async with arena(cluster, tmp_path, **settings, **window.settings) as own:
        slow = [own.crowd.add("slow", receive_bytes=16_384) for _ in range(3)]
        good = own.crowd.add("good")
        await own.crowd.start()
        both = audience(["slow", "good"])
        for _ in range(3):
            for device in slow:
                device.stop_reading()
            for _ in range(150):
                own.feed.send(both, filling=4_000)
                await asyncio.sleep(0.02)  # 3 s: slow_after_s with a margin
            await asyncio.sleep(1)
            for device in slow:
                device.read_on()
            await asyncio.sleep(1)
        verdict = await own.verdict()
        print(verdict, dict(own.crowd.counts))
        assert verdict.ok, verdict
        assert sum([await node.total("tidings_gateway_closes_total", code="4008") for node in own.nodes]) >= 9
        assert own.crowd.counts["closed 1001"] == 0
        assert len(good.seen.chains) == 1
        assert own.crowd.counts["resumes"] >= 9
