"""A bell wakes whoever listens when it is rung, also if that is while one looks, and nobody else."""

from __future__ import annotations

import asyncio
import time

from veilmatch.server.ground.bell import Bell, woken_within


async def test_it_wakes_all_who_listen_and_nobody_afterwards() -> None:
    bell, other, one, two = Bell(), Bell(), asyncio.Event(), asyncio.Event()
    with bell.heard_by(one), other.heard_by(one):
        with bell.heard_by(two):
            bell.ring()
            assert one.is_set() and two.is_set()
            one.clear()
            two.clear()
        bell.ring()
        assert one.is_set() and not two.is_set()
        one.clear()
        other.ring()
        assert one.is_set()
    one.clear()
    bell.ring()
    other.ring()
    assert not one.is_set()


async def test_what_is_rung_while_one_looks_is_not_missed() -> None:
    bell, woken, seen, value = Bell(), asyncio.Event(), [0], 0

    async def look() -> None:
        with bell.heard_by(woken):
            while seen[-1] < 100:
                woken.clear()
                now = value
                await asyncio.sleep(0)  # changes come meanwhile
                if now != seen[-1]:
                    seen.append(now)
                assert await woken_within(woken, 10)

    looking = asyncio.create_task(look())
    while not looking.done() and value < 100_000:
        value += 1
        bell.ring()
        await asyncio.sleep(0)
    await looking
    assert seen[-1] >= 100 and len(seen) > 10


async def test_waiting_ends_in_time_without_a_ring() -> None:
    began = time.monotonic()
    assert not await woken_within(asyncio.Event(), 0.05)
    assert not await woken_within(asyncio.Event(), -1.0)
    assert 0.04 < time.monotonic() - began < 5
