"""Shared p, q, P' and Q' such that p, q, P = 2pP' + 1 and Q = 2qQ' + 1 are prime. No candidate is ever opened.

A rejected candidate N = PQ would be easier to factor than an RSA modulus, and two P of one p give p away. So P itself
is tested, as a shared number, and one bit of each is told. One bit, of a candidate that is thrown away; p stays for a
batch, but never enters a test without a fresh P'. A party that deviates may reject candidates, and prefers keys by
that: b bits of preference for 2^b candidates, of which there are few (`Sizes.most_batches`). It may let composites
pass. So each pair tests each p again, with nothing in it that the third party could have spoilt (`confirm`), and N is
tested by each pair (biprimality.py).

Whatever fails here ends the session, and nothing of it is used again.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, primes_below
from veilmatch.crypto.ceremony.inversion import inverses, random_units
from veilmatch.crypto.ceremony.joint.sizes import BASES_OF_A_PAIR, POOL, SMALL_ATTEMPTS, Sizes
from veilmatch.crypto.ceremony.replicated import multiply
from veilmatch.crypto.ceremony.rounds import Steps, both, together
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared, joined
from veilmatch.crypto.ceremony.sieve import lifted, product_summand, summand, summand_of_two
from veilmatch.crypto.ceremony.trial_division import without_small_factors
from veilmatch.crypto.ceremony.two.fermat import ALL_ROLES, FermatTest, passing_checked, passing_in_turn
from veilmatch.crypto.errors import IntegrityError

#: About, for people who wait.
_ROUNDS_OF_SIEVE = 10
#: Shared p and q, and shared P' and Q'.
Factors = tuple[Shared, Shared]


def find_factors(seat: Seat, sizes: Sizes) -> Steps[Factors]:
    """Return integers p and q, P' and Q'. Raises IntegrityError if the search takes too long, or a p is not prime."""
    pool = yield from find_pool(seat.named("pool"), sizes)
    _, factors = yield from both(confirm(seat.named("confirm"), pool, sizes), find_large(seat, pool, sizes))
    return factors


def find_pool(seat: Seat, sizes: Sizes) -> Steps[Shared]:
    """Return shared p, as many as a pool has, that have passed Fermat's test with base 2, one party as dealer."""
    sieve, found = sizes.small_sieve, []
    for attempt in range(SMALL_ATTEMPTS):
        batch = f"small candidates, batch {attempt + 1}"
        seat.reached(batch, _ROUNDS_OF_SIEVE)
        step = seat.named(attempt)
        units = yield from random_units(step.named("units"), sizes.small_batch, sieve.modulus)
        candidates = lifted(step.named("lifted"), units, sizes.small_range)
        own = summand(candidates)
        kept = _places((yield from without_small_factors(step.named("division"), own, sieve.tested)))
        seat.reached(f"{batch}: {len(kept)} tested", sizes.small_test.rounds)
        passed = yield from passing_in_turn(step.named("fermat"), sizes.small_test, [own[k] for k in kept])
        found.append(candidates.take([kept[k] for k in _places(passed)]))
        if sum(map(len, found)) >= POOL:
            return joined(found).take(range(POOL))
    raise IntegrityError("too few primes in the search of a key ceremony", expected=f"{POOL} of the size of p")


def confirm(seat: Seat, pool: Shared, sizes: Sizes) -> Steps[None]:
    """Test each p with more bases, of which each pair has its own. Raises IntegrityError at a pair that finds one.

    The two of a pair have all shares of p together, so that the dealer puts nothing in, and what it deals is checked.
    Raises DealtStockError as well.
    """
    bases = primes_below(100)[: 3 * BASES_OF_A_PAIR]
    yield from together([
        _confirm_by(seat.named(turn), turn, pool, bases[turn::3], sizes) for turn in range(len(ALL_ROLES))
    ])  # fmt: skip


def _confirm_by(seat: Seat, turn: int, pool: Shared, bases: list[int], sizes: Sizes) -> Steps[None]:
    roles, test = ALL_ROLES[turn], FermatTest(sizes.small_bits, 1, max(bases))
    repeated = pool.take([k for k in range(len(pool)) for _ in bases])
    own = summand_of_two(repeated, *roles[:2])
    passed = yield from passing_checked(seat, test, roles, own, bases * len(pool))
    if not all(passed):
        raise IntegrityError("a number in a key ceremony that another key holder let pass as a prime is none")


def find_large(seat: Seat, pool: Shared, sizes: Sizes) -> Steps[Factors]:
    """Return p and q of the pool, and P' and Q', of the first two P of different p that pass.

    Raises IntegrityError after `Sizes.most_tests` tests, or `Sizes.most_batches` batches.
    """
    M = sizes.large_sieve.modulus
    masks = yield from random_units(seat.named("masks"), len(pool), M)
    halves = yield from inverses(seat.named("inverses"), pool.modulo(M).times(2), masks)
    found: dict[int, Shared] = {}
    tested = 0
    for attempt in range(sizes.most_batches):
        batch = f"large candidates, batch {attempt + 1}"
        seat.reached(batch, _ROUNDS_OF_SIEVE)
        step = seat.named(f"large {attempt}")
        turns, cofactors, own = yield from _candidates(step, pool, halves, sizes)
        seat.reached(f"{batch}: {len(own)} tested", sizes.large_test.rounds)
        passed = yield from passing_in_turn(step.named("fermat"), sizes.large_test, own)
        seat.reached(f"{batch}: {sum(passed)} prime", 0)
        tested += len(own)
        for place in _places(passed):
            found.setdefault(turns[place], cofactors.take([place]))
        if len(found) > 1:
            chosen = sorted(found)[:2]
            return pool.take(chosen), joined([found[k] for k in chosen])
        if tested > sizes.most_tests:
            break
    raise IntegrityError(
        "too few primes in the search of a key ceremony: who rejects good ones can choose among keys",
        got=f"{len(found)} of {tested}", expected="2",
    )  # fmt: skip


def _candidates(
    seat: Seat, pool: Shared, halves: Shared, sizes: Sizes
) -> Steps[tuple[list[int], Shared, list[Integer]]]:
    """Of a batch of P = 2pP' + 1 without small factors: which p each has, P', and this party's summand of pP'.

    halves: 1/(2p) modulo M. P' = (u - 1)/(2p) for a uniform unit u; those with a factor that M has are given up, so
    that P - 1 and Q - 1 have none in common but 2.
    """
    M, drawn = sizes.large_sieve.modulus, sizes.drawn
    turns = [k % len(pool) for k in range(drawn)]
    units = yield from random_units(seat.named("units"), drawn, M)
    residues = yield from multiply(seat.named("cofactors"), units.plus_public(-1), halves.take(turns))
    cofactors = lifted(seat.named("lifted"), residues, sizes.large_range)
    rough = _places(
        (yield from without_small_factors(seat.named("rough"), summand(cofactors), sizes.large_sieve.constructed))
    )
    turns, cofactors = [turns[k] for k in rough], cofactors.take(rough)
    own = product_summand(pool.take(turns), cofactors)
    kept = _places((yield from without_small_factors(seat.named("division"), own, sizes.large_sieve.tested)))
    return [turns[k] for k in kept], cofactors.take(kept), [own[k] for k in kept]


def _places(outcomes: list[bool]) -> list[int]:
    return [place for place, ok in enumerate(outcomes) if ok]
