"""The card that a request presents, and what it is worth here: matchers and key holders each find out for themselves.

Both check both signatures, and everything that a card is bound to. That it was issued in this gallery and not revoked,
matchers know from the gallery's log (matcher/gallery/cards.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from veilmatch.crypto.card import CONTEXT, SignedCard, presented_digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    CardError,
    CardExpiredError,
    ModelMismatchError,
    RequestSignatureError,
)
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1.request_pb2 import RequestBody, SignedRequest
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.organisation import verify


class Cards:
    """Cards of one installation. now: the clock, Unix time in seconds."""

    def __init__(self, public: PublicFile, now: Callable[[], float] = time.time) -> None:
        self._public = public
        self._now = now

    def presented(self, checked: CheckedRequest, request: SignedRequest) -> SignedCard:
        """Return the card of a request to compare a probe with it.

        Raises RequestSignatureError if it is not the one that the device signed; CardError if it is none, two
        organisations did not sign it as it is, or it is for another installation, gallery or subject; KeyMismatchError
        for another key or parameter set, ModelMismatchError for another model than the probe's, CardExpiredError.
        """
        if presented_digest(request.card) != checked.card_digest:
            raise RequestSignatureError("the card is not the one that was signed")
        card = SignedCard.decode(request.card)
        said = card.statement
        said.require_of(self._public)
        card.check(self._is_signed)
        if said.gallery != checked.gallery:
            raise CardError("a card of another gallery", got=said.gallery[:60], expected=checked.gallery[:60])
        if said.subject_digest != checked.subject_digest:
            raise CardError("a card of another subject than the request names")
        model = RequestBody.FromString(request.body).model
        if said.model != model:
            raise ModelMismatchError("the card holds an embedding of another model", got=model, expected=said.model)
        self.require_valid(card)
        return card

    def require_valid(self, card: SignedCard) -> None:
        """Raise CardExpiredError after the end of a card."""
        if (past_s := self._now() - card.statement.expires_s) >= 0:
            raise CardExpiredError("the card has expired", got=f"{past_s:.0f} s ago")

    def _is_signed(self, party: Party, message: bytes, signature: bytes) -> bool:
        return verify(self._public.signer(party), CONTEXT, message, signature)
