"""Cards: the record of a face that its person carries, and that no gallery has.

A card says which record two organisations have made for whom, and both have signed all of it. Servers keep the digest
of what was signed, under the card's serial; whoever presents a card has to bring the rest. The record is what an
enrolment makes: lane ciphertexts under the installation's one key, so any pair can compare it, whichever pair made it.
docs/cards.md.

Nothing here has the subject's name: what is signed holds its salted digest, as a request does, so that key holders
check a card without learning whose it is. Bytes in and bytes out, and one encoding only: `decode` accepts exactly what
`encode` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES, KEY_ID_BYTES, PublicFile
from veilmatch.crypto.errors import CardError, InvalidInputError, KeyMismatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import GALLERY_CHARACTERS, check_gallery, check_model

#: An encoded statement begins with it. The line end shows what a transfer as text has done to it.
MAGIC = b"VMCARD1\n"
#: What an organisation's signature is of, and is signed with.
CONTEXT = "card v1"
SERIAL_BYTES = 16
SIGNATURE_BYTES = 64
#: Times are exact as numbers of JSON.
LATEST_S = 1 << 53
DAY_S = 86400
_TIME_BYTES = 8
#: Of one text, behind its length in two bytes: 64 characters of four bytes.
_TEXT_BYTES = 4 * GALLERY_CHARACTERS
#: Everything but the record, generously.
_FIELDS_BYTES = 1 << 10

#: Returns whether an organisation has signed a message in CONTEXT.
Signed = Callable[[Party, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class CardStatement:
    """What both organisations of a pair sign of a card. Raises CardError if a field is none of this.

    installation, key_id: 16 bytes each, parameters, gallery, model: what the record belongs to. pair: who made it and
    signs. serial: 16 bytes, random, and nobody's choice. subject_digest: 32 bytes, salted, see
    `requests.subject_digest`. issued_s, expires_s: Unix times in whole seconds, the second one excluded. record: lane
    ciphertexts, joined. consent_digest: salted, of the consent that it was issued under (consent.py), b"" without one;
    so servers to whom the card is shown do not learn the reference.
    """

    installation: bytes
    key_id: bytes
    parameters: ParameterSet
    gallery: str
    model: str
    pair: Pair
    serial: bytes
    subject_digest: bytes
    issued_s: int
    expires_s: int
    record: bytes = field(repr=False)
    consent_digest: bytes = b""

    def __post_init__(self) -> None:
        try:
            check_gallery(self.gallery)
            check_model(self.model)
        except InvalidInputError as error:
            raise CardError(error.message, got=error.got, expected=error.expected) from None
        record_bytes = record_bytes_of(self.parameters)
        for what, right, expected in (
            ("installation", len(self.installation) == INSTALLATION_BYTES, f"{INSTALLATION_BYTES} bytes"),
            ("key_id", len(self.key_id) == KEY_ID_BYTES, f"{KEY_ID_BYTES} bytes"),
            ("pair", self.pair in PAIRS, " or ".join(PAIRS)),
            ("serial", len(self.serial) == SERIAL_BYTES, f"{SERIAL_BYTES} bytes"),
            ("subject_digest", len(self.subject_digest) == DIGEST_BYTES, f"{DIGEST_BYTES} bytes"),
            ("consent_digest", len(self.consent_digest) in (0, DIGEST_BYTES), f"none, or {DIGEST_BYTES} bytes"),
            ("validity", 0 <= self.issued_s < self.expires_s <= LATEST_S, "a beginning and a later end"),
            ("record", len(self.record) == record_bytes, f"{record_bytes} bytes"),
        ):
            if not right:
                raise CardError("a field of the card has no sense", got=what, expected=expected)

    @property
    def ciphertexts(self) -> list[bytes]:
        """The lane ciphertexts of the record."""
        size = self.parameters.ciphertext_bytes
        return [self.record[at : at + size] for at in range(0, len(self.record), size)]

    @property
    def organisations(self) -> tuple[Party, Party]:
        """Who signs, in the order of the signatures."""
        first, second = (party for party in PARTIES if party in self.pair)
        return first, second

    def require_of(self, public: PublicFile) -> None:
        """Raise KeyMismatchError unless the record is under this installation's key and parameter set, CardError if the
        card is of another installation with the same.

        The key first: after a rotation both are others, and what helps then is another card.
        """
        own = public.public_key
        if (self.parameters, self.key_id) != (own.parameters, own.key_id):
            raise KeyMismatchError(
                "the card is under another key than this installation has", got=self.key_id.hex(),
                expected=own.key_id.hex(), hint="Have another card issued: nobody can bring this one under a new key.",
            )  # fmt: skip
        if self.installation != public.installation:
            raise CardError(
                "a card of another installation", got=self.installation.hex(), expected=public.installation.hex()
            )

    def digest(self) -> bytes:
        """Return the 32 bytes that both sign, in CONTEXT, and that servers keep: a digest of all fields."""
        return digest("card", self.encode())

    def encode(self) -> bytes:
        """Return the one encoding."""
        texts = (self.parameters.name, self.gallery, self.model)
        return b"".join((
            MAGIC, self.installation, self.key_id, self.pair.encode(), self.serial, self.subject_digest,
            self.issued_s.to_bytes(_TIME_BYTES, "big"), self.expires_s.to_bytes(_TIME_BYTES, "big"),
            *map(written_text, texts), written(self.consent_digest), self.record,
        ))  # fmt: skip

    @staticmethod
    def read(data: Fields) -> CardStatement:
        """Return the statement at the beginning of these bytes. Raises CardError if there is none."""
        if data.take(len(MAGIC)) != MAGIC:
            raise CardError("not a card", expected="what `veilmatch issue` has written")
        installation, key_id = data.take(INSTALLATION_BYTES), data.take(KEY_ID_BYTES)
        pair, serial, subject_digest = data.take(2), data.take(SERIAL_BYTES), data.take(DIGEST_BYTES)
        issued_s, expires_s = data.number(_TIME_BYTES), data.number(_TIME_BYTES)
        name, gallery, model = data.text(), data.text(), data.text()
        try:
            parameters = ParameterSet.from_name(name)
        except InvalidInputError:
            raise CardError("a field of the card has no sense", got="parameter set") from None
        under, record = data.counted(DIGEST_BYTES), data.take(record_bytes_of(parameters))
        return CardStatement(
            installation, key_id, parameters, gallery, model, cast(Pair, pair.decode("ascii", "replace")), serial,
            subject_digest, issued_s, expires_s, record, under,
        )  # fmt: skip

    @staticmethod
    def decode(data: bytes) -> CardStatement:
        """Return the statement. Raises CardError unless `data` is exactly one encoding of one."""
        fields = Fields(data)
        found = CardStatement.read(fields)
        fields.require_end()
        if found.encode() != data:
            raise CardError("not the one encoding of this card")
        return found


@dataclass(frozen=True, slots=True)
class SignedCard:
    """A statement with the signatures of both organisations of its pair, in its order, right or wrong until `check`."""

    statement: CardStatement
    signatures: tuple[bytes, bytes] = field(repr=False)

    def check(self, is_signed: Signed) -> None:
        """Raise CardError unless both organisations have signed exactly this statement."""
        message = self.statement.digest()
        for party, signature in zip(self.statement.organisations, self.signatures, strict=True):
            if not is_signed(party, message, signature):
                raise CardError(
                    f"organisation {party} has not signed this card as it is",
                    expected="the signatures of both organisations " + " and ".join(self.statement.organisations),
                )

    def encode(self) -> bytes:
        """Return the one encoding, as requests carry it."""
        return self.statement.encode() + b"".join(self.signatures)

    @staticmethod
    def read(data: Fields) -> SignedCard:
        """Return the card at the beginning of these bytes. Raises CardError if there is none."""
        statement = CardStatement.read(data)
        return SignedCard(statement, (data.take(SIGNATURE_BYTES), data.take(SIGNATURE_BYTES)))

    @staticmethod
    def decode(data: bytes) -> SignedCard:
        """Return the card, unchecked. Raises CardError unless `data` is exactly one encoding of one."""
        fields = Fields(data)
        found = SignedCard.read(fields)
        fields.require_end()
        if found.encode() != data:
            raise CardError("not the one encoding of this card")
        return found


class Fields:
    """Fields one after the other. Raises CardError where they end too soon, or too late."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise CardError("a card that is cut off", got=f"{len(self._data)} bytes")
        self._at += size
        return found

    def number(self, size: int) -> int:
        """Return the next number, big-endian."""
        return int.from_bytes(self.take(size), "big")

    def counted(self, most: int) -> bytes:
        """Return the next bytes, behind their length in two bytes."""
        size = self.number(2)
        if size > most:
            raise CardError("a text of a card is too long", got=f"{size} bytes", expected=f"<= {most} bytes")
        return self.take(size)

    def text(self, most: int = _TEXT_BYTES) -> str:
        """Return the next text, behind its length in two bytes."""
        try:
            return self.counted(most).decode()
        except UnicodeDecodeError:
            raise CardError("a text of a card is none") from None

    def require_end(self) -> None:
        """Raise CardError if anything is left."""
        if self._at != len(self._data):
            raise CardError("more than a card", got=f"{len(self._data)} bytes", expected=f"{self._at} bytes")


def written(data: bytes) -> bytes:
    """Return bytes as `Fields.counted` reads them."""
    return len(data).to_bytes(2, "big") + data


def written_text(text: str) -> bytes:
    """Return a text as `Fields.text` reads it."""
    return written(text.encode())


def record_bytes_of(parameters: ParameterSet) -> int:
    """Return the size of a record."""
    return parameters.lane_ciphertexts * parameters.ciphertext_bytes


def most_bytes(parameters: ParameterSet) -> int:
    """Return the largest size of a signed card of this parameter set."""
    return record_bytes_of(parameters) + _FIELDS_BYTES


def presented_digest(card: bytes) -> bytes:
    """Return what a device signs of the encoded card that it sends, 32 bytes."""
    return digest("presented card", card)


def serial_of(session_id: bytes, request_digest: bytes) -> bytes:
    """Return the serial of a card, from the session that made its record: no party chooses that alone."""
    return digest("card serial", session_id, request_digest)[:SERIAL_BYTES]
