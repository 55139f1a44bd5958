"""One party deviates in a key ceremony: what comes of it at the two honest ones, and what without the check.

Sessions in memory, with the factors of a toy key where the search is not the point. Processes that are killed, or fall
silent: tests/ceremony and tests/e2e/test_dealerless.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gmpy2
import pytest

from tests.crypto.ceremony.factors import KeySession, toy_factors
from tests.crypto.ceremony.table import Alter, Ceremony, combined, play
from tests.crypto.ceremony.test_key import PRODUCTS, KeyCeremony, require_sound
from tests.crypto.ceremony.test_two_parties import F521, WrongDealer, everything, split
from tests.crypto.toys import TOY
from tests.hostile.recovering import adding_error, believe
from veilmatch.crypto.arithmetic import Integer, invert, power
from veilmatch.crypto.ceremony import biprimality
from veilmatch.crypto.ceremony.joint import search, sizes, steps
from veilmatch.crypto.ceremony.joint.search import confirm, find_pool
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.rounds import Steps
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.ceremony.two.checking import CheckedComputation
from veilmatch.crypto.ceremony.two.fermat import ALL_ROLES
from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party

#: Rounds from shared factors to keys.
KEY_ROUNDS = 38
#: Rounds of a whole search of 512 bits, at least.
SEARCH_ROUNDS = 900
SOUND, WRONG, UNNOTICED = "a sound key", "a key that is kept and wrong", "goes unnoticed"
Happened = Counter[str]


@dataclass(frozen=True)
class CeremonyDeviation:
    """who does what. run: returns what happened, how often; told whether the check is taken out. refused: the code of
    the error with it, or SOUND."""

    who: str
    what: str
    run: Callable[[pytest.MonkeyPatch, bool], Happened]
    refused: str
    #: What is taken out; "" where there is no one check.
    check: str = ""


def happened(ceremony: Ceremony, honest: Iterable[Party] = PARTIES) -> str:
    """Say in words what came of a ceremony."""
    errors = {ceremony.errors[party] for party in honest if party in ceremony.errors}
    if errors:
        return f"refused ({', '.join(sorted({error.code for error in errors}))})"
    if ceremony.errors:
        return "refused by itself alone"
    try:
        require_sound({party: one.result for party, one in ceremony.sessions.items()})
    except (AssertionError, IntegrityError, ValueError):
        return WRONG
    return SOUND


def flipped(at: int, to: Party) -> Alter:
    """Another bit in the message of one round to one peer."""

    def alter(number: int, peer: Party, payload: bytes) -> bytes:
        if number != at or peer != to or not payload:
            return payload
        place = len(payload) // 2
        return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]

    return alter


def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, a pool and repetitions that are as small as those of 512 bits may be."""
    monkeypatch.setattr(biprimality, "REPETITIONS", 6)
    monkeypatch.setitem(sizes._BATCHES, 256, 40)
    for module in (sizes, search):
        monkeypatch.setattr(module, "POOL", 3)
        monkeypatch.setattr(module, "BASES_OF_A_PAIR", 2)


# -- what a party does ----------------------------------------------------------------------------------------


def altering_in_turn(
    rounds: Iterable[int], make: Callable[[Party, Alter], Ceremony], monkeypatch: pytest.MonkeyPatch, _out: bool
) -> Happened:
    """Alter one message at a time: of each of these rounds, by each party in turn, to each peer."""
    _few(monkeypatch)
    found: Happened = Counter()
    for number in rounds:
        deviates = PARTIES[number % 3]
        for to in (party for party in PARTIES if party != deviates):
            ceremony = make(deviates, flipped(number, to)).run()
            if ceremony.was_altered:
                found[happened(ceremony, [party for party in PARTIES if party != deviates])] += 1
    return found


def adding_to(product: str, monkeypatch: pytest.MonkeyPatch, out: bool) -> Happened:
    """b adds an error to its part of a product."""
    _few(monkeypatch)
    adding_error(monkeypatch, "b", PRODUCTS.index(product))
    if out:
        believe(monkeypatch)
    return Counter([happened(KeyCeremony(TOY).run(), ("a", "c"))])


def with_composite(_: Any, out: bool, *, monkeypatch: pytest.MonkeyPatch, rushing: bool) -> Happened:
    """P' + 4 keeps the size of P and P = 3 mod 4, and P is as good as certainly composite."""
    _few(monkeypatch)
    factors, ceremony = toy_factors(cofactor_error=4), KeyCeremony(TOY)
    if rushing:
        rush(monkeypatch, every_loop=out)
    elif out:
        monkeypatch.setattr(biprimality, "REPETITIONS", 0)
    ceremony.sessions = {party: KeySession(party, factors[party]) for party in PARTIES}
    return Counter([happened(ceremony.run(), ("a", "b"))])


