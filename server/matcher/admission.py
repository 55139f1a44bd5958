"""What every request of a device passes before anything is done for it: right by itself, new, and within its budget."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from veilmatch.crypto.card import SignedCard, most_bytes
from veilmatch.crypto.consent import consent_digest
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import proof_bytes
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import InvalidInputError, RequestSignatureError, UnknownGalleryError, UnknownSubjectError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.recipient_certificate import MAX_BYTES as RECIPIENT_BYTES
from veilmatch.crypto.requests import MAX_VIEWS, VERIFICATIONS, Operation, check_model, check_subject, subject_digest
from veilmatch.crypto.terms import require_lasting
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.cards import Cards
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.admission.requests import (
    WITH_LANES,
    CheckedRequest,
    RequestChecker,
    check_ciphertexts,
    require_device,
    require_pair,
)
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.channels import Context, caller

_log = structlog.get_logger(__name__)
#: All fields of a request but its ciphertexts and its proof, generously: names of 64 characters, digests, a signature.
_FIELDS_BYTES = 1 << 12


def request_bytes(public_key: PublicKey) -> int:
    """Return the largest size of a request with a probe; what is larger is none."""
    parameters = public_key.parameters
    lanes = MAX_VIEWS * parameters.lane_ciphertexts * (parameters.ciphertext_bytes + 8)
    return _FIELDS_BYTES + RECIPIENT_BYTES + lanes + proof_bytes(public_key) + most_bytes(parameters)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be served, and its gallery. model: of the embeddings in it, "" where there are none.

    card: that it presents, found right by itself.
    """

    checked: CheckedRequest
    gallery: Gallery
    model: str
    card: SignedCard | None = None


class Admission:
    """What every request of a device passes before anything is done for it.

    ledger: with the budgets of subjects; those of devices and galleries are at the key holders. pairs: those that this
    matcher serves.
    """

    def __init__(
        self,
        checker: RequestChecker,
        ledger: Ledger,
        galleries: dict[str, Gallery],
        pairs: Collection[Pair],
        pseudonym_key: bytes = b"",
        cards: Cards | None = None,
    ) -> None:
        """pseudonym_key: secret, without which nobody tells whose budget is counted; see `pseudonym_key_of`. cards: of
        the installation; without, none may be presented."""
        self._cards = cards
        self._pseudonym_key = pseudonym_key
        self._checker = checker
        self._pairs = pairs
        self._ledger = ledger
        self._galleries = galleries

    def look(self, request: request_pb2.SignedRequest, caller: str, *operations: Operation) -> CheckedRequest:
        """Return what a request asks. Raises what `admit` raises for one that is not right by itself.

        caller: by its certificate. Notes nothing.
        """
        checked = self._check(request, caller, *operations)
        # It is held while it waits: with what belongs to it, and no more.
        check_ciphertexts(checked, request.ciphertexts, self._checker.parameters)
        return checked

    def _check(self, request: request_pb2.SignedRequest, caller: str, *operations: Operation) -> CheckedRequest:
        checked = self._checker.check(request, *operations)
        require_device(checked, caller)
        require_pair(checked, self._pairs, self._checker.server)
        return checked

    def is_far(self, request: request_pb2.SignedRequest, within_s: float) -> bool:
        """See RequestChecker.is_far; for a request that was refused by the clock alone."""
        return self._checker.is_far(request, within_s)

    async def admit(self, request: request_pb2.SignedRequest, context: Context, *operations: Operation) -> Admitted:
        """Return the checked request, its gallery and its model; its nonce is new.

        It is noted durably, except that of a verification: `count` notes that one, with what it costs.
        """
        return await self._admit(self._check(request, caller(context), *operations), request)

    async def admit_looked(self, looked: CheckedRequest, request: request_pb2.SignedRequest) -> Admitted:
        """Do the same for a request that has waited since `look` returned this about it."""
        return await self._admit(self._checker.check_again(looked, request), request)

    async def _admit(self, checked: CheckedRequest, request: request_pb2.SignedRequest) -> Admitted:
        if checked.subject_digest:
            check_subject(request.subject)
            if subject_digest(request.subject_salt, request.subject) != checked.subject_digest:
                raise RequestSignatureError("the subject is not the one that was signed")
        if checked.consent_digest or request.consent:
            if consent_digest(request.subject_salt, request.consent) != checked.consent_digest:
                raise RequestSignatureError("the consent is not the one that was signed")
            require_lasting(request.consent, checked.made_s)
        model = _signed_model(request, checked.operation)
        gallery = self._galleries.get(checked.gallery)
        if gallery is None:
            raise UnknownGalleryError(
                "no such gallery here", got=checked.gallery[:60], expected=", ".join(self._galleries)
            )
        card = self._cards.presented(checked, request) if self._cards and checked.card_digest else None
        if checked.operation in VERIFICATIONS:
            # A subject whose budget is used up costs no commit to disk and no check of ciphertexts.
            names = self._budget_names(request.subject, checked.gallery, card)
            entry = Entry(checked.nonce, checked.expires_at_ms, names, _ONE)
            await asyncio.to_thread(self._ledger.look_at, entry)
        else:
            await asyncio.wrap_future(self._ledger.enter(Entry(checked.nonce, checked.expires_at_ms)))
        _log.info("admitted", operation=checked.operation, device=checked.device, gallery=checked.gallery)
        return Admitted(checked, gallery, model, card)

    async def count(self, admitted: Admitted, subject: str) -> None:
        """Note the nonce of a verification and count it, durably and in one.

        A subject that is not in the gallery costs no budget, and the request can still be made only once. Nothing was
        served for one that failed before this, so that it may be made again.
        """
        checked, names = admitted.checked, self._budget_names(subject, admitted.gallery.name, admitted.card)
        if admitted.card is None:
            try:
                admitted.gallery.index.require(subject)
            except UnknownSubjectError:
                await asyncio.wrap_future(self._ledger.enter(Entry(checked.nonce, checked.expires_at_ms)))
                raise
        await asyncio.wrap_future(self._ledger.enter(Entry(checked.nonce, checked.expires_at_ms, names, _ONE)))

    def _budget_names(self, subject: str, gallery: str, card: SignedCard | None = None) -> dict[str, str]:
        """Return under which pseudonym a subject of a gallery is counted; a card is counted as a subject of its own."""
        if card is not None:
            return {"subject": digest("budget card", self._pseudonym_key, gallery, card.statement.serial).hex()}
        return {"subject": digest("budget subject", self._pseudonym_key, gallery, subject).hex()}


#: What a verification costs its subject.
_ONE = {"requests": 1}


def pseudonym_key_of(organisation: OrganisationKey) -> bytes:
    """Return the key of pseudonyms, 32 bytes: the same at every start, and known to nobody without the organisation's.

    ledger.db counts a subject for up to 30 days, erased or not, and is to confirm no name to whoever reads it.
    """
    return digest("key of budget subjects", organisation.sign("budget subjects v1", b""))


def _signed_model(request: request_pb2.SignedRequest, operation: Operation) -> str:
    """Return the embedding model that a checked request names; it must where it brings vectors, and only there."""
    model = request_pb2.RequestBody.FromString(request.body).model
    if operation in WITH_LANES or operation == "bulk":
        return check_model(model)
    if model:
        raise InvalidInputError("a field of the request has no sense here", got="model", expected=operation)
    return model
