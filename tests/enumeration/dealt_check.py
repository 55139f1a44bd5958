"""The check of a dealt block: what each holder learns of what the other one keeps.

The real checks (dealing/check.py) run on blocks of one unit: one kept triple mod N and one sacrificed for it, or
one bucket of bit triples or products. Secrets are what the other holder keeps; everything sacrificed is enumerated.
Bit triples are checked 64 to a word, so that the 64 bits of a word are the 64 assignments of what three sacrificed
triples have. The dealer sees nothing of a check, and knows all of it.

Then each holder sends a hash of its values, its proof. The values of an honest holder are those that the other one
has computed, if that one has opened what it should. If it has not, they are not, and whoever tries all inputs of the
hash finds them. So the dealer commits to what each must open, and who finds something else sends no proof; `believing`
is a dealer that commits to whatever was opened, as if there were none. What the hash is made from counts as seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from unittest.mock import patch

import numpy as np

from tests.enumeration.steps import MINUS, PLUS
from tests.enumeration.views import MINUS_VIEW, PLUS_VIEW, Case, Codes, Views, assignments, joined
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, DEALT_UNITS, BitTriples, Block, Kind, Products, opening, sacrifice
from veilmatch.crypto.dealing.blocks import BUCKET_WORDS, OPENED_WORDS, WORD_BYTES, BlockName
from veilmatch.crypto.dealing.buckets import Arrangement, arrangement
from veilmatch.crypto.dealing.check import BlockCheck
from veilmatch.crypto.dealing.opening import SALT_BYTES, commitment, name_parts
from veilmatch.crypto.dealing.sacrifice import TripleSacrifice
from veilmatch.crypto.dealing.tag_check import TagCheck
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import DealtOpeningError
from veilmatch.crypto.pair.conversion import Opening, Triple, join_openings, split_openings

NONCES = bytes(range(32)), bytes(range(32, 64))
NO_BLOCK = Block(bytes(32), b"")
#: N of triples, and 2^k of products.
N, SIZE = 15, 4
USED = BUCKET_WORDS - 1
#: Changes the opening of a deviating holder.
Alter = Callable[[bytes], bytes]


@contextmanager
def blocks_of(kind: Kind, units: int, dealt: int) -> Iterator[None]:
    """Set how many units a block gives, and how many are dealt for it."""
    with patch.dict(BLOCK_UNITS, {kind: units}), patch.dict(DEALT_UNITS, {kind: dealt}):
        yield


@contextmanager
def expanding_to(function: str, *material: object) -> Iterator[None]:
    """Let the next blocks be expanded to this material, one after the other."""
    left = list(material)
    with patch.object(sacrifice, function, lambda *_: left.pop(0)):
        yield


def _without_tags(block: Block, coin: bytes, modulus: Integer, _gamma: Integer, *, is_plus: bool) -> TripleSacrifice:
    """The check of tags uses a number of its own: it is enumerated by itself."""
    return TripleSacrifice(block, coin, modulus, is_plus=is_plus)


@dataclass
class Check:
    """Both holders' parts of a check: of the one whose view it is, and of the other one."""

    name: BlockName
    mine: BlockCheck
    other: BlockCheck
    mine_is_plus: bool

    @staticmethod
    def of(holder: int, kind: Kind) -> Check:
        """Checks of the next blocks that are expanded, that of `holder` first."""
        name = BlockName("ab", bytes(32), 1, kind, 0)
        with patch.object(opening, "TaggedSacrifice", _without_tags):
            mine, other = (
                BlockCheck(name, NO_BLOCK, NONCES, Integer(N), Integer(0), is_plus=plus)
                for plus in (holder == PLUS, holder != PLUS)
            )
        return Check(name, mine, other, holder == PLUS)

    def seen(self, alter: Alter | None, *, believing: bool) -> tuple[bytes, bytes]:
        """The other's opening, and what its proof is a hash of, or nothing if it sends none."""
        salt, values = self.mine.opening[:SALT_BYTES], self.mine.opening[SALT_BYTES:]
        sent = salt + (values if alter is None else alter(values))
        try:
            proof = self.other.proof(sent, self._committed(sent if believing else self.mine.opening, self.mine_is_plus))
        except DealtOpeningError:
            assert self.other._values is None
        if alter is None:
            self.mine.proof(self.other.opening, self._committed(self.other.opening, not self.mine_is_plus))
            assert self.mine._hash("minus" if self.mine_is_plus else "plus") == proof, "a right block passes"
        return self.other.opening[SALT_BYTES:], self.other._values or b""

    def _committed(self, opening: bytes, of_plus: bool) -> bytes:
        return commitment(self.name, self.mine.coin, opening, of_plus=of_plus)


def arranged(kind: Kind) -> Arrangement:
    """Where the coin of the check puts the words of one bucket."""
    return arrangement(digest("dealt coin", *name_parts(BlockName("ab", bytes(32), 1, kind, 0)), *NONCES), 1)


# -- triples mod N -------------------------------------------------------------------------------


def triples_seen_by(holder: int, alter: Alter | None = None, *, believing: bool = False, masked: bool = True) -> Views:
    """What a holder sees of the check of one triple, for each a, b that the other keeps. masked: by another."""
    mine = Triple(*map(Integer, (4, 7, 11))), Triple(*map(Integer, (9, 2, 5)))
    seen = []
    for kept in product(range(0, N, 2), range(0, N, 3)):
        row = []
        for used in product(range(N), repeat=2):
            theirs = [_fitting(x, ab, holder) for x, ab in zip(mine, (kept, used if masked else (0, 0)), strict=True)]
            with blocks_of("triples", 1, 2), expanding_to("triples", mine, theirs):
                row.append(Check.of(holder, "triples").seen(alter, believing=believing))
        seen.append(row)
    return Views.of(seen)


