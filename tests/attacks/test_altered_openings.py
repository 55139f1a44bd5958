"""A holder alters what it opens in the check of a dealt block: bits of its peer's triples, hence of honest queries.

What the peer computes from an altered opening differs by bits of the peer's own triples. It sends a hash of that.
Whoever altered the opening guesses the bits, finds them by the hash, and sends the hash that fits: the block is kept,
and nobody notices. No device is needed. The dealer's commitment to every opening (crypto/dealing/opening.py) ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.crypto.toys import TOY, keys_of
from tests.hostile.alone import faces
from tests.keyholder.dealers import MODULUS, NAME, PAIR, Holder, MemoryLink, ending_at, linked
from tests.simulator import MINUS, PLUS, PairSimulator, SimulatedGallery, SimulatedStock
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockCheck, BlockName, CheckedBlock, Kind, deal_tagged, material
from veilmatch.crypto.dealing import check as check_module
from veilmatch.crypto.dealing import opening as opening_module
from veilmatch.crypto.dealing.blocks import OPENED_WORDS
from veilmatch.crypto.dealing.buckets import arrangement, random_order
from veilmatch.crypto.dealing.opening import SALT_BYTES, commit_opening, commitment
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import DealtOpeningError, UnavailableError, VeilmatchError
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.pair.messages import GateLayer, Reserve, Reserved
from veilmatch.protos.v1 import keyholder_pb2 as pb

BITS = 8
#: Bits and products have no tags.
NO_GAMMA = Integer(0)


def take_opening_check_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks of blocks in which what the peer opens is believed, as if the dealer had not been asked."""

    def believing(self: BlockCheck, opening: bytes, _committed: bytes) -> bytes:
        self._values = self._sacrifice.values(opening[SALT_BYTES:])
        return self._hash("plus" if self._is_plus else "minus")

    monkeypatch.setattr(check_module.BlockCheck, "proof", believing)


@dataclass
class Altered:
    """An opening that differs from the right one at one word of a bucket, and what its peer may compute from it.

    place: where the word that comes out lies in the stock. values: every guess of the peer's bits, with the values that
    go with it.
    """

    kind: Kind
    check: BlockCheck
    is_plus: bool
    at: int = field(init=False)

    def __post_init__(self) -> None:
        self.at = len(self.check._sacrifice._order.checked) - 3  # the last bucket

    @property
    def place(self) -> int:
        kept = self.check._sacrifice._order.kept
        (place,) = np.flatnonzero(random_order(self.check._order, len(kept)) == len(kept) - 1)
        return int(place)

    @property
    def opening(self) -> bytes:
        words = np.frombuffer(self.check.opening[SALT_BYTES:], dtype="<u8").copy()
        if self.kind == "bits":
            words.reshape(2, -1)[1, self.at] ^= np.uint64((1 << BITS) - 1)  # e: meets a of the peer
        else:
            words[self.at] += np.uint64(1 << (64 - BITS))  # meets the low bits of the peer's factor
        return self.check.opening[:SALT_BYTES] + words.tobytes()

    def values(self, theirs: bytes) -> Iterator[tuple[int, bytes]]:
        """Every guess of the low bits of the peer's a, or factor, of the word that is sacrificed."""
        right = np.frombuffer(self.check._sacrifice.values(theirs[SALT_BYTES:]), dtype="<u8")
        here, mine, other = (
            int(words[self.at])
            for words in (right, *(np.frombuffer(x[SALT_BYTES:], dtype="<u8") for x in (self.check.opening, theirs)))
        )
        for guess in range(1 << BITS):
            words = right.copy()
            if self.kind == "products":
                words[self.at] = (here + (guess << (64 - BITS))) % (1 << 64)
            else:
                # A plus holder that was sent another e adds d AND e, too: d is known to both.
                words[self.at] = here ^ guess ^ (0 if self.is_plus else (mine ^ other) % (1 << BITS))
            yield guess, words.tobytes()

    def kept_bits(self, sacrificed: int, theirs: bytes) -> int:
        """The low bits of the peer's word that comes out, from those of the one that is sacrificed."""
        opened = int(np.frombuffer(theirs[SALT_BYTES:], dtype="<u8")[self.at])
        return (opened ^ sacrificed if self.kind == "bits" else opened + sacrificed) % (1 << BITS)

    def proof(self, role: str, values: bytes) -> bytes:
        return digest("dealt check", role, self.check.coin, values)


