"""Arithmetic of two computing parties, with the third as their dealer, modulo a Mersenne prime F.

x = x_first + x_second mod F. Each number is a list of this party's shares, one for each row of a batch; the dealer
has no share of anything, and its list is empty. It deals correlated randomness: masks come from streams that it has
with each of the two, and the second gets corrections. It never sees what is opened, and everything that is opened is
masked by a mask of its own, used once: perfectly private against each of the three.

Beside replicated shares (replicated.py) this is what long chains of reductions need. Truncation is local; a number
that is multiplied often is opened once, under its mask (`Operand`); a square opens one number, not two.
Beaver, CRYPTO '91; Mohassel, Zhang, SecureML, S&P 2017, section IV.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Round, Steps, both, packed, size_below, together, unpacked
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.two.field import Field
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SecretHolder

#: Who computes first and second, and who deals.
Roles = tuple[Party, Party, Party]
#: This party's shares of a vector; empty at the dealer.
Part = list[Integer]


@dataclass(frozen=True, slots=True, repr=False)
class Operand(SecretHolder):
    """A vector that is ready to be multiplied. mask: shares of its mask, at the dealer the mask itself.

    opened: the vector less its mask, at the computing parties.
    """

    mask: list[Integer]
    opened: list[Integer]


class Computation(SecretHolder):
    """One party's end of the computation of a batch of `count` rows."""

    def __init__(self, seat: Seat, field: Field, roles: Roles, count: int) -> None:
        self.field, self.count = field, count
        self.first, self.second, self.dealer = roles
        self.seat, self.party = seat, seat.party
        self.is_dealer, self.is_first = self.party == self.dealer, self.party == self.first
        self._reduce = field.reduce
        self._size = size_below(field.prime)
        if self.is_dealer:
            self._dealt = [seat.common(peer, "dealt") for peer in (self.first, self.second)]
        else:
            self._dealt = [seat.common(self.dealer, "dealt")]

    @property
    def peer(self) -> Party:
        """The other computing party, at a computing party."""
        return self.second if self.is_first else self.first

    # -- without a word ----------------------------------------------------------------------------------

    def public(self, number: Integer | int) -> Part:
        """Return shares of a number that everybody knows, in every row."""
        if self.is_dealer:
            return []
        return [Integer(number) if self.is_first else Integer(0)] * self.count

    def minus(self, x: Part, y: Part) -> Part:
        """Return x - y."""
        reduce = self._reduce
        return [reduce(u - v) for u, v in zip(x, y, strict=True)]

    def scaled(self, x: Part, factor: Integer | int) -> Part:
        """Return x * factor, for a factor that everybody knows."""
        reduce = self._reduce
        return [reduce(u * factor) for u in x]

    def truncate(self, x: Part, bits: int) -> Part:
        """Return x / 2^bits, rounded down or one more than that.

        For 0 <= x < 2^l. It is something else with probability 2^(l - k), where the shares do not wrap: the number of
        that row is wrong then, and nothing is told by it. SecureML, section IV-B and theorem 1.
        """
        if self.is_first:
            return [u >> bits for u in x]
        F, reduce = self.field.prime, self._reduce
        return [reduce(-((F - u) >> bits)) for u in x]

    # -- openings ----------------------------------------------------------------------------------------

    def open(self, x: Part) -> Steps[list[Integer]]:
        """Return x at both computing parties; it has to be masked. One round."""
        if self.is_dealer:
            yield Round()
            return []
        received = yield Round({self.peer: packed(x, self.field.prime)}, {self.peer: self._size * len(x)})
        reduce, theirs = self._reduce, unpacked(received.sent[self.peer], self.field.prime)
        return [reduce(u + v) for u, v in zip(x, theirs, strict=True)]

    # -- products ----------------------------------------------------------------------------------------

    def operand(self, x: Part) -> Steps[Operand]:
        """Make a vector ready to be multiplied. One round."""
        mask = self.masks(self.count)
        return Operand(mask, (yield from self.open(self._masked(x, mask))))

    def times(self, x: Part, y: Operand) -> Steps[Part]:
        """Return x*y. One round."""
        product, _ = yield from self.times_and_operand(x, y)
        return product

    def times_and_operand(self, x: Part, y: Operand) -> Steps[tuple[Part, Operand]]:
        """Return x*y, and x ready to be multiplied again. One round."""
        count = self.count
        mask = self.masks(count)
        opened, dealt = yield from both(
            self.open(self._masked(x, mask)), self.deal(count, lambda: self._products(mask, y.mask))
        )
        self._note(mask, y.mask, dealt)
        reduce, is_first = self._reduce, self.is_first
        # (d + b)(o + beta), of which d and o are known, and b, beta and b*beta are shared
        product = [
            reduce(d * (o + beta if is_first else beta) + o * b + t)
            for d, o, beta, b, t in self._rows(opened, y.opened, y.mask, mask, dealt)
        ]
        return product, Operand(mask, opened)

    def square(self, x: Part) -> Steps[Part]:
        """Return x^2. One round."""
        count = self.count
        mask = self.masks(count)
        opened, dealt = yield from both(
            self.open(self._masked(x, mask)), self.deal(count, lambda: self._products(mask, mask))
        )
        self._note(mask, mask, dealt)
        reduce, is_first = self._reduce, self.is_first
        return [
            reduce(d * ((d if is_first else 0) + 2 * a) + s)
            for d, a, s in self._rows(opened, mask, dealt)
        ]  # fmt: skip

    def square_times(self, x: Part, y: Operand) -> Steps[Part]:
        """Return x^2 * y. One round, in which the dealer deals three numbers a row."""
        count = self.count
        a, f = self.masks(count), y.mask
        opened, (aa, af, aaf) = yield from both(
            self.open(self._masked(x, a)),
            together([
                self.deal(count, lambda: self._products(a, a)),
                self.deal(count, lambda: self._products(a, f)),
                self.deal(count, lambda: self._products(self._products(a, a), f)),
            ]),
        )  # fmt: skip
        self._note(a, a, aa)
        self._note(a, f, af)
        self._note(aa, f, aaf)
        reduce, is_first = self._reduce, self.is_first
        # (d + a)^2 (o + f) = d^2 o + d^2 f + 2 d (o a + a f) + o a^2 + a^2 f
        product = []
        for d, o, u, v, s, t, w in self._rows(opened, y.opened, a, f, aa, af, aaf):
            dd = reduce(d * d)
            total = dd * v + 2 * d * reduce(o * u + t) + o * s + w
            product.append(reduce(total + dd * o if is_first else total))
        return product

    def product_of_three(self, mine: Sequence[Integer]) -> Steps[Part]:
        """Return the product of a number of each of the three, of this party in `mine`. One round."""
        count = self.count
        drawn = [stream.modulo_mersenne(count, self.field.bits) for stream in self._dealt]
        # of the first's number alpha is dealt, of the second's beta, of the dealer's gamma itself
        gamma = list(mine)

        def scaled_alpha() -> list[Integer]:
            return self._products(drawn[0], gamma)

        def scaled_beta() -> list[Integer]:
            return self._products(drawn[1], gamma)

        dealing = [
            self.deal(count, lambda: gamma),
            self.deal(count, scaled_alpha),
            self.deal(count, scaled_beta),
            self.deal(count, lambda: self._products(drawn[0], scaled_beta())),
        ]
        if self.is_dealer:
            yield from together(dealing)
            return []
        rest = self.minus(list(mine), drawn[0])
        theirs, (g, ag, bg, abg) = yield from both(self._swap(rest), together(dealing))
        of_first, of_second = (rest, theirs) if self.is_first else (theirs, rest)
        reduce = self._reduce
        # (delta + alpha)(epsilon + beta) gamma
        return [
            reduce(w + d * v + e * u + reduce(d * e) * c)
            for d, e, c, u, v, w in zip(of_first, of_second, g, ag, bg, abg, strict=True)
        ]

    def product_of_two(self, mine: Sequence[Integer]) -> Steps[Part]:
        """Return the product of a number of the first and one of the second, of this party in `mine`. One round.

        The dealer has none; what it deals can be checked.
        """
        count = self.count
        masks = [stream.modulo_mersenne(count, self.field.bits) for stream in self._dealt]
        dealing = self.deal(count, lambda: self._products(masks[0], masks[1]))
        nothing = [Integer(0)] * count
        if self.is_dealer:
            yield from dealing
            self._note(masks[0], masks[1], [])
            return []
        mask = masks[0]
        rest = self.minus(list(mine), mask)
        theirs, dealt = yield from both(self._swap(rest), dealing)
        self._note(*((mask, nothing) if self.is_first else (nothing, mask)), dealt)
        reduce = self._reduce
        # (alpha + delta)(beta + epsilon): the first has x = alpha + delta and epsilon, the second beta and delta
        own = list(mine) if self.is_first else mask
        return [reduce(t + u * e) for t, u, e in zip(dealt, own, theirs, strict=True)]

    # -- what the dealer deals -----------------------------------------------------------------------------

    def masks(self, count: int) -> list[Integer]:
        """Return shares of uniform masks, at the dealer the masks themselves."""
        drawn = [stream.modulo_mersenne(count, self.field.bits) for stream in self._dealt]
        if not self.is_dealer:
            return drawn[0]
        reduce = self._reduce
        return [reduce(u + v) for u, v in zip(*drawn, strict=True)]

    def deal(self, count: int, values: Callable[[], list[Integer]]) -> Steps[Part]:
        """Return shares of what the dealer knows: those of the first are drawn, those of the second sent. One round.

        values: called at the dealer alone, returns `count` numbers.
        """
        F = self.field.prime
        if self.is_first:
            # Before the round, as the dealer does: streams are read in the same order at both, whatever runs beside.
            drawn = self._dealt[0].modulo_mersenne(count, self.field.bits)
            yield Round()
            return drawn
        if self.is_dealer:
            drawn, reduce = self._dealt[0].modulo_mersenne(count, self.field.bits), self._reduce
            rest = [reduce(x - y) for x, y in zip(values(), drawn, strict=True)]
            yield Round({self.second: packed(rest, F)})
            return []
        received = yield Round(awaited={self.dealer: self._size * count})
        return unpacked(received.sent[self.dealer], F)

    def _note(self, u: list[Integer], v: list[Integer], product: Part) -> None:
        """Hear of a product that was dealt: shares of both factors and of the product, at a computing party."""

    # -- parts -----------------------------------------------------------------------------------------------

    def _swap(self, mine: list[Integer]) -> Steps[list[Integer]]:
        """Return what the other computing party has sent in turn. One round."""
        F = self.field.prime
        received = yield Round({self.peer: packed(mine, F)}, {self.peer: self._size * len(mine)})
        return unpacked(received.sent[self.peer], F)

    def _masked(self, x: Part, mask: list[Integer]) -> Part:
        return [] if self.is_dealer else self.minus(x, mask)

    def _products(self, x: list[Integer], y: list[Integer]) -> list[Integer]:
        reduce = self._reduce
        return [reduce(u * v) for u, v in zip(x, y, strict=True)]

    def _rows(self, *vectors: list[Integer]) -> zip[tuple[Integer, ...]]:
        """Rows of several vectors; none at the dealer."""
        return zip(*([[]] if self.is_dealer else vectors), strict=True)