def _fitting(mine: Triple, other: tuple[int, int], holder: int) -> Triple:
    a, b = map(Integer, other)
    sign = 1 if holder == PLUS else -1
    return Triple(a, b, (mine.ab - sign * (mine.a - a) * (mine.b - b)) % N)


def one_more_mod_n(opening: bytes) -> bytes:
    """A holder that opens one more than rho."""
    ((d, e),) = ((x.d, x.e) for x in split_openings(opening, 1, Integer(N)))
    return join_openings([Opening((d + 1) % N, e)], Integer(N))


# -- tags ----------------------------------------------------------------------------------------


def tags_seen_by(*, masked: bool = True) -> Views:
    """The combination that a holder opens so that its tags are checked, for each a, b that it keeps."""
    coin = digest("dealt coin", *name_parts(BlockName("ab", bytes(32), 1, "triples", 0)), *NONCES)
    return Views.of([
        [TagCheck([*map(Integer, kept), Integer(mask)], coin, Integer(N)).opening for mask in range(N if masked else 1)]
        for kept in product(range(N), repeat=2)
    ])  # fmt: skip


# -- bit triples ---------------------------------------------------------------------------------


def bits_seen_by(holder: int, alter: Alter | None = None, *, believing: bool = False) -> Views:
    """The same of one bucket of bit triples, for each a, b that the other keeps."""
    v = assignments({"a": 2**USED, "b": 2**USED})
    rng = np.random.default_rng(3)
    words = BUCKET_WORDS + OPENED_WORDS
    mine = [np.repeat(rng.integers(0, 2, (words, 1)), 64, axis=1) for _ in range(3)]
    codes = []
    for kept in product((0, 1), repeat=2):
        # Where the order of the coin puts things: rows of words, of which each column is an assignment.
        order = arranged("bits")
        theirs = [np.zeros((words, 64), dtype=np.int64) for _ in range(2)]
        for part, keeps, name in zip(theirs, kept, "ab", strict=True):
            part[order.kept] = keeps
            part[order.sacrificed] = v[name] >> np.arange(USED)[:, None] & 1
        c = mine[2] ^ ((mine[0] ^ theirs[0]) & (mine[1] ^ theirs[1]))
        with (
            blocks_of("bits", WORD_BYTES, words * WORD_BYTES),
            expanding_to("bit_triples", _bit_triples(mine), _bit_triples([*theirs, c])),
        ):
            opening, values = Check.of(holder, "bits").seen(alter, believing=believing)
        codes.append(joined(*((row, 2) for part in (opening, values) for row in _columns(part))))
    return Views(np.array(codes))


def _bit_triples(parts: list[Codes]) -> BitTriples:
    return BitTriples(*(np.packbits(part.astype(np.uint8), axis=1, bitorder="little").ravel() for part in parts))


def _columns(data: bytes) -> Codes:
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, WORD_BYTES)
    return np.unpackbits(rows, axis=1, bitorder="little").astype(np.int64)


def all_flipped(opening: bytes) -> bytes:
    """A holder that opens every bit wrong."""
    return bytes(x ^ 0xFF for x in opening)


# -- products ------------------------------------------------------------------------------------


def products_seen_by(holder: int, alter: Alter | None = None, *, believing: bool = False) -> Views:
    """The same of one bucket of products mod 4, for each factor that the other keeps; see multiplication.py."""
    rng = np.random.default_rng(4)
    words = BUCKET_WORDS + OPENED_WORDS
    factor, share = (rng.integers(0, SIZE, words).astype(np.uint64) for _ in range(2))
    order = arranged("products")
    seen = []
    for kept in range(SIZE):
        row = []
        for used in product(range(SIZE), repeat=USED):
            theirs = np.ones(words, dtype=np.uint64)
            theirs[order.kept], theirs[order.sacrificed] = kept, used
            # product_plus - product_minus = factor_plus * factor_minus
            rest = share - factor * theirs if holder == PLUS else share + factor * theirs
            with (
                blocks_of("products", 1, words),
                expanding_to("products", Products(factor, share), Products(theirs, rest)),
            ):
                parts = Check.of(holder, "products").seen(alter, believing=believing)
            row.append(tuple((np.frombuffer(part, dtype="<u8") % np.uint64(SIZE)).tobytes() for part in parts))
        seen.append(row)
    return Views.of(seen)


def one_more(opening: bytes) -> bytes:
    """A holder that opens one more than it should, everywhere."""
    return (np.frombuffer(opening, dtype="<u8") + np.uint64(1)).tobytes()


KINDS: dict[str, tuple[Callable[..., Views], Alter]] = {
    "triple, N = 15": (triples_seen_by, one_more_mod_n),
    "bit triples": (bits_seen_by, all_flipped),
    "products, mod 4": (products_seen_by, one_more),
}


def cases() -> Iterator[Case]:
    """Both holders, for each kind of block; the check of tags is the same for both."""
    for what, (seen_by, alter) in KINDS.items():
        for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
            yield Case(f"check of a block, {what}", name, "one value of its part", lambda f=seen_by, h=holder: f(h))
            yield Case(f"check of a block, {what}", name, "alters what it opens; the dealer commits to it",
                       lambda f=seen_by, h=holder, a=alter: f(h, a))  # fmt: skip
    both = f"{PLUS_VIEW}; {MINUS_VIEW}"
    yield Case("check of the tags of a block, N = 15", both, "any weights and tags", tags_seen_by)