def low_bits(block: CheckedBlock, place: int) -> int:
    """The low bits of a, or of the factor, of one word of a block."""
    return int(np.frombuffer(block.content, dtype="<u8")[place]) % (1 << BITS)


# -- a plus holder ------------------------------------------------------------------------------------


@asynccontextmanager
async def asked(minus: Holder, kind: Kind) -> AsyncIterator[MemoryLink]:
    """The stream of a plus holder that has asked for a check."""
    mine, theirs = linked()
    serving = asyncio.create_task(ending_at(mine, minus.stock.check_for_peer(theirs, kind, 0, 0)))
    try:
        yield mine
    finally:
        theirs.inbox.put_nowait(UnavailableError("the peer has left", party="keyholder-a"))
        await serving


async def read_as_plus(minus: Holder, kind: Kind) -> tuple[int, int, int]:
    """Return the number of a block, a place in it, and what the plus holder has read there of the minus holder's part.

    Raises what the minus holder ends the check with.
    """
    async with asked(minus, kind) as link:
        number = (await link.receive()).number
        await link.send(pb.CheckMessage(ready=True))
        nonces = bytes(32), (await link.receive()).nonce
        name = BlockName(PAIR, NAME, 1, kind, number)
        part = await minus.other.dealer.fetch(name)
        altered = Altered(kind, BlockCheck(name, part, nonces, MODULUS, NO_GAMMA, is_plus=True), True)
        await link.send(pb.CheckMessage(nonce=nonces[0]))
        await link.send(pb.CheckMessage(opening=altered.opening))
        theirs, proof = (await link.receive()).opening, (await link.receive()).proof
        guess, values = next((g, v) for g, v in altered.values(theirs) if altered.proof("minus", v) == proof)
        await link.send(pb.CheckMessage(proof=altered.proof("plus", values)))
        assert (await link.receive()).stored
    return number, altered.place, altered.kept_bits(guess, theirs)


@pytest.fixture
def minus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "minus", is_plus=False)


