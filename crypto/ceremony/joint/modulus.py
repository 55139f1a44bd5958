"""From shared p, q, P', Q' to N, h and hs, and to shared o and kappa.

N is opened here, once, after it is clear that all three were told the same so far; nothing else is but what masks.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, power
from veilmatch.crypto.ceremony.biprimality import require_two_primes
from veilmatch.crypto.ceremony.generator import make_generator
from veilmatch.crypto.ceremony.inversion import inverses, require_units
from veilmatch.crypto.ceremony.joint.key_shares import Secrets
from veilmatch.crypto.ceremony.joint.search import Factors
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.replicated import multiply, open_to_all, random_numbers
from veilmatch.crypto.ceremony.rounds import Steps, both
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import IntegrityError


def make_modulus(seat: Seat, factors: Factors, sizes: Sizes) -> Steps[tuple[PublicKey, Secrets]]:
    """Return the public key of shared factors, and shared o and kappa. Some fifteen rounds.

    Raises IntegrityError if one of the checks fails that N, h and o have to pass, KeyFileError as `PublicKey.validate`.
    """
    (p, q), (p_cofactor, q_cofactor) = ([x.take([k]) for k in (0, 1)] for x in factors)
    room = sizes.room
    P, Q = yield from _primes(seat.named("P, Q"), (p, q), (p_cofactor, q_cofactor), room)
    product = yield from multiply(seat.named("N"), P, Q)
    (N,) = yield from open_to_all(seat.named("N opened"), product)
    # All else that a modulus has to be is checked with the generator, by `validate`.
    if N.bit_length() != sizes.parameters.modulus_bits or N % 2 == 0:
        raise IntegrityError("the modulus of a key ceremony has the wrong size")
    yield from require_two_primes(seat.named("two primes"), N, P.plus(Q), sizes.large_bits)
    P_mod_N, Q_mod_N = yield from _primes(seat.named("P, Q mod N"), (p, q), (p_cofactor, q_cofactor), N)
    sum_less_one = P_mod_N.plus(Q_mod_N).plus_public(-1)
    yield from require_units(seat.named("P+Q-1"), sum_less_one, random_numbers(seat.named("P+Q-1 mask"), 1, N))
    cofactors = yield from multiply(seat.named("P'Q'"), p_cofactor.modulo(room), q_cofactor.modulo(room))
    h = yield from make_generator(seat.named("h"), N, cofactors, sizes.cofactor_bits)
    public_key = PublicKey(sizes.parameters, N, power(h, N, N * N)).validate()
    return public_key, (yield from _secrets(seat, p, q, room, N))


def _primes(
    seat: Seat, small: tuple[Shared, Shared], cofactors: tuple[Shared, Shared], modulus: Integer
) -> Steps[tuple[Shared, Shared]]:
    """P = 2pP' + 1 and Q modulo a number. One round."""
    P, Q = yield from both(*(
        multiply(seat.named(name), x.modulo(modulus), y.modulo(modulus))
        for name, x, y in zip("PQ", small, cofactors, strict=True)
    ))  # fmt: skip
    return P.times(2).plus_public(1), Q.times(2).plus_public(1)


def _secrets(seat: Seat, p: Shared, q: Shared, room: Integer, N: Integer) -> Steps[Secrets]:
    o, o_mod_N = yield from both(
        multiply(seat.named("o"), p.modulo(room), q.modulo(room)),
        multiply(seat.named("o mod N"), p.modulo(N), q.modulo(N)),
    )
    masks = random_numbers(seat.named("kappa mask"), 1, N)
    return Secrets(o.times(2), (yield from inverses(seat.named("kappa"), o_mod_N.times(2), masks)))
