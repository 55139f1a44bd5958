"""A computation whose dealer is not believed: what it deals is checked after use, before any outcome is opened.

Of everything that was dealt with z = u*v, one more such u', v', z' is given up. For a coin rho that the dealer could
not foresee, e = rho*u - u' and g = v - v' are opened, and rho*z - z' - e*v' - g*u' - e*g has to be 0. Errors of z and
z' pass if rho*error = error', for one rho at most: with probability 2^-256, the coin's size. Until then the computing
parties have shown each other masked numbers alone, so that wrong material has told nothing.
Damgard, Pastro, Smart, Zakarias, CRYPTO 2012, figure 7; de Saint Guilhem, Makri, Rotaru, Tanguy, PKC 2021.

This makes a pair whose two computing parties follow the protocol sure of the outcome. A computing party that deviates
is not noticed by it: the other pairs compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, from_bytes
from veilmatch.crypto.ceremony.coins import coin, committed
from veilmatch.crypto.ceremony.rounds import Steps, both, packed, together, unpacked
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.two.computation import Computation, Part, Roles
from veilmatch.crypto.ceremony.two.field import Field
from veilmatch.crypto.errors import DealtStockError


class CheckedComputation(Computation):
    """A computation that keeps what was dealt until it has checked it."""

    def __init__(self, seat: Seat, field: Field, roles: Roles, count: int) -> None:
        super().__init__(seat, field, roles, count)
        self._noted: list[tuple[Part, Part, Part]] = []

    def _note(self, u: list[Integer], v: list[Integer], product: Part) -> None:
        self._noted.append((u, v, product))

    def check_dealt(self) -> Steps[None]:
        """Check all that was dealt so far. Six rounds. Raises DealtStockError at the computing parties.

        Nothing is computed with afterwards but what is opened at once.
        """
        noted, self._noted = self._noted, []
        F, reduce, count = self.field.prime, self._reduce, self.count * len(noted)
        u2, v2 = self.masks(count), self.masks(count)
        z2 = yield from self.deal(count, lambda: self._products(u2, v2))
        rho = from_bytes((yield from coin(self.seat.named("sacrifice")))) % F
        if self.is_dealer:
            yield from both(self.open([]), self.open([]))
            yield from self._same(b"")
            return
        u, v, z = ([x for note in noted for x in note[part]] for part in range(3))
        e, g = yield from both(self.open(self.minus(self.scaled(u, rho), u2)), self.open(self.minus(v, v2)))
        side = []
        for a, b, x, y, c, d in zip(z, z2, u2, v2, e, g, strict=True):
            total = rho * a - b - c * y - d * x
            side.append(reduce(total - c * d if self.is_first else -total))
        yield from self._same(packed(side, F))

    def _same(self, side: bytes) -> Steps[None]:
        members = (self.first, self.second)
        mine = b"" if self.is_dealer else self.seat.digest("sides", side)
        shown = yield from committed(self.seat.named("sides"), members, mine)
        if len(set(shown.values())) > 1:
            raise DealtStockError(
                "what was dealt in a key ceremony does not multiply", party=f"keyholder-{self.dealer}"
            )

    def any_zero(self, columns: Sequence[Part]) -> Steps[list[bool]]:
        """Return of each row whether one of its numbers is 0, at the computing parties; nothing at the dealer.

        Each row's product, times a random number, is opened after everything dealt was checked: 0, or a uniform unit
        (up to 1/F). Both commit to their shares before they show them. Raises as `check_dealt` does.
        """
        F = self.field.prime
        product = [] if self.is_dealer else [self.seat.own.below(F) for _ in range(self.count)]
        operands = yield from together([self.operand(column) for column in columns])
        for operand in operands:
            product = yield from self.times(product, operand)
        yield from self.check_dealt()
        members = (self.first, self.second)
        shown = yield from committed(self.seat.named("outcome"), members, packed(product, F))
        if self.is_dealer:
            return []
        parts = [unpacked(shown[member], F) for member in members]
        return [self._reduce(u + v) == 0 for u, v in zip(*parts, strict=True)]
