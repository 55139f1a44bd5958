"""The gRPC face of a key holder: one service for its organisation's matcher, one for its peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import TypeAlias

import numpy as np

from veilmatch.crypto.claims import NOBODY
from veilmatch.crypto.dealing import BlockName, commit_opening, deal_tagged
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import InvalidInputError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party, dealer_of, other_party
from veilmatch.crypto.keys.parties import Pair as PairName
from veilmatch.crypto.pair.messages import ProbeShare, Results, TemplateShare
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1.request_pb2 import BudgetLeft
from veilmatch.server.admission.requests import device_said
from veilmatch.server.ground.request_id import about_nothing
from veilmatch.server.keyholder.peers import others_of, party_name
from veilmatch.server.keyholder.session.sealing import SealedAnswerShare
from veilmatch.server.keyholder.session.serving import Answer, KeyHolder
from veilmatch.server.keyholder.stock.store import GENERATION_BYTES
from veilmatch.server.keyholder.wire import kind_from_wire
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.channels import Context, require_caller
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES, SILENCE_S
from veilmatch.server.transport.links import AcceptedLink
from veilmatch.server.transport.standing.ends import Called, ending
from veilmatch.server.transport.standing.kinds import SERVE
from veilmatch.server.transport.standing.strand import OtherEnd, Strand
from veilmatch.server.transport.status import retried, streaming, typed, unary
from veilmatch.server.transport.streams import first_message, next_message

_MAX_DEALT_BLOCKS = 4096
#: Slots of all results of a query. What is opened for them, more than four bytes each, travels in one message.
_MAX_CELLS = PEER_MESSAGE_BYTES // 4
#: A request that came over the link of this organisation's matcher.
ServeStrand: TypeAlias = Strand[pb.KeyHolderToMatcher, pb.MatcherToKeyHolder]


class KeyHolderService(rpc.KeyHolderServicer):
    """For the matcher of the same organisation only."""

    def __init__(self, holder: KeyHolder) -> None:
        self._holder = holder
        self.server = holder.server
        matcher = OtherEnd(f"matcher-{holder.party}", (), NOBODY)
        self._called = Called(SERVE.other_end(), self.server.name, matcher, self._take)
        self._tasks: set[asyncio.Task[None]] = set()

    @unary
    async def ServeMany(self, _requests: AsyncIterator[pb.OpenFrames], context: Context) -> None:  # type: ignore[override]
        """See keyholder.proto."""
        caller = require_caller(context, f"matcher-{self._holder.party}")
        first = await first_message(context, pb.OpenFrames, None, caller)
        await self._called.carry(context, first)

    @unary
    async def DeviceBudgets(self, request: pb.DeviceBudgetsQuestion, context: Context) -> pb.DeviceBudgetsReply:
        """See keyholder.proto."""
        require_caller(context, f"matcher-{self._holder.party}")
        found = await self._holder.budgets_of(request.device)
        return pb.DeviceBudgetsReply(
            budgets=[
                BudgetLeft(
                    measure=left.budget.measure, window=left.budget.window, limit=left.budget.limit, used=left.used,
                    eases_s=left.eases_s,
                )
                for left in found
            ]
        )  # fmt: skip

    def stop(self) -> None:
        """Take no more requests on the link; those under way may end."""
        self._called.stop()

    def close(self) -> None:
        """End what is under way on the link."""
        self._called.close()
        for task in self._tasks:
            task.cancel()

    def _take(self, strand: ServeStrand) -> None:
        task = about_nothing(self._serve_on_link(strand))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # The matcher has given the request up, or is gone.
        strand.when_over(task.cancel)

    async def _serve_on_link(self, strand: ServeStrand) -> None:
        """Serve one request as `Serve` does, on the link."""
        with calls.call("Serve"), suppress(VeilmatchError):
            async with ending(strand):
                await typed(self._answer(strand), "Serve", strand.peer, self.server)

    async def _answer(self, strand: ServeStrand) -> None:
        assert strand.first is not None
        opening = strand.first.open
        with self._holder.verifying.one(device_said(opening.request)):
            async with aclosing(self._holder.serve(strand.peer, opening, None)) as answers:
                async for answer in answers:
                    await strand.send(_answer_to_wire(answer))

    @streaming
    async def Serve(
        self, _requests: AsyncIterator[pb.MatcherToKeyHolder], context: Context
    ) -> AsyncIterator[pb.KeyHolderToMatcher]:
        """See keyholder.proto."""
        caller = require_caller(context, f"matcher-{self._holder.party}")
        first = await first_message(context, pb.MatcherToKeyHolder, "open", caller)
        # Nothing is looked at before but who the request says it is from: no signature, no proof, no entry on disk.
        with self._holder.under_way.one(device_said(first.open.request)):
            results = self._results(context, caller)
            async for answer in self._holder.serve(caller, first.open, results):
                yield _answer_to_wire(answer)

    async def _results(self, context: Context, caller: str) -> AsyncIterator[Results]:
        """Yield the results of a search in the parts that they come in.

        Raises UnavailableError if the caller leaves before or falls silent: a matcher that restarts is missing, and
        deviates in nothing. The first chunk may take as long as matching does.
        """
        parameters = self._holder.scheme.parameters
        size = parameters.ciphertext_bytes
        ends = time.monotonic() + self._holder.call_s
        all_cells = 0
        while True:
            left_s = ends - time.monotonic()
            message = await next_message(context, caller, min(left_s, SILENCE_S) if all_cells else left_s)
            if message is None:
                break
            if message.WhichOneof("content") != "results":
                raise ProtocolError("results were expected", got=message.WhichOneof("content"))
            chunk = message.results
            data = [chunk.results[i : i + size] for i in range(0, len(chunk.results), size)]
            bits = np.unpackbits(np.frombuffer(chunk.wanted, dtype=np.uint8), bitorder="little")
            cells = chunk.packs * parameters.slots
            all_cells += cells
            if all_cells > _MAX_CELLS:
                raise ProtocolError("more results than the answer to one query", got=all_cells, expected=_MAX_CELLS)
            if not data or len(data) != chunk.packs or len(chunk.wanted) != -(-cells // 8):
                raise ProtocolError("results and mask do not fit", got=len(data), expected=chunk.packs)
            wanted = bits[:cells].reshape(chunk.packs, parameters.slots).astype(bool)
            yield Results(self._holder.given(caller, data), wanted)
            if chunk.last:
                return
        raise UnavailableError(f"{caller} left before its results were complete", party=caller, needed=caller)


class KeyHolderPeerService(rpc.KeyHolderPeerServicer):
    """For the other two key holders only."""

    def __init__(self, holder: KeyHolder) -> None:
        self._holder = holder
        self.server = holder.server

    @unary
    async def Pair(  # type: ignore[override]
        self, _requests: AsyncIterator[pb.PairFrames], context: Context
    ) -> None:
        """See keyholder.proto."""
        peers = {party_name(party): party for party in PARTIES if party != self._holder.party}
        peer = require_caller(context, *peers)
        first = await first_message(context, pb.PairFrames, None, peer)
        await self._holder.links.carry(peers[peer], context, first)

    @unary
    @retried
    async def MeetStock(self, request: pb.StockGeneration, context: Context) -> pb.StockGeneration:
        """See keyholder.proto."""
        pair = self._own_pair(request.pair)
        peer = other_party(pair, self._holder.party)
        require_caller(context, party_name(peer))
        self._require_epoch(peer, request.epoch)
        if len(request.generation) != GENERATION_BYTES:
            raise ProtocolError("a stock generation of the wrong size", got=len(request.generation))
        self._holder.stocks.met_by(pair, request)
        return self._holder.stocks.introduction(pair)

    @streaming
    @retried
    async def Deal(self, request: pb.DealRequest, context: Context) -> AsyncIterator[pb.DealtBlock]:
        """See keyholder.proto."""
        pair, caller = self._dealt_pair(request.pair, context)
        self._require_epoch(caller, request.epoch)
        if len(request.stock) != DIGEST_BYTES or not 1 <= request.count <= _MAX_DEALT_BLOCKS:
            raise InvalidInputError("cannot deal that", got=request.count, expected=f"1..{_MAX_DEALT_BLOCKS} blocks")
        kind, for_plus = kind_from_wire(request.kind), caller == pair[0]
        self._holder.allowance.take_blocks(party_name(caller), request.count)
        key, modulus = self._holder.key, self._holder.scheme.modulus
        seed, gammas = key.dealing_seed(SECRET_ACCESS), key.dealer_gammas(SECRET_ACCESS)
        for number in range(request.first, request.first + request.count):
            name = BlockName(pair, request.stock, request.epoch, kind, number)
            block = await asyncio.to_thread(deal_tagged, seed, name, modulus, gammas, for_plus=for_plus)
            yield pb.DealtBlock(number=number, seed=block.seed, corrections=block.corrections)

    @unary
    @retried
    async def DealtOpening(self, request: pb.DealtOpeningRequest, context: Context) -> pb.DealtOpeningCommitment:
        """See keyholder.proto. A refresh between block and commitment does not spoil a check."""
        pair, caller = self._dealt_pair(request.pair, context)
        if len(request.stock) != DIGEST_BYTES:
            raise InvalidInputError("cannot commit to that", got=len(request.stock), expected=f"{DIGEST_BYTES} bytes")
        name = BlockName(pair, request.stock, request.epoch, kind_from_wire(request.kind), request.number)
        key, modulus = self._holder.dealing_key(caller, request.epoch), self._holder.scheme.modulus
        self._holder.allowance.take_commitment(party_name(caller))
        seed = key.dealing_seed(SECRET_ACCESS)
        committed = await asyncio.to_thread(
            commit_opening, seed, name, request.coin, modulus, of_plus=caller != pair[0]
        )
        return pb.DealtOpeningCommitment(commitment=committed)

    @unary
    @retried
    async def CheckDealt(  # type: ignore[override]
        self, _requests: AsyncIterator[pb.CheckMessage], context: Context
    ) -> None:
        """See keyholder.proto."""
        me = self._holder.party
        peer = require_caller(context, *(party_name(other_party(pair, me)) for pair in PAIRS if pair[1] == me))
        first = await first_message(context, pb.CheckMessage, "begin", peer)
        pair = self._own_pair(first.begin.pair)
        require_caller(context, party_name(other_party(pair, me)))
        if pair[1] != me:
            raise InvalidInputError("not the minus holder of this pair", got=me, expected=pair[1])
        self._require_epoch(other_party(pair, me), first.begin.epoch)
        link: AcceptedLink[pb.CheckMessage] = AcceptedLink(context, peer, others=others_of(other_party(pair, me), me))
        feeding = asyncio.ensure_future(link.feed())
        try:
            await self._holder.stocks.check_dealt(pair, first.begin, link)
        finally:
            link.end(None)
            await feeding

    def _dealt_pair(self, text: str, context: Context) -> tuple[PairName, Party]:
        """Return the pair that this key holder deals to, and who of the two calls."""
        pair = _pair(text)
        holders = {party_name(party): party for party in PARTIES if party in pair}
        caller = holders[require_caller(context, *holders)]
        if dealer_of(pair) != self._holder.party:
            raise InvalidInputError("not the dealer of this pair", got=self._holder.party, expected=dealer_of(pair))
        return pair, caller

    def _own_pair(self, text: str) -> PairName:
        pair = _pair(text)
        if self._holder.party not in pair:
            raise InvalidInputError("this key holder is not in that pair", got=self._holder.party, expected=pair)
        return pair

    def _require_epoch(self, peer: Party, epoch: int) -> None:
        if epoch != self._holder.epoch:
            raise self._holder.other_epoch(peer, epoch)


def _pair(text: str) -> PairName:
    if text not in PAIRS:
        raise InvalidInputError("no such pair", got=text[:8], expected=", ".join(PAIRS))
    return text


def _answer_to_wire(answer: Answer) -> pb.KeyHolderToMatcher:
    if isinstance(answer, ProbeShare):
        exponents = answer.exponents.astype("<u4").tobytes()
        return pb.KeyHolderToMatcher(
            probe_share=pb.ProbeShareMessage(session_id=answer.session_id, exponents=exponents, is_plus=answer.is_plus)
        )
    if isinstance(answer, TemplateShare):
        lanes = answer.lanes.astype("<u8").tobytes()
        return pb.KeyHolderToMatcher(
            template_share=pb.TemplateShareMessage(
                session_id=answer.session_id,
                lanes=lanes,
                is_plus=answer.is_plus,
                valid_share=np.packbits(answer.valid, bitorder="little").tobytes(),
            )
        )
    if isinstance(answer, SealedAnswerShare):
        return pb.KeyHolderToMatcher(
            sealed_share=pb.SealedShareMessage(
                statement=answer.statement.encode(), count=answer.count, session_id=answer.session_id
            )
        )
    return pb.KeyHolderToMatcher(
        decision_share=pb.DecisionShareMessage(
            share=np.packbits(answer.bits, bitorder="little").tobytes(),
            count=len(answer.bits),
            valid_share=bool(answer.valid),
            session_id=answer.session_id,
        )
    )
