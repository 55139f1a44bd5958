"""Serving one request at a key holder: checks it, meets the peer, drives the pair's session.

The session (crypto/pair/session.py) says what it wants; this module does it: messages over the link,
local shares in the worker pool, reservations in the stock, shares to the matcher.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import (
    CiphertextError,
    GalleryMismatchError,
    KeyMismatchError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.parties import Party, other_party, pairs_without
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.pair.mask import MASK_SECRET_BYTES
from veilmatch.crypto.pair.messages import (
    AwaitResults,
    DecisionShare,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Results,
    SafetyWork,
    Send,
    TemplateShare,
)
from veilmatch.crypto.pair.request import MAX_TEMPLATES, ON_RECORDS, Request
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.requests import WITH_PROBE, Operation
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1.request_pb2 import RequestBody
from veilmatch.server.admission.budgets import budgets_of
from veilmatch.server.admission.devices import Devices
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import (
    WITH_LANES,
    CheckedRequest,
    RequestChecker,
    check_knowledge,
    check_payload,
    require_pair,
)
from veilmatch.server.admission.revoked import Revoked
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.keyholder.allowance import Allowance
from veilmatch.server.keyholder.audit.log import AuditLog
from veilmatch.server.keyholder.audit.record import Auditor, Record
from veilmatch.server.keyholder.peers import Peers, party_name
from veilmatch.server.keyholder.session.arriving import Arriving
from veilmatch.server.keyholder.session.pair_link import PairLinks
from veilmatch.server.keyholder.session.sealing import SealedAnswerShare, Sealer
from veilmatch.server.keyholder.session.share_worker import ShareWork, ShareWorkers
from veilmatch.server.keyholder.session.strand import Strand
from veilmatch.server.keyholder.session.turns import Turns, ending
from veilmatch.server.keyholder.session.turnstile import Turnstile
from veilmatch.server.keyholder.stock.stock import SessionStock, Stock
from veilmatch.server.keyholder.stock.stocks import Stocks
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.stock.targets import Targets
from veilmatch.server.transport.limits import WHOLE_CALL

#: What the caller is given: of a verification a decision share, sealed if the request names a recipient; of a search a
#: probe share before it; of a change the shares of templates.
Answer = ProbeShare | TemplateShare | DecisionShare | SealedAnswerShare

#: Part of the time-out for which sessions may go on once the shares are to be replaced. Short, because the other holder
#: of a session may be waiting before its turnstile already.
_DRAINING = 1 / 5
#: When a request is served again that a refresh has ended: all three switch within about that.
_REFRESHED_S = 1.0

_log = structlog.get_logger(__name__)


class KeyHolder:
    """One key holder: its key, its organisation's signing key, its workers, its stocks and its peers."""

    def __init__(
        self,
        settings: KeyHolderSettings,
        public: PublicFile,
        key: KeyHolderKey,
        workers: ShareWorkers,
        organisation: OrganisationKey,
    ) -> None:
        self.party: Party = key.party
        self.organisation = organisation
        self._pairs = settings.pairs
        self.server = Self(party_name(key.party), pairs_without(key.party), settings.served)
        self.key = key
        #: That of the epoch which was left, until nothing of it can be under way any more. Nobody is served with it.
        self._left: KeyHolderKey | None = None
        #: Whether a refresh is not finished everywhere: peers may still be, or already be, in the epoch beside this.
        self.unsettled = False
        self.scheme = Paillier(public.public_key)
        self._public_key = public.public_key
        self._workers = workers
        self._timeout_s = settings.peer_timeout_s
        self._peers = Peers(settings)
        self.links = PairLinks(key.party, self._peers, settings.peer_timeout_s)
        self._turnstile = Turnstile()
        self._store = StockStore(settings.data_dir, key.storage_seed(SECRET_ACCESS))
        least: dict[Kind, int] = {
            "triples": settings.stock_triples,
            "bits": settings.stock_bytes,
            "products": settings.stock_products,
        }
        residue_bytes = self._public_key.parameters.ciphertext_bytes // 2
        targets = Targets(least, settings.stock_searches, settings.stock_disk_bytes, residue_bytes)
        self.stocks = Stocks(
            key.party, key.epoch, self._store, self._peers, targets, self._public_key.modulus,
            lambda pair: self.key.safety(pair), self._timeout_s,
        )  # fmt: skip
        audit_log = AuditLog(settings.data_dir, key.party, key.key_id, settings.audit_file_bytes)
        self._auditor = Auditor(audit_log, key.party)
        self._ledger = Ledger(
            settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name, pairs_without(key.party)
        )
        #: Of dealing, for each peer.
        self.allowance = Allowance(settings.dealing)
        devices = Devices(settings.devices_dir, public)
        self._checker = RequestChecker(
            self._public_key,
            devices,
            settings.max_clock_skew_s,
            settings.max_request_lifetime_s,
            settings.party_name,
            after_another=True,
            recipients=Recipients(public, Revoked(settings.revoked_dir)),
        )
        self._sealer = Sealer(organisation, public.installation, self._public_key.key_id)

    # -- epochs ---------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of the shares in use."""
        return self.key.epoch

    @property
    def call_s(self) -> float:
        """How long a whole call of a matcher may take here."""
        return WHOLE_CALL * self._timeout_s

    @property
    def peers(self) -> Peers:
        """The other two key holders."""
        return self._peers

    @property
    def auditor(self) -> Auditor:
        """What notes in this holder's audit log."""
        return self._auditor

    async def switch(self, key: KeyHolderKey) -> None:
        """Use the shares of another epoch from now on, and the stock of that epoch.

        Sessions under way may end first, within a part of the time-out; new ones wait for that. What is left of them
        then ends in UnavailableError, as neither their stock nor their exponents are there any more.
        """
        async with self._turnstile.closed(_DRAINING * self._timeout_s):
            await self._workers.setup(key)
            self._left, self.key = self.key, key
            self.stocks.use_epoch(key.epoch)

    def leave_behind(self, epoch: int) -> None:
        """Forget an epoch whose key is deleted: both peers have left it, and nothing of it is under way."""
        self._left = None
        self.stocks.drop_epoch(epoch)

    def dealing_key(self, peer: Party, epoch: int) -> KeyHolderKey:
        """Return the key with which this holder has dealt in an epoch: each has another dealing seed.

        That of the epoch which was left counts until both peers have left it: they may be checking a block. Raises what
        `other_epoch` returns for any other.
        """
        for key in (self.key, self._left):
            if key is not None and key.epoch == epoch:
                return key
        raise self.other_epoch(peer, epoch)

    def other_epoch(self, peer: Party, epoch: int) -> VeilmatchError:
        """Return the error for a peer whose epoch is not this one's."""
        got, expected = f"epoch {epoch} at {party_name(peer)}", f"epoch {self.epoch} at {party_name(self.party)}"
        if self.unsettled and abs(epoch - self.epoch) == 1:
            return _refreshing(peer, expected, got)
        return KeyMismatchError(
            "the key holders have shares of different epochs; the lower one needs its newest key file back, "
            "or the other one goes back: veilmatch keyholder refresh --recover",
            got=got,
            expected=expected,
        )

    # -- requests -------------------------------------------------------------------------------

    async def serve(
        self, caller: str, opening: pb.OpenSession, results: AsyncIterator[Results]
    ) -> AsyncIterator[Answer]:
        """Serve one request that the matcher `caller` brings; yields the answers for it.

        The audit log has it before anything made from its ciphertexts leaves but hashes that the peer computes as well,
        and has it too if it is refused, or given up after those hashes.
        """
        async with (
            self._auditor.about(caller) as record,
            aclosing(self._serve(caller, opening, results, record)) as answers,
        ):
            async for answer in answers:
                yield answer

    async def _serve(
        self, caller: str, opening: pb.OpenSession, results: AsyncIterator[Results], record: Record
    ) -> AsyncGenerator[Answer, None]:
        checked = self._checker.check(opening.request, *WITH_LANES, *ON_RECORDS)
        search = checked.operation in WITH_PROBE and checked.operation != "verify"
        by_device = self._by_device(checked.operation, opening)
        output_bits = opening.output_bits if search else _told(checked.operation, by_device)
        record.identify(checked, RequestBody.FromString(opening.request.body).model, output_bits)
        require_pair(checked, self._pairs, self.server.name)
        cost = {"requests": 1, "searches": int(search), "bits": output_bits}
        names = {"device": checked.device, "gallery": checked.gallery}
        before_meeting = partial(self.links.before_meeting, self._request(checked, opening, b""))
        async with before_meeting():
            # A device whose budget is used up costs no proof and no commit to disk.
            await asyncio.to_thread(self._ledger.look, names, cost)
        sent = opening.request.ciphertexts if checked.operation in WITH_LANES else []
        check_payload(checked, sent)
        ciphertexts = [*self.scheme.parse_many(sent), *self.given(caller, opening.record)]
        if sent:
            await asyncio.to_thread(check_knowledge, checked, sent, self._public_key)
        async with before_meeting():
            entry = Entry(checked.nonce, checked.expires_at_ms, names, cost)
            await asyncio.wrap_future(self._ledger.enter(entry))
        peer = other_party(checked.pair, self.party)
        if search:
            results = _within(results, checked.operation, output_bits)
        async with self._turnstile.passed():
            epoch = self.epoch
            try:
                stock = await self.stocks.of(checked.pair)
                session = self._session(checked, opening, ciphertexts, by_device, stock)
                work = self._workers.of(checked.pair, session.request.epoch, checked.device)
                begun = _begun(session, work)
                # What this session was given of the stock stays with the peer until the link has ended.
                with stock.session() as own, ending(begun), Arriving(work) as arriving:
                    async with self.links.about(session.request) as strand:
                        # In here, so that the peer is told who failed, too.
                        with own_failures(self.server):
                            begins = self._drive(session, work, begun, arriving, strand, own, results, record)
                            async for answer in begins:
                                yield self._for_recipient(checked, opening, answer)
            except GalleryMismatchError:
                raise  # between the matchers: it says nothing of the key holders
            except KeyMismatchError:
                self.stocks.forget(checked.pair)
                if self.unsettled or self.epoch != epoch:
                    raise _refreshing(peer, "one epoch", "two") from None
                raise
        _log.info("served", operation=checked.operation, pair=checked.pair, peer=party_name(peer))

    def _for_recipient(self, checked: CheckedRequest, opening: pb.OpenSession, answer: Answer) -> Answer:
        """Return what leaves in the place of an answer: a share of the decision only sealed, if it is a recipient's."""
        if checked.recipient is None or not isinstance(answer, DecisionShare):
            return answer
        return self._sealer.seal(checked, opening.sequence, opening.chain, opening.labels_digest, answer)

    def given(self, caller: str, ciphertexts: Sequence[bytes]) -> list[Integer]:
        """Return what a matcher gives on its own account, records or results. Raises CiphertextError that names it."""
        try:
            return self.scheme.parse_many(ciphertexts)
        except CiphertextError as error:
            error.party, error.alternatives = caller, self.server.without
            raise

    def _by_device(self, operation: Operation, opening: pb.OpenSession) -> NDArray[np.bool_]:
        """Return which of the vectors of a session were encrypted by a device: what the request brings, then records.

        The other key holder is told the same, or the two find out that they were not. Raises ProtocolError for records
        of which that is not said, and for more or fewer of them than the operation has.
        """
        records, rest = divmod(len(opening.record), self.scheme.parameters.lane_ciphertexts)
        if rest or len(opening.by_device) != -(-records // 8):
            raise ProtocolError("records and what is said of them do not fit", got=len(opening.by_device))
        fewest, most = (1, MAX_TEMPLATES) if operation == "verify" else (0, 0)
        if operation not in ON_RECORDS and not fewest <= records <= most:
            raise ProtocolError("another number of records", got=records, expected=f"{fewest}..{most}")
        packed = np.frombuffer(opening.by_device, dtype=np.uint8)
        of_records = np.unpackbits(packed, count=records, bitorder="little").astype(np.bool_)
        return np.concatenate([np.ones(int(operation in WITH_LANES), dtype=np.bool_), of_records])

    def _session(
        self,
        checked: CheckedRequest,
        opening: pb.OpenSession,
        ciphertexts: list[Integer],
        by_device: NDArray[np.bool_],
        stock: Stock,
    ) -> PairSession:
        request = self._request(checked, opening, stock.name)
        share, safety = self.key.share(checked.pair), self.key.safety(checked.pair)
        coins, mask_secret = secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(MASK_SECRET_BYTES)
        return PairSession(
            request, ciphertexts, by_device, share, safety, self.scheme, coins, mask_secret, stock.floors
        )

    def _request(self, checked: CheckedRequest, opening: pb.OpenSession, stock: bytes) -> Request:
        if checked.operation not in ("verify", "candidates", "identify", "enrol", "erase", "rotate"):
            raise ProtocolError("an operation without a session", got=checked.operation)
        return Request(
            operation=checked.operation,
            threshold=checked.threshold,
            request_digest=checked.digest,
            device_nonce=checked.nonce,
            gallery=checked.gallery,
            sequence=opening.sequence,
            chain=opening.chain,
            key_id=self.key.key_id,
            epoch=self.epoch,
            pair=checked.pair,
            stock=stock,
        )

    async def _drive(
        self,
        session: PairSession,
        work: ShareWork,
        begun: asyncio.Future[list[LocalShare]],
        arriving: Arriving,
        strand: Strand,
        stock: SessionStock,
        results: AsyncIterator[Results],
        record: Record,
    ) -> AsyncIterator[Answer]:
        """Do what a session asks for, from its first local shares on, until it has its last share."""
        request, peer = session.request, other_party(session.request.pair, self.party)
        turns = Turns(partial(self.links.by_peer, peer), strand)
        async with turns.working():
            action = session.resume(await begun)
        while True:
            # From here on, what leaves this holder depends on a share of the key, but for hashes that the peer computes
            # as well: the minus holder says those before there is a session id.
            await record.begin(session.session_id, request.sequence, request.chain)
            outcome: object = None
            match action:
                case Send(envelope):
                    record.spoken = True
                    await turns.say(envelope)
                case Receive():
                    outcome = await turns.hear()
                case LocalWork():
                    # Of the results, begun as they came.
                    async with turns.working(arriving.since):
                        outcome = await arriving.local_shares()
                case SafetyWork(ciphertexts, exponents):
                    async with turns.working():
                        outcome = await work.safety_shares(ciphertexts, exponents)
                case Reserve():
                    outcome = await stock.reserve(action)
                case AwaitResults():
                    await turns.flush()
                    outcome = found = await arriving.all(results)
                    turns.expect(len(found.ciphertexts))
                case ProbeShare():
                    yield action
                case TemplateShare() | DecisionShare():
                    await turns.flush()
                    record.answered = True
                    yield action
                    return
            try:
                action = session.resume(outcome)
            except VeilmatchError:
                # The other one may find out for itself what is wrong.
                await turns.flush()
                raise

    async def close(self) -> None:
        """Close stores and channels."""
        self.links.close()
        self.stocks.retire()
        await self._peers.close()
        self._store.close()
        self._ledger.close()
        self._auditor.close()


def _begun(session: PairSession, work: ShareWork) -> asyncio.Future[list[LocalShare]]:
    """Begin a session: its ciphertexts are converted while the peer is met."""
    action = session.start()
    assert isinstance(action, LocalWork)
    return asyncio.ensure_future(work.local_shares(action.ciphertexts))


def _refreshing(peer: Party, needed: str, available: str) -> UnavailableError:
    """Return the error of a request that came while the shares were being refreshed: it may be made again soon."""
    return UnavailableError(
        "the key shares are being refreshed, ask again",
        party=party_name(peer),
        needed=needed,
        available=available,
        retry_after_s=_REFRESHED_S,
    )


def _told(operation: Operation, by_device: NDArray[np.bool_]) -> int:
    """Return how many bits the device of a request that searches nothing learns of what others have put there."""
    if operation == "rotate":
        return int(by_device.sum())
    return int(operation == "verify")


async def _within(results: AsyncIterator[Results], operation: str, output_bits: int) -> AsyncIterator[Results]:
    """Pass parts of results on that ask for at most the answer bits that were announced, all together.

    Raises ProtocolError for more.
    """
    wanted = 0
    async for part in results:
        wanted += int(part.wanted.sum())
        asked = answer_bits(operation, wanted)
        if asked > output_bits:
            raise ProtocolError("more answers than were announced", got=asked, expected=output_bits)
        yield part
