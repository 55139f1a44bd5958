"""Is N = P*Q, of which nobody has a factor, a product of two primes? In the exponent, by all three pairs.

For P = Q = 3 mod 4 and (g/N) = 1, g^((N + 1 - P - Q)/4) is 1 or -1 mod N. Of one pair, the holder learns
s = P + Q + 4R and shows g^((s - 2)/4), the masker, who drew R, shows g^R, and everybody compares
g^((N - 1)/4) * g^R with the holder's. Boneh, Franklin, J. ACM 2001, section 4.

A base accepts anything but a product of two primes with probability at most 1/4, given gcd(N, P + Q - 1) = 1 (Chuang,
Hsu, Lee, eprint 2024/2072): `REPETITIONS` of them accept with at most 2^-128. A holder or masker that deviates can
make its own two pairs accept, as it sees what the other shows; the third pair consists of honest parties.

What is shown tells nothing if N is accepted. s hides P + Q up to 2^-128. Given N, the holder computes what the masker
shows from s, and the masker what the holder shows from R, up to sign; the third could draw an R of its own.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, power, power_secret
from veilmatch.crypto.ceremony.coins import coin, public_residues
from veilmatch.crypto.ceremony.masking import masked, shown_by_two
from veilmatch.crypto.ceremony.rounds import Steps, together
from veilmatch.crypto.ceremony.seats import Seat, ahead_of
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Party

REPETITIONS = 64
#: What each pair shows: the holder's powers and the masker's.
_Shown = tuple[list[Integer], list[Integer]]


def require_two_primes(seat: Seat, N: Integer, total: Shared, factor_bits: int) -> Steps[None]:
    """Raise IntegrityError unless N is a product of two primes. Five rounds.

    total: P + Q as an integer, modulo something above 2^(factor_bits + 130); factor_bits: size of P and Q, which are
    3 mod 4. `inversion.require_units` of P + Q - 1 modulo N has to hold as well.
    """
    bases = public_residues((yield from coin(seat.named("bases"))), REPETITIONS, N)
    shown = yield from together([_loop(seat.named(holder), N, total, holder, bases, factor_bits) for holder in PARTIES])
    for place, base in enumerate(bases):
        known = power(base, (N - 1) // 4, N)
        for of_holder, of_masker in shown:
            if known * of_masker[place] % N not in (of_holder[place], N - of_holder[place]):
                raise IntegrityError("the modulus of a key ceremony is not a product of two primes")


def _loop(
    seat: Seat, N: Integer, total: Shared, holder: Party, bases: list[Integer], factor_bits: int
) -> Steps[_Shown]:
    bits = factor_bits + STATISTICAL_BITS - 1
    # Exponents of one length: the constant is at both, and cancels.
    top = Integer(1) << (bits + 1)
    mask = yield from masked(seat, total, holder, ahead_of(holder), lambda: 4 * seat.own.bits(bits))

    def powers() -> list[Integer]:
        exponent = (mask.mine[0] - 2) // 4 if seat.party == holder else mask.mine[0] // 4
        return power_secret(bases, top + exponent, N)

    return (yield from shown_by_two(seat, holder, powers, len(bases), N))
