"""What the two holders compute to check the tags of a dealt block of triples, beside the sacrifice.

A wrong tag would be found by the key-safety check of whatever session uses it, and name the other holder, who has dealt
nothing: a dealer could end the service of a pair by it. So tags are checked with the block, and then name the dealer.

With weights w from the coin, each holder opens one combination of all its numbers that have tags (a and b of the
triples that are kept), under a mask that it has a tag of as well and that is used for nothing else:

    X = sum w x + mask,    tag(X) = sum w tag(x) + tag(mask),    key(X) = sum w key(x) + key(mask)

If all tags are right, tag(X) at the holder that proves is key(X) + Gamma * X at the one that verifies, who has X from
the opening. Both are among the values that the holders compare, in either direction. Tags that are off by t pass if
sum w t = 0 mod N, which one w of 128 bits fulfils at most, whatever the others are, unless all t are 0: N has no factor
below 2^128. The dealer chose them before the coin.

X is uniform for whoever lacks the mask. What is compared tells a holder nothing: after a right opening of its own it
computes the same (check.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing.blocks import Block, keystream
from veilmatch.crypto.dealing.sacrifice import TripleSacrifice
from veilmatch.crypto.dealing.tags import keys_of, read_tags, split_tags, tagged_numbers, without_mask
from veilmatch.crypto.dealing.triples import modulus_bytes
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.secret_access import SecretHolder

_WEIGHT_BYTES = 16


class TagCheck(SecretHolder):
    """Tags of one holder's numbers, the last of which is the mask, and keys of as many of the other holder's."""

    def __init__(self, own: Sequence[Integer], coin: bytes, modulus: Integer) -> None:
        """own: this holder's numbers."""
        self._modulus, self._size = modulus, modulus_bytes(modulus)
        stream = keystream(digest("tag weights", coin), 0, _WEIGHT_BYTES * (len(own) - 1))
        weights = (from_bytes(stream[at : at + _WEIGHT_BYTES]) for at in range(0, len(stream), _WEIGHT_BYTES))
        self._weights = [*weights, Integer(1)]
        self.opening = to_bytes(self._combined(own), self._size)

    def values(
        self, theirs: bytes, tags: Sequence[Integer], keys: Sequence[Integer], gamma: Integer, *, is_plus: bool
    ) -> bytes:
        """Return the tags of both combinations. Raises ProtocolError for an opening of the wrong size."""
        if len(theirs) != self._size:
            raise ProtocolError("an opened combination of the wrong size", got=len(theirs), expected=self._size)
        own = self._combined(tags)
        other = (self._combined(keys) + gamma * from_bytes(theirs)) % self._modulus
        return b"".join(to_bytes(tag, self._size) for tag in ((own, other) if is_plus else (other, own)))

    def _combined(self, numbers: Sequence[Integer]) -> Integer:
        return sum((w * x for w, x in zip(self._weights, numbers, strict=True)), Integer(0)) % self._modulus


class TaggedSacrifice(SecretHolder):
    """Triples mod N with tags: the sacrifice of half of them, and the check of the tags of the others."""

    def __init__(self, block: Block, coin: bytes, modulus: Integer, gamma: Integer, *, is_plus: bool) -> None:
        """block: with tags; without anything but its seed at the dealer, which needs the opening alone."""
        plain, self._tags = split_tags(block, modulus) if block.corrections else (block, b"")
        self._triples = TripleSacrifice(plain, coin, modulus, is_plus=is_plus)
        self._check = TagCheck(tagged_numbers(block.seed, modulus), coin, modulus)
        self._seed, self._modulus, self._gamma, self._is_plus = block.seed, modulus, gamma, is_plus
        self.opening = self._triples.opening + self._check.opening

    def values(self, theirs: bytes) -> bytes:
        """Return this holder's values. Raises ProtocolError for an opening of the wrong size or not reduced."""
        at, tags = len(self._triples.opening), read_tags(self._tags, self._modulus)
        keys = keys_of(self._seed, 0, len(tags), self._modulus)
        values = self._check.values(theirs[at:], tags, keys, self._gamma, is_plus=self._is_plus)
        return self._triples.values(theirs[:at]) + values

    def kept(self, order: bytes) -> bytes:
        """Return what comes out of the sacrifice, and its tags."""
        return self._triples.kept(order) + without_mask(self._tags, self._modulus)
