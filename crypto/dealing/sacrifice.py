"""What the two holders compute to check a dealt block, for each kind: an opening each, then a value each.

The values of both are equal if and only if the errors of the units that check each other are (mod N: up
to one factor r in 2^128). What is opened is masked by a unit that is used up by it. With `x, y, xy` for
the unit that is kept and `x', y', xy'` for the one that is sacrificed, and differences or XORs of both
holders' shares for all of them:

    mod N     open  rho = r*x - x', sigma = y - y';  0 = r*xy - xy' - r*sigma*x - rho*y + rho*sigma
    bits      open  d = x ^ x',  e = y ^ y';         0 = xy ^ xy' ^ (x' & e) ^ (d & y') ^ (d & e)
    mod 2^64  plus, who knows x, opens rho = x - x', minus, who knows y, opens sigma = y - y';
                                                     0 = xy - xy' - x'*sigma - rho*y' - rho*sigma

An opened unit is one that is checked against 0 = 0 * 0. Mod N, errors t and t' pass if r*t = t' mod N,
which one r below 2^128 fulfils at most, unless t is 0: N has no factor below 2^128.
Damgard, Pastro, Smart, Zakarias, CRYPTO 2012, figure 7; buckets.py for the others.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing.bits import bit_triples
from veilmatch.crypto.dealing.blocks import (
    BLOCK_UNITS,
    DEALT_UNITS,
    OPENED_WORDS,
    WORD_BYTES,
    Block,
    Words,
    keystream,
)
from veilmatch.crypto.dealing.buckets import arrangement, random_order
from veilmatch.crypto.dealing.products import products
from veilmatch.crypto.dealing.triples import modulus_bytes, triples
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.pair.conversion import Opening, join_openings, split_openings
from veilmatch.crypto.secret_access import SecretHolder

_FACTOR_BYTES = 16


class TripleSacrifice(SecretHolder):
    """Triples mod N: the second half of a block is sacrificed for the first."""

    def __init__(self, block: Block, coin: bytes, modulus: Integer, *, is_plus: bool) -> None:
        """block: without tags."""
        count, self._modulus, self._is_plus = BLOCK_UNITS["triples"], modulus, is_plus
        self._block = block
        dealt = triples(block, 0, 2 * count, modulus)
        self._kept, self._used = dealt[:count], dealt[count:]
        stream = keystream(coin, 0, _FACTOR_BYTES * count)
        self._factors = [from_bytes(stream[i : i + _FACTOR_BYTES]) for i in range(0, len(stream), _FACTOR_BYTES)]
        self._mine = [
            Opening((r * kept.a - used.a) % modulus, (kept.b - used.b) % modulus)
            for r, kept, used in zip(self._factors, self._kept, self._used, strict=True)
        ]
        self.opening = join_openings(self._mine, modulus)

    def values(self, theirs: bytes) -> bytes:
        """Return this holder's values. Raises ProtocolError for an opening of the wrong size or not reduced."""
        N, values = self._modulus, []
        received = split_openings(theirs, len(self._mine), N)
        sign = 1 if self._is_plus else -1
        for r, kept, used, x, y in zip(self._factors, self._kept, self._used, self._mine, received, strict=True):
            rho, sigma = sign * (x.d - y.d), sign * (x.e - y.e)
            value = r * (kept.ab - sigma * kept.a) - used.ab - rho * kept.b
            values.append(to_bytes((value + rho * sigma if self._is_plus else value) % N, modulus_bytes(N)))
        return b"".join(values)

    def kept(self, _order: bytes) -> bytes:
        """Return the seed, and at the plus holder the corrections of the first half: it stays as it was dealt."""
        corrections = self._block.corrections[: BLOCK_UNITS["triples"] * modulus_bytes(self._modulus)]
        return self._block.seed + corrections


class BitBuckets(SecretHolder):
    """Words of 64 bit triples each, in buckets."""

    def __init__(self, block: Block, coin: bytes, *, is_plus: bool) -> None:
        dealt = bit_triples(block, 0, DEALT_UNITS["bits"])
        self._a, self._b, self._c = (part.view(np.uint64) for part in (dealt.a, dealt.b, dealt.c))
        self._order, self._is_plus = arrangement(coin, BLOCK_UNITS["bits"] // WORD_BYTES), is_plus
        self._masked = np.stack([part[self._order.checked] for part in (self._a, self._b)])
        self._masked[:, OPENED_WORDS:] ^= np.stack([part[self._order.sacrificed] for part in (self._a, self._b)])
        self.opening = self._masked.tobytes()

    def values(self, theirs: bytes) -> bytes:
        """Return this holder's values. Raises ProtocolError for an opening of the wrong size."""
        _require_size(theirs, self._masked.nbytes)
        d, e = self._masked ^ np.frombuffer(theirs, dtype=np.uint64).reshape(self._masked.shape)
        used = self._order.sacrificed
        value = self._c[self._order.checked]
        value[OPENED_WORDS:] ^= self._c[used] ^ (self._a[used] & e[OPENED_WORDS:]) ^ (self._b[used] & d[OPENED_WORDS:])
        return (value ^ (d & e) if self._is_plus else value).tobytes()

    def kept(self, order: bytes) -> bytes:
        """Return the shares of the words that come out, in the order of 32 random bytes: all a, all b, all c."""
        kept = self._order.kept[random_order(order, len(self._order.kept))]
        return b"".join(part[kept].tobytes() for part in (self._a, self._b, self._c))


class ProductBuckets(SecretHolder):
    """Products mod 2^64, in buckets."""

    def __init__(self, block: Block, coin: bytes, *, is_plus: bool) -> None:
        self._shares = products(block, 0, DEALT_UNITS["products"])
        self._order, self._is_plus = arrangement(coin, BLOCK_UNITS["products"]), is_plus
        self._masked = self._difference(self._shares.factor)
        self.opening = self._masked.astype("<u8").tobytes()

    def values(self, theirs: bytes) -> bytes:
        """Return this holder's values. Raises ProtocolError for an opening of the wrong size."""
        _require_size(theirs, len(self._masked) * WORD_BYTES)
        received = np.frombuffer(theirs, dtype="<u8").astype(np.uint64)
        value = self._difference(self._shares.product)
        value[OPENED_WORDS:] -= self._shares.factor[self._order.sacrificed] * received[OPENED_WORDS:] * self._sign
        if self._is_plus:
            value -= self._masked * received
        return value.astype("<u8").tobytes()

    def kept(self, order: bytes) -> bytes:
        """Return the shares of the words that come out, in the order of 32 random bytes: all factors, all products."""
        kept = self._order.kept[random_order(order, len(self._order.kept))]
        return b"".join(part[kept].astype("<u8").tobytes() for part in (self._shares.factor, self._shares.product))

    @property
    def _sign(self) -> np.uint64:
        return np.uint64(1 if self._is_plus else (1 << 64) - 1)

    def _difference(self, words: Words) -> Words:
        """The checked words less those sacrificed for them."""
        difference = words[self._order.checked]
        difference[OPENED_WORDS:] -= words[self._order.sacrificed]
        return difference


def _require_size(opening: bytes, expected: int) -> None:
    if len(opening) != expected:
        raise ProtocolError("an opening of dealt units of the wrong size", got=len(opening), expected=expected)
