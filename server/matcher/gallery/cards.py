"""Which cards a gallery has issued and which it has revoked: all that servers keep of them.

The log is where it stands: a card that is issued is a change of the gallery with its serial and digest, one that is
revoked a change with its serial, both certified by two organisations and followed by the third like any other. Here is
an index of those changes, made from the log at the start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from veilmatch.crypto.card import LATEST_S, SERIAL_BYTES, SignedCard
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import CardError, CardRevokedError, IntegrityError

#: Kinds of changes: `body.Kind`.
ISSUED, REVOKED = "card", "card revoked"
KINDS = (ISSUED, REVOKED)


@dataclass(frozen=True, slots=True)
class Issued:
    """One card. serial: 16 bytes. digest: 32 bytes, of what was signed. expires_s: Unix time. device: that asked."""

    serial: bytes
    digest: bytes
    expires_s: int
    device: str
    is_revoked: bool = False

    @property
    def result(self) -> str:
        """What the change says: JSON, the answer to a retry as well."""
        fields = {"serial": self.serial.hex(), "digest": self.digest.hex(), "expires_s": self.expires_s}
        return json.dumps({"templates": 0, **fields, "device": self.device})


def revoked_result(serial: bytes) -> str:
    """Return what the change says that revokes a card."""
    return json.dumps({"templates": 0, "serial": serial.hex()})


def serial_in(result: str) -> bytes:
    """Return the serial that a change of a card is about. Raises IntegrityError."""
    try:
        return _octets(json.loads(result)["serial"], SERIAL_BYTES)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError("a change of a card that says nothing of it") from None


@dataclass
class CardIndex:
    """Cards of one gallery, by serial; `take` changes in their order."""

    _by_serial: dict[bytes, Issued] = field(default_factory=dict)

    def take(self, kind: str, result: str) -> None:
        """Take in a change of a kind that may be about a card. Raises IntegrityError if it contradicts those before."""
        if kind == ISSUED:
            issued = _issued(result)
            if issued.serial in self._by_serial:
                raise IntegrityError("a serial of a card was used twice", got=issued.serial.hex())
            self._by_serial[issued.serial] = issued
        elif kind == REVOKED:
            serial = serial_in(result)
            if (found := self._by_serial.get(serial)) is None:
                raise IntegrityError("a card was revoked that was not issued", got=serial.hex())
            self._by_serial[serial] = replace(found, is_revoked=True)

    def __len__(self) -> int:
        return len(self._by_serial)

    def find(self, serial: bytes) -> Issued:
        """Return what is known of a card. Raises CardError if this gallery has issued none with this serial."""
        found = self._by_serial.get(serial)
        if found is None:
            raise CardError("no card with this serial was issued in this gallery", got=serial.hex())
        return found

    def require_good(self, card: SignedCard) -> None:
        """Raise CardError unless this gallery has issued exactly this card, CardRevokedError if it was revoked."""
        serial = card.statement.serial
        found = self.find(serial)
        if found.digest != card.statement.digest():
            raise CardError("not the card that was issued under this serial", got=serial.hex())
        if found.is_revoked:
            raise CardRevokedError("the card was revoked", got=serial.hex())


def _issued(result: str) -> Issued:
    try:
        said: dict[str, Any] = json.loads(result)
        serial, digest = _octets(said["serial"], SERIAL_BYTES), _octets(said["digest"], DIGEST_BYTES)
        expires_s, device = said["expires_s"], said["device"]
        if type(expires_s) is not int or not 0 <= expires_s <= LATEST_S or type(device) is not str:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError("a change of a card that says nothing of it") from None
    return Issued(serial, digest, expires_s, device)


def _octets(text: object, size: int) -> bytes:
    if type(text) is not str or len(data := bytes.fromhex(text)) != size:
        raise ValueError
    return data
