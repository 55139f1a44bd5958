"""What the dealer does: one block from its name."""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing.bits import bit_corrections
from veilmatch.crypto.dealing.blocks import DEALT_UNITS, WORD_BYTES, Block, BlockName, Kind, block_seed
from veilmatch.crypto.dealing.products import product_corrections
from veilmatch.crypto.dealing.triples import modulus_bytes, triple_corrections
from veilmatch.crypto.errors import ProtocolError


def deal(dealing_seed: bytes, name: BlockName, modulus: Integer, *, for_plus: bool) -> Block:
    """Return the part of block `name` for one holder. Deterministic in all arguments."""
    plus, minus = (block_seed(dealing_seed, name, role) for role in ("plus", "minus"))
    if not for_plus:
        return Block(minus, b"")
    if name.kind == "bits":
        return Block(plus, bit_corrections(plus, minus))
    if name.kind == "products":
        return Block(plus, product_corrections(plus, minus))
    return Block(plus, triple_corrections(plus, minus, modulus))


def check_block(block: Block, kind: Kind, modulus: Integer, *, is_plus: bool) -> Block:
    """Return the block if its sizes are right for its holder. Raises ProtocolError otherwise."""
    unit = {"bits": 1, "products": WORD_BYTES, "triples": modulus_bytes(modulus)}[kind]
    expected = DEALT_UNITS[kind] * unit if is_plus else 0
    if len(block.seed) != 32 or len(block.corrections) != expected:
        raise ProtocolError("a dealt block of the wrong size", got=len(block.corrections), expected=expected)
    return block
