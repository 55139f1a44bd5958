"""Serving one request at a key holder: checks it, meets the peer, drives the pair's session.

The session (crypto/session.py) says what it wants; this module does it: messages over the link,
local shares in the worker pool, reservations in the stock, shares to the matcher.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from weakref import WeakValueDictionary

import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import KeyMismatchError, PartyRefusedError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys import KeyHolderKey, Pair, Party, other_party, pairs_of, pairs_without, seat_of
from veilmatch.crypto.messages import (
    AwaitResults,
    DecisionShare,
    LaneShare,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Results,
    Send,
)
from veilmatch.crypto.paillier import Paillier, PublicKey
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.crypto.session import PairSession, Request
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.peers import Peers, party_name
from veilmatch.server.keyholder.share_worker import ShareWorkers
from veilmatch.server.keyholder.stock import Stock, stock_name
from veilmatch.server.keyholder.stock_store import StockStore
from veilmatch.server.keyholder.wire import from_wire, to_wire
from veilmatch.server.transport.links import Link, Rendezvous, dialled
from veilmatch.server.transport.replay import ReplayLog
from veilmatch.server.transport.requests import WITH_LANES, CheckedRequest, RequestChecker, check_payload

#: What the caller is given, in order: a probe share and then a decision share, or one lane share.
Answer = ProbeShare | LaneShare | DecisionShare

#: How many times longer than here the same conversions may take at the peer.
_PEER_SLOWER = 3.0

_log = structlog.get_logger(__name__)


class KeyHolder:
    """One key holder: its key, its workers, its stocks and its peers."""

    def __init__(
        self, settings: KeyHolderSettings, public_key: PublicKey, key: KeyHolderKey, workers: ShareWorkers
    ) -> None:
        self.party: Party = key.party
        self.epoch = key.epoch
        self.rendezvous: Rendezvous[pb.PairMessage] = Rendezvous(settings.peer_timeout_s)
        self.scheme = Paillier(public_key)
        self._public_key = public_key
        self._key = key
        self._workers = workers
        self._timeout_s = settings.peer_timeout_s
        self._targets: dict[Kind, int] = {"triples": settings.stock_triples, "bits": settings.stock_bytes}
        self._peers = Peers(settings)
        self._store = StockStore(settings.data_dir, key.storage_seed(SECRET_ACCESS))
        self._replays = ReplayLog(settings.data_dir)
        self._checker = RequestChecker(
            public_key, settings.devices, settings.max_clock_skew_s, settings.max_request_lifetime_s
        )
        self._stocks: dict[Pair, Stock] = {}
        #: Every stock that a session still uses, by name: two of one name would each hand out the same ranges.
        self._open: WeakValueDictionary[bytes, Stock] = WeakValueDictionary()
        self._meeting = {pair: asyncio.Lock() for pair in pairs_of(key.party)}

    # -- stock ----------------------------------------------------------------------------------

    @property
    def generation(self) -> bytes:
        """The generation of this holder's storage."""
        return self._store.generation

    def meet(self, pair: Pair, peer_generation: bytes) -> Stock:
        """Return the stock of `pair` for the peer's generation, opening it if it is new."""
        is_plus = pair[0] == self.party
        generations = (self.generation, peer_generation) if is_plus else (peer_generation, self.generation)
        name = stock_name(pair, *generations)
        stock = self._open.get(name)
        if stock is None:
            stock = Stock(
                pair, name, self.epoch, self._store, self._peers.fetch, self._targets,
                self._public_key.modulus, is_plus=is_plus,
            )  # fmt: skip
            self._open[name] = stock
        self._stocks[pair] = stock
        return stock

    async def stock(self, pair: Pair) -> Stock:
        """Return the stock of `pair`, meeting the peer first if that has not happened yet."""
        if pair not in self._stocks:
            async with self._meeting[pair]:
                if pair not in self._stocks:
                    self.meet(pair, await self._peers.meet_stock(pair, self.epoch, self.generation))
        return self._stocks[pair]

    async def keep_stocked(self, pair: Pair, every_s: float) -> None:
        """Refill the stock of a pair for ever; a dealer that is down is tried again."""
        stocked = None
        while True:
            try:
                await (await self.stock(pair)).refill()
                if stocked is not True:
                    _log.info("stocked", pair=pair, **self._stocks[pair].remaining)
                stocked = True
            except VeilmatchError as error:
                if stocked is not False:
                    _log.warning("stock not refilled", pair=pair, code=error.code, reason=error.message)
                stocked = False
            await asyncio.sleep(every_s)

    # -- requests -------------------------------------------------------------------------------

    async def serve(
        self, caller: str, opening: pb.OpenSession, results: AsyncIterator[Results]
    ) -> AsyncIterator[Answer]:
        """Serve one request that the matcher `caller` brings; yields the answers for it."""
        checked = self._checker.check(opening.request, *WITH_LANES, "erase")
        self._require_seat(checked.pair, caller)
        if checked.operation == "erase":
            check_payload(checked, [])
            data: Sequence[bytes] = opening.record
        else:
            check_payload(checked, opening.request.ciphertexts)
            data = opening.request.ciphertexts
        ciphertexts = self.scheme.parse_many(data)
        stock = await self.stock(checked.pair)
        await asyncio.to_thread(self._replays.register, checked.nonce, checked.expires_at_ms)
        session = self._session(checked, opening, ciphertexts, stock)
        peer = other_party(checked.pair, self.party)
        try:
            async with self._link(session.request, peer) as link:
                async for answer in self._drive(session, link, stock, results):
                    yield answer
        except KeyMismatchError:
            # The peer's storage may be a new one: meet it again before the next request.
            self._stocks.pop(checked.pair, None)
            raise
        _log.info("served", operation=checked.operation, pair=checked.pair, peer=party_name(peer))

    def _require_seat(self, pair: Pair, caller: str) -> None:
        if self.party not in pair:
            raise PartyRefusedError("this key holder is not in the pair of the request", got=self.party, expected=pair)
        expected = f"matcher-{seat_of(pair, self.party)}"
        if caller != expected:
            raise PartyRefusedError("another matcher than the one served for this pair", got=caller, expected=expected)

    def _session(
        self, checked: CheckedRequest, opening: pb.OpenSession, ciphertexts: list[Integer], stock: Stock
    ) -> PairSession:
        if checked.operation not in ("verify", "candidates", "enrol", "erase"):
            raise ProtocolError("an operation without a session", got=checked.operation)
        request = Request(
            operation=checked.operation,
            threshold=checked.threshold,
            request_digest=checked.digest,
            device_nonce=checked.nonce,
            gallery=checked.gallery,
            sequence=opening.sequence,
            chain=opening.chain,
            key_id=self._key.key_id,
            epoch=self.epoch,
            pair=checked.pair,
            stock=stock.name,
        )
        nonce = secrets.token_bytes(NONCE_BYTES)
        return PairSession(request, ciphertexts, self._key.share(checked.pair), self.scheme, nonce, stock.floors)

    def _link(self, request: Request, peer: Party) -> AbstractAsyncContextManager[Link[pb.PairMessage]]:
        matter, alternatives = request.subject_matter(), pairs_without(peer)
        if request.pair[0] != self.party:
            return self.rendezvous.take(party_name(peer).encode() + matter, party_name(peer), alternatives)
        first = pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matter))
        call = self._peers.stub(peer).Pair(timeout=60 * self._timeout_s)
        return dialled(call, first, party_name(peer), alternatives)

    async def _drive(
        self, session: PairSession, link: Link[pb.PairMessage], stock: Stock, results: AsyncIterator[Results]
    ) -> AsyncIterator[Answer]:
        action = session.start()
        worked_s = 0.0
        while True:
            outcome: object = None
            match action:
                case Send(envelope):
                    await link.send(to_wire(envelope))
                case Receive():
                    outcome = from_wire(await self._next(link, session.request.pair, worked_s))
                case LocalWork(ciphertexts):
                    started = time.monotonic()
                    outcome = await self._workers.local_shares(session.request.pair, ciphertexts)
                    worked_s = time.monotonic() - started
                case Reserve():
                    outcome = await stock.reserve(action)
                case AwaitResults():
                    outcome = await anext(results)
                case ProbeShare():
                    yield action
                case LaneShare() | DecisionShare():
                    yield action
                    return
            action = session.resume(outcome)

    async def _next(self, link: Link[pb.PairMessage], pair: Pair, worked_s: float) -> pb.PairMessage:
        """Return the peer's next message; a peer that takes much longer than this holder did counts as down."""
        try:
            return await asyncio.wait_for(link.receive(), self._timeout_s + _PEER_SLOWER * worked_s)
        except TimeoutError:
            peer = other_party(pair, self.party)
            raise UnavailableError(
                f"{party_name(peer)} does not answer", party=party_name(peer), alternatives=pairs_without(peer)
            ) from None

    async def close(self) -> None:
        """Close stores and channels."""
        await self._peers.close()
        self._store.close()
        self._replays.close()
