"""What goes wrong around a session: who is named, and that nothing of it is left over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.keyholder.trio import TOY, Trio, ceremony, holders, results_of, signed, started
from tests.simulator import SimulatedGallery
from tests.transport.disks import full
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import IntegrityError, StorageError, UnavailableError
from veilmatch.crypto.keys.parties import (
    PAIRS,
    PARTIES,
    Pair,
    Party,
    dealer_of,
    other_party,
    pairs_of,
    pairs_without,
)
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.protos.v1.request_pb2 import SignedRequest
from veilmatch.server.keyholder import service
from veilmatch.server.keyholder.stock import stocks as stocks_module
from veilmatch.server.keyholder.stock.stock import Stock

TEMPLATES = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, (5, TOY.dimension))
PROBE = TEMPLATES[0]
SECRET = "the secret is 42"


def gallery() -> SimulatedGallery:
    return SimulatedGallery.of(Paillier(ceremony().public_key), TEMPLATES)


async def query(trio: Trio, pair: Pair = "ab") -> None:
    """A search; it has to be right."""
    bits = await trio.decide(signed(PROBE, pair, 5), pair, gallery(), range(5))
    assert bits == (TEMPLATES @ PROBE >= 5).astype(int).tolist()


async def recovers(trio: Trio, pair: Pair) -> None:
    """Wait until the channels between the holders, and to one that came back, are open: the pair has to serve then."""
    deadline = time.monotonic() + 60.0
    while True:
        try:
            return await query(trio, pair)
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def enrol(trio: Trio, pair: Pair = "ab") -> list[Any]:
    """An enrolment, whatever comes of it at either matcher."""

    async def one(party: Party) -> Any:
        async with trio.call(request, party, pair) as call:
            return await call.template_shares(1, told=1)

    request = signed(PROBE, pair, operation=request_pb2.OPERATION_ENROL)
    return await asyncio.gather(*map(one, holders(pair)), return_exceptions=True)


def plus_error(outcomes: list[Any], pair: Pair) -> UnavailableError:
    """Both matchers are told that somebody is missing; the plus holder, who allocates stock, knows who it is."""
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 2
    return next(o for o, party in zip(outcomes, holders(pair), strict=True) if party == pair[0])


async def nothing_is_left(trio: Trio, tasks: int) -> None:
    """Wait until there are no more tasks than before and no holder waits for a peer any more."""
    deadline = time.monotonic() + 20.0
    while len(asyncio.all_tasks()) > tasks or any(trio[party].links.rendezvous._links for party in trio.running):
        assert time.monotonic() < deadline, asyncio.all_tasks()
        await asyncio.sleep(0.02)


async def logs(logged: Sequence[Any], event: str, keeping: asyncio.Future[None]) -> None:
    """Wait until it has been logged."""
    deadline = time.monotonic() + 20.0
    while not any(entry["event"] == event for entry in logged):
        assert time.monotonic() < deadline and not keeping.done()
        await asyncio.sleep(0.02)


# -- a matcher that leaves ---------------------------------------------------------------------


class LeftError(Exception):
    """A matcher leaves, as it does when its device is gone."""


@pytest.mark.parametrize("leaving", [("a",), ("b",), ("a", "b")])
@pytest.mark.parametrize("working", [False, True])
async def test_a_matcher_that_leaves_ends_the_session(hasty: Trio, leaving: tuple[Party, ...], working: bool) -> None:
    """At once, or while its key holder is at work."""
    await recovers(hasty, "ab")
    tasks = len(asyncio.all_tasks())
    request = signed(PROBE)

    async def one(party: Party) -> None:
        async with hasty.call(request, party, "ab") as call:
            if party in leaving:
                if working:
                    await at_work[party].wait()
                raise LeftError
            await call.probe_share()

    at_work = {party: asyncio.Event() for party in holders("ab")}
    worked = asyncio.Event()

    async def work_for_long(party: Party) -> None:
        at_work[party].set()
        await worked.wait()

    for party in leaving if working else ():
        hasty.running[party].pool.before = partial(work_for_long, party)
    outcomes = await asyncio.gather(*(one(party) for party in holders("ab")), return_exceptions=True)
    for party, outcome in zip(holders("ab"), outcomes, strict=True):
        assert isinstance(outcome, LeftError if party in leaving else UnavailableError)
        hasty.running[party].pool.before = None
    worked.set()
    await nothing_is_left(hasty, tasks)
    await query(hasty)


@pytest.mark.parametrize("leaves", ["a", "b"])
async def test_a_matcher_that_leaves_with_its_share_of_the_probe_ends_the_session(hasty: Trio, leaves: Party) -> None:
    await recovers(hasty, "ab")
    tasks = len(asyncio.all_tasks())
    with pytest.raises(LeftError):
        async with hasty.both(signed(PROBE), "ab") as calls:
            results = await results_of(calls, gallery(), range(5), "ab")
            stays = other_party("ab", leaves)
            data = [Paillier(ceremony().public_key).serialise(c) for c in results.ciphertexts]
            await calls[stays].send_results(data, results.wanted)
            raise LeftError
    await nothing_is_left(hasty, tasks)
    await query(hasty)


async def test_a_matcher_whose_results_are_cut_off_is_missing_and_ends_the_session(hasty: Trio) -> None:
    """Devices wait for one that restarts; an error about the protocol they would not wait for."""
    await recovers(hasty, "ab")
    tasks = len(asyncio.all_tasks())
    with pytest.raises(UnavailableError):
        async with hasty.both(signed(PROBE), "ab") as calls:
            results = await results_of(calls, gallery(), range(5), "ab")
            data = Paillier(ceremony().public_key).serialise(results.ciphertexts[0])
            wanted = np.packbits(results.wanted, bitorder="little").tobytes()
            for call in calls.values():
                chunk = pb.ResultsChunk(results=data, wanted=wanted, packs=1, last=False)
                await call._link.send(pb.MatcherToKeyHolder(results=chunk))  # type: ignore[arg-type]
                await call._link._call.done_writing()  # type: ignore[attr-defined]
            await asyncio.gather(*(call.decision_share(5, 1) for call in calls.values()))
    await nothing_is_left(hasty, tasks)
    await query(hasty)


# -- a peer or a dealer that is missing --------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("at", [0, 1])
async def test_a_peer_that_never_comes_is_named(hasty: Trio, pair: Pair, at: int) -> None:
    await recovers(hasty, pair)
    tasks = len(asyncio.all_tasks())
    party, missing = holders(pair)[at], holders(pair)[1 - at]
    async with hasty.call(signed(PROBE, pair), party, pair) as call:
        with pytest.raises(UnavailableError) as caught:
            await call.probe_share()
    assert (caught.value.party, caught.value.alternatives) == (f"keyholder-{missing}", pairs_without(missing))
    await nothing_is_left(hasty, tasks)
    await query(hasty, pair)


@pytest.mark.parametrize("met", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("at", [0, 1])
async def test_a_peer_that_is_down_is_named(hasty: Trio, pair: Pair, at: int, met: bool) -> None:
    party, missing = holders(pair)[at], holders(pair)[1 - at]
    if met:
        await recovers(hasty, pair)
    await hasty.stop(missing)
    async with hasty.call(signed(PROBE, pair), party, pair) as call:
        with pytest.raises(UnavailableError) as caught:
            await call.probe_share()
    assert (caught.value.party, caught.value.alternatives) == (f"keyholder-{missing}", pairs_without(missing))
    await hasty.start(missing)
    await recovers(hasty, pair)


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_key_holder_that_is_down_is_named_by_its_matcher(hasty: Trio, pair: Pair) -> None:
    for missing in holders(pair):
        await hasty.stop(missing)
        with pytest.raises(UnavailableError) as caught:
            async with hasty.call(signed(PROBE, pair), missing, pair) as call:
                await call.probe_share()
        assert (caught.value.party, caught.value.alternatives) == (f"keyholder-{missing}", pairs_without(missing))
        await hasty.start(missing)
    await recovers(hasty, pair)


async def test_a_server_that_accepts_connections_and_says_nothing_is_named(hasty: Trio) -> None:
    """What a stopped process looks like to those who have no connection to it yet."""
    await hasty.stop("b")
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", hasty.ports["b"])
    request = signed(PROBE)

    async def ask(party: Party) -> None:
        # Only the matcher of the silent one is to give up by itself: the other one is told by its key holder.
        async with hasty.call(request, party, "ab", timeout_s=0.6 if party == "b" else 60.0) as call:
            await call.probe_share()

    outcomes = await asyncio.gather(*(ask(party) for party in holders("ab")), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, UnavailableError)
        assert (outcome.party, outcome.alternatives) == ("keyholder-b", ("ac",))
    silent.close()


async def test_who_is_silent_is_not_waited_for_as_long_as_who_is_slow(tmp_path: Path) -> None:
    """The matchers keep a gallery while they wait for a key holder, and so from the pair that could go on."""
    async with started(tmp_path, peer_timeout_s=120.0) as patient:
        await patient.stop("b")
        silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", patient.ports["b"])
        began = time.monotonic()
        for pair in ("ab", "bc"):
            request = signed(PROBE, pair)

            async def ask(party: Party, pair: Pair = pair, request: SignedRequest = request) -> None:
                async with patient.call(request, party, pair, timeout_s=120.0) as call:
                    await call.probe_share()

            outcomes = await asyncio.gather(*(ask(party) for party in holders(pair)), return_exceptions=True)
            for outcome in outcomes:
                assert isinstance(outcome, UnavailableError)
                assert (outcome.party, outcome.alternatives) == ("keyholder-b", ("ac",))
        assert time.monotonic() - began < 60.0
        silent.close()


async def test_who_was_found_silent_is_waited_for_by_no_other_request_until_it_gives_a_sign(
    hasty: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would keep a gallery until it has found out for itself, and changes wait for each other."""
    await recovers(hasty, "ab")
    await hasty.stop("b")
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", hasty.ports["b"])

    async def ask() -> UnavailableError:
        with pytest.raises(UnavailableError) as caught:
            async with hasty.call(signed(PROBE), "a", "ab", timeout_s=60.0) as call:
                await call.probe_share()
        return caught.value

    while not hasty["a"].links.is_lost("b"):
        await ask()
    with monkeypatch.context() as patch:
        patch.setattr(hasty["a"], "_ledger", None)  # not as much as looked at
        error = await ask()
    assert (error.message, error.party, error.alternatives) == (
        "keyholder-b does not answer", "keyholder-b", ("ac",),
    )  # fmt: skip
    silent.close()
    await hasty.start("b")
    await recovers(hasty, "ab")
    assert not hasty["a"].links.is_lost("b")


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_dealer_that_is_down_is_missed_only_once_the_stock_has_run_out(unstocked: Trio, pair: Pair) -> None:
    dealer = dealer_of(pair)
    await unstocked.stop(dealer)
    error = plus_error(await enrol(unstocked, pair), pair)
    assert (error.party, error.alternatives) == (f"keyholder-{dealer}", ())
    await unstocked.start(dealer)
    await recovers(unstocked, pair)  # and fills the stock
    await unstocked.stop(dealer)
    await query(unstocked, pair)


