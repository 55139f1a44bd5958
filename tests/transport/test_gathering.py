"""What comes while a write goes on is written together by the next one; one that is refused is refused alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from veilmatch.crypto.errors import StorageError
from veilmatch.server.ground.gathering import Gathered, Outcome


class Disk:
    """Writes numbers; while it is held, a write that has begun does not end. Numbers below 0 are refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.fails: Exception | None = None

    def write(self, numbers: Sequence[int]) -> Sequence[Outcome]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.go.wait(10)
        if self.fails is not None:
            raise self.fails
        return [ValueError(n) if n < 0 else None for n in numbers]


def held(disk: Disk, gathered: Gathered[int]) -> Future[None]:
    """Begin a write that goes on until `disk.go` is set."""
    disk.go.clear()
    disk.begun.clear()
    first = gathered.put(0)
    assert disk.begun.wait(10)
    return first


def test_what_comes_while_nothing_is_written_waits_for_nobody() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)
    for n in range(5):
        gathered.put(n).result(10)
    assert disk.batches == [[n] for n in range(5)]
    gathered.close()


def test_what_comes_during_a_write_is_one_batch_in_its_order() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)
    waiting = [held(disk, gathered), *map(gathered.put, range(1, 9))]
    assert not any(future.done() for future in waiting)
    disk.go.set()
    for future in waiting:
        future.result(10)
    assert disk.batches == [[0], list(range(1, 9))]
    gathered.close()


def test_one_that_is_refused_among_many_is_refused_alone() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)
    waiting = [held(disk, gathered), *map(gathered.put, [1, -2, 3])]
    disk.go.set()
    assert [type(future.exception(10)) for future in waiting] == [type(None), type(None), ValueError, type(None)]
    gathered.close()


def test_a_failed_write_fails_for_all_that_waited_each_with_an_error_of_its_own_and_then_it_goes_on() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)
    first = held(disk, gathered)
    waiting = [gathered.put(n) for n in range(1, 4)]
    disk.fails = StorageError("full", party="matcher-a", available="SQLITE_FULL", alternatives=("bc",))
    disk.go.set()
    errors = [future.exception(10) for future in (first, *waiting)]
    assert all(type(error) is StorageError and error.fields() == disk.fails.fields() for error in errors)
    assert len({id(error) for error in errors[1:]}) == 3
    disk.fails = None
    gathered.put(9).result(10)
    assert disk.batches[-1] == [9]
    gathered.close()


async def test_one_that_leaves_before_its_turn_is_not_written_and_one_that_leaves_later_harms_nobody() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)

    async def put(n: int) -> None:
        await asyncio.wrap_future(gathered.put(n))

    disk.go.clear()
    begun = asyncio.create_task(put(0))
    await asyncio.to_thread(disk.begun.wait, 10)
    leaving, staying = asyncio.create_task(put(1)), asyncio.create_task(put(2))
    await asyncio.sleep(0)
    for task in (begun, leaving):
        task.cancel()
    await asyncio.sleep(0)
    disk.go.set()
    await staying
    found = await asyncio.gather(begun, leaving, return_exceptions=True)
    assert [type(error) for error in found] == [asyncio.CancelledError] * 2
    assert disk.batches == [[0], [2]]
    gathered.close()


def test_what_waits_is_written_before_it_closes_and_nothing_is_taken_afterwards() -> None:
    disk = Disk()
    gathered = Gathered("disk", disk.write)
    waiting = [held(disk, gathered), gathered.put(1)]
    threading.Timer(0.05, disk.go.set).start()
    gathered.close()
    assert all(future.done() for future in waiting) and disk.batches == [[0], [1]]
    with pytest.raises(StorageError, match="disk any more"):
        gathered.put(2)
