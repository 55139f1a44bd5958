"""What each key holder gets of shared o, kappa and Gammas: the same numbers as from a dealer who knows them.

Of each pair the minus holder draws its shares, and the plus holder learns the sums: distributed as `_split` and
`split_safety` of keys/ceremony.py have it, but that the top bit of a mask is one. Nothing is opened to anybody but a
sum with a mask of its peer, longer by 128 bits or uniform mod N, and the third party of a pair learns nothing of it.

A minus holder that deviates chooses its mask as it likes: so close to a bound for the sum, or to where it wraps, that
the sum is refused if and only if o is above a number of its choice. New shares of a key can be asked for again and
again, and each time that would be a bit of o. So the bounds are random, and far wider than o is long (`_require_sums`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, random_below
from veilmatch.crypto.ceremony.masking import Masked, masked
from veilmatch.crypto.ceremony.replicated import multiply
from veilmatch.crypto.ceremony.rounds import Steps, both
from veilmatch.crypto.ceremony.seats import Seat, ahead_of
from veilmatch.crypto.ceremony.shared import Shared, known_to_two
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, dealer_of, other_party
from veilmatch.crypto.keys.shares import GAMMA_BITS
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class PairPart(SecretHolder):
    """One party's part of what a pair gets of o and kappa: its shares, none at the dealer; both kappas, shared."""

    mine: tuple[Integer, ...]
    kappas: dict[Party, Shared]


@dataclass(frozen=True, slots=True, repr=False)
class SafetyPart(SecretHolder):
    """One party's part of the key-safety check of one pair in one direction.

    gamma: at the verifier and at the dealer. t: this holder's share of Gamma*o. key: at the verifier; tag: at the
    prover. Empty where it is not of this party.
    """

    gamma: tuple[Integer, ...]
    t: tuple[Integer, ...]
    key: tuple[Integer, ...]
    tag: tuple[Integer, ...]


def holders(pair: Pair) -> tuple[Party, Party]:
    """Return the plus and the minus holder."""
    plus, minus = (next(party for party in PARTIES if party == letter) for letter in pair)
    return plus, minus


def hand_out_shares(seat: Seat, pair: Pair, o: Shared, kappa: Shared, o_bits: int) -> Steps[PairPart]:
    """Hand out o_plus - o_minus = o over the integers and kappa_plus - kappa_minus = kappa mod N. Two rounds.

    o: below 2^o_bits, modulo something above 2^(o_bits + 129). o_minus is uniform among the numbers of o_bits + 128
    bits, kappa_minus mod N. Raises as `open_to` does, and IntegrityError at a plus holder whose o_plus cannot be.
    """
    plus, minus = holders(pair)
    N = kappa.modulus
    assert N is not None
    exponent, residue = yield from both(
        masked(seat.named("o"), o, plus, minus, lambda: _mask(seat, o_bits)),
        masked(seat.named("kappa"), kappa, plus, minus, lambda: seat.own.below(N)),
    )
    if seat.party == plus:
        _require_sums(exponent.mine, o_bits)
    return PairPart((*exponent.mine, *residue.mine), {plus: residue.of_learner, minus: residue.of_drawer})


def hand_out_safety(
    seat: Seat, pair: Pair, verifier: Party, o: Shared, kappas: dict[Party, Shared], o_bits: int
) -> Steps[SafetyPart]:
    """Hand out what `verifier` verifies the other holder of the pair with. Three rounds.

    o: modulo something above 2^(o_bits + 257). Gamma is of the stream that verifier and dealer have in common, which
    makes it shared. t_plus - t_minus = Gamma*o over the integers, t_minus is uniform among the numbers of o_bits + 256
    bits; the prover's tag = key + Gamma*kappa of its own, with a uniform key of the verifier. Raises as
    `hand_out_shares` does.
    """
    plus, minus = holders(pair)
    prover, dealer = other_party(pair, verifier), dealer_of(pair)
    gamma = _gamma(seat, verifier, dealer)
    N = kappas[prover].modulus
    assert N is not None and o.modulus is not None
    bits = o_bits + GAMMA_BITS
    gamma_of_o, gamma_of_kappa = (_shared(seat, verifier, dealer, gamma, modulus) for modulus in (o.modulus, N))
    t, tag = yield from both(
        _product_masked(seat.named("t"), gamma_of_o, o, plus, minus, lambda: _mask(seat, bits)),
        _product_masked(seat.named("tag"), gamma_of_kappa, kappas[prover], prover, verifier, lambda: seat.own.below(N)),
    )
    if seat.party == plus:
        _require_sums(t.mine, bits)
    return SafetyPart(
        gamma, t.mine, tag.mine if seat.party == verifier else (), tag.mine if seat.party == prover else ()
    )


def _gamma(seat: Seat, verifier: Party, dealer: Party) -> tuple[Integer, ...]:
    if seat.party not in (verifier, dealer):
        return ()
    peer = dealer if seat.party == verifier else verifier
    return tuple(seat.common(peer, "gamma").bits(1, GAMMA_BITS))


def _shared(seat: Seat, one: Party, other: Party, values: tuple[Integer, ...], modulus: Integer) -> Shared:
    return known_to_two(seat.party, one if ahead_of(one) == other else other, values, 1, modulus)


def _product_masked(
    seat: Seat, x: Shared, y: Shared, learner: Party, drawer: Party, draw: Callable[[], Integer]
) -> Steps[Masked]:
    product = yield from multiply(seat.named("product"), x, y)
    return (yield from masked(seat, product, learner, drawer, draw))


def _mask(seat: Seat, bits: int) -> Integer:
    """Return what hides a number of so many bits: one of 128 bits more, whose top bit is one."""
    top = bits + STATISTICAL_BITS - 1
    return (Integer(1) << top) + seat.own.bits(top)


def _require_sums(sums: tuple[Integer, ...], bits: int) -> None:
    """Raise IntegrityError unless each can be a number of so many bits with a mask: they are exponents later.

    Every honest sum is in [M/2, M + 2^bits), with M = 2^(bits + 128). The bounds are drawn in [0, M/2] and in
    [M + 2^bits, 2M]: so whatever the mask was, two numbers are refused with probabilities at most 2^-127 apart.
    """
    most = Integer(1) << (bits + STATISTICAL_BITS)
    honest = most + (Integer(1) << bits)
    for total in sums:
        low, high = random_below(most // 2 + 1), honest + random_below(most * 2 - honest + 1)
        if not low <= total < high:
            raise IntegrityError("a key share of a key ceremony is out of range", expected=f"{bits + 129} bits")
