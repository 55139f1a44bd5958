"""Gathered answers are what each request would get alone, whatever the others are, whichever the workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.workers.gathered import GatheredWork
from veilmatch.server.workers.parts import in_parts
from veilmatch.server.workers.pool import Handler, WorkerPool
from veilmatch.server.workers.threads import Pool, WorkerThreads

WAIT_S = 20
REFUSED, BROKEN = b"refused", b"broken"


def answered(kind: bytes, item: bytes) -> bytes:
    return kind + item[::-1]


def make_mirror() -> Handler:
    """Items are answered mirrored; one refuses itself alone, and one breaks the whole request."""

    def handler(message: bytes) -> bytes:
        kind = message[:1]

        def handle(parts: Sequence[bytes]) -> Sequence[bytes | VeilmatchError]:
            if BROKEN in parts:
                raise RuntimeError("the secret is hunter2")
            return [UnavailableError("left") if part == REFUSED else answered(kind, part) for part in parts]

        return in_parts(handle)(message[1:])

    return handler


class Gate:
    """A pool of threads whose handler notes what comes, and answers when it is let."""

    def __init__(self) -> None:
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.seen: list[list[bytes]] = []
        self._mirror = make_mirror()

    def __call__(self, message: bytes) -> bytes:
        def noted(parts: Sequence[bytes]) -> Sequence[bytes]:
            self.seen.append(list(parts))
            return list(parts)

        in_parts(noted)(message[1:])
        self.entered.release()
        assert self.let.acquire(timeout=WAIT_S)
        return self._mirror(message)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=WAIT_S)


@pytest.fixture(scope="module", params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with (WorkerThreads if request.param == "threads" else WorkerPool)(2, make_mirror) as made:
        yield made


item = st.one_of(st.binary(max_size=5), st.sampled_from((REFUSED, BROKEN)))
request = st.tuples(
    st.sampled_from("abc"), st.sampled_from((b"x", b"y")), st.lists(item, max_size=12), st.integers(1, 2), st.booleans()
)


@settings(deadline=None, max_examples=60)
@given(asked=st.lists(request, max_size=12), lanes=st.integers(1, 8))
def test_every_request_gets_what_it_would_get_alone(
    pool: Pool, asked: list[tuple[str, bytes, list[bytes], int, bool]], lanes: int
) -> None:
    """Random mixes of devices, kinds, sizes, failures, and requests that are given up."""

    async def all_of_them() -> list[object]:
        gathered = GatheredWork(pool, lanes)
        tasks = [
            asyncio.ensure_future(gathered.done(owner, kind, items, width)) for owner, kind, items, width, _ in asked
        ]
        await asyncio.sleep(0)
        for task, (*_, given_up) in zip(tasks, asked, strict=True):
            if given_up:
                task.cancel()
        async with asyncio.timeout(WAIT_S):
            return list(await asyncio.gather(*tasks, return_exceptions=True))

    for outcome, (_, kind, items, _, given_up) in zip(asyncio.run(all_of_them()), asked, strict=True):
        if given_up and items:
            assert isinstance(outcome, asyncio.CancelledError)
        elif BROKEN in items or REFUSED in items:
            assert isinstance(outcome, UnavailableError | IntegrityError)
            assert isinstance(outcome, UnavailableError) <= (REFUSED in items)
            assert "hunter2" not in str(outcome.fields())
        else:
            assert outcome == [answered(kind, item) for item in items]


async def test_what_comes_while_a_worker_computes_goes_together() -> None:
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        gathered = GatheredWork(pool, 4)
        asked = [asyncio.ensure_future(gathered.done("a", b"x", [b"first"]))]
        await gate.begun()  # at once: it waits for nobody
        asked += [asyncio.ensure_future(gathered.done(owner, b"x", [owner.encode()])) for owner in "bcde"]
        await asyncio.sleep(0)
        for _ in range(2):
            gate.let.release()
        assert await asyncio.gather(*asked) == [[b"xtsrif"], [b"xb"], [b"xc"], [b"xd"], [b"xe"]]
    assert gate.seen == [[b"first"], [b"b", b"c", b"d", b"e"]]


async def test_what_was_given_up_while_it_waited_is_dropped() -> None:
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        gathered = GatheredWork(pool, 4)
        first = asyncio.ensure_future(gathered.done("a", b"x", [b"first"]))
        await gate.begun()
        given_up, other = (asyncio.ensure_future(gathered.done(who, b"x", [who.encode()])) for who in ("b", "c"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        for _ in range(2):
            gate.let.release()
        assert await first == [b"xtsrif"] and await other == [b"xc"]
    assert gate.seen == [[b"first"], [b"c"]]


async def test_a_long_request_goes_on_between_short_ones() -> None:
    """By steps: a short one that comes ends with the next batch, and the long one ends last."""
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        gathered, order = GatheredWork(pool, 4), list[str]()

        async def asked(owner: str, count: int) -> None:
            await gathered.done(owner, b"x", [f"{owner}{i}".encode() for i in range(count)])
            order.append(owner)

        tasks = [asyncio.ensure_future(asked("long", 40))]
        await gate.begun()
        for step in range(3):
            tasks.append(asyncio.ensure_future(asked(f"short {step}", 3)))
            await asyncio.sleep(0)
            gate.let.release()
            await gate.begun()
            assert f"short {step}2".encode() in gate.seen[-1] and any(i.startswith(b"long") for i in gate.seen[-1])
        for _ in range(10):
            gate.let.release()
        await asyncio.gather(*tasks)
    assert order == ["short 0", "short 1", "short 2", "long"]
    assert all(len(seen) <= 8 for seen in gate.seen)


async def test_others_that_want_a_worker_go_between_two_batches() -> None:
    """The exponents of another epoch are not kept from a worker that is never idle."""
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        gathered = GatheredWork(pool, 1)
        long = asyncio.ensure_future(gathered.done("a", b"x", [b"long"] * 6))
        await gate.begun()
        setting_up = asyncio.ensure_future(pool.call(0, b"S"))
        await asyncio.sleep(0)
        for _ in range(4):
            gate.let.release()
        assert await setting_up == b""
        await long
    assert gate.seen.index([]) == 1


@pytest.mark.parametrize("kind", [WorkerThreads, WorkerPool])
async def test_a_closed_pool_tells_everybody(kind: Callable[..., WorkerThreads | WorkerPool]) -> None:
    pool = kind(1, make_mirror)
    gathered = GatheredWork(pool, 1)
    asked = [asyncio.ensure_future(gathered.done("a", b"x", [b"1"] * 200)) for _ in range(3)]
    await asyncio.sleep(0)
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(pool.close)
        async with asyncio.timeout(WAIT_S):
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.wrap_future(closing)
    assert all(isinstance(outcome, UnavailableError) or outcome == [b"x1"] * 200 for outcome in outcomes)
    with pytest.raises(UnavailableError):
        await gathered.done("a", b"x", [b"1"])