@pytest.mark.parametrize("refilling", [False, True])
async def test_a_dealer_that_does_not_answer_is_named_before_the_peer_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refilling: bool
) -> None:
    """Also if a refill in the background waits for it already."""
    gate, deal = threading.Event(), service.deal_tagged

    def late(*arguments: Any, **roles: Any) -> Any:
        gate.wait()
        return deal(*arguments, **roles)

    monkeypatch.setattr(service, "deal_tagged", late)
    async with started(tmp_path, peer_timeout_s=2.5) as hasty:
        stocks = [await hasty[party].stocks.of("ab") for party in ("a", "b")]  # type: ignore[index]
        refills = [asyncio.ensure_future(stock.refill()) for stock in stocks if refilling]
        try:
            assert plus_error(await enrol(hasty), "ab").party == "keyholder-c"
        finally:
            gate.set()
        await asyncio.gather(*refills, return_exceptions=True)
    async with started(tmp_path) as patient:  # time to deal, on a busy machine too
        await query(patient)


async def test_stock_is_refilled_in_the_background_whatever_happened_before(
    unstocked: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, put = unstocked["a"], unstocked["a"]._store.put
    failures = iter([OSError(SECRET), UnavailableError("no"), RuntimeError(SECRET)])

    def fail_first(*arguments: Any) -> None:
        if error := next(failures, None):
            raise error
        put(*arguments)

    monkeypatch.setattr(holder._store, "put", fail_first)
    with capture_logs() as logged:
        keeping = asyncio.ensure_future(holder.stocks.keep_stocked("ab", 0.01))
        await logs(logged, "stocked", keeping)
        keeping.cancel()
    said = [(entry["log_level"], entry["code"]) for entry in logged if entry["event"] == "stock not refilled"]
    assert said == [("error", "internal"), ("warning", "unavailable"), ("error", "internal")]
    assert "OSError at fail_first" in str(logged)
    assert SECRET not in str(logged) and "Traceback" not in str(logged)


@pytest.mark.parametrize(("party", "how"), [("a", "full"), ("b", "full"), ("c", "full"), ("c", "down")])
async def test_refills_that_fail_are_tried_later_and_later_and_told_of_once(
    unstocked: Trio, party: Party, how: str
) -> None:
    """The failure of one organisation does not fill the logs of the others."""
    for one in unstocked.running:
        for pair in pairs_of(one):
            await unstocked[one].stocks.of(pair)
    if how == "full":
        full(unstocked[party]._store._engine)
    else:
        await unstocked.stop(party)
    stocks = {one: running.holder.stocks for one, running in unstocked.running.items()}
    with capture_logs() as logged:
        keeping = [asyncio.ensure_future(s.keep_stocked(pair, 0.05)) for p, s in stocks.items() for pair in pairs_of(p)]
        await logs(logged, "stock not refilled", asyncio.gather(*keeping))
        await asyncio.sleep(4.0)
        for one in keeping:
            one.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
    refused = [entry for entry in logged if entry["event"] == "call refused"]
    calls = Counter((entry["method"], entry["caller"]) for entry in refused)
    told = Counter(
        (entry["method"], entry["caller"], entry["code"], entry["failed"])
        for entry in refused
        if entry["log_level"] != "debug"
    )
    assert max(calls.values(), default=0) <= 10, calls
    assert max(told.values(), default=1) == 1, told
    assert sum(entry["event"] == "alert" for entry in logged) <= 1
    not_refilled = Counter(entry["pair"] for entry in logged if entry["event"] == "stock not refilled")
    assert not_refilled and max(not_refilled.values()) <= 4, not_refilled


async def test_a_refill_that_failed_is_tried_at_once_and_soon_again_when_a_peer_comes(
    unstocked: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the next attempt would come after minutes. A peer that has just started may say so before it serves."""
    monkeypatch.setattr(stocks_module, "_BACK_OFF", 10_000.0)
    monkeypatch.setattr(stocks_module, "_LONGEST_RETRY_S", 600.0)
    refill, failures = Stock.refill_turn, [UnavailableError("no"), UnavailableError("no")]

    async def fail_first(stock: Stock) -> bool:
        if failures:
            raise failures.pop()
        return await refill(stock)

    monkeypatch.setattr(Stock, "refill_turn", fail_first)
    stocks = unstocked["a"].stocks
    with capture_logs() as logged:
        keeping = asyncio.ensure_future(stocks.keep_stocked("ab", 0.05))
        await logs(logged, "stock not refilled", keeping)
        while failures:
            await asyncio.sleep(0.02)
        failures.append(UnavailableError("not yet"))
        stocks.met_by("ac", unstocked["c"].stocks.introduction("ac"))
        await logs(logged, "stocked", keeping)
        keeping.cancel()


# -- what nobody foresaw -----------------------------------------------------------------------


@pytest.mark.parametrize("party", ["a", "b"])
async def test_an_unforeseen_failure_does_not_show_its_text(
    hasty: Trio, party: Party, capsys: pytest.CaptureFixture[str]
) -> None:
    await recovers(hasty, "ab")
    tasks = len(asyncio.all_tasks())

    async def fail() -> None:
        raise RuntimeError(SECRET)

    hasty.running[party].pool.before = fail
    outcomes = dict(zip(holders("ab"), await enrol(hasty), strict=True))
    hasty.running[party].pool.before = None
    assert type(outcomes.pop(party)) is IntegrityError  # type: ignore[call-overload]
    assert all(isinstance(outcome, UnavailableError | IntegrityError) for outcome in outcomes.values())
    printed = capsys.readouterr()
    shown = printed.out + printed.err + "".join(str(o) + str(o.fields()) for o in outcomes.values())
    assert SECRET not in shown and "Traceback" not in shown and "RuntimeError" in printed.out
    await nothing_is_left(hasty, tasks)
    await query(hasty)


def unforeseen(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


async def an_enrolment_fails_and_shows_nothing(trio: Trio, capsys: pytest.CaptureFixture[str]) -> None:
    for outcome in await enrol(trio):
        assert isinstance(outcome, IntegrityError | UnavailableError)
        assert SECRET not in str(outcome) + str(outcome.fields())
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err and "Traceback" not in printed.out + printed.err


async def enrols_again(trio: Trio) -> None:
    assert all(not isinstance(outcome, BaseException) for outcome in await enrol(trio))
    assert set(trio.running) == set(PARTIES)


@pytest.mark.parametrize("where", ["a peer's call", "a meeting"])
async def test_an_unforeseen_failure_of_a_peer_is_an_integrity_error_there(
    hasty: Trio, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "a peer's call":
        monkeypatch.setattr(hasty["a"].links.rendezvous, "bring", unforeseen)
    else:
        monkeypatch.setattr(hasty["b"].stocks, "meet", unforeseen)
    await an_enrolment_fails_and_shows_nothing(hasty, capsys)
    monkeypatch.undo()
    await enrols_again(hasty)


async def test_an_unforeseen_failure_of_a_dealer_is_an_integrity_error_there(
    unstocked: Trio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "deal_tagged", unforeseen)
    await an_enrolment_fails_and_shows_nothing(unstocked, capsys)
    monkeypatch.undo()
    await enrols_again(unstocked)


@pytest.mark.parametrize("party", ["a", "b"])
@pytest.mark.parametrize("failure", [StorageError, RuntimeError])
async def test_what_a_holder_fails_in_before_it_meets_its_peer_is_said_to_both_matchers_at_once(
    trio: Trio, party: Party, failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise failure(SECRET if failure is RuntimeError else "the disk is full")

    await query(trio)
    monkeypatch.setattr(trio[party]._ledger, "enter", fail)
    tasks, began = len(asyncio.all_tasks()), time.monotonic()
    found = await enrol(trio)
    # A holder here waits 20 s for its peer.
    assert time.monotonic() - began < 15.0
    for error in found:
        assert type(error) is (StorageError if failure is StorageError else IntegrityError)
        assert (error.party, error.alternatives) == (f"keyholder-{party}", pairs_without(party))
        assert SECRET not in str(error.fields())
    await nothing_is_left(trio, tasks)
