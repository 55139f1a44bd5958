"""Masks that both holders of a pair add to their shares: against the dealer, and against each other.

**The mask of a session** is common secret randomness that no dealer knows.

A share is uniform on its own, but not for whoever dealt the randomness that it was made with: with
w = ab + d*b + e*a, two such shares of known vectors are linear equations for o and kappa. So in their first
messages the holders send each other 32 fresh secret bytes over the pair's confidential channel, and both expand them
to the same streams. The same number is added mod N to both w of every conversion before anything is cut out of them,
mod 2^64 to both parts of what a matcher stores, and the same bits are XORed into both shares of whatever goes towards
a device. Differences stay; what leaves is uniform for the dealer, also for a dealer whose device sees both shares.

Both holders have to draw in the same order: every draw is another stream. docs/protocol.md.

**The last mask** of a conversion, or of templates, comes from a seed that the minus holder draws when it has received
the last message of the plus holder, so that under it none of its own shares lies where adding a value might carry
or wrap. It takes the first fresh seed that will do and sends it. If the mask were known before that message, the plus
holder could alter it so that the minus holder's share comes to lie at that edge for some of the values it hides and not
for others, and read from what is done about it a coordinate, or the key (tests/attacks/test_aimed_masks.py). A seed
tells of a vector, whatever was sent before, at most how likely one draw is not to do: docs/security-argument.md.
docs/parameters.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, from_bytes, random_bits, to_bytes
from veilmatch.crypto.dealing import Words, keystream
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.secret_access import SecretHolder

#: What each holder contributes.
MASK_SECRET_BYTES = 32
#: Of a last mask.
SEED_BYTES = 16
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
        return _residues(self._seed_of_next(), count, modulus)

    def words(self, count: int) -> Words:
        """Return `count` fresh uniform words of 64 bits, the same at both holders: uint64[count]."""
        return _words(self._seed_of_next(), count)

    def bits(self, count: int) -> NDArray[np.uint8]:
        """Return `count` fresh uniform bits, the same at both holders: uint8[count] of 0 or 1."""
        stream = np.frombuffer(keystream(self._seed_of_next(), 0, -(-count // 8)), dtype=np.uint8)
        return np.unpackbits(stream, count=count, bitorder="little")

    def _seed_of_next(self) -> bytes:
        seed, self._drawn = digest("session mask stream", self._seed, self._drawn), self._drawn + 1
        return seed


def last_masked(shares: Sequence[Integer], seed: bytes, modulus: Integer) -> list[Integer]:
    """Return shares mod N plus the last mask of `seed`."""
    masks = _residues(digest("last mask mod N", seed), len(shares), modulus)
    return [(share + mask) % modulus for share, mask in zip(shares, masks, strict=True)]


def last_masked_words(words: Words, seed: bytes) -> Words:
    """Return words, uint64[n], plus the last mask of `seed`."""
    return np.asarray(words + _words(digest("last mask of words", seed), len(words)), dtype=np.uint64)


def draw_seed(is_safe: Callable[[bytes], bool]) -> bytes:
    """Return a fresh seed under which the minus holder's shares are safe: the first that is."""
    while True:
        seed = to_bytes(random_bits(8 * SEED_BYTES), SEED_BYTES)
        if is_safe(seed):
            return seed


def _residues(seed: bytes, count: int, modulus: Integer) -> list[Integer]:
    size = (modulus.bit_length() + 7) // 8 + _EXCESS_BYTES
    stream = keystream(seed, 0, count * size)
    return [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]


def _words(seed: bytes, count: int) -> Words:
    return np.frombuffer(keystream(seed, 0, 8 * count), dtype="<u8").astype(np.uint64)
