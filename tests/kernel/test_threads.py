"""Threads share a ring, its packs and its tables, and each gets its own results."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel.numbers import MODULI
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.ring import NativeRing

THREADS = 4
N = MODULI["random"](1024)


def side_by_side(work: Callable[[int], object]) -> list[object]:
    """Results of `work(0)`, `work(1)` ... in threads that start together."""
    barrier = threading.Barrier(THREADS)

    def start(number: int) -> object:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(start, range(THREADS)))


@pytest.fixture
def ring(backend: str) -> NativeRing:
    return NativeRing(Integer(N), backend)


def numbers(seed: int, count: int) -> list[Integer]:
    chance = random.Random(seed)
    return [Integer(chance.randrange(N**2)) for _ in range(count)]


def test_powers_of_several_threads_are_each_right(ring: NativeRing) -> None:
    def work(number: int) -> bool:
        bases, exponent = numbers(number, 9), Integer(random.Random(number).getrandbits(64))
        expected = [pow(int(x), int(exponent), N**2) for x in bases]
        return all(ring.powers_secret(bases, exponent) == expected for _ in range(20))

    assert side_by_side(work) == [True] * THREADS


def test_products_of_several_threads_over_one_group_of_packs_are_each_right(ring: NativeRing) -> None:
    pack = numbers(1, 16)
    group = ring.pack_group(len(pack))
    for lane in range(ring.lanes):
        group.put(lane, pack)

    def work(number: int) -> bool:
        exponents = [random.Random(number + i).getrandbits(14) for i in range(len(pack))]
        expected = 1
        for base, exponent in zip(pack, exponents, strict=True):
            expected = expected * pow(int(base), exponent, N**2) % N**2
        return all(group.products_of_powers(exponents, 14) == [expected] * ring.lanes for _ in range(20))

    assert side_by_side(work) == [True] * THREADS


def test_several_threads_draw_from_one_table(ring: NativeRing) -> None:
    # 1 + N to the e is 1 + eN: every exponent can be read off.
    table = ring.fixed_base(Integer(N + 1), 60)

    def work(number: int) -> set[int]:
        powers = [x for _ in range(20) for x in table.random_powers(ring.lanes)]
        assert all(x % N == 1 for x in powers)
        return {int(x // N) for x in powers}

    drawn = side_by_side(work)
    lowest = sum(64**row for row in range(10))
    everything = set().union(*drawn)  # type: ignore[arg-type]
    assert len(everything) == THREADS * 20 * ring.lanes, "two threads were given the same power"
    assert all(lowest <= exponent <= 64 * lowest for exponent in everything)


def test_the_lock_of_the_interpreter_is_let_go(ring: NativeRing) -> None:
    """The interpreter never takes the lock away here: another thread goes on only if the kernel gives it up."""
    steps = 0
    stopping = threading.Event()

    def count() -> None:
        nonlocal steps
        while not stopping.is_set():
            steps += 1
            time.sleep(1e-4)

    groups, counting = ring.enter(numbers(5, 4 * ring.lanes)), threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        counting.start()
        gained = []
        for _ in range(5):
            before = steps
            _kernel.power(ring.backend, ring._ring, groups, groups, False, b"\x55" * 1000)
            gained.append(steps - before)
    finally:
        sys.setswitchinterval(interval)
        stopping.set()
        counting.join()
    assert max(gained) > 0
