"""Tags of dealt triples mod N: what makes the a and b of each holder binding towards the other.

For both holders' a and b of every triple the dealer makes tag = key + Gamma * x mod N, Gamma being that of the holder
that verifies. Keys come from the verifier's seed of the block; tags are corrections at the holder that proves. So a
block of triples has two corrections of modulus length a triple for either holder (two tags), and a third one for the
plus holder (dealing.py): 1,152 and 768 bytes a triple at 3072 bits. key_safety.py says what they are for.

Everything here is told by the numbers of triples within a block, as in dealing.py.
"""

from __future__ import annotations

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing import BLOCK_UNITS, Block, BlockName, Kind
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.key_safety import TaggedTriple
from veilmatch.crypto.keys import DealerGammas
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: Of a triple: a and b.
_TAGGED = 2
_AES_BLOCK = 16
#: Extra bytes before a reduction mod N: distance 2^-128 from uniform.
_EXCESS_BYTES = 16


def deal_tagged(
    dealing_seed: bytes, name: BlockName, modulus: Integer, gammas: DealerGammas, *, for_plus: bool
) -> Block:
    """Return what `dealing.deal` returns, and behind its corrections the tags if these are triples."""
    block = dealing.deal(dealing_seed, name, modulus, for_plus=for_plus)
    if name.kind != "triples":
        return block
    verifier = dealing.deal(dealing_seed, name, modulus, for_plus=not for_plus)
    gamma = gammas.of_verifier(is_plus=not for_plus, access=SECRET_ACCESS)
    units, size = BLOCK_UNITS["triples"], _modulus_bytes(modulus)
    own = (x for triple in dealing.triples(block, 0, units, modulus) for x in (triple.a, triple.b))
    keys = _keys(verifier.seed, 0, units, modulus)
    tags = (to_bytes((key + gamma * x) % modulus, size) for key, x in zip(keys, own, strict=True))
    return Block(block.seed, block.corrections + b"".join(tags))


def check_tagged_block(block: Block, kind: Kind, modulus: Integer, *, is_plus: bool) -> Block:
    """Return the block if its sizes are right for its holder. Raises ProtocolError otherwise."""
    tags = _tag_bytes(modulus) if kind == "triples" else 0
    if len(block.corrections) < tags:
        raise ProtocolError("a dealt block without its tags", got=len(block.corrections), expected=f">= {tags}")
    dealing.check_block(_untagged(block, tags), kind, modulus, is_plus=is_plus)
    return block


def tagged_triples(block: Block, start: int, count: int, modulus: Integer) -> list[TaggedTriple]:
    """Return triples start..start+count of a block that `deal_tagged` made, with tags and keys."""
    size, all_tags = _modulus_bytes(modulus), _tag_bytes(modulus)
    tags_at = len(block.corrections) - all_tags
    plain = dealing.triples(_untagged(block, all_tags), start, count, modulus)
    first = tags_at + _TAGGED * size * start
    tags = [
        from_bytes(block.corrections[first + i * size : first + (i + 1) * size]) % modulus
        for i in range(_TAGGED * count)
    ]
    keys = _keys(block.seed, start, count, modulus)
    return [
        TaggedTriple(t.a, t.b, t.ab, *tags[_TAGGED * i : _TAGGED * (i + 1)], *keys[_TAGGED * i : _TAGGED * (i + 1)])
        for i, t in enumerate(plain)
    ]


def _untagged(block: Block, tag_bytes: int) -> Block:
    return Block(block.seed, block.corrections[: len(block.corrections) - tag_bytes])


def _keys(seed: bytes, start: int, count: int, modulus: Integer) -> list[Integer]:
    """Return the verifier's keys of the other holder's a and b, of triples start..start+count, from its seed."""
    size = -(-(_modulus_bytes(modulus) + _EXCESS_BYTES) // _AES_BLOCK) * _AES_BLOCK
    stream = dealing.keystream(digest("tag keys", seed), _TAGGED * size * start, _TAGGED * size * count)
    return [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]


def _tag_bytes(modulus: Integer) -> int:
    return BLOCK_UNITS["triples"] * _TAGGED * _modulus_bytes(modulus)


def _modulus_bytes(modulus: Integer) -> int:
    return (modulus.bit_length() + 7) // 8
