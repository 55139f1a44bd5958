"""Messages between the two key holders of a pair, and what a session asks of its surroundings.

Plain immutable values; `server/keyholder/wire.py` carries them over gRPC and `tests/simulator.py`
in memory. None of them has a representation that shows its content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind, Words
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.rings.grid import Grid
from veilmatch.crypto.secret_access import SecretHolder

# -- between the holders -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Hello(SecretHolder):
    """First message of both: what each believes the session is about, its nonce, its part of the mask, its conversions.

    The requests are those that the session was opened with, in that order; of the plus holder those that are here.
    context: digests of everything that must be the same at both (Request.context), of each request, joined.
    nonce: 32 bytes, the commitment to the holder's coins (key_safety.session_nonce).
    mask_secret: 32 bytes, for the peer alone (mask.py).
    triples_floor, bits_floor, products_floor: first stock index this holder may still use.
    triples_start, bits_start, products_start: where the plus holder has reserved what the session begins with, 0 where
    it needs none.
    ciphertexts: 32-byte digest of what each request begins with, joined. fingerprints: of each request a digest of
    H(role, nonce, index, g mod N) of its ciphertexts, with the nonce of the minus holder in its own, and the session id
    in those of the plus holder; joined.
    standing: of the plus holder, a byte of each request (`Standing`); the minus holder speaks first and has none.
    """

    context: bytes
    nonce: bytes
    mask_secret: bytes
    triples_floor: int
    bits_floor: int
    products_floor: int
    triples_start: int
    bits_start: int
    products_start: int
    ciphertexts: bytes
    fingerprints: bytes
    standing: bytes = b""

    @property
    def floors(self) -> dict[Kind, int]:
        """By kind of stock."""
        return {"triples": self.triples_floor, "bits": self.bits_floor, "products": self.products_floor}

    @property
    def starts(self) -> dict[Kind, int]:
        """By kind of stock."""
        return {"triples": self.triples_start, "bits": self.bits_start, "products": self.products_start}


class Standing(IntEnum):
    """What becomes of a request that a session was opened with: it is not here, goes on, or is not the same at both."""

    MISSING = 0
    GOES_ON = 1
    REFUSED = 2


@dataclass(frozen=True, slots=True, repr=False)
class Agreement(SecretHolder):
    """The same about what is converted later: digest, and H(role, session, index, g mod N) of each ciphertext."""

    ciphertexts: bytes
    fingerprints: bytes


@dataclass(frozen=True, slots=True)
class Allocation:
    """Plus holder to minus holder: the stock index from which the next randomness is taken."""

    kind: Kind
    start: int


@dataclass(frozen=True, slots=True, repr=False)
class Openings(SecretHolder):
    """d and e of every conversion, each of modulus length, joined."""

    values: bytes


@dataclass(frozen=True, slots=True, repr=False)
class LastMask(SecretHolder):
    """Minus holder to plus holder: the seed of a mask that both add before anything is cut out, 16 bytes (mask.py)."""

    seed: bytes


@dataclass(frozen=True, slots=True, repr=False)
class GateLayer(SecretHolder):
    """One holder's message of one layer of AND gates."""

    payload: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Coins(SecretHolder):
    """The 32 random bytes that this holder's nonce commits to: shown when no opening can be changed any more."""

    coins: bytes


@dataclass(frozen=True, slots=True, repr=False)
class SafetyProof(SecretHolder):
    """What this holder proves with that it opened true values in all conversions (key_safety.py), of modulus length."""

    proof: bytes


Message = Hello | Agreement | Allocation | Openings | LastMask | GateLayer | Coins | SafetyProof


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message in its session: the session id and its number: even from plus, odd from minus.

    The id is empty for the hello of the minus holder, which speaks first.
    """

    session_id: bytes
    number: int
    message: Message


# -- between a session and its surroundings ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Carry this to the peer; resume with None."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Receive:
    """Resume with the next Envelope of the peer."""


@dataclass(frozen=True, slots=True, repr=False)
class LocalWork(SecretHolder):
    """Resume with Scheme.local_shares of these ciphertexts under this holder's exponent."""

    ciphertexts: Sequence[Integer]


@dataclass(frozen=True, slots=True, repr=False)
class SafetyWork(SecretHolder):
    """Resume with the pair of LocalShares of c* = Scheme.combine(ciphertexts, exponents).

    Under this holder's two exponents of the key-safety check: as verifier, as prover.
    """

    ciphertexts: Sequence[Integer]
    exponents: Grid


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve stock durably; resume with a `Reserved`.

    start None (plus holder): any unused range from `floor` on. Otherwise (minus holder) exactly this one.
    """

    kind: Kind
    count: int
    floor: int
    start: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Reserved(SecretHolder):
    """A range marked used for ever.

    Its material: list[TaggedTriple] for "triples", BitTriples for "bits", Products for "products".
    """

    start: int
    material: object


@dataclass(frozen=True, slots=True)
class Composed:
    """The hello is done: which requests go on, by place, and why others do not; resume with None.

    Those in neither were not here. If none goes on, the session ends with the first refusal.
    """

    going: tuple[int, ...]
    refused: Mapping[int, VeilmatchError]


@dataclass(frozen=True, slots=True, repr=False)
class ProbeShare(SecretHolder):
    """Of a search, for this holder's matcher: e_*, int64[views * D] in [0, 2^k), one view of the probe after the other,
    and whether it is the plus share; resume with None."""

    session_id: bytes
    exponents: Array
    is_plus: bool


@dataclass(frozen=True, slots=True, repr=False)
class TemplateShare(SecretHolder):
    """For this holder's matcher: its shares of the n templates of the session; ends the session.

    lanes: uint64[n*D], as integers: what the plus holder has less what the minus holder has is coordinate + offset of
    a valid vector, or of zero. valid: uint8[m] of 0 or 1, XOR shares for the device of which of the m templates that a
    device encrypted are valid, in order; of an erasure nobody is told, and it is empty. Of an enrolment unless the face
    is known: whether all views are valid, and whether it is known.
    """

    session_id: bytes
    lanes: Words
    is_plus: bool
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AwaitResults:
    """Resume with the matcher's `Results`."""


@dataclass(frozen=True, slots=True, repr=False)
class Results(SecretHolder):
    """From this holder's matcher: V of every pack, and which slots are asked for, bool[packs, slots].

    Of several views all packs of the first one, then all of the next.
    """

    ciphertexts: Sequence[Integer]
    wanted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, repr=False)
class DecisionShare(SecretHolder):
    """For the device, through this holder's matcher: XOR shares of the answer bits.

    Of verifications that go together one each, in order; resume with None. The last one ends the session.
    bits: uint8[n] of 0 or 1. verify, known: n = 1. candidates: one per wanted slot, in the order of packs and slots.
    identify: the number of the best wanted slot in that order, from 1, or 0 for nobody; lowest bit first.
    valid: share of whether the probe is valid, 0 or 1; if it is not, every answer bit is 0.
    """

    session_id: bytes
    bits: NDArray[np.uint8]
    valid: int


Action = (
    Send
    | Receive
    | LocalWork
    | SafetyWork
    | Reserve
    | Composed
    | ProbeShare
    | TemplateShare
    | AwaitResults
    | DecisionShare
)
