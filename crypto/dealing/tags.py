"""Tags of dealt triples mod N: what makes the a and b of each holder binding towards the other.

For both holders' a and b of every triple that comes out of a block (check.py) the dealer makes tag = key + Gamma * x
mod N, Gamma being that of the holder that verifies. Keys come from the verifier's seed of the block; tags are
corrections at the holder that proves, behind those of triples.py. key_safety.py says what they are for.
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
    units, size = BLOCK_UNITS["triples"], modulus_bytes(modulus)
    own = (x for triple in triples(block, 0, units, modulus) for x in (triple.a, triple.b))
    keys = _keys(block_seed(dealing_seed, name, "minus" if for_plus else "plus"), 0, units, modulus)
    tags = (to_bytes((key + gamma * x) % modulus, size) for key, x in zip(keys, own, strict=True))
    return Block(block.seed, block.corrections + b"".join(tags))


def check_tagged_block(block: Block, kind: Kind, modulus: Integer, *, is_plus: bool) -> Block:
    """Return the block if its sizes are right for its holder. Raises ProtocolError otherwise."""
    plain = split_tags(block, modulus)[0] if kind == "triples" else block
    check_block(plain, kind, modulus, is_plus=is_plus)
    return block


def split_tags(block: Block, modulus: Integer) -> tuple[Block, bytes]:
    """Return a block of triples without its tags, and the tags. Raises ProtocolError if it has none."""
    at = _tags_at(block, modulus)
    return Block(block.seed, block.corrections[:at]), block.corrections[at:]


def tagged_triples(block: Block, start: int, count: int, modulus: Integer) -> list[TaggedTriple]:
    """Return triples start..start+count of a block with tags: they have one as far as they come out of the check."""
    size, at = modulus_bytes(modulus), _tags_at(block, modulus)
    # What is behind the corrections of the triples is not read, and a block is too long to be cut for a few of them.
    plain = block if at else Block(block.seed, b"")
    first = at + _TAGGED * size * start
    tags = [
        from_bytes(block.corrections[first + i * size : first + (i + 1) * size]) % modulus
        for i in range(_TAGGED * count)
    ]
    keys = _keys(block.seed, start, count, modulus)
    return [
        TaggedTriple(t.a, t.b, t.ab, *tags[_TAGGED * i : _TAGGED * (i + 1)], *keys[_TAGGED * i : _TAGGED * (i + 1)])
        for i, t in enumerate(triples(plain, start, count, modulus))
    ]


def _tags_at(block: Block, modulus: Integer) -> int:
    """Return where the tags of a block of triples begin. Raises ProtocolError if it has none."""
    expected = BLOCK_UNITS["triples"] * _TAGGED * modulus_bytes(modulus)
    if len(block.corrections) < expected:
        raise ProtocolError("a dealt block without its tags", got=len(block.corrections), expected=f">= {expected}")
    return len(block.corrections) - expected


def _keys(seed: bytes, start: int, count: int, modulus: Integer) -> list[Integer]:
    """Return the verifier's keys of the other holder's a and b, of triples start..start+count, from its seed."""
    size = -(-(modulus_bytes(modulus) + EXCESS_BYTES) // AES_BLOCK_BYTES) * AES_BLOCK_BYTES
    stream = keystream(digest("tag keys", seed), _TAGGED * size * start, _TAGGED * size * count)
    return [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]
