"""Serving one request at a key holder: checks it, meets the peer, hands over what their session makes of it.

A verification goes with others in one session (together.py), whatever else alone; driving.py does what a session wants.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
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
from veilmatch.crypto.pair.messages import Composed, DecisionShare, ProbeShare, Results, TemplateShare
from veilmatch.crypto.pair.request import MAX_TEMPLATES, ON_RECORDS, Part, Request
from veilmatch.crypto.requests import VERIFICATIONS, Operation
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1.request_pb2 import RequestBody
from veilmatch.server.admission.budgets import Left, budgets_of
from veilmatch.server.admission.cards import Cards
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
from veilmatch.server.ground.at_once import AtOnce
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.keyholder.allowance import Allowance
from veilmatch.server.keyholder.audit.log import AuditLog
from veilmatch.server.keyholder.audit.record import Auditor, Record
from veilmatch.server.keyholder.peers import Peers, party_name
from veilmatch.server.keyholder.session.arriving import Arriving
from veilmatch.server.keyholder.session.driving import Noted, Surroundings, driven
from veilmatch.server.keyholder.session.pair_link import PairLinks
from veilmatch.server.keyholder.session.sealing import SealedAnswerShare, Sealer
from veilmatch.server.keyholder.session.share_worker import ShareWork, ShareWorkers
from veilmatch.server.keyholder.session.together import Together
from veilmatch.server.keyholder.session.turns import Turns, ending
from veilmatch.server.keyholder.session.turnstile import Turnstile
from veilmatch.server.keyholder.session.verification import Footing, Verification
from veilmatch.server.keyholder.stock.stocks import Stocks
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.stock.targets import Targets
from veilmatch.server.monitoring import calls
from veilmatch.server.revoking.lists import RevocationLists
from veilmatch.server.transport.limits import WHOLE_CALL

#: What the caller is given: of a verification a decision share, sealed if the request names a recipient; of a search a
#: probe share before it; of a change the shares of templates.
Answer = ProbeShare | TemplateShare | DecisionShare | SealedAnswerShare

#: Part of the time-out for which sessions may go on once the shares are to be replaced. Short, because the other holder
#: of a session may be waiting before its turnstile already.
_DRAINING = 1 / 5
#: When a request is served again that a refresh has ended: all three switch within about that.
_REFRESHED_S = 1.0

#: Operations whose session is that of another one.
_SESSIONS: dict[Operation, Operation] = {"retain": "erase", "issue": "enrol", "present": "verify"}

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
        self.links = PairLinks(
            key.party,
            self._peers,
            settings.peer_timeout_s,
            lambda strand, matters: self._together.host(strand, matters),
        )
        self._together = Together(key.party, self.server, self.scheme, self.links, workers.of)
        #: Requests that are being served, and how many may be.
        cores = os.cpu_count() or 1
        self.under_way = AtOnce(settings.admission.resolved(cores), self.server.name)
        #: The same of the matcher's link, which brings verifications alone.
        self.verifying = AtOnce(settings.admission.verifying_at_once(cores), self.server.name)
        self._turnstile = Turnstile()
        self._store = StockStore(settings.data_dir, key.storage_seed(SECRET_ACCESS))
        least: dict[Kind, int] = {
            "triples": settings.stock_triples,
            "bits": settings.stock_bytes,
            "products": settings.stock_products,
        }
        residue_bytes = self._public_key.parameters.ciphertext_bytes // 2
        self.targets = Targets(least, settings.stock_searches, settings.stock_disk_bytes, residue_bytes)
        self.stocks = Stocks(
            key.party, key.epoch, self._store, self._peers, self.targets, self._public_key.modulus,
            lambda pair: self.key.safety(pair), self._timeout_s,
        )  # fmt: skip
        audit_log = AuditLog(settings.data_dir, key.party, key.key_id, settings.audit_file_bytes)
        self._auditor = Auditor(audit_log, key.party)
        self._ledger = Ledger(
            settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name, pairs_without(key.party)
        )
        #: Of dealing, for each peer.
        self.allowance = Allowance(settings.dealing)
        #: What organisations have taken back.
        self.revocation_lists = RevocationLists(settings.revoked_dir, public)
        devices = Devices(settings.devices_dir, public, lists=self.revocation_lists)
        self._checker = RequestChecker(
            self._public_key,
            devices,
            settings.max_clock_skew_s,
            settings.max_request_lifetime_s,
            settings.party_name,
            after_another=True,
            recipients=Recipients(public, Revoked(settings.revoked_dir, self.revocation_lists)),
        )
        self._cards = Cards(public)
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
            "or the other one goes back (veilmatch keyholder refresh --recover), or all three get new ones (recover)",
            got=got,
            expected=expected,
        )

    # -- requests -------------------------------------------------------------------------------

    async def serve(
        self, caller: str, opening: pb.OpenSession, results: AsyncIterator[Results] | None
    ) -> AsyncGenerator[Answer, None]:
        """Serve one request that the matcher `caller` brings; yields the answers for it.

        results: of a search, as they come; None where none can come: a verification alone is served then.
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
        self, caller: str, opening: pb.OpenSession, results: AsyncIterator[Results] | None, record: Record
    ) -> AsyncGenerator[Answer, None]:
        watch = calls.Stages()
        checked = self._checker.check(opening.request, *WITH_LANES, *ON_RECORDS, "retain")
        if results is None and checked.operation not in VERIFICATIONS:
            raise ProtocolError("a request that needs a stream of its own", got=checked.operation, expected="verify")
        search = checked.searches
        by_device = self._by_device(checked, opening)
        output_bits = opening.output_bits if search else _told(checked.operation, by_device)
        record.identify(checked, RequestBody.FromString(opening.request.body).model, output_bits)
        require_pair(checked, self._pairs, self.server.name)
        self.links.require_found(other_party(checked.pair, self.party))
        cost = {"requests": 1, "searches": int(search), "bits": output_bits}
        names = {"device": checked.device, "gallery": checked.gallery}
        # The record in a card is its own: what its matcher says counts for nothing.
        card = self._cards.presented(checked, opening.request) if checked.card_digest else None
        if card is not None:
            names["card"] = card.statement.serial.hex()
        before_meeting = partial(self.links.before_meeting, self._request(checked, opening, b""))
        async with before_meeting():
            # A device whose budget is used up costs no proof and no commit to disk.
            await asyncio.to_thread(self._ledger.look, names, cost)
        sent = opening.request.ciphertexts if checked.operation in WITH_LANES else []
        check_payload(checked, sent)
        carried = card.statement.ciphertexts if card is not None else []
        ciphertexts = [*self.scheme.parse_many([*sent, *carried]), *self.given(caller, opening.record)]
        if sent:
            await asyncio.to_thread(check_knowledge, checked, sent, self._public_key)
        watch.lap("check")
        async with before_meeting():
            entry = Entry(checked.nonce, checked.expires_at_ms, names, cost)
            await asyncio.wrap_future(self._ledger.enter(entry))
        watch.lap("note")
        peer = other_party(checked.pair, self.party)
        if search and results is not None:
            results = _within(
                results, "known" if checked.unless_known else checked.operation, output_bits, checked.views
            )
        async with self._turnstile.passed():
            epoch = self.epoch
            try:
                footing = Footing(checked.pair, self.key, await self.stocks.of(checked.pair))
                request = self._request(checked, opening, footing.stock.name)
                part = Part(request, ciphertexts, by_device, checked.views)
                work = self._workers.of(checked.pair, footing.key.epoch, checked.device)
                # Converted while the peer is met.
                local = asyncio.ensure_future(work.local_shares(ciphertexts))
                if checked.operation in VERIFICATIONS:
                    one = Verification(part, footing, checked.device, record, work, local)
                    share = await self._together.answer(one)
                    watch.lap("meet", one.met_ns)
                    yield self._for_recipient(checked, opening, share)
                else:
                    assert results is not None
                    async for answer in self._alone(part, footing, record, work, local, results, watch):
                        yield self._for_recipient(checked, opening, answer)
            except GalleryMismatchError:
                raise  # between the matchers: it says nothing of the key holders
            except KeyMismatchError:
                self.stocks.forget(checked.pair)
                if self.unsettled or self.epoch != epoch:
                    raise _refreshing(peer, "one epoch", "two") from None
                raise
        watch.lap("session")
        _log.info("served", operation=checked.operation, pair=checked.pair, peer=party_name(peer))

    async def budgets_of(self, device: str) -> list[Left]:
        """Return what a device has used of its budgets here. Raises RequestSignatureError for one that is not known."""
        self._checker.require_known(device)
        return await asyncio.to_thread(self._ledger.left, "device", device)

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

    def _by_device(self, checked: CheckedRequest, opening: pb.OpenSession) -> NDArray[np.bool_]:
        """Return which of the vectors of a session were encrypted by a device: what the request brings, then records.

        The other key holder is told the same, or the two find out that they were not. Raises ProtocolError for records
        of which that is not said, and for more or fewer of them than the operation has.
        """
        operation = checked.operation
        records, rest = divmod(len(opening.record), self.scheme.parameters.lane_ciphertexts)
        if rest or len(opening.by_device) != -(-records // 8):
            raise ProtocolError("records and what is said of them do not fit", got=len(opening.by_device))
        fewest, most = (1, MAX_TEMPLATES) if operation == "verify" else (0, 0)
        if operation not in (*ON_RECORDS, "retain") and not fewest <= records <= most:
            raise ProtocolError("another number of records", got=records, expected=f"{fewest}..{most}")
        packed = np.frombuffer(opening.by_device, dtype=np.uint8)
        of_records = np.unpackbits(packed, count=records, bitorder="little").astype(np.bool_)
        # Two organisations have made and signed the record in a card, as they make every one but those of a bulk.
        of_card = np.zeros(int(checked.operation == "present"), dtype=np.bool_)
        brought = checked.views if checked.operation in WITH_LANES else 0
        return np.concatenate([np.ones(brought, dtype=np.bool_), of_card, of_records])

    def _request(self, checked: CheckedRequest, opening: pb.OpenSession, stock: bytes) -> Request:
        # What is due is erased like everything else; a card is made like a template, and compared like one.
        operation = _SESSIONS.get(checked.operation, checked.operation)
        if operation not in ("verify", "candidates", "identify", "known", "enrol", "erase", "rotate"):
            raise ProtocolError("an operation without a session", got=operation)
        return Request(
            operation=operation,
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

    async def _alone(
        self,
        part: Part,
        footing: Footing,
        record: Record,
        work: ShareWork,
        local: asyncio.Future[list[LocalShare]],
        results: AsyncIterator[Results],
        watch: calls.Stages,
    ) -> AsyncIterator[Answer]:
        """Serve a request in a session of its own, which goes with no other."""
        session = footing.session([part], self.scheme)
        peer = other_party(footing.pair, self.party)
        # What this session was given of the stock stays with the peer until the link has ended.
        with footing.stock.session() as stock, ending(local), Arriving(work) as arriving:
            async with self.links.about(part.request) as strand:
                watch.lap("meet")
                # In here, so that the peer is told who failed, too.
                with own_failures(self.server):
                    by = Surroundings(work, Turns(partial(self.links.by_peer, peer), strand), stock)
                    driving = driven(session, local, [Noted(part, record)], by, arriving, results)
                    async with aclosing(driving) as answers:
                        async for answer in answers:
                            if not isinstance(answer, Composed):
                                yield answer

    async def close(self) -> None:
        """Close stores and channels."""
        self._together.close()
        self.links.close()
        self.stocks.retire()
        await self._peers.close()
        self._store.close()
        self._ledger.close()
        self._auditor.close()


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
    return int(operation in VERIFICATIONS)


async def _within(
    results: AsyncIterator[Results], operation: str, output_bits: int, views: int = 1
) -> AsyncIterator[Results]:
    """Pass parts of results on that ask for at most the answer bits that were announced, all together.

    Of several views a slot is asked for once for each, and answered once. Raises ProtocolError for more.
    """
    wanted = 0
    async for part in results:
        wanted += int(part.wanted.sum())
        asked = answer_bits(operation, -(-wanted // views))
        if asked > output_bits:
            raise ProtocolError("more answers than were announced", got=asked, expected=output_bits)
        yield part
