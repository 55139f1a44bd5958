"""Who is served when: whole groups of whatever waits, everybody in turn, and nothing twice or never."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.server.workers.waiting import GROUPS_AT_ONCE, Job, Part, Waiting


@dataclass
class Outcome:
    """Of a job: whether anybody still waits for it."""

    ended: bool = False

    def done(self) -> bool:
        return self.ended


def job(owner: str, count: int, kind: bytes = b"k", width: int = 1) -> Job:
    return Job(owner, kind, [f"{owner}{i}".encode() for i in range(count)], width, Outcome())


def lanes_of(parts: list[Part]) -> int:
    return sum(len(part.items) * part.job.width for part in parts)


RELAXED = settings(deadline=None)
owners, kinds = st.sampled_from("abc"), st.sampled_from((b"x", b"y"))
jobs = st.builds(job, owners, st.integers(1, 40), kinds, st.integers(1, 3))


@RELAXED
@given(st.integers(1, 8), st.lists(st.one_of(jobs, st.integers(1, 4), st.none()), max_size=40), st.data())
def test_all_of_every_job_is_taken_once_and_in_order(
    lanes: int, steps: list[Job | int | None], data: st.DataObject
) -> None:
    """Jobs come, workers take, jobs are given up, in any order."""
    waiting, taken, put = Waiting(lanes), dict[int, int](), list[Job]()

    def take(workers: int) -> list[Part]:
        parts = waiting.take(workers)
        assert len({part.job.kind for part in parts}) <= 1
        assert lanes_of(parts) <= GROUPS_AT_ONCE * lanes or len(parts) == len(parts[0].items) == 1
        for part in parts:
            assert part.start == taken.get(id(part.job), 0) < part.stop and not part.job.outcome.done()
            taken[id(part.job)] = part.stop
        return parts

    for step in steps:
        if isinstance(step, Job):
            waiting.put(step)
            put.append(step)
        elif step is not None:
            take(step)
        elif put:
            given_up = data.draw(st.sampled_from(put))
            assert isinstance(given_up.outcome, Outcome)
            given_up.outcome.ended = True
    while take(1):
        pass
    assert not waiting and not waiting.groups
    assert all(taken.get(id(one), 0) == len(one.items) for one in put if not one.outcome.done())


@RELAXED
@given(st.integers(1, 8), st.lists(st.builds(job, owners, st.integers(1, 40)), min_size=1, max_size=20))
def test_a_group_is_part_empty_only_if_nothing_else_waits(lanes: int, asked: list[Job]) -> None:
    waiting = Waiting(lanes)
    for one in asked:
        waiting.put(one)
    while parts := waiting.take(1):
        assert lanes_of(parts) % lanes == 0 or not waiting


@RELAXED
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 200))
def test_free_workers_share_what_waits(lanes: int, workers: int, count: int) -> None:
    """A worker that is free leaves something to the others that are."""
    waiting = Waiting(lanes)
    waiting.put(job("a", count))
    groups = -(-count // lanes)
    sizes = [-(-lanes_of(waiting.take(workers - busy)) // lanes) for busy in range(workers)]
    assert max(sizes) == min(GROUPS_AT_ONCE, -(-groups // workers))
    assert sum(map(bool, sizes)) >= min(workers, groups) // GROUPS_AT_ONCE


@RELAXED
@given(st.integers(1, 8), st.integers(1, 6), st.data())
def test_a_short_job_waits_for_a_turn_of_each_other_device_at_most(
    lanes: int, others: int, data: st.DataObject
) -> None:
    """However long their jobs are, and however many each has."""
    waiting = Waiting(lanes)
    for other in range(others):
        for _ in range(data.draw(st.integers(1, 3))):
            waiting.put(job(f"{other}", 10_000))
    for _ in range(data.draw(st.integers(0, 20))):
        waiting.take(1)
    short = job("short", data.draw(st.integers(1, lanes)))
    waiting.put(short)
    served: Counter[str] = Counter()
    while short.left:
        for part in waiting.take(1):
            served[part.job.owner] += len(part.items)
    # A whole turn, what was left of one before, and what goes along in the same batch.
    batch = GROUPS_AT_ONCE * lanes
    assert sum(served.values()) <= (others + 1) * lanes + len(short.items) + batch


def test_a_short_job_overtakes_a_long_one_of_its_own_device() -> None:
    waiting = Waiting(4)
    long, short = job("a", 1000), job("a", 3)
    waiting.put(long)
    waiting.take(1)
    waiting.put(short)
    batches = 0
    while short.left:
        waiting.take(1)
        batches += 1
    assert batches == 1 and long.left == 1000 - 2 * 8 + 3


def test_kinds_have_turns_too() -> None:
    waiting = Waiting(4)
    for kind in (b"x", b"y"):
        waiting.put(job("a", 100, kind))
    assert [waiting.take(1)[0].job.kind for _ in range(4)] == [b"x", b"y", b"x", b"y"]


def test_a_job_that_does_not_fit_whole_goes_on_first() -> None:
    """Three of three in groups of four: full groups, and the one that was cut is not sent to the end."""
    waiting = Waiting(4)
    asked = [job(owner, 3) for owner in "abcd"]
    for one in asked:
        waiting.put(one)
    first, second = waiting.take(1), waiting.take(1)
    assert [(part.job.owner, len(part.items)) for part in first] == [("a", 3), ("b", 3), ("c", 2)]
    assert [(part.job.owner, len(part.items)) for part in second] == [("c", 1), ("d", 3)]
