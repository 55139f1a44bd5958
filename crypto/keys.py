"""Key shares: what each key holder holds, as handles that do not show their material.

Three key holders a, b, c form the pairs ab, ac and bc; the first letter of a pair is its plus
holder, the second its minus holder, and the third key holder is its dealer. DESIGN.md section 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, ParameterError
from veilmatch.crypto.paillier import PublicKey
from veilmatch.crypto.secret_access import SecretAccess, SecretHolder

Party = Literal["a", "b", "c"]
Pair = Literal["ab", "ac", "bc"]
PARTIES: tuple[Party, ...] = ("a", "b", "c")
PAIRS: tuple[Pair, ...] = ("ab", "ac", "bc")

#: Refreshes add |o| + 128 bits each time; 16 bits of room allow 2^16 of them at a fixed length.
REFRESH_BITS = 16
#: The first epoch is 1. After n refreshes a plus holder's o_* is below (n + 1) 2^(|o| + 128) + 2^|o|, which this keeps
#: below 2^(|o| + 144).
MAX_EPOCH = (1 << REFRESH_BITS) - 1
#: Size of the secrets from which a key holder derives what it deals, and the key of its own storage.
SEED_BYTES = 32

_HEADER = struct.Struct(">8s16s1sI")
_MAGIC = b"VMSHARE1"


def other_party(pair: Pair, party: Party) -> Party:
    """Return the other holder of `pair`. Raises ParameterError if `party` is not in it."""
    if party not in pair:
        raise ParameterError("not a holder of this pair", got=party, expected=pair)
    return next(p for p in PARTIES if p in pair and p != party)


def dealer_of(pair: Pair) -> Party:
    """Return the key holder outside `pair`, which deals its correlated randomness."""
    return next(p for p in PARTIES if p not in pair)


def pairs_of(party: Party) -> tuple[Pair, ...]:
    """Return the two pairs in which `party` is a holder."""
    return tuple(pair for pair in PAIRS if party in pair)


def exponent_bits(public_key: PublicKey) -> int:
    """Return the fixed length of a holder's exponent: |o| + 144 bits, and one constant bit above."""
    return public_key.randomiser_bits + REFRESH_BITS + 1


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
        size = share_bytes(public_key)
        return to_bytes(self._exponent, size[0]) + to_bytes(self._kappa, size[1])


def share_bytes(public_key: PublicKey) -> tuple[int, int]:
    """Return the sizes in bytes of o_* and kappa_* in an encoded share."""
    return (exponent_bits(public_key) + 7) // 8, (public_key.parameters.modulus_bits + 7) // 8


@dataclass(frozen=True, slots=True, repr=False)
class KeyHolderKey(SecretHolder):
    """All that one key holder keeps secret: its two pair shares and its two seeds.

    party: whose it is; key_id: 16 bytes, of the public key; epoch: grows with every refresh, from 1.
    """

    party: Party
    key_id: bytes
    epoch: int
    _shares: tuple[PairShare, PairShare]
    _dealing_seed: bytes
    _storage_seed: bytes

    def share(self, pair: Pair) -> PairShare:
        """Return the share for `pair`. Raises KeyMismatchError if this party is not a holder of it."""
        for share in self._shares:
            if share.pair == pair:
                return share
        raise KeyMismatchError("no share for this pair", got=pair, expected=", ".join(pairs_of(self.party)))

    def dealing_seed(self, access: SecretAccess) -> bytes:
        """Return the 32 bytes from which this party derives what it deals."""
        return self._dealing_seed

    def storage_seed(self, access: SecretAccess) -> bytes:
        """Return the 32 bytes from which the key of this party's own storage is derived."""
        return self._storage_seed

    def of_epoch(
        self, epoch: int, shares: tuple[PairShare, PairShare], dealing_seed: bytes, access: SecretAccess
    ) -> KeyHolderKey:
        """Return this party's key of another epoch: other shares, in the order of these, and another dealing seed."""
        return KeyHolderKey(self.party, self.key_id, epoch, shares, dealing_seed, self._storage_seed)

    def to_secret_bytes(self, public_key: PublicKey, access: SecretAccess) -> bytes:
        """Return the one encoding of this key, to be sealed. All fields have fixed sizes."""
        header = _HEADER.pack(_MAGIC, self.key_id, self.party.encode(), self.epoch)
        shares = b"".join(share.to_secret_bytes(public_key, access) for share in self._shares)
        return header + shares + self._dealing_seed + self._storage_seed

    @staticmethod
    def from_secret_bytes(data: bytes, public_key: PublicKey) -> KeyHolderKey:
        """Return the key that `data` holds.

        Raises KeyFileError if it is not exactly one encoding, KeyMismatchError if it belongs to another
        public key.
        """
        exponent_size, kappa_size = share_bytes(public_key)
        share_size = exponent_size + kappa_size
        expected = _HEADER.size + 2 * share_size + 2 * SEED_BYTES
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise KeyFileError("not a key holder's key", expected=f"{expected} bytes")
        _, key_id, letter, epoch = _HEADER.unpack_from(data)
        if key_id != public_key.key_id:
            raise KeyMismatchError(
                "the key share belongs to another public key", got=key_id.hex(), expected=public_key.key_id.hex()
            )
        if len(data) != expected:
            raise KeyFileError("key share of the wrong length", got=f"{len(data)} bytes", expected=f"{expected} bytes")
        party = next((p for p in PARTIES if p.encode() == letter), None)
        if party is None or epoch < 1:
            raise KeyFileError("key share of no known party or epoch", expected="party a, b or c; epoch from 1")
        shares = []
        for i, pair in enumerate(pairs_of(party)):
            at = _HEADER.size + i * share_size
            exponent = from_bytes(data[at : at + exponent_size])
            kappa = from_bytes(data[at + exponent_size : at + share_size])
            if exponent.bit_length() >= exponent_bits(public_key) or kappa >= public_key.modulus:
                raise KeyFileError("key share out of range", expected="o_* of |o| + 144 bits, kappa_* below N")
            shares.append(PairShare(pair, party, exponent, kappa))
        seeds = data[-2 * SEED_BYTES :]
        return KeyHolderKey(party, key_id, epoch, (shares[0], shares[1]), seeds[:SEED_BYTES], seeds[SEED_BYTES:])


# -- who sits where ----------------------------------------------------------------------------

Seat = Literal["a", "b"]
SEATS: tuple[Seat, ...] = ("a", "b")
#: For each pair, the key holder that serves matcher a and the one that serves matcher b. Key holder c
#: takes the seat of the one it stands in for.
_SEATING: dict[Pair, dict[Seat, Party]] = {
    "ab": {"a": "a", "b": "b"},
    "ac": {"a": "a", "b": "c"},
    "bc": {"a": "c", "b": "b"},
}


def holder_at(pair: Pair, seat: Seat) -> Party:
    """Return the key holder of `pair` that serves the matcher of `seat`."""
    return _SEATING[pair][seat]


def seat_of(pair: Pair, party: Party) -> Seat:
    """Return the seat whose matcher `party` serves in `pair`. Raises ParameterError if it is not in it."""
    other_party(pair, party)
    return next(seat for seat in SEATS if _SEATING[pair][seat] == party)


def pairs_without(party: Party) -> tuple[Pair, ...]:
    """Return the pairs that can serve while `party` is down."""
    return tuple(pair for pair in PAIRS if party not in pair)
