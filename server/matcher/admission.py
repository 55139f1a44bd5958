"""What every request of a device passes before anything is done for it: right by itself, new, and within its budget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import proof_bytes
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import InvalidInputError, RequestSignatureError, UnknownGalleryError
from veilmatch.crypto.requests import Operation, check_model, check_subject, subject_digest
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.budgets import Budgets
from veilmatch.server.transport.channels import Context, caller
from veilmatch.server.transport.replay import ReplayLog
from veilmatch.server.transport.requests import (
    WITH_LANES,
    CheckedRequest,
    RequestChecker,
    check_ciphertexts,
    require_device,
)

_log = structlog.get_logger(__name__)
#: All fields of a request but its ciphertexts and its proof, generously: names of 64 characters, digests, a signature.
_FIELDS_BYTES = 1 << 12


def request_bytes(public_key: PublicKey) -> int:
    """Return the largest size of a request with one vector; what is larger is none."""
    parameters = public_key.parameters
    lanes = parameters.lane_ciphertexts * (parameters.ciphertext_bytes + 8)
    return _FIELDS_BYTES + lanes + proof_bytes(public_key)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be served, and its gallery. model: of the embeddings in it, "" where there are none."""

    checked: CheckedRequest
    gallery: Gallery
    model: str


class Admission:
    """What every request of a device passes before anything is done for it.

    budgets: of subjects; those of devices and galleries are at the key holders.
    """

    def __init__(
        self, checker: RequestChecker, replays: ReplayLog, budgets: Budgets, galleries: dict[str, Gallery]
    ) -> None:
        self._checker = checker
        self._replays = replays
        self._budgets = budgets
        self._galleries = galleries

    def look(self, request: request_pb2.SignedRequest, context: Context, *operations: Operation) -> None:
        """Raise what `admit` raises for a request that is not right by itself; notes and reads nothing."""
        checked = self._checker.check(request, *operations)
        require_device(checked, caller(context))
        # It is held while it waits: with what belongs to it, and no more.
        check_ciphertexts(checked, request.ciphertexts, self._checker.parameters)

    def is_far(self, request: request_pb2.SignedRequest, within_s: float) -> bool:
        """See RequestChecker.is_far; for a request that was refused by the clock alone."""
        return self._checker.is_far(request, within_s)

    async def admit(self, request: request_pb2.SignedRequest, context: Context, *operations: Operation) -> Admitted:
        """Return the checked request, its gallery and its model; the nonce is noted durably."""
        checked = self._checker.check(request, *operations)
        require_device(checked, caller(context))
        if checked.subject_digest:
            check_subject(request.subject)
            if subject_digest(request.subject_salt, request.subject) != checked.subject_digest:
                raise RequestSignatureError("the subject is not the one that was signed")
        model = _signed_model(request, checked.operation)
        gallery = self._galleries.get(checked.gallery)
        if gallery is None:
            raise UnknownGalleryError(
                "no such gallery here", got=checked.gallery[:60], expected=", ".join(self._galleries)
            )
        if checked.operation == "verify":
            # A subject whose budget is used up costs no commit to disk and no check of ciphertexts.
            await asyncio.to_thread(self._budgets.look, _budget_names(request.subject, checked.gallery), _ONE)
        await asyncio.to_thread(self._replays.register, checked.nonce, checked.expires_at_ms)
        _log.info("admitted", operation=checked.operation, device=checked.device, gallery=checked.gallery)
        return Admitted(checked, gallery, model)

    async def count(self, subject: str, gallery: Gallery) -> None:
        """Count a verification of the subject; one that is not in the gallery is refused without being counted."""
        gallery.index.require(subject)
        await asyncio.to_thread(self._budgets.admit, _budget_names(subject, gallery.name), _ONE)


#: What a verification costs its subject.
_ONE = {"requests": 1}


def _budget_names(subject: str, gallery: str) -> dict[str, str]:
    """Return under which pseudonym a subject of a gallery is counted."""
    return {"subject": digest("budget subject", gallery, subject).hex()}


def _signed_model(request: request_pb2.SignedRequest, operation: Operation) -> str:
    """Return the embedding model that a checked request names; it must where it brings vectors, and only there."""
    model = request_pb2.RequestBody.FromString(request.body).model
    if operation in WITH_LANES or operation == "bulk":
        return check_model(model)
    if model:
        raise InvalidInputError("a field of the request has no sense here", got="model", expected=operation)
    return model