@pytest.mark.parametrize("kind", ["bits", "products"])
async def test_without_the_commitment_a_plus_holder_reads_bits_of_blocks_that_are_kept(
    kind: Kind, minus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_opening_check_out(monkeypatch)
    for _ in range(3):
        number, place, read = await read_as_plus(minus, kind)
        block = minus.store.get(BlockName(PAIR, NAME, 1, kind, number))
        assert block is not None and low_bits(block, place) == read
    assert minus.store.numbers(NAME, kind) == {0, 1, 2}


@pytest.mark.parametrize("kind", ["bits", "products"])
async def test_with_it_the_plus_holder_is_named_and_sees_neither_opening_nor_proof(kind: Kind, minus: Holder) -> None:
    sent: list[str | None] = []
    send = MemoryLink.send

    async def noting(self: MemoryLink, message: pb.CheckMessage) -> None:
        sent.append(message.WhichOneof("content"))
        await send(self, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryLink, "send", noting)
        with pytest.raises(DealtOpeningError) as caught:
            await read_as_plus(minus, kind)
    assert caught.value.party == "keyholder-a"
    assert sent == ["number", "ready", "nonce", "nonce", "opening"], "the only opening is that of the plus holder"
    assert not minus.store.numbers(NAME, kind) and minus.store.tried(NAME, kind) == 1


# -- a minus holder -----------------------------------------------------------------------------------


class MinusThief(Holder):
    """A minus holder that alters its opening, bets on the bits, and sees from the plus holder's proof what they are."""

    read: tuple[int, int, int] | None = None

    async def take_part(self, link: MemoryLink, begin: pb.CheckBegin) -> None:
        kind: Kind = "bits"
        name = BlockName(PAIR, NAME, 1, kind, begin.number)
        await link.send(pb.CheckMessage(number=begin.number))
        part = await self.dealer.fetch(name)
        await link.receive()
        await link.send(pb.CheckMessage(nonce=bytes(32)))
        nonces = (await link.receive()).nonce, bytes(32)
        altered = Altered(kind, BlockCheck(name, part, nonces, MODULUS, NO_GAMMA, is_plus=False), False)
        theirs = (await link.receive()).opening
        bet = dict(altered.values(theirs))[0]
        await link.send(pb.CheckMessage(opening=altered.opening))
        await link.send(pb.CheckMessage(proof=altered.proof("minus", bet)))
        proof = (await link.receive()).proof
        guess = next(g for g, v in altered.values(theirs) if altered.proof("plus", v) == proof)
        self.read = begin.number, altered.place, altered.kept_bits(guess, theirs)
        await link.send(pb.CheckMessage(stored=True))


class Plus(Holder):
    """An honest plus holder whose peer is a thief."""

    @asynccontextmanager
    async def dial(self, first: pb.CheckMessage) -> AsyncIterator[MemoryLink]:
        assert isinstance(self.other, MinusThief)
        mine, theirs = linked()
        serving = asyncio.create_task(ending_at(mine, self.other.take_part(theirs, first.begin)))
        try:
            yield mine
        finally:
            theirs.inbox.put_nowait(UnavailableError("the peer has left", party="keyholder-a"))
            await asyncio.wait([serving])


@pytest.fixture
def robbed(tmp_path: Path) -> Plus:
    thief = MinusThief(tmp_path / "minus", is_plus=False)
    return Plus(tmp_path / "plus", is_plus=True, other=thief)


async def checks(plus: Plus, count: int) -> tuple[list[tuple[int, int, int]], list[VeilmatchError]]:
    """What the thief has read of so many blocks, and the errors that the plus holder ended their checks with."""
    read: list[tuple[int, int, int]] = []
    errors: list[VeilmatchError] = []
    thief = plus.other
    assert isinstance(thief, MinusThief)
    for _ in range(count):
        plus.clock.now += 1e6
        thief.read = None
        try:
            await plus.stock._shelves["bits"].check_one()
        except VeilmatchError as error:
            errors.append(error)
        if thief.read is not None:
            read.append(thief.read)
    return read, errors


async def test_without_the_commitment_a_minus_holder_reads_bits_and_one_bit_of_blocks_that_are_kept(
    robbed: Plus, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_opening_check_out(monkeypatch)
    monkeypatch.setattr("tests.attacks.test_altered_openings.BITS", 1)
    read, _ = await checks(robbed, 24)
    kept = robbed.store.numbers(NAME, "bits")
    assert len(read) == 24 and 2 < len(kept) < 22, "half of its bets are right"
    for number, place, bit in read:
        block = robbed.store.get(BlockName(PAIR, NAME, 1, "bits", number))
        assert block is None or low_bits(block, place) == bit


async def test_with_it_the_minus_holder_is_named_and_sees_no_proof(robbed: Plus) -> None:
    read, errors = await checks(robbed, 4)
    assert not read and not robbed.store.numbers(NAME, "bits")
    assert [type(error) for error in errors] == [DealtOpeningError] * 4
    assert all(error.party == "keyholder-b" for error in errors if isinstance(error, DealtOpeningError))


# -- what the bits are worth --------------------------------------------------------------------------


@dataclass
class FromBlocks(SimulatedStock):
    """Bit triples from one checked block; the plus holder says where each range begins."""

    block: CheckedBlock | None = None
    starts: dict[int, int] = field(default_factory=dict)

    def reserve(self, wanted: Reserve) -> Reserved:
        if wanted.kind != "bits" or self.block is None:
            return super().reserve(wanted)
        start = self.starts.get(wanted.count, 0) if wanted.start is None else wanted.start
        return Reserved(start, material("bits", [(self.block, start, wanted.count)], self.modulus))


def test_one_bit_of_a_triple_is_the_answer_of_an_honest_search_of_one_template(monkeypatch: pytest.MonkeyPatch) -> None:
    take_opening_check_out(monkeypatch)
    keys, cost = keys_of("stand-in"), answer_cost("candidates", 1, TOY.ring_bits)
    templates, known, stranger = faces(TOY)
    for number, probe in enumerate((known, stranger, stranger, known)):
        name, nonces = BlockName("ab", bytes(32), 1, "bits", number), (bytes([number]) * 32, bytes(32))
        parts = [deal_tagged(bytes(32), name, keys.scheme.modulus, keys.gammas, for_plus=p) for p in (True, False)]
        plus, minus = (
            BlockCheck(name, part, nonces, keys.scheme.modulus, NO_GAMMA, is_plus=p)
            for part, p in zip(parts, (True, False), strict=True)
        )
        altered = Altered("bits", plus, True)
        proof = minus.proof(altered.opening, b"")
        guess, values = next((g, v) for g, v in altered.values(minus.opening) if altered.proof("minus", v) == proof)
        plus.proof(minus.opening, b"")
        blocks = CheckedBlock(plus._sacrifice.kept(plus._order)), minus.kept(altered.proof("plus", values))
        last = 8 * altered.place  # its first byte meets the last AND of the answer
        assert last > BLOCK_UNITS["bits"] // 16, "the validity gate takes what is before"
        a_minus = altered.kept_bits(guess, minus.opening) & 1

        simulator = PairSimulator(keys)
        simulator.stocks = tuple(
            FromBlocks(
                stock.modulus, stock.seed, stock.is_plus, stock.gammas, block=block, starts={cost: last + 1 - cost}
            )
            for stock, block in zip(simulator.stocks, blocks, strict=True)
        )
        truth = simulator.decide("candidates", probe, SimulatedGallery.of(keys.scheme, templates[:1]), 1)
        layers = {
            h: [e.message.payload for x, e in simulator.sent if x == h and isinstance(e.message, GateLayer)][-1]
            for h in (PLUS, MINUS)
        }
        a_plus = low_bits(blocks[0], altered.place) & 1
        assert (layers[PLUS][0] ^ layers[MINUS][0] ^ a_plus ^ a_minus) & 1 == truth[0]


# -- commitments under other coins --------------------------------------------------------------------


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dealer that commits to bare values."""
    monkeypatch.setattr(opening_module, "salted", lambda sacrifice, _seed, _coin: bytes(SALT_BYTES) + sacrifice.opening)


def bits_of_the_last_unknown_word() -> set[int]:
    """What a plus holder finds that knows all products of its peer but the low bits of one, as after many queries.

    It asks the dealer to commit under a coin of its own, and tries every guess. The salts it can think of: none, and
    the one of its own seed.
    """
    name, coin = BlockName("ab", bytes(32), 1, "products", 0), bytes([7]) * 32
    part, mine = (deal_tagged(bytes(32), name, MODULUS, None, for_plus=p) for p in (False, True))  # type: ignore[arg-type]
    check = BlockCheck(name, part, (bytes(32), bytes(32)), MODULUS, NO_GAMMA, is_plus=False)
    factors, order = check._sacrifice._shares.factor.copy(), check._sacrifice._order
    bucket = [order.kept[5], *order.sacrificed[15:18]]  # what was opened ties the four words together
    unknown = int(factors[bucket[0]]) % (1 << BITS)
    assert unknown
    committed = commit_opening(bytes(32), name, coin, MODULUS, of_plus=False)
    other, found = arrangement(coin, BLOCK_UNITS["products"]), set()
    factors[bucket] -= np.uint64(unknown)
    for guess, seed in product(range(1 << BITS), (None, mine.seed)):
        words = factors.copy()
        words[bucket] += np.uint64(guess)
        values = words[other.checked]
        values[OPENED_WORDS:] -= words[other.sacrificed]
        salt = bytes(SALT_BYTES) if seed is None else digest("dealt opening salt", seed, coin)
        if commitment(name, coin, salt + values.astype("<u8").tobytes(), of_plus=False) == committed:
            assert guess == unknown
            found.add(guess)
    return found


def test_a_commitment_to_bare_values_would_tell_the_rest_of_a_block_that_is_nearly_used_up(plain: None) -> None:
    assert len(bits_of_the_last_unknown_word()) == 1


def test_a_commitment_under_a_coin_of_ones_own_tells_nothing() -> None:
    assert not bits_of_the_last_unknown_word()
