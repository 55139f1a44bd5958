"""The check of a pair's dealt blocks before anything of them is used: one holder's side, for one kind.

The plus holder begins; both get their part from the dealer; both write down the number, and only then
does a nonce leave (crypto/dealing/check.py). Whatever goes wrong after that, the number is never tried
again, because a second coin would open what the first one kept, and a block fetched a second time could be made
to fit the coin. Both keep what came out, the minus holder first. DESIGN.md section 9.

A failed check is final: this holder takes nothing more from this dealer for this stock until it is restarted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, Block, BlockCheck, BlockName, check_tagged_block
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import DealtStockError, ProtocolError
from veilmatch.crypto.keys.shares import dealer_of
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.wire import KIND_TO_WIRE
from veilmatch.server.transport.links import Link

#: Fetches this holder's part of a block from the dealer.
Fetch = Callable[[BlockName], Awaitable[Block]]
#: Calls the minus holder; the first message is sent at once.
Dial = Callable[[pb.CheckMessage], AbstractAsyncContextManager[Link[pb.CheckMessage]]]
#: How far a number may jump ahead: the peer skips those it has tried, a hostile one would burn the stock.
MAX_SKIP_BLOCKS = 1024

_log = structlog.get_logger(__name__)


class Standing:
    """Whether this holder still takes blocks from the dealer of a pair: until a check fails, and not after it."""

    def __init__(self) -> None:
        self._refusal: DealtStockError | None = None

    def require_good(self) -> None:
        """Raise the error of the check that failed, if one has."""
        if self._refusal is not None:
            raise self._refusal

    def lose(self, name: BlockName, error: DealtStockError) -> None:
        """Note that the check of a block has failed, here or at the peer."""
        if self._refusal is None:
            self._refusal = error
            dealer = f"keyholder-{dealer_of(name.pair)}"
            _log.error("dealt block refused", pair=name.pair, dealer=dealer, reason=error.message, block=error.got)


class Checker:
    """Which blocks of a kind were tried, and the two sides of the next check."""

    def __init__(
        self, name: BlockName, store: StockStore, fetch: Fetch, standing: Standing, modulus: Integer, *, is_plus: bool
    ) -> None:
        """name: of block 0. standing: of the dealer of the pair, shared by all kinds."""
        self._name = name
        self._store = store
        self._fetch = fetch
        self._modulus = modulus
        self._is_plus = is_plus
        used_up = store.mark(name.stock, name.kind) // BLOCK_UNITS[name.kind]
        self._next = max(store.tried(name.stock, name.kind), used_up)
        self._standing = standing

    @property
    def next(self) -> int:
        """The first block that was not tried."""
        return self._next

    async def as_plus(self, dial: Dial, at_least: int, oldest: int) -> int:
        """Check the next block from `at_least` on, together with the minus holder, and return its number.

        oldest: the first block that a session under way may ask the minus holder for. Raises DealtStockError if the
        check fails, UnavailableError if the dealer or the minus holder cannot be reached.
        """
        self._standing.require_good()
        name, first = self._name, max(self._next, at_least)
        begin = pb.CheckBegin(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], number=first,
            oldest=oldest,
        )  # fmt: skip
        try:
            async with dial(pb.CheckMessage(begin=begin)) as link:
                number = (await _expect(link, "number")).number
                if not first <= number <= first + MAX_SKIP_BLOCKS:
                    raise ProtocolError("a block number that it cannot be", got=number, expected=f"near {first}")
                at = self._at(number)
                block = await self._part(at)
                await link.send(pb.CheckMessage(ready=True))
                theirs = (await _expect(link, "nonce")).nonce
                mine = await self._nonce(at)
                await link.send(pb.CheckMessage(nonce=mine))
                check = await asyncio.to_thread(self._check, at, block, (mine, theirs))
                await link.send(pb.CheckMessage(opening=check.opening))
                proof = await asyncio.to_thread(check.proof, (await _expect(link, "opening")).opening)
                expected = (await _expect(link, "proof")).proof
                # Before this holder judges: the other one has to know as well.
                await link.send(pb.CheckMessage(proof=proof))
                kept = check.kept(expected)
                await _expect(link, "stored")
                await asyncio.to_thread(self._store.put, at, kept)
                return number
        except DealtStockError as error:
            self._standing.lose(self._name, error)
            raise

    async def as_minus(self, link: Link[pb.CheckMessage], first: int) -> int:
        """Check a block with the plus holder, which has begun with `first`; keep it and return its number."""
        self._standing.require_good()
        if first > self._next + MAX_SKIP_BLOCKS:
            raise ProtocolError(
                "a block far ahead of those that were checked", got=first, expected=f"near {self._next}"
            )
        at = self._at(max(self._next, first))
        try:
            await link.send(pb.CheckMessage(number=at.number))
            block = await self._part(at)
            # A dealer that only one of the two can reach costs no number.
            await _expect(link, "ready")
            mine = await self._nonce(at)
            await link.send(pb.CheckMessage(nonce=mine))
            theirs = (await _expect(link, "nonce")).nonce
            check = await asyncio.to_thread(self._check, at, block, (theirs, mine))
            proof = await asyncio.to_thread(check.proof, (await _expect(link, "opening")).opening)
            await link.send(pb.CheckMessage(opening=check.opening))
            await link.send(pb.CheckMessage(proof=proof))
            kept = check.kept((await _expect(link, "proof")).proof)
            await asyncio.to_thread(self._store.put, at, kept)
            return at.number
        except DealtStockError as error:
            self._standing.lose(self._name, error)
            raise

    async def _part(self, at: BlockName) -> Block:
        block = await self._fetch(at)
        return check_tagged_block(block, at.kind, self._modulus, is_plus=self._is_plus)

    async def _nonce(self, at: BlockName) -> bytes:
        """Draw the nonce for a block, which this holder has, after writing down that it never checks it again."""
        if at.number < self._next:
            raise ProtocolError("a block that was tried before", got=at.number, expected=f">= {self._next}")
        self._next = at.number + 1
        await asyncio.to_thread(self._store.begin_check, at)
        return secrets.token_bytes(NONCE_BYTES)

    def _check(self, at: BlockName, block: Block, nonces: tuple[bytes, bytes]) -> BlockCheck:
        return BlockCheck(at, block, nonces, self._modulus, is_plus=self._is_plus)

    def _at(self, number: int) -> BlockName:
        n = self._name
        return BlockName(n.pair, n.stock, n.epoch, n.kind, number)


async def _expect(link: Link[pb.CheckMessage], kind: str) -> pb.CheckMessage:
    message = await link.receive()
    if message.WhichOneof("content") != kind:
        raise ProtocolError("another message than the check is at", got=message.WhichOneof("content"), expected=kind)
    return message
