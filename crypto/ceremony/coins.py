"""Values that nobody chooses after having seen another's: commitments first, then what was committed to.

A coin is random for whoever contributes 32 random bytes of its own, and the same at all, as far as all were told the
same. Whoever does not like it can only break off. Blum, CRYPTO '81.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, from_bytes, jacobi
from veilmatch.crypto.ceremony.rounds import Round, Steps, nothing_to_say
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party

COIN_BYTES = 32
_SALT_BYTES = 32


def coin(seat: Seat) -> Steps[bytes]:
    """Return 32 bytes that none of the three could foresee or choose. Two rounds; raises as `committed` does."""
    parts = yield from committed(seat, PARTIES, seat.octets(COIN_BYTES))
    return seat.digest("coin", *(parts[party] for party in PARTIES))


def committed(seat: Seat, members: Sequence[Party], value: bytes) -> Steps[dict[Party, bytes]]:
    """Return the values of all members, of one length, fixed before any of them was shown. Two rounds.

    value: empty at a party that is not a member, which learns nothing. Among all three it is told, between two it is
    sent. Raises ProtocolError for a value that was not committed to.
    """
    if seat.party not in members:
        yield from nothing_to_say(2)
        return {}
    peers = [party for party in members if party != seat.party]
    shown = seat.octets(_SALT_BYTES) + value
    commitments = yield from _said(peers, _commitment(seat, seat.party, shown), DIGEST_BYTES)
    opened = yield from _said(peers, shown, len(shown))
    for peer in peers:
        if not hmac.compare_digest(_commitment(seat, peer, opened[peer]), commitments[peer]):
            raise ProtocolError("a value in a key ceremony that was not committed to", party=f"keyholder-{peer}")
    return {peer: data[_SALT_BYTES:] for peer, data in opened.items()} | {seat.party: value}


def public_residues(seed: bytes, count: int, modulus: Integer) -> list[Integer]:
    """Return `count` residues with Jacobi symbol 1 that a coin determines, uniform among these up to 2^-128."""
    found: list[Integer] = []
    number = 0
    while len(found) < count:
        data = hashlib.shake_256(seed + number.to_bytes(4, "big")).digest(modulus.bit_length() // 8 + 17)
        number += 1
        if jacobi(x := from_bytes(data) % modulus, modulus) == 1:
            found.append(x)
    return found


def _said(peers: Sequence[Party], data: bytes, size: int) -> Steps[dict[Party, bytes]]:
    sizes = dict.fromkeys(peers, size)
    if len(peers) == 2:
        received = yield Round(told=data, heard=sizes)
        return {peer: received.told[peer] for peer in peers}
    received = yield Round(dict.fromkeys(peers, data), sizes)
    return {peer: received.sent[peer] for peer in peers}


def _commitment(seat: Seat, party: Party, shown: bytes) -> bytes:
    return seat.digest("commitment", party, shown)
