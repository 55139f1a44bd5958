"""The whole ceremony as one step: from seeds that each two parties have, to a public key and each party's own key.

1. p, q, P', Q' are searched for (search.py);
2. the three compare what they were told so far; N is opened, tested by all three pairs, h made (modulus.py);
3. shares of o and kappa, Gammas and tags are handed out, and each pair tests its own (key_shares.py);
4. the three compare all that they were told, and the public key.

Of three pairs one is honest. So what a pair checks, every pair checks, and everybody breaks off if one pair does.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from veilmatch.crypto.ceremony.joint.key_shares import Own, dealt_key
from veilmatch.crypto.ceremony.joint.modulus import make_modulus
from veilmatch.crypto.ceremony.joint.search import Factors, find_factors
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.rounds import Steps
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.session import Told, compared
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.keys.shares import SEED_BYTES, KeyHolderKey
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class JointKey(SecretHolder):
    """What a party has after a ceremony: the public key, and what its key holder keeps."""

    public_key: PublicKey
    key: KeyHolderKey


#: About, for people who wait.
_ROUNDS_OF_MODULUS, _ROUNDS_OF_SHARES = 30, 15


def ceremony_steps(seat: Seat, sizes: Sizes, told: Told) -> Steps[JointKey]:
    """Hold the ceremony. Raises an error of the tree for whatever fails; nothing of it may be used then."""
    factors = yield from find_factors(seat.named("search"), sizes)
    return (yield from key_steps(seat, factors, sizes, told))


def key_steps(seat: Seat, factors: Factors, sizes: Sizes, told: Told) -> Steps[JointKey]:
    """Make a key of shared factors."""
    seat.reached("modulus", _ROUNDS_OF_MODULUS)
    yield from compared(seat, told())
    public_key, shared = yield from make_modulus(seat.named("modulus"), factors, sizes)
    seat.reached("key shares", _ROUNDS_OF_SHARES)
    own = Own(secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SEED_BYTES))
    key = yield from dealt_key(seat, public_key, shared, own)
    yield from compared(seat, seat.digest("made", public_key.key_id, told()))
    return JointKey(public_key, key)
