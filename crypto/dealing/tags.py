"""Tags of dealt triples mod N: what makes the a and b of each holder binding towards the other.

For both holders' a and b of every triple that comes out of a block (check.py) the dealer makes tag = key + Gamma * x
mod N, Gamma being that of the holder that verifies. Keys come from the verifier's seed of the block; tags are
corrections at the holder that proves, behind those of triples.py. key_safety.py says what they are for.

Behind them comes the tag of one number more of each holder, which masks what it opens when the tags are checked
(tag_check.py) and is used for nothing else. It ends with the check.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing.blocks import AES_BLOCK_BYTES, BLOCK_UNITS, Block, BlockName, Kind, block_seed, keystream
from veilmatch.crypto.dealing.dealer import check_block, deal
from veilmatch.crypto.dealing.triples import EXCESS_BYTES, modulus_bytes, triples
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.shares import DealerGammas
from veilmatch.crypto.pair.key_safety import TaggedTriple
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: Of a triple: a and b.
_TAGGED = 2


def deal_tagged(
    dealing_seed: bytes, name: BlockName, modulus: Integer, gammas: DealerGammas, *, for_plus: bool
) -> Block:
    """Return what `deal` returns, and behind its corrections the tags if these are triples."""
    block = deal(dealing_seed, name, modulus, for_plus=for_plus)
    if name.kind != "triples":
        return block
    gamma = gammas.of_verifier(is_plus=not for_plus, access=SECRET_ACCESS)
    own = tagged_numbers(block.seed, modulus)
    keys = keys_of(block_seed(dealing_seed, name, "minus" if for_plus else "plus"), 0, len(own), modulus)
    size = modulus_bytes(modulus)
    tags = (to_bytes((key + gamma * x) % modulus, size) for key, x in zip(keys, own, strict=True))
    return Block(block.seed, block.corrections + b"".join(tags))


def check_tagged_block(block: Block, kind: Kind, modulus: Integer, *, is_plus: bool) -> Block:
    """Return the block if its sizes are right for its holder. Raises ProtocolError otherwise."""
    plain = split_tags(block, modulus)[0] if kind == "triples" else block
    check_block(plain, kind, modulus, is_plus=is_plus)
    return block


def split_tags(block: Block, modulus: Integer) -> tuple[Block, bytes]:
    """Return a dealt block of triples without its tags, and the tags. Raises ProtocolError if it has none."""
    at = _tags_at(block, _TAGGED * BLOCK_UNITS["triples"] + 1, modulus)
    return Block(block.seed, block.corrections[:at]), block.corrections[at:]


def without_mask(tags: bytes, modulus: Integer) -> bytes:
    """Return the tags of a dealt block that stay with it when it was checked."""
    return tags[: -modulus_bytes(modulus)]


def read_tags(tags: bytes, modulus: Integer) -> list[Integer]:
    """Return tags as numbers, reduced."""
    size = modulus_bytes(modulus)
    return [from_bytes(tags[at : at + size]) % modulus for at in range(0, len(tags), size)]


def tagged_triples(block: Block, start: int, count: int, modulus: Integer) -> list[TaggedTriple]:
    """Return triples start..start+count of those of a block, dealt or checked, that the check leaves."""
    size = modulus_bytes(modulus)
    # All else comes in twos: one more is the mask of a dealt block.
    dealt = len(block.corrections) // size % 2
    at = _tags_at(block, _TAGGED * BLOCK_UNITS["triples"] + dealt, modulus)
    # What is behind the corrections of the triples is not read, and a block is too long to be cut for a few of them.
    plain = block if at else Block(block.seed, b"")
    first = at + _TAGGED * size * start
    tags = read_tags(block.corrections[first : first + _TAGGED * size * count], modulus)
    keys = keys_of(block.seed, _TAGGED * start, _TAGGED * count, modulus)
    return [
        TaggedTriple(t.a, t.b, t.ab, *tags[_TAGGED * i : _TAGGED * (i + 1)], *keys[_TAGGED * i : _TAGGED * (i + 1)])
        for i, t in enumerate(triples(plain, start, count, modulus))
    ]


def tagged_numbers(seed: bytes, modulus: Integer) -> list[Integer]:
    """Return what a holder has tags of, from its seed of a block: a and b of the triples that are kept, the mask."""
    kept = triples(Block(seed, b""), 0, BLOCK_UNITS["triples"], modulus)
    mask = _residues(digest("tag mask", seed), 0, 1, modulus)
    return [*(x for triple in kept for x in (triple.a, triple.b)), *mask]


def keys_of(seed: bytes, start: int, count: int, modulus: Integer) -> list[Integer]:
    """Return the verifier's keys of the other holder's tags start..start+count, from its seed of a block."""
    return _residues(digest("tag keys", seed), start, count, modulus)


def _tags_at(block: Block, tags: int, modulus: Integer) -> int:
    """Return where the tags of a block of triples begin. Raises ProtocolError if it has none."""
    expected = tags * modulus_bytes(modulus)
    if len(block.corrections) < expected:
        raise ProtocolError("a dealt block without its tags", got=len(block.corrections), expected=f">= {expected}")
    return len(block.corrections) - expected


def _residues(seed: bytes, start: int, count: int, modulus: Integer) -> list[Integer]:
    size = -(-(modulus_bytes(modulus) + EXCESS_BYTES) // AES_BLOCK_BYTES) * AES_BLOCK_BYTES
    stream = keystream(seed, size * start, size * count)
    return [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]
