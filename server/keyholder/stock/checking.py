"""The check of a pair's dealt blocks before anything of them is used: one holder's side, for one kind.

The plus holder begins; both get their part from the dealer; both write down the number, and only then
does a nonce leave (crypto/dealing/check.py). Whatever goes wrong after that, the number is never tried
again, because a second coin would open what the first one kept, and a block fetched a second time could be made
to fit the coin. Both keep what came out, the minus holder first. docs/security-argument.md.

With the coin each holder asks the dealer what its peer must open. The plus holder opens first; the minus holder opens,
and sends its proof, once it has seen that the plus holder opened just that; the proof of the plus holder leaves once it
has seen the same of the minus holder.

After a failed check the next one waits (standing.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, Block, BlockCheck, BlockName, check_tagged_block
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import DealtStockError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import dealer_of
from veilmatch.crypto.keys.shares import SafetyShare
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.standing import Standing
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.wire import KIND_TO_WIRE
from veilmatch.server.transport.links import Link

#: Calls the minus holder; the first message is sent at once.
Dial = Callable[[pb.CheckMessage], AbstractAsyncContextManager[Link[pb.CheckMessage]]]
#: How far a number may jump ahead: the peer skips those it has tried, a hostile one would burn the stock.
MAX_SKIP_BLOCKS = 1024


class Dealer(Protocol):
    """What a holder asks the dealer of a block. Both raise UnavailableError if it does not answer."""

    async def fetch(self, name: BlockName) -> Block:
        """Return this holder's part of a block."""

    async def commitment(self, name: BlockName, coin: bytes) -> bytes:
        """Return the commitment to what the peer must open for this block and coin."""


class Checker:
    """Which blocks of a kind were tried, and the two sides of the next check."""

    def __init__(
        self,
        name: BlockName,
        store: StockStore,
        dealer: Dealer,
        standing: Standing,
        modulus: Integer,
        safety: SafetyShare,
        *,
        is_plus: bool,
    ) -> None:
        """name: of block 0. standing: of the pair, shared by all kinds. safety: with what this holder verifies tags."""
        self._name = name
        self._store = store
        self._dealer = dealer
        self._dealer_name = f"keyholder-{dealer_of(name.pair)}"
        self._peer_name = f"keyholder-{name.pair[1 if is_plus else 0]}"
        self._modulus = modulus
        self._safety = safety
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
        check fails or one that failed is too short ago, UnavailableError if the dealer or the minus holder cannot be
        reached.
        """
        self._standing.require_good()
        name, first = self._name, max(self._next, at_least)
        begin = pb.CheckBegin(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], number=first,
            oldest=oldest,
        )  # fmt: skip
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
            with self._judged(at):
                check, committed = await self._under_coin(at, block, (mine, theirs))
                await link.send(pb.CheckMessage(opening=check.opening))
                opening = (await self._hear(link, "opening")).opening
                proof = await asyncio.to_thread(check.proof, opening, committed)
                expected = (await self._hear(link, "proof")).proof
                # Before this holder judges: the other one has to know as well.
                await link.send(pb.CheckMessage(proof=proof))
                kept = check.kept(expected)
                await self._hear(link, "stored")
                await asyncio.to_thread(self._store.put, at, kept)
            return number

    async def as_minus(self, link: Link[pb.CheckMessage], first: int) -> int:
        """Check a block with the plus holder, which has begun with `first`; keep it and return its number.

        Raises what as_plus raises.
        """
        self._standing.require_good()
        if first > self._next + MAX_SKIP_BLOCKS:
            raise ProtocolError(
                "a block far ahead of those that were checked", got=first, expected=f"near {self._next}"
            )
        at = self._at(max(self._next, first))
        await link.send(pb.CheckMessage(number=at.number))
        block = await self._part(at)
        # A dealer that only one of the two can reach costs no number.
        await _expect(link, "ready")
        mine = await self._nonce(at)
        await link.send(pb.CheckMessage(nonce=mine))
        theirs = (await _expect(link, "nonce")).nonce
        with self._judged(at):
            check, committed = await self._under_coin(at, block, (theirs, mine))
            opening = (await self._hear(link, "opening")).opening
            # Nothing leaves before this: it would depend on what came.
            proof = await asyncio.to_thread(check.proof, opening, committed)
            await link.send(pb.CheckMessage(opening=check.opening))
            await link.send(pb.CheckMessage(proof=proof))
            kept = check.kept((await self._hear(link, "proof")).proof)
            await asyncio.to_thread(self._store.put, at, kept)
        return at.number

    async def _part(self, at: BlockName) -> Block:
        block = await self._dealer.fetch(at)
        return check_tagged_block(block, at.kind, self._modulus, is_plus=self._is_plus)

    async def _nonce(self, at: BlockName) -> bytes:
        """Draw the nonce for a block, which this holder has, after writing down that it never checks it again."""
        if at.number < self._next:
            raise ProtocolError("a block that was tried before", got=at.number, expected=f">= {self._next}")
        self._next = at.number + 1
        await asyncio.to_thread(self._store.begin_check, at)
        return secrets.token_bytes(NONCE_BYTES)

    async def _under_coin(self, at: BlockName, block: Block, nonces: tuple[bytes, bytes]) -> tuple[BlockCheck, bytes]:
        """Return this holder's part of the check, and the dealer's commitment to the opening of the peer.

        A dealer that does not commit has failed the check: it may have seen that its block does not pass.
        """
        gamma = self._safety.gamma(SECRET_ACCESS)
        check = await asyncio.to_thread(BlockCheck, at, block, nonces, self._modulus, gamma, is_plus=self._is_plus)
        try:
            return check, await self._dealer.commitment(at, check.coin)
        except VeilmatchError as error:
            silent = UnavailableError(
                f"{self._dealer_name} did not say in the check of {at.kind} block {at.number} what was to be opened",
                party=self._dealer_name,
                needed=self._dealer_name,
                available=error.claim,
            )
            raise self._standing.lose(at, silent) from error

    @contextmanager
    def _judged(self, at: BlockName) -> Iterator[None]:
        """Note what comes of the check of a block."""
        try:
            yield
        except DealtStockError as error:
            raise self._standing.lose(at, error) from None
        self._standing.win()

    async def _hear(self, link: Link[pb.CheckMessage], kind: str) -> pb.CheckMessage:
        """Receive a message after the coin. If the peer says instead that the check has failed, the peer is named.

        It may be right, because of the dealer: this holder knows of itself alone that it has not deviated. So whom the
        peer names makes no difference.
        """
        try:
            return await _expect(link, kind)
        except DealtStockError as error:
            raise type(error)(
                f"{self._peer_name} says that the check of dealt {self._name.kind} has failed",
                party=self._peer_name,
                got=error.claim,
            ) from None

    def _at(self, number: int) -> BlockName:
        n = self._name
        return BlockName(n.pair, n.stock, n.epoch, n.kind, number)


async def _expect(link: Link[pb.CheckMessage], kind: str) -> pb.CheckMessage:
    message = await link.receive()
    if message.WhichOneof("content") != kind:
        raise ProtocolError("another message than the check is at", got=message.WhichOneof("content"), expected=kind)
    return message
