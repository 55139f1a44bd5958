"""Numbers that are replicated among three: what a party has of them, and what it computes alone.

x = x_ab + x_bc + x_ca, where each two parties have one share and the third has not: any two have all, one has nothing
that depends on x. The shares are residues, or integers with a known range.
Araki, Furukawa, Lindell, Nof, Ohara, CCS 2016; Ito, Saito, Nishizeki, Globecom 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.seats import ahead_of
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SecretHolder

#: The party whose share ahead, which the next one has behind, takes up what is public.
_PUBLIC: Party = "b"


@dataclass(frozen=True, slots=True, repr=False)
class Shared(SecretHolder):
    """One party's part of a vector of shared numbers.

    behind: the shares that the party behind has as well; ahead: those that the party ahead has. The numbers are the
    sums of all three parties' `ahead`, modulo `modulus` if there is one. Shares of residues lie in [0, modulus).
    """

    party: Party
    behind: Sequence[Integer]
    ahead: Sequence[Integer]
    modulus: Integer | None

    def __len__(self) -> int:
        return len(self.ahead)

    def plus(self, other: Shared) -> Shared:
        """Return the sums."""
        self._require_same(other)
        return self._made(
            [x + y for x, y in zip(self.behind, other.behind, strict=True)],
            [x + y for x, y in zip(self.ahead, other.ahead, strict=True)],
        )

    def times_public(self, factors: Sequence[Integer]) -> Shared:
        """Return the products with numbers that everybody knows."""
        return self._made(
            [x * f for x, f in zip(self.behind, factors, strict=True)],
            [x * f for x, f in zip(self.ahead, factors, strict=True)],
        )

    def times(self, factor: Integer | int) -> Shared:
        """Return the products with one number that everybody knows."""
        return self.times_public([Integer(factor)] * len(self))

    def plus_public(self, number: Integer | int) -> Shared:
        """Return the sums with one number that everybody knows."""
        ahead, behind = self.party == _PUBLIC, self.party == ahead_of(_PUBLIC)
        return self._made(
            [x + number for x in self.behind] if behind else self.behind,
            [x + number for x in self.ahead] if ahead else self.ahead,
        )

    def modulo(self, modulus: Integer) -> Shared:
        """Return shared integers modulo a number. Of residues it would be wrong: their shares sum up to more."""
        if self.modulus not in (None, modulus):
            raise ValueError("residues are shared modulo one number only")
        return _reduced(self.party, self.behind, self.ahead, modulus)

    def take(self, places: Sequence[int]) -> Shared:
        """Return the numbers at these places, in this order."""
        return Shared(self.party, [self.behind[k] for k in places], [self.ahead[k] for k in places], self.modulus)

    def _made(self, behind: Sequence[Integer], ahead: Sequence[Integer]) -> Shared:
        if self.modulus is None:
            return Shared(self.party, behind, ahead, None)
        return _reduced(self.party, behind, ahead, self.modulus)

    def _require_same(self, other: Shared) -> None:
        if self.modulus != other.modulus:
            raise ValueError("numbers that are shared modulo different numbers")


def joined(parts: Sequence[Shared]) -> Shared:
    """Return the numbers of all parts, at least one, one after the other."""
    first = parts[0]
    for part in parts:
        first._require_same(part)
    return Shared(first.party, [x for p in parts for x in p.behind], [x for p in parts for x in p.ahead], first.modulus)


def local_products(x: Shared, y: Shared) -> list[Integer]:
    """Return this party's summands of x*y: the three parties' sum up to the product, over the integers too.

    All nine products of shares are in one of them, once: two parties' shares meet at a party that has both. A summand
    tells of x and y; it is masked before it is sent, or stays where it is.
    """
    return [
        x_behind * y_behind + x_behind * y_ahead + x_ahead * y_behind
        for x_behind, x_ahead, y_behind, y_ahead in zip(x.behind, x.ahead, y.behind, y.ahead, strict=True)
    ]


def known_to_two(party: Party, holder: Party, values: Sequence[Integer], count: int, modulus: Integer | None) -> Shared:
    """Share, without a word, what `holder` and the party ahead of it know. values: empty at the third."""
    nothing = [Integer(0)] * count
    if party == holder:
        return Shared(party, nothing, list(values), modulus)
    if values:
        return Shared(party, list(values), nothing, modulus)
    return Shared(party, nothing, nothing, modulus)


def _reduced(party: Party, behind: Sequence[Integer], ahead: Sequence[Integer], modulus: Integer) -> Shared:
    return Shared(party, [x % modulus for x in behind], [x % modulus for x in ahead], modulus)
