"""Share conversion: from one ciphertext to additive shares of its plaintext.

Each holder of a pair computes alone z_* with z_plus - z_minus = o*m mod N (`Scheme.local_shares`).
One Beaver multiplication (CRYPTO 1991) by kappa = o^-1 then yields w_plus - w_minus = m mod N: the
two exchange one masked value each, and nothing is opened but sums with fresh uniform masks.
Orlandi, Scholl, Yakoubov, EUROCRYPT 2021, section 4; docs/protocol.md.

A triple is used for one conversion, ever: two openings with the same triple reveal the key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Triple(SecretHolder):
    """One holder's share of a random product mod N: the differences of both satisfy ab = a * b."""

    a: Integer
    b: Integer
    ab: Integer


@dataclass(frozen=True, slots=True, repr=False)
class Opening(SecretHolder):
    """What a holder sends for one conversion: d = z - a and e = kappa - b, both mod N.

    Confidential between the two holders: the dealer, who knows b, could compute kappa from e.
    """

    d: Integer
    e: Integer


def open_masked(z: Integer, kappa: Integer, triple: Triple, modulus: Integer) -> Opening:
    """Return this holder's opening for its z and kappa, masked by its share of a fresh triple."""
    return Opening((z - triple.a) % modulus, (kappa - triple.b) % modulus)


def output_share(triple: Triple, mine: Opening, theirs: Opening, modulus: Integer, *, is_plus: bool) -> Integer:
    """Return w_* mod N, with w_plus - w_minus = m mod N."""
    plus, minus = (mine, theirs) if is_plus else (theirs, mine)
    d, e = plus.d - minus.d, plus.e - minus.e
    w = triple.ab + d * triple.b + e * triple.a
    return (w + d * e if is_plus else w) % modulus


def join_openings(openings: Sequence[Opening], modulus: Integer) -> bytes:
    """Return d and e of every opening, each of modulus length, joined."""
    size = (modulus.bit_length() + 7) // 8
    return b"".join(to_bytes(x, size) for opening in openings for x in (opening.d, opening.e))


def split_openings(values: bytes, count: int, modulus: Integer) -> list[Opening]:
    """Return the `count` openings of a message. Raises ProtocolError for another size, or values not reduced."""
    size = (modulus.bit_length() + 7) // 8
    if len(values) != 2 * size * count:
        raise ProtocolError("openings of the wrong size", got=len(values), expected=2 * size * count)
    parts = [from_bytes(values[i : i + size]) for i in range(0, len(values), size)]
    if any(part >= modulus for part in parts):
        raise ProtocolError("an opening is not reduced mod N", expected="0 <= d, e < N")
    return [Opening(d, e) for d, e in zip(parts[0::2], parts[1::2], strict=True)]


def fingerprint_hashes(shares: Sequence[LocalShare], bound_to: bytes, role: str, modulus: Integer) -> bytes:
    """Return H(role, bound_to, index, g mod N) of every share, 32 bytes each, joined.

    bound_to: 32 bytes that are fresh for this session: its id, or the nonce of the holder that speaks first.

    The two holders exchange these before an opening is sent and compare each with what they
    compute for the other's role. g mod N itself is never sent: for a malformed c it would be a
    power oracle. ATTACKS: unequal ciphertexts, stale shares and bad randomisers all end here.
    """
    size = (modulus.bit_length() + 7) // 8
    prefix = b"veilmatch fingerprint v1\0" + role.encode() + b"\0" + bound_to
    return b"".join(
        hashlib.sha256(prefix + index.to_bytes(4, "big") + to_bytes(share.fingerprint, size)).digest()
        for index, share in enumerate(shares)
    )


def hashes_agree(received: bytes, expected: bytes) -> bool:
    """Return whether two lists of hashes are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(received, expected)
