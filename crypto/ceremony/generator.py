"""h = -y^(2P'Q') mod N, of order 2pq, for a y that nobody chose. In the exponent, by all three pairs.

Of one pair, the holder learns s = P'Q' + R and shows y^(2s), the masker, who drew R, shows y^(2R): the quotient is
y^(2P'Q'). The three pairs have to get the same h, and one of them is honest. s hides P'Q' up to 2^-128; given h, the
holder computes what the masker shows from s, the masker what the holder shows from R, and the third could draw an R
of its own.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, gcd, invert, jacobi, power_secret
from veilmatch.crypto.ceremony.coins import coin, public_residues
from veilmatch.crypto.ceremony.masking import masked, shown_by_two
from veilmatch.crypto.ceremony.rounds import Steps, together
from veilmatch.crypto.ceremony.seats import Seat, ahead_of
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Party


def make_generator(seat: Seat, N: Integer, cofactors: Shared, cofactor_bits: int) -> Steps[Integer]:
    """Return h. Five rounds. Raises IntegrityError if the pairs disagree, or if h has a smaller order.

    cofactors: P'Q' as an integer below 2^cofactor_bits, modulo something above 2^(cofactor_bits + 129).
    """
    (y,) = public_residues((yield from coin(seat.named("y"))), 1, N)
    made = yield from together(
        [_loop(seat.named(holder), N, cofactors, holder, y, cofactor_bits) for holder in PARTIES]
    )
    if len(set(made)) != 1:
        raise IntegrityError("the pairs of a key ceremony have different generators")
    h = made[0]
    # -h has an order that divides p modulo P and q modulo Q, and with this it is 1 modulo neither.
    if gcd(h * h - 1, N) != 1 or jacobi(h, N) != 1:
        raise IntegrityError("the generator of a key ceremony has too small an order")
    return h


def _loop(seat: Seat, N: Integer, cofactors: Shared, holder: Party, y: Integer, cofactor_bits: int) -> Steps[Integer]:
    bits = cofactor_bits + STATISTICAL_BITS
    # Exponents of one length: the constant is at both, and cancels.
    top = Integer(1) << (bits + 1)
    mask = yield from masked(seat, cofactors, holder, ahead_of(holder), lambda: seat.own.bits(bits))
    of_holder, of_masker = yield from shown_by_two(
        seat, holder, lambda: power_secret([y], 2 * (top + mask.mine[0]), N), 1, N
    )
    if gcd(of_masker[0], N) != 1:
        raise IntegrityError("a power in a key ceremony that is no unit")
    return -of_holder[0] * invert(of_masker[0], N) % N
