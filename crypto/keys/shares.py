"""Key shares: what each key holder holds, as handles that do not show their material.

Which organisations there are, and what they are to a pair, is in parties.py. docs/protocol.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, pairs_of
from veilmatch.crypto.secret_access import SecretAccess, SecretHolder

#: Refreshes add |o| + 128 bits (to t: 128 more) each time; 16 bits of room allow 2^16 of them at a fixed length.
REFRESH_BITS = 16
#: Size of Gamma, the key under which one holder of a pair authenticates the other's values (key_safety.py).
GAMMA_BITS = 128
#: So many epochs have the same dealt shares: the first one and its refreshes. After n refreshes a plus holder's o_* is
#: below (n + 1) 2^(|o| + 128) + 2^|o|, which this keeps below 2^(|o| + 144).
MAX_EPOCH = (1 << REFRESH_BITS) - 1
#: Size of the secrets from which a key holder derives what it deals, and the key of its own storage.
SEED_BYTES = 32

_HEADER = struct.Struct(">8s16s1sI")
_MAGIC = b"VMSHARE2"
#: Of a key whose shares were dealt in a later epoch than the first, which follows: in the place of `_MAGIC`.
_RENEWED_MAGIC = b"VMS3"
#: Of keys without the material of the key-safety check.
_OLD_MAGIC = b"VMSHARE1"


def exponent_bits(public_key: PublicKey) -> int:
    """Return the fixed length of a holder's exponent: |o| + 144 bits, and one constant bit above."""
    return public_key.randomiser_bits + REFRESH_BITS + 1


def safety_exponent_bits(public_key: PublicKey) -> int:
    """Return the fixed length of an exponent of the key-safety check: |o| + 272 bits, and one constant bit above."""
    return public_key.randomiser_bits + GAMMA_BITS + REFRESH_BITS + 1


@dataclass(frozen=True, slots=True, repr=False)
class PairShare(SecretHolder):
    """One holder's share of o and kappa for one pair.

    o_plus - o_minus = o over the integers and kappa_plus - kappa_minus = kappa = o^-1 mod N; each
    share alone is statistically independent of o.
    """

    pair: Pair
    party: Party
    _exponent: Integer
    _kappa: Integer

    @property
    def is_plus(self) -> bool:
        """Whether this is the plus holder."""
        return self.pair[0] == self.party

    def exponent(self, public_key: PublicKey, access: SecretAccess) -> Integer:
        """Return 2^(|o|+144) + o_*: always of `exponent_bits` bits, so that its length tells nothing.

        The constant is the same at both holders and cancels in z_plus - z_minus.
        """
        return (Integer(1) << (exponent_bits(public_key) - 1)) + self._exponent

    def stored_exponent(self, access: SecretAccess) -> Integer:
        """Return o_* itself, of at most |o| + 144 bits. Its length tells something: never an exponent."""
        return self._exponent

    def kappa(self, access: SecretAccess) -> Integer:
        """Return kappa_* mod N."""
        return self._kappa

    def to_secret_bytes(self, public_key: PublicKey, access: SecretAccess) -> bytes:
        """Return o_* and kappa_* in a fixed number of bytes."""
        return _encoded((self._exponent, self._kappa), share_bytes(public_key))


@dataclass(frozen=True, slots=True, repr=False)
class SafetyShare(SecretHolder):
    """One holder's part of the key-safety check of one pair (key_safety.py): what it verifies and proves with.

    Each of the two directions has a Gamma, which its verifier has and its prover has not, and of which
    t_plus - t_minus = Gamma * o over the integers: the larger share is the plus holder's, whoever verifies.
    Each share alone is statistically independent of o and Gamma. The prover's tag of its own kappa is
    tag = key + Gamma * kappa mod N, with a uniform key at the verifier.
    """

    pair: Pair
    party: Party
    _gamma: Integer
    _verifying: Integer
    _kappa_key: Integer
    _proving: Integer
    _kappa_tag: Integer

    def gamma(self, access: SecretAccess) -> Integer:
        """Return the 128-bit Gamma under which this holder verifies the other."""
        return self._gamma

    def kappa_key(self, access: SecretAccess) -> Integer:
        """Return the key mod N of the other holder's tag."""
        return self._kappa_key

    def kappa_tag(self, access: SecretAccess) -> Integer:
        """Return the tag mod N of this holder's kappa, under the other's Gamma."""
        return self._kappa_tag

    def stored_exponents(self, access: SecretAccess) -> tuple[Integer, Integer]:
        """Return t as verifier and t as prover themselves. Their length tells something: never exponents."""
        return self._verifying, self._proving

    def exponents(self, public_key: PublicKey, access: SecretAccess) -> tuple[Integer, Integer]:
        """Return t as verifier and t as prover plus 2^(|o|+272): always of `safety_exponent_bits` bits.

        The constant is the same at both holders and cancels like that of `PairShare.exponent`.
        """
        top = Integer(1) << (safety_exponent_bits(public_key) - 1)
        return top + self._verifying, top + self._proving

    def to_secret_bytes(self, public_key: PublicKey, access: SecretAccess) -> bytes:
        """Return Gamma, t and key as verifier, t and tag as prover in a fixed number of bytes."""
        fields = (self._gamma, self._verifying, self._kappa_key, self._proving, self._kappa_tag)
        return _encoded(fields, safety_bytes(public_key))


