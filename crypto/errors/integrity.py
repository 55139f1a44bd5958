"""What contradicts itself, at rest or on the wire: files, dealt stock, messages, statements."""

from __future__ import annotations

from typing import Any, Unpack

from veilmatch.crypto.errors.base import Details, VeilmatchError, texts


class IntegrityError(VeilmatchError):
    """Stored or received state contradicts itself."""

    code = "integrity"
    exit_status = 7


class KeyFileError(IntegrityError):
    """A key file that is truncated, altered, of another party or not a key file."""

    code = "key_file"


class WrongPassphraseError(IntegrityError):
    """The passphrase does not open the key file."""

    code = "wrong_passphrase"


class DealtStockError(IntegrityError):
    """Dealt randomness did not pass the check of the pair that was to use it.

    `party` is who is named for it: the dealer, or the other key holder of the pair, for whoever finds it cannot tell
    with certainty. `retry_after_s` says when the next block is checked; what had passed before is served meanwhile.
    """

    code = "dealt_stock"


class DealtOpeningError(DealtStockError):
    """In the check of dealt randomness a key holder opened other values than the dealer says that it dealt."""

    code = "dealt_opening"


class ProtocolError(IntegrityError):
    """A message that does not belong where it came: wrong kind, order, size or session."""

    code = "protocol"


class KeySafetyError(IntegrityError):
    """The other key holder of the pair opened values that are not those of its share: a way to learn the key."""

    code = "key_safety"


class ServerDeviationError(IntegrityError):
    """What the servers answered cannot come from honest ones: one of them deviates from the protocol.

    Above all that a vector of the SDK's own quantiser is invalid: it never is. `enrolments`: tokens of the enrolments
    that left an empty template, in hex.
    """

    code = "server_deviation"

    def __init__(self, message: str, *, enrolments: tuple[str, ...] = (), **details: Unpack[Details]) -> None:
        super().__init__(message, **details)
        self.enrolments = tuple(enrolments)

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"enrolments": list(self.enrolments)}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        return cls(message, enrolments=texts(fields.get("enrolments")), **details)


class ReceiptError(IntegrityError):
    """A receipt of an erasure that two organisations have not signed as it is, or that is about somebody else."""

    code = "receipt"


class StatementError(IntegrityError):
    """Statements about an answer that a recipient cannot rely on: altered, incomplete, or signed by somebody else."""

    code = "statement"


class StatementMismatchError(StatementError):
    """A statement about something else than was expected: another request, subject, challenge, gallery, recipient."""

    code = "statement_mismatch"


class StatementTimeError(StatementError):
    """A statement that has expired, or is dated ahead of the recipient's clock."""

    code = "statement_time"


class StatementReplayedError(StatementError):
    """A statement that was presented before."""

    code = "statement_replayed"
