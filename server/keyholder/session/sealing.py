"""The share of an answer for a recipient: sealed here, so that no matcher and no device has it in clear.

Both shares, of the answer bits and of "valid probe", are masked as they always are when they leave
(crypto/pair/mask.py); then they are sealed to the X25519 key of the recipient's certificate, under all that is stated
about them, and the organisation signs the whole as a compact JWS. docs/recipients.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from veilmatch.crypto.answer_share import LIFETIME_S, SEARCHES, Context, SealedShare, share_data
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.pair.messages import DecisionShare
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.organisation import OrganisationKey

#: RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class SealedAnswerShare:
    """What leaves for a request that names a recipient. statement: a compact JWS. count: of answer bits."""

    session_id: bytes
    statement: str
    count: int


class Sealer:
    """Seals and signs for one organisation. now: the clock, Unix time in seconds."""

    def __init__(
        self, organisation: OrganisationKey, installation: bytes, key_id: bytes, now: Callable[[], float] = time.time
    ) -> None:
        self._organisation = organisation
        self._installation = installation
        self._key_id = key_id
        self._now = now

    def seal(
        self,
        checked: CheckedRequest,
        sequence: int,
        chain: bytes,
        labels: bytes,
        share: DecisionShare,
    ) -> SealedAnswerShare:
        """Return the statement about this holder's share of the answer to a request that names a recipient.

        sequence, chain: of the gallery that was compared. labels: digest of its subjects for a search, else b"".
        """
        recipient = checked.recipient
        if recipient is None:
            raise ProtocolError("a share is sealed for a request that names no recipient")
        if len(labels) != (DIGEST_BYTES if checked.operation in SEARCHES else 0):
            raise ProtocolError("the digest of the subjects has no sense here", got=f"{len(labels)} bytes")
        now_s = int(self._now())
        about = Context(
            installation=self._installation,
            key_id=self._key_id,
            party=self._organisation.party,
            pair=checked.pair,
            request=checked.digest,
            session=share.session_id,
            device=checked.device,
            operation=checked.operation,
            subject=checked.subject_digest,
            labels=labels,
            threshold=checked.threshold,
            gallery=checked.gallery,
            sequence=sequence,
            chain=chain,
            recipient=recipient.id,
            challenge=checked.challenge,
            count=len(share.bits),
            issued_at_s=now_s,
            expires_at_s=now_s + LIFETIME_S,
            views=checked.views,
        )
        data = share_data(np.packbits(share.bits, bitorder="little").tobytes(), bool(share.valid))
        public = X25519PublicKey.from_public_bytes(recipient.public_key)
        sealed = SUITE.encrypt(data, public, info=about.info())
        statement = self._organisation.sign_statement(SealedShare(about, sealed).encode())
        return SealedAnswerShare(share.session_id, statement, about.count)