@dataclass(frozen=True, slots=True, repr=False)
class DealerGammas(SecretHolder):
    """The Gammas of the pair that a key holder deals to, with which it makes the tags of what it deals.

    _plus: under which the plus holder verifies the minus holder; _minus: the other way round.
    """

    _plus: Integer
    _minus: Integer

    def of_verifier(self, *, is_plus: bool, access: SecretAccess) -> Integer:
        """Return the 128-bit Gamma under which the plus or the minus holder verifies the other."""
        return self._plus if is_plus else self._minus

    def to_secret_bytes(self, access: SecretAccess) -> bytes:
        """Return both in a fixed number of bytes."""
        return _encoded((self._plus, self._minus), _DEALER_BYTES)


def share_bytes(public_key: PublicKey) -> tuple[int, int]:
    """Return the sizes in bytes of o_* and kappa_* in an encoded share."""
    return (exponent_bits(public_key) + 7) // 8, (public_key.parameters.modulus_bits + 7) // 8


def safety_bytes(public_key: PublicKey) -> tuple[int, int, int, int, int]:
    """Return the sizes in bytes of the parts of an encoded SafetyShare."""
    t, residue = (safety_exponent_bits(public_key) + 7) // 8, (public_key.parameters.modulus_bits + 7) // 8
    return GAMMA_BITS // 8, t, residue, t, residue


