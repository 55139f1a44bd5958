"""Units that nobody knows, and inverses of shared numbers.

Bar-Ilan, Beaver, PODC 1989: of x, r*x is opened for a unit r that nobody knows, which tells whether x is a unit and
nothing else; then 1/x = r / (r*x) is a linear function of r.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, gcd, invert
from veilmatch.crypto.ceremony.replicated import multiply, open_to_all, share
from veilmatch.crypto.ceremony.rounds import Steps, both
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import Party

#: Whose units are multiplied: one of them follows the protocol, so that the product is uniform.
_OWNERS: tuple[Party, Party] = ("a", "b")


def random_units(seat: Seat, count: int, modulus: Integer) -> Steps[Shared]:
    """Return uniform units modulo `modulus` that nobody knows: products of one of a and one of b. Two rounds."""
    of_a, of_b = (
        share(
            seat.named(f"unit of {owner}"),
            owner,
            [seat.own.unit(modulus) for _ in range(count)] if seat.party == owner else [],
            count,
            modulus,
        )
        for owner in _OWNERS
    )
    x, y = yield from both(of_a, of_b)
    return (yield from multiply(seat.named("units"), x, y))


def inverses(seat: Seat, x: Shared, masks: Shared) -> Steps[Shared]:
    """Return 1/x of shared units. Two rounds; raises as `require_units` does."""
    opened = yield from require_units(seat, x, masks)
    assert masks.modulus is not None
    return masks.times_public([invert(value, masks.modulus) for value in opened])


def require_units(seat: Seat, x: Shared, masks: Shared) -> Steps[list[Integer]]:
    """Return masks*x of shared units, which everybody learns. Two rounds. Raises IntegrityError if one is no unit.

    masks: uniform units, used for nothing else. Uniform residues do where nearly all are units; an x that is none
    shows a factor of the modulus then.
    """
    product = yield from multiply(seat.named("masked"), masks, x)
    opened = yield from open_to_all(seat.named("opened"), product)
    assert product.modulus is not None
    if any(gcd(value, product.modulus) != 1 for value in opened):
        raise IntegrityError("a number of a key ceremony that has to be a unit is none")
    return opened
