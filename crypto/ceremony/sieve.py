"""Candidates: shared odd integers of a range without small factors, by construction.

A unit u modulo M, the product of small primes, is lifted to the integers share by share: u_i + (M if that is odd)
+ 2*M*t_i, with t_i drawn by the two that have the share. An odd multiple of M is added. The sum is odd, equal to u
modulo M and of the range, and nobody has said a word. What a party knows of it, all but one share, leaves it an
interval of a third of the range, less residues, in which the number is uniform.
Malkin, Wu, Boneh, NDSS 1999; Chen, Cohen, Doerner, Kondi, Lee, Rosefield, Shelat, CRYPTO 2020 (constructive sampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, primes_below
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared, local_products
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.keys.parties import Party

#: A share has to be as much longer than M, or it tells the residue.
_ROOM = 1 << 30
_MOST_PRIMES = 1 << 16
#: Who has the share that the offset is on, as its share ahead, with the next one.
_OFFSET: Party = "b"


@dataclass(frozen=True)
class Sieve:
    """modulus M: the product of `constructed`, odd primes from 3 on. tested: the primes after them, below a bound."""

    modulus: Integer
    constructed: tuple[int, ...]
    tested: tuple[int, ...]

    @staticmethod
    def of(modulus_bits: int, bound: int) -> Sieve:
        """Return the sieve whose M has at most `modulus_bits` bits, at least 2. bound: at most 2^16."""
        if bound > _MOST_PRIMES:
            raise ParameterError("the bound of a trial division", got=bound, expected=f"at most {_MOST_PRIMES}")
        modulus, primes = Integer(1), primes_below(_MOST_PRIMES)
        count = 0
        while (modulus * primes[count]).bit_length() <= modulus_bits:
            modulus, count = modulus * primes[count], count + 1
        return Sieve(modulus, tuple(primes[:count]), tuple(r for r in primes[count:] if r < bound))


@dataclass(frozen=True)
class Range:
    """Odd integers of [low, high): an odd multiple of M, and three shares below 2*M*spread."""

    modulus: Integer
    offset: Integer
    spread: Integer

    @staticmethod
    def between(low: Integer, high: Integer, modulus: Integer) -> Range:
        """Return the range for candidates modulo an odd `modulus`. Raises ParameterError if it leaves no room."""
        offset = modulus * ((low // modulus + 1) | 1)
        spread = (high - offset) // (6 * modulus)
        if spread < _ROOM:
            raise ParameterError("the modulus of a sieve leaves no room in its range", got=modulus.bit_length())
        return Range(modulus, offset, spread)


def lifted(seat: Seat, residues: Shared, within: Range) -> Shared:
    """Return shared odd integers of the range that are = residues modulo its modulus. Without a word.

    The share that the offset is on is odd and the two others are even; none is negative.
    """
    return Shared(
        seat.party,
        _lifted(seat, seat.behind, residues.behind, within, has_offset=seat.behind == _OFFSET),
        _lifted(seat, seat.ahead, residues.ahead, within, has_offset=seat.party == _OFFSET),
        None,
    )


def _lifted(seat: Seat, peer: Party, shares: Sequence[Integer], within: Range, *, has_offset: bool) -> list[Integer]:
    M, offset = within.modulus, within.offset if has_offset else Integer(0)
    drawn = seat.common(peer, "lift").below(len(shares), within.spread)
    return [(x if x % 2 == 0 else x + M) + 2 * M * t + offset for x, t in zip(shares, drawn, strict=True)]


def summand(candidates: Shared) -> list[Integer]:
    """Return this party's E, of non-negative numbers with E_a + E_b + E_c = (x - 1)/2 for lifted candidates x."""
    return [x // 2 for x in candidates.ahead]


def summand_of_two(candidates: Shared, first: Party, second: Party) -> list[Integer]:
    """Return E of `first` or `second` with E_first + E_second = (x - 1)/2; nothing at the third.

    first: the one behind second. It takes both of its shares, and `second` the one that `first` lacks.
    """
    if candidates.party == first:
        return [x // 2 + y // 2 for x, y in zip(candidates.behind, candidates.ahead, strict=True)]
    return [x // 2 for x in candidates.ahead] if candidates.party == second else []


def product_summand(x: Shared, y: Shared) -> list[Integer]:
    """Return this party's E, of non-negative numbers with E_a + E_b + E_c = x*y over the integers."""
    return local_products(x, y)