_DEALER_BYTES = (GAMMA_BITS // 8, GAMMA_BITS // 8)


def key_bytes(public_key: PublicKey) -> int:
    """Return the size in bytes of an encoded KeyHolderKey of this public key."""
    shares = 2 * sum(share_bytes(public_key)) + 2 * sum(safety_bytes(public_key))
    return _HEADER.size + shares + sum(_DEALER_BYTES) + 2 * SEED_BYTES


def _encoded(numbers: Sequence[Integer], sizes: Sequence[int]) -> bytes:
    return b"".join(to_bytes(number, size) for number, size in zip(numbers, sizes, strict=True))


def _decoded(data: bytes, at: int, sizes: Sequence[int], limits: Sequence[Integer]) -> list[Integer]:
    """Return the numbers from `at` on. Raises KeyFileError if one is not below its limit."""
    numbers = []
    for size, limit in zip(sizes, limits, strict=True):
        numbers.append(from_bytes(data[at : at + size]))
        at += size
        if numbers[-1] >= limit:
            raise KeyFileError("key share out of range", expected="o_* and t_* of a fixed length, the rest below N")
    return numbers


@dataclass(frozen=True, slots=True, repr=False)
class KeyHolderKey(SecretHolder):
    """All that one key holder keeps secret: what it has in its two pairs, the Gammas of the third, and its two seeds.

    party: whose it is; key_id: 16 bytes, of the public key; epoch: grows with every refresh, from 1. since: the epoch
    in which these shares were dealt; those after it are its refreshes.
    """

    party: Party
    key_id: bytes
    epoch: int
    _shares: tuple[PairShare, PairShare]
    _safety: tuple[SafetyShare, SafetyShare]
    _gammas: DealerGammas
    _dealing_seed: bytes
    _storage_seed: bytes
    since: int = 1

    def share(self, pair: Pair) -> PairShare:
        """Return the share for `pair`. Raises KeyMismatchError if this party is not a holder of it."""
        return self._shares[self._place(pair)]

    def safety(self, pair: Pair) -> SafetyShare:
        """Return the part of the key-safety check of `pair`. Raises KeyMismatchError as `share` does."""
        return self._safety[self._place(pair)]

    def dealer_gammas(self, access: SecretAccess) -> DealerGammas:
        """Return the Gammas of the pair that this party deals to."""
        return self._gammas

    def dealing_seed(self, access: SecretAccess) -> bytes:
        """Return the 32 bytes from which this party derives what it deals."""
        return self._dealing_seed

    def storage_seed(self, access: SecretAccess) -> bytes:
        """Return the 32 bytes from which the key of this party's own storage is derived."""
        return self._storage_seed

    def of_epoch(
        self,
        epoch: int,
        shares: tuple[PairShare, PairShare],
        safety: tuple[SafetyShare, SafetyShare],
        dealing_seed: bytes,
        access: SecretAccess,
    ) -> KeyHolderKey:
        """Return this party's key of another epoch: other shares, in the order of these, and another dealing seed."""
        return KeyHolderKey(
            self.party, self.key_id, epoch, shares, safety, self._gammas, dealing_seed, self._storage_seed, self.since
        )

    def to_secret_bytes(self, public_key: PublicKey, access: SecretAccess) -> bytes:
        """Return the one encoding of this key, to be sealed. All fields have fixed sizes."""
        magic = _MAGIC if self.since == 1 else _RENEWED_MAGIC + self.since.to_bytes(4, "big")
        header = _HEADER.pack(magic, self.key_id, self.party.encode(), self.epoch)
        shares = b"".join(share.to_secret_bytes(public_key, access) for share in (*self._shares, *self._safety))
        return header + shares + self._gammas.to_secret_bytes(access) + self._dealing_seed + self._storage_seed

    @staticmethod
    def from_secret_bytes(data: bytes, public_key: PublicKey) -> KeyHolderKey:
        """Return the key that `data` holds.

        Raises KeyFileError if it is not exactly one encoding, KeyMismatchError if it belongs to another
        public key.
        """
        share_sizes, safety_sizes = share_bytes(public_key), safety_bytes(public_key)
        safety_at = _HEADER.size + 2 * sum(share_sizes)
        gammas_at = safety_at + 2 * sum(safety_sizes)
        expected = key_bytes(public_key)
        if data.startswith(_OLD_MAGIC):
            raise KeyFileError(
                "the key of an older version, without the key-safety check: hold a new ceremony", expected="VMSHARE2"
            )
        if len(data) < _HEADER.size or not data.startswith((_MAGIC, _RENEWED_MAGIC)):
            raise KeyFileError("not a key holder's key", expected=f"{expected} bytes")
        magic, key_id, letter, epoch = _HEADER.unpack_from(data)
        since = 1 if magic == _MAGIC else int.from_bytes(magic[len(_RENEWED_MAGIC) :], "big")
        if key_id != public_key.key_id:
            raise KeyMismatchError(
                "the key share belongs to another public key", got=key_id.hex(), expected=public_key.key_id.hex()
            )
        if len(data) != expected:
            raise KeyFileError("key share of the wrong length", got=f"{len(data)} bytes", expected=f"{expected} bytes")
        party = next((p for p in PARTIES if p.encode() == letter), None)
        if party is None or not (since == 1 if magic == _MAGIC else since > 1) or epoch < since:
            raise KeyFileError("key share of no known party or epoch", expected="party a, b or c; epoch from 1")
        N, o, t, gamma = (
            public_key.modulus,
            Integer(1) << (exponent_bits(public_key) - 1),
            Integer(1) << (safety_exponent_bits(public_key) - 1),
            Integer(1) << GAMMA_BITS,
        )
        shares, safety = [], []
        for i, pair in enumerate(pairs_of(party)):
            exponent, kappa = _decoded(data, _HEADER.size + i * sum(share_sizes), share_sizes, (o, N))
            shares.append(PairShare(pair, party, exponent, kappa))
            parts = _decoded(data, safety_at + i * sum(safety_sizes), safety_sizes, (gamma, t, N, t, N))
            safety.append(SafetyShare(pair, party, *parts))
        gammas = DealerGammas(*_decoded(data, gammas_at, _DEALER_BYTES, (gamma, gamma)))
        seeds = data[-2 * SEED_BYTES :]
        return KeyHolderKey(
            party, key_id, epoch, (shares[0], shares[1]), (safety[0], safety[1]), gammas,
            seeds[:SEED_BYTES], seeds[SEED_BYTES:], since,
        )  # fmt: skip

    def _place(self, pair: Pair) -> int:
        for place, share in enumerate(self._shares):
            if share.pair == pair:
                return place
        raise KeyMismatchError("no share for this pair", got=pair, expected=", ".join(pairs_of(self.party)))