def rush(monkeypatch: pytest.MonkeyPatch, *, every_loop: bool) -> None:
    """c waits for what the other one of a loop shows, and shows what the test asks for: its own two loops hold.

    every_loop: so does b in the loop that it holds with a, as if there were no third loop.
    """
    bases: list[Integer] = []
    shown: dict[Party, list[Integer]] = {}
    residues, honest = biprimality.public_residues, biprimality.shown_by_two

    def recorded(seed: bytes, count: int, N: Integer) -> list[Integer]:
        bases[:] = residues(seed, count, N)
        return list(bases)

    def showing(seat: Seat, holder: Party, compute: Callable[[], list[Integer]], count: int, N: Integer) -> Steps[Any]:
        def shows() -> list[Integer]:
            others = shown.get(holder)
            if others is None:
                return shown.setdefault(holder, compute())
            if seat.party != "c" and not (every_loop and holder == "a"):
                return compute()
            known = [power(base, (N - 1) // 4, N) for base in bases]
            if seat.party == holder:
                return [x * k % N for x, k in zip(others, known, strict=True)]
            return [x * invert(k, N) % N for x, k in zip(others, known, strict=True)]

        # Of the two, the one whose letter comes first has computed by then: play goes from a to c.
        return (yield from honest(seat, holder, shows, count, N))

    monkeypatch.setattr(biprimality, "public_residues", recorded)
    monkeypatch.setattr(biprimality, "shown_by_two", showing)


def with_composite_p(monkeypatch: pytest.MonkeyPatch, out: bool) -> Happened:
    """Whoever deals in the search lets anything pass: all three believe that every candidate did."""
    _few(monkeypatch)

    def everything_passes(_seat: Seat, _test: Any, own: list[Integer]) -> Steps[list[bool]]:
        yield from ()
        return [True] * len(own)

    with monkeypatch.context() as lying:
        lying.setattr(search, "passing_in_turn", everything_passes)
        pool: Mapping[Party, Shared] = {}
        while not pool or all(gmpy2.is_prime(p) for p in combined(pool)):
            pool = {x.party: x for x in play(lambda seat: find_pool(seat, Sizes(TOY))).of_all()}
    if out:
        return Counter([SOUND if all(gmpy2.is_prime(p) for p in combined(pool)) else WRONG])
    return _codes(play(lambda seat: confirm(seat, pool[seat.party], Sizes(TOY))).errors)


def dealing_wrongly(_: pytest.MonkeyPatch, out: bool) -> Happened:
    """c deals a product that is off by one to the pair that tests p alone."""
    roles, of = ALL_ROLES[0], split([1, 2, 3], F521, ALL_ROLES[0])

    def made(seat: Seat) -> Steps[None]:
        at = (WrongDealer if seat.party == roles[2] else CheckedComputation)(seat, F521, roles, 3)
        if out:
            at.check_dealt = lambda: iter(())  # type: ignore[method-assign,assignment,return-value]
        return everything(at, of[seat.party], [] if seat.party == roles[2] else [Integer(5)] * 3)

    errors = play(made).errors
    return _codes(errors) if errors else Counter([UNNOTICED])


def telling_two_things(monkeypatch: pytest.MonkeyPatch, out: bool) -> Happened:
    """c tells b that another candidate has passed than it tells a."""
    _few(monkeypatch)
    if out:
        monkeypatch.setattr(steps, "compared", lambda *_: iter(()))

    def alter(number: int, peer: Party, payload: bytes) -> bytes:
        if (number, peer) != (6, "b") or 1 not in payload:
            return payload
        place = payload.index(1)
        return payload[:place] + b"\0" + payload[place + 1 :]

    return Counter([happened(Ceremony(TOY, "c", alter).run(), ("a", "b"))])


def rejecting(monkeypatch: pytest.MonkeyPatch, out: bool) -> Happened:
    """c says of every candidate that it has a small factor."""
    _few(monkeypatch)
    honest = search.without_small_factors

    def none_is_good(seat: Seat, own: list[Integer], primes: Any) -> Steps[list[bool]]:
        kept = yield from honest(seat, own, primes)
        return [False] * len(kept)

    monkeypatch.setattr(search, "without_small_factors", none_is_good)
    return _codes(play(lambda seat: find_pool(seat, Sizes(TOY))).errors)


def _codes(errors: Mapping[Party, VeilmatchError]) -> Happened:
    codes = sorted({error.code for error in errors.values()})
    return Counter([f"refused ({', '.join(codes)})" if codes else SOUND])


def composite(*, rushing: bool) -> Callable[[pytest.MonkeyPatch, bool], Happened]:
    return lambda monkeypatch, out: with_composite(None, out, monkeypatch=monkeypatch, rushing=rushing)


def after_the_search(deviates: Party, alter: Alter) -> Ceremony:
    return KeyCeremony(TOY, deviates, alter)


def whole(deviates: Party, alter: Alter) -> Ceremony:
    return Ceremony(TOY, deviates, alter)


_PAIRS = "pairs compare what their shares give"
CEREMONY_DEVIATIONS = (
    *(
        CeremonyDeviation("anyone", f"adds an error to {product}", partial(adding_to, product), code, check)
        for product, code, check in (
            ("P", "integrity", ""), ("N", "integrity", ""), ("P'Q'", "integrity", ""), ("o", "integrity", _PAIRS),
            ("o mod N", "integrity", _PAIRS), ("rho*o", "integrity", _PAIRS), ("t ac a", "key_safety", _PAIRS),
            ("tag ac c", "key_safety", _PAIRS), ("P+Q-1", SOUND, ""),
        )
    ),
    CeremonyDeviation("a referee", "lets a composite P pass", composite(rushing=False), "integrity", "N is tested"),
    CeremonyDeviation(
        "a referee", "the same, and shows what the tests of its own two pairs ask for", composite(rushing=True),
        "integrity", "the third pair tests N",
    ),
    CeremonyDeviation("a dealer", "lets a composite p pass", with_composite_p, "integrity", "each pair tests p"),
    CeremonyDeviation("a dealer", "deals wrong products where a pair tests p", dealing_wrongly, "dealt_stock",
                      "what is dealt is tested"),
    CeremonyDeviation("anyone", "tells two peers different things", telling_two_things, "protocol", ""),
    CeremonyDeviation("a referee", "rejects every candidate", rejecting, "integrity", ""),
)  # fmt: skip
#: What is altered one message at a time, in words, and how; with how many rounds there are.
IN_TURN = (
    ("a message from shared factors to keys", KEY_ROUNDS, after_the_search),
    ("a message of the search", SEARCH_ROUNDS, whole),
)
