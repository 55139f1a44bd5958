"""What the workers of a key holder answer is what the scheme computes with its exponents, whoever else asks."""

from __future__ import annotations

import asyncio
import threading
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.keyholder.trio import LocalPool, ceremony
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.shares import KeyHolderKey, PairShare
from veilmatch.crypto.pair.key_safety import draw_weights
from veilmatch.crypto.rings.grid import Grid
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.keyholder.session import share_worker
from veilmatch.server.keyholder.session.share_worker import ShareWorkers, make_handler
from veilmatch.server.workers.pool import Handler, WorkerPool
from veilmatch.server.workers.threads import WorkerThreads

COUNTS = (1, 4, 8, 9, 20)
PAIRS: tuple[Pair, ...] = ("ab", "ac")
WAIT_S = 20


@cache
def scheme() -> Paillier:
    return Paillier(ceremony().public_key)


@cache
def encrypted(m: int) -> Integer:
    return scheme().encrypt(Integer(m))


def values(shares: list[LocalShare] | tuple[LocalShare, ...]) -> list[tuple[Integer, Integer]]:
    return [(share.z, share.fingerprint) for share in shares]


def alone(key: KeyHolderKey, pair: Pair, ciphertexts: list[Integer]) -> list[tuple[Integer, Integer]]:
    """The local shares of one session, without any worker."""
    return values(scheme().local_shares(ciphertexts, key.share(pair).exponent(ceremony().public_key, SECRET_ACCESS)))


def safe_alone(
    key: KeyHolderKey, pair: Pair, ciphertexts: list[Integer], weights: Grid
) -> list[tuple[Integer, Integer]]:
    """The same of the key-safety check."""
    square, c_star = int(ceremony().public_key.modulus) ** 2, 1
    for c, weight in zip(ciphertexts, weights, strict=True):
        c_star = c_star * pow(int(c), weight, square) % square
    exponents = key.safety(pair).exponents(ceremony().public_key, SECRET_ACCESS)
    return values([scheme().local_shares([Integer(c_star)], t)[0] for t in exponents])


def later(key: KeyHolderKey) -> KeyHolderKey:
    """The key of the next epoch, with other exponents: what a refresh changes."""
    shares = [
        PairShare(p, "a", key.share(p).stored_exponent(SECRET_ACCESS) + 1, key.share(p).kappa(SECRET_ACCESS))
        for p in PAIRS
    ]
    safety = key.safety("ab"), key.safety("ac")
    return key.of_epoch(key.epoch + 1, (shares[0], shares[1]), safety, bytes(32), SECRET_ACCESS)


@pytest.mark.parametrize("count", COUNTS)
async def test_local_shares_and_those_of_the_combination(count: int) -> None:
    key = ceremony().keys[0]
    workers = ShareWorkers(LocalPool(), scheme())  # type: ignore[arg-type]
    await workers.setup(key)
    ciphertexts = [encrypted(i) for i in range(count)]
    for pair in PAIRS:
        work = workers.of(pair, key.epoch, "device-1")
        assert values(await work.local_shares(ciphertexts)) == alone(key, pair, ciphertexts)
        weights = draw_weights(bytes(32), b"a", pair.encode(), count).rho
        assert values(await work.safety_shares(ciphertexts, weights)) == safe_alone(key, pair, ciphertexts, weights)
        with pytest.raises(UnavailableError):
            await workers.of(pair, key.epoch + 1, "device-1").safety_shares(ciphertexts, weights)


