"""What each holder must open in the check of a block, and the dealer's commitment to it.

The dealer knows both parts of a block, so it can tell either holder what the other one must open for a coin: it sends a
commitment, which the opening that arrives has to fit before anything is made from it. A holder cannot open anything
else, unless it finds a collision of SHA-256 or the dealer deviates as well.

What is sent is a salt and the values. The salt depends on the holder's seed and the coin, and no other holder can
compute it. This is what keeps commitments under *other* coins from telling anything: whoever asks for one has no
opening that goes with it. Values alone would not do. Once a pair has used most of a block in queries whose bits the
asking holder knows, because they are its own device's, what is left of the values under another coin can be few enough
bits to be guessed offline. docs/security-argument.md; docs/decisions/0014-dealt-blocks-are-checked.md.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing.blocks import Block, BlockName, Kind, block_seed
from veilmatch.crypto.dealing.sacrifice import BitBuckets, ProductBuckets
from veilmatch.crypto.dealing.tag_check import TaggedSacrifice
from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.errors import ProtocolError

Sacrifice = TaggedSacrifice | BitBuckets | ProductBuckets

SALT_BYTES = DIGEST_BYTES


def sacrifice_of(
    block: Block, kind: Kind, coin: bytes, modulus: Integer, gamma: Integer, *, is_plus: bool
) -> Sacrifice:
    """Return the computation of one holder for its part of a block. gamma: under which it verifies the other."""
    if kind == "triples":
        return TaggedSacrifice(block, coin, modulus, gamma, is_plus=is_plus)
    return (BitBuckets if kind == "bits" else ProductBuckets)(block, coin, is_plus=is_plus)


def salted(sacrifice: Sacrifice, seed: bytes, coin: bytes) -> bytes:
    """Return the opening as it is sent: salt and masked values. seed: of this holder's part of the block."""
    return digest("dealt opening salt", seed, coin) + sacrifice.opening


def commitment(name: BlockName, coin: bytes, opening: bytes, *, of_plus: bool) -> bytes:
    """Return the 32-byte commitment to a salted opening of the plus or minus holder for this block and coin."""
    return digest("dealt opening", "plus" if of_plus else "minus", *name_parts(name), coin, opening)


def commit_opening(dealing_seed: bytes, name: BlockName, coin: bytes, modulus: Integer, *, of_plus: bool) -> bytes:
    """Return the dealer's commitment to what the plus or minus holder must open. Deterministic in all arguments.

    coin: 32 bytes, or ProtocolError. What is opened depends neither on corrections nor on Gammas.
    """
    if len(coin) != DIGEST_BYTES:
        raise ProtocolError("a coin of the wrong size", got=len(coin), expected=DIGEST_BYTES)
    seed = block_seed(dealing_seed, name, "plus" if of_plus else "minus")
    sacrifice = sacrifice_of(Block(seed, b""), name.kind, coin, modulus, Integer(0), is_plus=of_plus)
    return commitment(name, coin, salted(sacrifice, seed, coin), of_plus=of_plus)


def name_parts(name: BlockName) -> tuple[bytes | int | str, ...]:
    """Return what is hashed of the name of a block."""
    return name.pair, name.stock, name.epoch, name.kind, name.number
