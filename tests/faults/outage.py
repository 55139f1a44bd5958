"""One key holder stops while requests run: how many fail, and how soon the other pair serves."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from tests.faults.harness import DEVICE_TIMEOUT_S, Faults
from veilmatch.client.async_client import AsyncClient
from veilmatch.crypto.errors import VeilmatchError

STOPPED = "keyholder-b"


@dataclass(frozen=True)
class Outage:
    """What came of the requests. Seconds from the stop; slowest_s: of a request that was answered."""

    requests: int
    failed: int
    wrong: int
    other_pair_after_s: float
    slowest_s: float


def outage(faults: Faults, requests: int, at_once: int, how: signal.Signals) -> Outage:
    """Run verifications, `at_once` at a time; stop a key holder after a quarter of them, start it again at the end."""
    pid = faults.world.parties.pid(STOPPED)
    try:
        return asyncio.run(_outage(faults, requests, at_once, pid, how))
    finally:
        if how == signal.SIGSTOP:
            os.killpg(pid, signal.SIGCONT)
        faults.world.restart()


async def _outage(faults: Faults, requests: int, at_once: int, pid: int, how: signal.Signals) -> Outage:
    stopped_at = 0.0
    #: (ended, took, other pair, failed, wrong) of each request
    done: list[tuple[float, float, bool, bool, bool]] = []
    numbers = iter(range(requests))

    async with AsyncClient(faults.world.settings(timeout_s=DEVICE_TIMEOUT_S)) as client:

        async def device() -> None:
            nonlocal stopped_at
            for number in numbers:
                if number == requests // 4:
                    os.killpg(pid, how)
                    stopped_at = time.monotonic()
                genuine, started = number % 2 == 0, time.monotonic()
                pair, failed, wrong = "", False, False
                try:
                    answer = await client.verify_embedding("known", faults.face(genuine=genuine), model="toy")
                    pair, wrong = answer.pair, answer.decision != genuine
                except VeilmatchError:
                    failed = True
                now = time.monotonic()
                done.append((now, now - started, pair not in ("", "ab"), failed, wrong))

        await asyncio.gather(*(device() for _ in range(at_once)))
    others = [ended - stopped_at for ended, _, other, _, _ in done if other]
    return Outage(
        requests=len(done),
        failed=sum(failed for *_, failed, _ in done),
        wrong=sum(wrong for *_, wrong in done),
        other_pair_after_s=min(others, default=float("inf")),
        slowest_s=max(took for _, took, _, failed, _ in done if not failed),
    )