@pytest.mark.parametrize("at_once", [8, 16])
async def test_the_combination_of_many_ciphertexts_is_made_in_parts(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several times over, if there are so many."""
    monkeypatch.setattr(share_worker, "_COMBINED_AT_ONCE", at_once)
    key = ceremony().keys[0]
    workers = ShareWorkers(LocalPool(), scheme())  # type: ignore[arg-type]
    await workers.setup(key)
    for count in (at_once, at_once + 1, 5 * at_once - 3, at_once * at_once + 5):
        ciphertexts = [encrypted(i % 7) for i in range(count)]
        weights = draw_weights(bytes(32), b"a", bytes([count % 256]), count).rho
        found = await workers.of("ab", key.epoch, "device-1").safety_shares(ciphertexts, weights)
        assert values(found) == safe_alone(key, "ab", ciphertexts, weights)


session = st.tuples(
    st.sampled_from(PAIRS), st.integers(0, 1), st.sampled_from("xyz"), st.integers(1, 12), st.booleans(), st.booleans()
)


@settings(deadline=None, max_examples=25)
@given(st.lists(session, min_size=1, max_size=8), st.sampled_from((WorkerThreads, LocalPool)))
def test_sessions_that_are_gathered_get_what_each_would_get_alone(
    asked: list[tuple[Pair, int, str, int, bool, bool]], kind: type
) -> None:
    """Random mixes of pairs, epochs that were left, devices, both kinds of work, and sessions that are given up."""
    key = ceremony().keys[0]
    weights = {count: draw_weights(bytes(32), b"a", b"b", count).rho for _, _, _, count, _, _ in asked}

    async def all_of_them(pool: WorkerThreads | LocalPool) -> list[object]:
        workers = ShareWorkers(pool, scheme())  # type: ignore[arg-type]
        await workers.setup(key)
        tasks = []
        for pair, ahead, device, count, is_check, _ in asked:
            work, ciphertexts = workers.of(pair, key.epoch + ahead, device), [encrypted(i) for i in range(count)]
            tasks.append(
                asyncio.ensure_future(
                    work.safety_shares(ciphertexts, weights[count]) if is_check else work.local_shares(ciphertexts)
                )
            )
        await asyncio.sleep(0)
        for task, (*_, given_up) in zip(tasks, asked, strict=True):
            if given_up:
                task.cancel()
        async with asyncio.timeout(WAIT_S):
            return list(await asyncio.gather(*tasks, return_exceptions=True))

    if kind is LocalPool:
        outcomes = asyncio.run(all_of_them(LocalPool()))
    else:
        with WorkerThreads(2, make_handler, ceremony().public_key) as pool:
            outcomes = asyncio.run(all_of_them(pool))
    for outcome, (pair, ahead, _, count, is_check, given_up) in zip(outcomes, asked, strict=True):
        ciphertexts = [encrypted(i) for i in range(count)]
        if given_up:
            assert isinstance(outcome, asyncio.CancelledError)
        elif ahead:
            assert isinstance(outcome, UnavailableError)
        elif is_check:
            assert values(outcome) == safe_alone(key, pair, ciphertexts, weights[count])  # type: ignore[arg-type]
        else:
            assert values(outcome) == alone(key, pair, ciphertexts)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [1, 3])
async def test_what_is_no_unit_fails_alone_and_spoils_nobody_s_inverse(times: int) -> None:
    """Nothing parsed is one. All of a batch are inverted at once, so one would be the end of the others."""
    key, pool = ceremony().keys[0], LocalPool()
    workers = ShareWorkers(pool, scheme())  # type: ignore[arg-type]
    await workers.setup(key)
    bad, good = [times * ceremony().public_key.modulus], [encrypted(i) for i in range(3)]
    outcomes = await asyncio.gather(
        *(workers.of("ab", key.epoch, device).local_shares(c) for device, c in (("x", good), ("y", bad), ("z", good))),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Exception)
    for outcome in (outcomes[0], outcomes[2]):
        assert values(outcome) == alone(key, "ab", good)  # type: ignore[arg-type]


async def test_worker_processes_answer_the_same() -> None:
    key = ceremony().keys[0]
    with WorkerPool(2, make_handler, ceremony().public_key) as pool:
        workers = ShareWorkers(pool, scheme())
        await workers.setup(key)
        ciphertexts = [encrypted(i) for i in range(9)]
        found = await asyncio.gather(
            *(workers.of(pair, key.epoch, pair).local_shares(ciphertexts) for pair in PAIRS for _ in range(3))
        )
    assert [values(shares) for shares in found] == [alone(key, p, ciphertexts) for p in PAIRS for _ in range(3)]


class Stopping:
    """The handler of a worker that stops before a batch until it is let on."""

    def __init__(self) -> None:
        self._handle = make_handler(ceremony().public_key)
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(1 << 20)

    def stop(self) -> None:
        self.let = threading.Semaphore(0)

    def __call__(self, message: bytes) -> bytes:
        self.entered.release()
        assert self.let.acquire(timeout=WAIT_S)
        return self._handle(message)


async def test_a_refresh_in_the_middle_never_converts_with_the_exponent_of_another_epoch() -> None:
    """What was computed before it is right, what comes after it is refused, and never anything else."""
    old = ceremony().keys[0]
    new, stopping = later(old), Stopping()
    with WorkerThreads(1, lambda: stopping) as pool:
        workers = ShareWorkers(pool, scheme())
        await workers.setup(old)
        assert stopping.entered.acquire(timeout=WAIT_S)
        stopping.stop()
        many = [encrypted(i) for i in range(6 * scheme().ring.lanes)]
        long = asyncio.ensure_future(workers.of("ab", old.epoch, "long").local_shares(many))
        assert await asyncio.to_thread(stopping.entered.acquire, timeout=WAIT_S)
        # While its first batch is computed: others of both epochs wait with the rest of it, and the refresh comes.
        short = asyncio.ensure_future(workers.of("ac", old.epoch, "short").local_shares(many[:1]))
        ahead = asyncio.ensure_future(workers.of("ab", new.epoch, "ahead").local_shares(many[:1]))
        await asyncio.sleep(0)
        refresh = asyncio.ensure_future(workers.setup(new))
        while not pool._threads[0]._work_queue.qsize():
            await asyncio.sleep(0)
        stopping.let.release(1 << 20)
        await refresh
        for of_old in (long, short):
            with pytest.raises(UnavailableError, match="refreshed"):
                await of_old
        assert values(await ahead) == alone(new, "ab", many[:1]) != alone(old, "ab", many[:1])


class Answering:
    """A pool whose one worker answers whatever it is told to."""

    count = 1

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def lend(self, _worker: int, work: object) -> None:
        assert callable(work)
        handler: Handler = lambda _: self._answer  # noqa: E731
        work(handler)


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\1a", b"\0\0\0\1x", b"\0\0"])
async def test_an_answer_of_the_wrong_size_is_refused(answer: bytes) -> None:
    workers = ShareWorkers(Answering(answer), scheme())  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        await workers.of("ab", 0, "device-1").local_shares([encrypted(1)])
