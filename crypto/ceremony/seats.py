"""A party's place in a key ceremony: who sits ahead and behind of it, and what it draws alone or with one peer.

The three sit in a circle: b is ahead of a, c of b, a of c. Each two have a seed that the third has not. Whatever is
expanded from it has a label, and a label is used once: two numbers under one mask would show their difference. So a
session that failed is never gone on with; the next one has other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, from_little_endian, gcd, random_below, random_bits, to_little_endian
from veilmatch.crypto.dealing import keystream
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.secret_access import SecretHolder

Residues = NDArray[np.uint64]

SEED_BYTES = 32
_AES_BLOCK = 16
#: A number modulo a prime below 2^16 is made of so many words of 64 bits: 2^-176 from uniform.
_RESIDUE_WORDS = 3
_ORDER_BYTES = 16


def ahead_of(party: Party) -> Party:
    """Return the next party of the circle."""
    return PARTIES[(PARTIES.index(party) + 1) % 3]


def behind_of(party: Party) -> Party:
    """Return the previous party of the circle."""
    return PARTIES[(PARTIES.index(party) + 2) % 3]


class Stream(SecretHolder):
    """Uniform numbers that two parties have in common, one after the other: the keystream of AES-256-CTR."""

    def __init__(self, key: bytes) -> None:
        """key: 32 bytes, of this stream alone."""
        self._key, self._used = key, 0

    def octets(self, count: int) -> bytes:
        """Return the next `count` bytes, from a whole block on."""
        length = -(-count // _AES_BLOCK) * _AES_BLOCK
        data = keystream(self._key, self._used, length)
        self._used += length
        return data[:count]

    def bits(self, count: int, bits: int) -> list[Integer]:
        """Return uniform integers of [0, 2^bits)."""
        size, mask = (bits + 7) // 8, (Integer(1) << bits) - 1
        return [x & mask for x in self._integers(count, size)]

    def below(self, count: int, bound: Integer) -> list[Integer]:
        """Return integers of [0, bound), each at most 2^-128 from uniform."""
        return [x % bound for x in self._integers(count, (bound.bit_length() + STATISTICAL_BITS + 7) // 8)]

    def modulo_mersenne(self, count: int, bits: int) -> list[Integer]:
        """Return integers of [0, 2^bits - 1), each at most 2^-bits from uniform: cheaper than `below`."""
        prime = (Integer(1) << bits) - 1
        return [x if x < prime else Integer(0) for x in self.bits(count, bits)]

    def residues(self, count: int, moduli: Residues) -> Residues:
        """Return uint64[count, moduli], below each of the moduli, each at most 2^-176 from uniform.

        moduli: in [1, 2^16].
        """
        words = np.frombuffer(self.octets(8 * _RESIDUE_WORDS * count * len(moduli)), dtype="<u8")
        parts = words.astype(np.uint64).reshape(_RESIDUE_WORDS, count, len(moduli))
        high = (np.uint64(2**63) % moduli * 2) % moduli  # 2^64 modulo each
        total: Residues = parts[0] % moduli
        for part in parts[1:]:
            total = (total * high + part % moduli) % moduli
        return total

    def order(self, count: int) -> list[int]:
        """Return a random order of 0 .. count - 1."""
        data = self.octets(_ORDER_BYTES * count)
        return sorted(range(count), key=lambda i: data[_ORDER_BYTES * i : _ORDER_BYTES * (i + 1)])

    def _integers(self, count: int, size: int) -> list[Integer]:
        data = self.octets(size * count)
        return [from_little_endian(data[i : i + size]) for i in range(0, size * count, size)]


class Randomness(SecretHolder):
    """All that a party draws in one session: streams from the seeds that it has with its peers, and its own."""

    def __init__(self, session: bytes, seeds: Mapping[Party, bytes]) -> None:
        """session: 32 bytes, of this session alone. seeds: 32 bytes with each peer."""
        self.session, self._seeds = session, dict(seeds)
        self._used: set[tuple[Party, str]] = set()

    def seed_digests(self) -> dict[Party, bytes]:
        """Return a digest of the seed with each peer, 32 bytes, which tells no more than whether two are the same."""
        return {peer: digest("ceremony seed shown", self.session, seed) for peer, seed in self._seeds.items()}

    def common(self, peer: Party, label: str) -> Stream:
        """Return the stream of this label that the peer has as well. Raises ProtocolError if it was used before."""
        if (peer, label) in self._used:
            raise ProtocolError("common randomness of a key ceremony would be used twice", got=label)
        self._used.add((peer, label))
        return Stream(digest("ceremony stream", self.session, self._seeds[peer], label))

    def bits(self, bits: int) -> Integer:
        """Return a uniform integer of [0, 2^bits) that nobody else has."""
        return random_bits(bits)

    def below(self, bound: Integer) -> Integer:
        """Return a uniform integer of [0, bound) that nobody else has."""
        return random_below(bound)

    def unit(self, modulus: Integer) -> Integer:
        """Return a uniform unit modulo `modulus` that nobody else has."""
        while gcd(x := random_below(modulus), modulus) != 1:
            pass
        return x

    def digest(self, label: str, *parts: bytes | int | str) -> bytes:
        """Return the digest of parts in this session."""
        return digest(f"ceremony {label}", self.session, *parts)


#: Hears that a part of a ceremony begins, and about how many rounds it takes.
Reached = Callable[[str, int], None]


def _nobody_hears(_part: str, _rounds: int) -> None:
    pass


class Seat(SecretHolder):
    """A party's place in one step. Every step gets a seat of a name of its own (`named`), for its labels.

    reached: for people who wait; it is told nothing but what is said here.
    """

    def __init__(self, party: Party, randomness: Randomness, name: str = "", reached: Reached = _nobody_hears) -> None:
        self.party, self.own = party, randomness
        self.ahead, self.behind = ahead_of(party), behind_of(party)
        self._name, self.reached = name, reached

    def named(self, name: object) -> Seat:
        """Return the same party's seat in a step of this one."""
        return Seat(self.party, self.own, f"{self._name}/{name}", self.reached)

    def common(self, peer: Party, name: str) -> Stream:
        """Return the stream of this step that `peer` has as well. Raises ProtocolError as `Randomness.common` does."""
        return self.own.common(peer, f"{self._name}/{name}")

    def digest(self, label: str, *parts: bytes | int | str) -> bytes:
        """Return the digest of parts in this step of this session: the same at all parties."""
        return self.own.digest(label, self._name, *parts)

    def octets(self, count: int) -> bytes:
        """Return random bytes that nobody else has."""
        return to_little_endian(self.own.bits(8 * count), count)
