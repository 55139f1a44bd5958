"""Fermat's test of secret numbers: is base^(m - 1) = 1 mod m, for a batch of shared m of n bits each?

Nobody learns m or the power, only the one bit. Reducing modulo a shared m with a shared approximation of 1/m is from
Algesheimer, Camenisch, Shoup, CRYPTO 2002. The exponent is never split into bits: m - 1 = 2*(E_a + E_b + E_c), each E
is known to one party, and the chain multiplies by powers of the three known digits.

Ranges, for a window of w bits, bases up to b, and D = base^(sum of three digits), so that D^2 < 2^d:

    x in (-1.25 m, 1.25 m)      s = x^2 D^2 < 2^S,  S = 2n + 1 + d
    xi = 2^X / m, at most 8 off,  X = S + 6         f = X - n, the bits of xi behind the point
    h = s / 2^(n - 4)           q = h xi / 2^(f + 4),  |q - s/m| < 1.25
    x' = s - q m

The largest product is h*xi. The field has `MARGIN` bits more at least, so that a truncation goes wrong with at most
2^-40: then one candidate is lost, or survives to be found out by biprimality.py, and nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Round, Steps, both, packed, size_below, together, unpacked
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.two.checking import CheckedComputation
from veilmatch.crypto.ceremony.two.computation import Computation, Operand, Part, Roles
from veilmatch.crypto.ceremony.two.field import Field
from veilmatch.crypto.ceremony.two.zeros import any_zero

#: The extra bits of xi, those that h keeps below m, and those by which a field is larger than any product.
GUARD, TOP, MARGIN = 6, 4, 40
#: 2.9142 - 2x is within 0.0858 of 1/x on [1/2, 1], relatively: 3.54 bits.
_INTERCEPT, _INTERCEPT_SCALE = 29142, 10000
_INTERCEPT_BITS = 3.54

#: Who computes first and second, and who deals: all three ways.
ALL_ROLES: tuple[Roles, Roles, Roles] = (("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b"))


@dataclass(frozen=True)
class FermatTest:
    """The sizes of a test.

    bits n: m has exactly so many, at least 20. window: bits of a digit. largest_base: at least 2.
    """

    bits: int
    window: int = 2
    largest_base: int = 2

    @property
    def digit_bits(self) -> int:
        """d."""
        exponent: int = 6 * ((1 << self.window) - 1)
        return (Integer(pow(self.largest_base, exponent)) - 1).bit_length()

    @property
    def reciprocal_bits(self) -> int:
        """X."""
        return 2 * self.bits + 1 + self.digit_bits + GUARD

    @property
    def fraction_bits(self) -> int:
        """f."""
        return self.reciprocal_bits - self.bits

    @cached_property
    def field(self) -> Field:
        """Where it is computed."""
        high_bits = 2 * self.bits + 1 + self.digit_bits - self.bits + TOP
        return Field.holding(high_bits + self.fraction_bits + 2 + MARGIN)

    @property
    def windows(self) -> int:
        """How many digits the exponents have."""
        return -(-(self.bits - 1) // self.window)

    @property
    def rounds(self) -> int:
        """How many rounds a test takes, about: three for each squaring."""
        return 3 * self.bits

    @property
    def iterations(self) -> int:
        """How many of Newton's double 3.54 good bits to f."""
        count = 1
        while _INTERCEPT_BITS * 2**count < self.fraction_bits:
            count += 1
        return count


def passing(
    seat: Seat, test: FermatTest, roles: Roles, summands: Sequence[Integer], bases: Sequence[int]
) -> Steps[list[bool]]:
    """Return of each m = 1 + 2*(E_a + E_b + E_c) whether it passes the test with its base, at all three.

    summands: this party's E, in [0, 2^(n-1)). The dealer also is the referee. Who deviates can make any number fail or
    pass: what is kept is tested again (`passing_checked`, biprimality.py).
    """
    computation = Computation(seat, test.field, roles, len(summands))
    m = yield from _number_of_three(computation, summands)
    columns = yield from _columns(
        computation, test, m, lambda k: computation.product_of_three(_digit_powers(test, summands, bases, k))
    )
    return (yield from any_zero(computation, columns))


def passing_checked(
    seat: Seat, test: FermatTest, roles: Roles, summands: Sequence[Integer], bases: Sequence[int]
) -> Steps[list[bool]]:
    """Return of each m = 1 + 2*(E_first + E_second) whether it passes, at these two; nothing at the dealer.

    summands: empty at the dealer. Two that follow the protocol are not deceived: the dealer puts nothing in, and what
    it deals is checked. Raises DealtStockError.
    """
    computation = CheckedComputation(seat, test.field, roles, len(bases))
    columns = yield from _columns(
        computation,
        test,
        _number_of_two(computation, summands),
        lambda k: computation.product_of_two(_digit_powers(test, summands, bases, k)),
    )
    return (yield from computation.any_zero(columns))


