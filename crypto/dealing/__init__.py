"""Correlated randomness from the dealer: Beaver triples mod N, bit triples and products, from seeds.

The third key holder deals to a pair ahead of time, in numbered blocks. Per block the minus holder
gets a seed, the plus holder another seed and the corrections that make the products right; both
expand their seed with AES-256-CTR at the index they need. The dealer derives both seeds from a
secret of its own and the name of the block, so it keeps no state and a block asked for twice is the
same. A block is used only after the pair has checked it (`BlockCheck`), which uses up part of it and asks the dealer
what each holder must open (`commit_opening`).
Beaver, CRYPTO 1991; GMW, STOC 1987; docs/protocol.md, docs/security-argument.md.

Single use is not decided here: see server/keyholder/stock/stock.py.
"""

from veilmatch.crypto.dealing.bits import BitTriples, bit_triples
from veilmatch.crypto.dealing.blocks import (
    BLOCK_UNITS,
    DEALT_UNITS,
    STOCK_KINDS,
    Block,
    BlockName,
    Bytes,
    Kind,
    Words,
    keystream,
)
from veilmatch.crypto.dealing.check import BlockCheck
from veilmatch.crypto.dealing.checked import CheckedBlock, Material, material
from veilmatch.crypto.dealing.dealer import check_block, deal
from veilmatch.crypto.dealing.opening import commit_opening
from veilmatch.crypto.dealing.products import Products, products
from veilmatch.crypto.dealing.tags import check_tagged_block, deal_tagged, tagged_triples
from veilmatch.crypto.dealing.triples import triples

__all__ = [
    "BLOCK_UNITS",
    "DEALT_UNITS",
    "STOCK_KINDS",
    "BitTriples",
    "Block",
    "BlockCheck",
    "BlockName",
    "Bytes",
    "CheckedBlock",
    "Kind",
    "Material",
    "Products",
    "Words",
    "bit_triples",
    "check_block",
    "check_tagged_block",
    "commit_opening",
    "deal",
    "deal_tagged",
    "keystream",
    "material",
    "products",
    "tagged_triples",
    "triples",
]
