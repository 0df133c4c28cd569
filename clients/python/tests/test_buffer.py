"""What waits for the program is bounded in frames and in bytes."""

import asyncio

from tidings_client.buffer import Buffer


async def waits(buffer: Buffer[str]) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await buffer.room()
    except TimeoutError:
        return True
    return False


async def test_full_by_items() -> None:
    buffer: Buffer[str] = Buffer(2, 1000)
    buffer.put("a", 1)
    assert not await waits(buffer)
    buffer.put("b", 1)
    assert await waits(buffer)
    buffer.pop()
    assert not await waits(buffer)
    assert buffer.head == "b"


async def test_full_by_bytes_and_one_large_item_passes_all_the_same() -> None:
    buffer: Buffer[str] = Buffer(10, 100)
    buffer.put("a", 5000)
    assert await waits(buffer)
    buffer.pop()
    assert not await waits(buffer)
    assert buffer.bytes == 0


async def test_who_waits_is_woken() -> None:
    buffer: Buffer[str] = Buffer(1, 100)
    buffer.put("a", 1)
    waiting = asyncio.create_task(buffer.room())
    await asyncio.sleep(0)
    buffer.clear()
    await asyncio.wait_for(waiting, 1)
    arriving = asyncio.create_task(buffer.arrival())
    await asyncio.sleep(0)
    buffer.put("b", 1)
    await asyncio.wait_for(arriving, 1)