def passing_in_turn(seat: Seat, test: FermatTest, summands: Sequence[Integer]) -> Steps[list[bool]]:
    """Return what `passing` does with base 2, a third of the batch with each of the three as dealer, side by side."""
    count = len(summands)
    turns = [range(turn, count, 3) for turn in range(3)]
    outcomes = yield from together([
        passing(seat.named(turn), test, ALL_ROLES[turn], [summands[k] for k in places], [2] * len(places))
        for turn, places in enumerate(turns)
        if places
    ])  # fmt: skip
    passed = [False] * count
    for places, outcome in zip(turns, outcomes, strict=False):
        for place, ok in zip(places, outcome, strict=True):
            passed[place] = ok
    return passed


# -- m ----------------------------------------------------------------------------------------------------


def _number_of_three(computation: Computation, summands: Sequence[Integer]) -> Steps[Part]:
    """m as shares of the computing parties: the dealer sends its part to the second, masked. One round."""
    F, reduce = computation.field.prime, computation.field.reduce
    if computation.party == computation.second:
        received = yield Round(awaited={computation.dealer: len(summands) * size_below(F)})
        theirs = unpacked(received.sent[computation.dealer], F)
        return [reduce(2 * e + x) for e, x in zip(summands, theirs, strict=True)]
    peer = computation.first if computation.is_dealer else computation.dealer
    mask = computation.seat.common(peer, "number").modulo_mersenne(len(summands), computation.field.bits)
    if computation.is_dealer:
        rest = [reduce(2 * e - x) for e, x in zip(summands, mask, strict=True)]
        yield Round({computation.second: packed(rest, F)})
        return []
    yield Round()
    return [reduce(1 + 2 * e + x) for e, x in zip(summands, mask, strict=True)]


def _number_of_two(computation: Computation, summands: Sequence[Integer]) -> Part:
    """m of two parties is shared between them as it is."""
    one = 1 if computation.is_first else 0
    return [computation.field.reduce(one + 2 * e) for e in summands]


def _digit_powers(test: FermatTest, summands: Sequence[Integer], bases: Sequence[int], window: int) -> list[Integer]:
    """This party's factors of D^2 of one window."""
    shift, mask = window * test.window, (1 << test.window) - 1
    return [Integer(base) ** int(2 * ((e >> shift) & mask)) for base, e in zip(bases, summands, strict=False)]


# -- the chain ----------------------------------------------------------------------------------------------


def _columns(
    computation: Computation, test: FermatTest, m: Part, digit: Callable[[int], Steps[Part]]
) -> Steps[list[Part]]:
    """x - 1 + m, x - 1, x - 1 - m of x = base^(m - 1) mod m: one of them is 0 if m passes."""
    (m_operand, xi), x = yield from both(_reciprocal(computation, test, m), digit(test.windows - 1))
    xi_operand, following = yield from both(computation.operand(xi), _prepared(computation, digit, test.windows - 2))
    chain = _Chain(computation, test, m_operand, xi_operand)
    for window in range(test.windows - 2, -1, -1):
        # the next digit is made meanwhile: it depends on the exponents alone
        x, following = yield from both(
            chain.window(x, following), _prepared(computation, digit, window - 1)
        )  # fmt: skip
    at_one = computation.minus(x, computation.public(1))
    return [computation.minus(at_one, [k * u for u in m]) for k in (-1, 0, 1)]


def _prepared(computation: Computation, digit: Callable[[int], Steps[Part]], window: int) -> Steps[Operand]:
    """D^2 of a window, ready to be multiplied; nothing for the window after the last. Two rounds."""
    if window < 0:
        return Operand([], [])
    return (yield from computation.operand((yield from digit(window))))


@dataclass(frozen=True, repr=False)
class _Chain:
    """Squarings modulo m."""

    computation: Computation
    test: FermatTest
    m: Operand
    xi: Operand

    def window(self, x: Part, digit: Operand) -> Steps[Part]:
        """x^(2^w) * D^2 mod m, up to a multiple of m. 3w rounds."""
        for _ in range(self.test.window - 1):
            x = yield from self._reduced((yield from self.computation.square(x)))
        return (yield from self._reduced((yield from self.computation.square_times(x, digit))))

    def _reduced(self, s: Part) -> Steps[Part]:
        """s mod m, in (-1.25 m, 1.25 m). Two rounds."""
        computation, test = self.computation, self.test
        high = computation.truncate(s, test.bits - TOP)
        q = computation.truncate((yield from computation.times(high, self.xi)), test.fraction_bits + TOP)
        return computation.minus(s, (yield from computation.times(q, self.m)))


def _reciprocal(computation: Computation, test: FermatTest, m: Part) -> Steps[tuple[Operand, Part]]:
    """m ready to be multiplied, and xi = 2^X / m by Newton's iteration y' = y*(2 - y*m). 1 + 2*iterations rounds."""
    n, f = test.bits, test.fraction_bits
    m_operand = yield from computation.operand(m)
    intercept = computation.public((Integer(1) << f) * _INTERCEPT // _INTERCEPT_SCALE)
    y = computation.minus(intercept, computation.scaled(m, Integer(1) << (f - n + 1)))
    two = computation.public(Integer(1) << (f + 1))
    for _ in range(test.iterations):
        product, y_operand = yield from computation.times_and_operand(y, m_operand)
        z = computation.minus(two, computation.truncate(product, n))
        y = computation.truncate((yield from computation.times(z, y_operand)), f)
    return m_operand, y
