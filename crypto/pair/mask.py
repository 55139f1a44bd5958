"""The mask of a session: common secret randomness of the two holders of a pair, which no dealer knows.

A share is uniform on its own, but not for whoever dealt the randomness that it was made with: with
w = ab + d*b + e*a, two such shares of known vectors are linear equations for o and kappa. So in their first
messages the holders send each other 32 fresh secret bytes over the pair's confidential channel, and both expand them
to the same streams. The same number is added mod N to both w of every conversion before anything is cut out of them,
mod 2^64 to both parts of what a matcher stores, and the same bits are XORed into both shares of whatever goes towards
a device. Differences stay; what leaves is uniform for the dealer, also for a dealer whose device sees both shares.

Both holders have to draw in the same order: every draw is another stream. DESIGN.md section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, from_bytes
from veilmatch.crypto.dealing import Words, keystream
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.secret_access import SecretHolder

#: What each holder contributes.
MASK_SECRET_BYTES = 32
#: Extra bytes before a reduction mod N: distance 2^-128 from uniform.
_EXCESS_BYTES = 16


class SessionMask(SecretHolder):
    """The streams of one session; see the module."""

    def __init__(self, session_id: bytes, plus_secret: bytes, minus_secret: bytes) -> None:
        """Each secret: 32 bytes. Raises ProtocolError for another size."""
        for secret in (plus_secret, minus_secret):
            if len(secret) != MASK_SECRET_BYTES:
                raise ProtocolError("a mask secret of the wrong size", got=len(secret), expected=MASK_SECRET_BYTES)
        self._seed = digest("session mask", session_id, plus_secret, minus_secret)
        self._drawn = 0

    def residues(self, count: int, modulus: Integer) -> list[Integer]:
        """Return `count` fresh uniform numbers mod N, the same at both holders."""
        size = (modulus.bit_length() + 7) // 8 + _EXCESS_BYTES
        stream = self._stream(count * size)
        return [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]

    def words(self, count: int) -> Words:
        """Return `count` fresh uniform words of 64 bits, the same at both holders: uint64[count]."""
        return np.frombuffer(self._stream(8 * count), dtype="<u8").astype(np.uint64)

    def bits(self, count: int) -> NDArray[np.uint8]:
        """Return `count` fresh uniform bits, the same at both holders: uint8[count] of 0 or 1."""
        stream = np.frombuffer(self._stream(-(-count // 8)), dtype=np.uint8)
        return np.unpackbits(stream, count=count, bitorder="little")

    def _stream(self, length: int) -> bytes:
        seed, self._drawn = digest("session mask stream", self._seed, self._drawn), self._drawn + 1
        return keystream(seed, 0, length)
