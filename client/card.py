"""Cards: what `issue` returns, and its person carries: the record of a face that no gallery has.

    card = client.issue("ada", "ada.jpg", days=365)
    card.save("ada.vm")                                # card.text and card.qr("ada.png") say the same
    client.verify(Card.load("ada.vm"), "door.jpg")

A card is ciphertexts, the name of its subject, and the signatures of the two organisations that issued it. Whoever
finds one reads the name, and nothing of the face: that takes the keys of two organisations. No network here.
docs/cards.md.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilmatch.client.extras import needed
from veilmatch.crypto.card import CONTEXT, MAGIC, Fields, SignedCard, written, written_text
from veilmatch.crypto.consent import CONSENT_BYTES, Consent, consent_digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import CardError, ConfigurationError, InvalidInputError
from veilmatch.crypto.gallery_change import signed_by_organisation
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.requests import SALT_BYTES, SUBJECT_CHARACTERS, Operation, check_subject, subject_digest

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource

#: No file is longer, as text either: D = 512 has 6 kB.
MAX_BYTES = 1 << 16
#: What a QR code holds at most: version 40 with the lowest error correction, as bytes.
QR_BYTES = 2953
_FIRST, _LAST = "-----BEGIN VEILMATCH CARD-----", "-----END VEILMATCH CARD-----"
_LINE = 64


@dataclass(frozen=True)
class Card:
    """A card of one subject, right or wrong until `check` or a verification.

    signed: what two organisations signed. salt: 16 bytes, which bind the subject's name and the consent to that.
    consent: under which it was issued, None without one. Raises CardError if the name or the consent is not the one
    that it was issued for.
    """

    signed: SignedCard = field(repr=False)
    subject: str
    salt: bytes = field(repr=False)
    consent: Consent | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            check_subject(self.subject)
        except InvalidInputError as error:
            raise CardError(error.message, expected=error.expected) from None
        if len(self.salt) != SALT_BYTES:
            raise CardError("a card with another salt", got=f"{len(self.salt)} bytes", expected=f"{SALT_BYTES} bytes")
        if subject_digest(self.salt, self.subject) != self.signed.statement.subject_digest:
            raise CardError("the card is not for the name that stands on it")
        under = consent_digest(self.salt, self.consent.encode()) if self.consent else b""
        if under != self.signed.statement.consent_digest:
            raise CardError("the card was not issued under the consent that stands on it")

    # -- what it says -------------------------------------------------------------------------

    @property
    def serial(self) -> str:
        """What servers know it by, 32 hex digits; `revoke_card` takes it."""
        return self.signed.statement.serial.hex()

    @property
    def gallery(self) -> str:
        """The gallery whose log says that it was issued, and whether it was revoked."""
        return self.signed.statement.gallery

    @property
    def model(self) -> str:
        """The face model of the embedding in it."""
        return self.signed.statement.model

    @property
    def key_id(self) -> str:
        """The id of the key that the record is encrypted under, 32 hex digits."""
        return self.signed.statement.key_id.hex()

    @property
    def organisations(self) -> tuple[Party, Party]:
        """Who issued it and has signed it."""
        return self.signed.statement.organisations

    @property
    def issued_at(self) -> datetime:
        """When the device asked for it, UTC."""
        return _moment(self.signed.statement.issued_s)

    @property
    def expires_at(self) -> datetime:
        """From when on it is refused, UTC."""
        return _moment(self.signed.statement.expires_s)

    def check(self, public: PublicFile) -> None:
        """Raise CardError unless two organisations of the installation have signed exactly this card. Offline.

        Raises KeyMismatchError for a card under another key. Whether it was revoked, servers alone know.
        """
        self.signed.statement.require_of(public)
        self.signed.check(lambda party, message, signature: _is_signed(public.signer(party), message, signature))

    # -- as bytes, as a file, as text ---------------------------------------------------------

    def encode(self) -> bytes:
        """Return the one encoding: 1.9 kB at D = 128."""
        under = self.consent.encode() if self.consent else b""
        return self.signed.encode() + self.salt + written_text(self.subject) + written(under)

    @staticmethod
    def decode(data: bytes) -> Card:
        """Return the card in these bytes, or in the text that `text` makes of them. Raises CardError for others."""
        if len(data) > MAX_BYTES:
            raise CardError("not a card", got=f"{len(data)} bytes", expected=f"<= {MAX_BYTES} bytes")
        if not data.startswith(MAGIC):
            data = _of_text(data)
        fields = Fields(data)
        signed, salt, subject = SignedCard.read(fields), fields.take(SALT_BYTES), fields.text(4 * SUBJECT_CHARACTERS)
        under = fields.counted(CONSENT_BYTES)
        fields.require_end()
        try:
            card = Card(signed, subject, salt, Consent.decode(under) if under else None)
        except InvalidInputError as error:
            raise error if isinstance(error, CardError) else CardError("a consent of a card is none") from None
        if card.encode() != data:
            raise CardError("not the one encoding of this card")
        return card

    @property
    def text(self) -> str:
        """The same as text, for a message: base64 between two lines."""
        data = base64.b64encode(self.encode()).decode()
        return "\n".join([_FIRST, *(data[at : at + _LINE] for at in range(0, len(data), _LINE)), _LAST, ""])

    def save(self, path: str | Path) -> None:
        """Write the card to a file, for this user alone if the file is new. Raises ConfigurationError."""
        try:
            with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(self.encode())
        except OSError as error:
            raise ConfigurationError("the card cannot be written", got=f"{path}: {error.strerror}") from None

    @staticmethod
    def load(path: str | Path) -> Card:
        """Return the card in a file, as bytes or as text. Raises ConfigurationError if it cannot be read, CardError."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigurationError("the card cannot be read", got=f"{path}: {error.strerror}") from None
        return Card.decode(data)

    # -- as a QR code -------------------------------------------------------------------------

    def qr(self, path: str | Path, *, scale: int = 4) -> None:
        """Write the card as a QR code, of the kind that the file's ending names: .png, .svg or .pdf.

        scale: pixels of a module. Print it 6 cm wide or wider. Raises CardError for a card that is too large for one,
        MissingExtraError without the extra `cards`, ConfigurationError if it cannot be written.
        """
        data, kind = self.encode(), Path(path).suffix.lower().removeprefix(".")
        if kind not in ("png", "svg", "pdf"):
            raise ConfigurationError("a QR code of no known kind", got=kind or "no ending", expected="png, svg or pdf")
        if len(data) > QR_BYTES:
            raise CardError("the card is too large for a QR code", got=f"{len(data)} bytes", expected=f"<= {QR_BYTES}")
        with needed("cards"):
            import segno
        code = segno.make_qr(data, error="l", mode="byte", boost_error=True)
        try:
            with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                code.save(file, kind=kind, scale=scale, border=4)
        except OSError as error:
            raise ConfigurationError("the QR code cannot be written", got=f"{path}: {error.strerror}") from None

    @staticmethod
    def from_qr(image: ImageSource) -> Card:
        """Return the card in the photo of a QR code. Raises ImageError, CardError; MissingExtraError without the extras
        `cards` and `device`."""
        with needed("cards"):
            import zxingcpp
        from veilmatch.client.capture.image import load_image

        codes = [bytes(one.bytes) for one in zxingcpp.read_barcodes(load_image(image)) if one.bytes.startswith(MAGIC)]
        if len(codes) != 1:
            raise CardError("not a photo of one card", got=f"{len(codes)} QR codes of cards", expected="one")
        return Card.decode(codes[0])


def comparing(claimed: str | Card) -> Operation:
    """Return the operation, and the right, of a verification with an enrolled subject or with a card."""
    return "present" if isinstance(claimed, Card) else "verify"


def _of_text(data: bytes) -> bytes:
    """Return the bytes that a text of a card stands for, whatever its line ends are. Raises CardError."""
    lines = data.decode("ascii", "replace").split()
    first, last = _FIRST.split(), _LAST.split()
    if lines[: len(first)] != first or lines[-len(last) :] != last:
        raise CardError("not a card", expected="what `veilmatch issue` has written")
    try:
        return base64.b64decode("".join(lines[len(first) : -len(last)]), validate=True)
    except (binascii.Error, ValueError):
        raise CardError("a text of a card that is damaged") from None


def _moment(time_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(time_s, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed_by_organisation(CONTEXT, message))
    except (InvalidSignature, ValueError):
        return False
    return True
