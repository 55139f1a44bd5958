"""The one tree of errors: every error that leaves a Veilmatch boundary is one of these.

    VeilmatchError
        InvalidInputError            what came cannot be what was meant; got and expected are fields
            ImageError               not an image, damaged, or too large
            NoFaceError              no face in the photo
            UnusableFaceError        a face in the photo that no embedding can be relied on: too small, tilted
            SeveralFacesError        more than one face in the photo
            EmbeddingError           wrong dimension, not finite, or not a usable direction
            CiphertextError          not an element of Z*_(N^2), wrong length, or not well-formed
            KnowledgeProofError      no proof that the signer of a request knows what its ciphertexts hold
            UnknownSubjectError      no such subject in the gallery
            DuplicateTokenError      a client token was used again for another mutation
            ParameterError           numbers that do not make a sound parameter set
            ConfigurationError       a configuration file that cannot work
                MissingExtraError    a part of the package that is not installed
            ClientUseError           a client that is closed, or of another process, loop or thread
            DeviceCertificateError   a device's certificate that two organisations did not sign as it is
                OtherInstallationError   one that is for another installation
            RecipientCertificateError    a recipient's certificate that two organisations did not sign, or not for now
        RequestRefusedError          a request that a server may not serve
            RequestExpiredError      past its expiry, or dated too far ahead
                WrongClockError      so far that the clock of the server which says so must be wrong
            RequestReplayedError     its nonce was seen before
            RequestSignatureError    not signed by the device it names
            RecipientRevokedError    for a recipient whose certificate the organisation of this server has revoked
            PartyRefusedError        the certificate at the other end is not that of a party served here
            DeviceRightsError        the device's certificate does not give it the right to this, or not at this time
                LowThresholdError    the device's certificate allows this operation from a higher threshold on
        KeyMismatchError             another key, epoch, gallery, model or parameter set
            UnknownGalleryError      no such gallery
            UnfitModelError          embeddings of another size than the parameter set has
            GalleryMismatchError     the two matchers do not hold the same gallery
            ModelMismatchError       embeddings of another model than those in the gallery
            GalleryRotatedError      a change of a gallery that goes on under a new key
        BudgetExceededError          more answers than a device, a subject or a gallery gets
            RefreshIntervalError     another refresh of the key shares, led by the same key holder, too soon
        OverloadedError              more requests at once than a server takes; every pair is as busy
        DisagreementError            the three pairs answer one question differently: an organisation lies
        UnavailableError             too few parties or too little stock; needed and available are fields
            HandshakeError           a party whose certificate and ours do not go together
            AuditLogError            what is served cannot be noted in the audit log, so nothing is served
            StorageError             what has to be kept cannot be written or read: a full or failing disk
        IntegrityError               stored or received state contradicts itself
            KeyFileError             a key file that is truncated, altered or not one
            WrongPassphraseError     a key file that this passphrase does not open
            DealtStockError          dealt randomness that did not pass its check
                DealtOpeningError    in that check other values were opened than the dealer says
            ProtocolError            a message that does not belong where it came
            KeySafetyError           a key holder opened other values in a conversion than it should have
            ServerDeviationError     servers that answer what honest ones cannot have answered
            StatementError           statements about an answer that a recipient cannot rely on
                StatementMismatchError   they are about something else than was expected
                StatementTimeError       they are too old, or from a time to come
                StatementReplayedError   they were presented before
        ModelError                   a face model that is not installed, or not the pinned one
        OutputError                  what was done could not be printed

Every error has the same fields, which are the same at the other end of a wire. `got` and `expected` describe (sizes,
names, counts) and never quote a secret, a probe, a template or a score. `party` is who failed, `alternatives` are
pairs that can do without it: a client tries them. `retry_after_s` says when to ask again, `request_id` where to look
in the logs of every party. `said_by` is who has said it, of an error that came from elsewhere: it is a claim
(crypto/claims.py). A class says what is wrong with what came, never who is to blame. `hint` says what to do where the
class does not tell; `veilmatch.hint` has a text for every error. Nobody takes hints from another party.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, Unpack

#: Numbers of an error that came from elsewhere are below it: exact as floats.
_MAX_NUMBER = 2**53


class Details(TypedDict, total=False):
    """What any error may be made with, beside its message. See the head of this module."""

    got: object
    expected: object
    party: str | None
    alternatives: tuple[str, ...]
    retry_after_s: float | None
    request_id: str | None
    said_by: tuple[str, ...]
    hint: str | None


class VeilmatchError(Exception):
    """Base of all errors. `message` is a sentence; the other fields are described at the head of this module."""

    #: Stable name on the wire and in `--json`; unique in the tree.
    code: ClassVar[str] = "internal"
    #: Exit status of the command line.
    exit_status: ClassVar[int] = 10

    def __init__(self, message: str, **details: Unpack[Details]) -> None:
        self.message = message
        self.got = _text(details.get("got"))
        self.expected = _text(details.get("expected"))
        self.party = details.get("party")
        self.alternatives = tuple(details.get("alternatives", ()))
        self.retry_after_s = details.get("retry_after_s")
        self.request_id = details.get("request_id")
        #: Whoever said it first, and then whoever passed it on; empty where it was raised.
        self.said_by = tuple(details.get("said_by", ()))
        self.hint = details.get("hint")
        super().__init__(message)

    def __str__(self) -> str:
        detail = [f"expected {self.expected}"] if self.expected is not None else []
        detail += [f"got {self.got}"] if self.got is not None else []
        return f"{self.message} ({', '.join(detail)})" if detail else self.message

    @property
    def claim(self) -> str:
        """The message, after whose word it is: "keyholder-b says: keyholder-a says: the disk is full"."""
        return "".join(f"{name} says: " for name in reversed(self.said_by)) + self.message

    def fields(self) -> dict[str, Any]:
        """Everything that `from_fields` needs to raise the same error elsewhere; JSON types only."""
        return {
            "code": self.code,
            "message": self.message,
            "got": self.got,
            "expected": self.expected,
            "party": self.party,
            "alternatives": list(self.alternatives),
            "retry_after_s": self.retry_after_s,
            "request_id": self.request_id,
            "said_by": list(self.said_by),
            "hint": self.hint,
        }

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        """Return the error of these parts. fields: as they came, for what a class has beside `Details`."""
        return cls(message, **details)

    @staticmethod
    def from_fields(fields: dict[str, Any]) -> VeilmatchError:
        """Return the error that `fields` describes; a code of a newer peer becomes a VeilmatchError."""
        details = Details(
            got=fields.get("got"),
            expected=fields.get("expected"),
            party=_text(fields.get("party")),
            alternatives=_texts(fields.get("alternatives")),
            retry_after_s=_number(fields.get("retry_after_s")),
            request_id=_text(fields.get("request_id")),
            said_by=_texts(fields.get("said_by")),
            hint=_text(fields.get("hint")),
        )
        kind = _by_code(VeilmatchError).get(str(fields.get("code")), VeilmatchError)
        return kind._restore(str(fields.get("message", "")), details, fields)


class InvalidInputError(VeilmatchError):
    """What came cannot be what was meant."""

    code = "invalid_input"
    exit_status = 3


class ImageError(InvalidInputError):
    """Not an image, a damaged one, or one that is too large."""

    code = "image"


class NoFaceError(InvalidInputError):
    """No face was found in the photo."""

    code = "no_face"


class UnusableFaceError(InvalidInputError):
    """A face was found, and no embedding of it can be relied on: too small, tilted too far, cut off."""

    code = "unusable_face"


class SeveralFacesError(InvalidInputError):
    """More than one face was found, and nothing says which one is meant."""

    code = "several_faces"


class EmbeddingError(InvalidInputError):
    """An embedding of the wrong dimension, not finite, or without a usable direction."""

    code = "embedding"


class CiphertextError(InvalidInputError):
    """Not an element of Z*_(N^2), of the wrong length, or outside the subgroup of honest ciphertexts."""

    code = "ciphertext"


class KnowledgeProofError(InvalidInputError):
    """No proof that the signer of a request knows what its ciphertexts hold. One text for every cause."""

    code = "knowledge_proof"

    def __init__(
        self,
        message: str = "the request does not prove that its signer knows what the ciphertexts hold",
        **details: Unpack[Details],
    ) -> None:
        super().__init__(message, **details)


class UnknownSubjectError(InvalidInputError):
    """The gallery has no such subject."""

    code = "unknown_subject"


class DuplicateTokenError(InvalidInputError):
    """A client token was used before, for another mutation."""

    code = "duplicate_token"


class ParameterError(InvalidInputError):
    """Numbers that do not make a sound parameter set."""

    code = "parameter"


class ConfigurationError(InvalidInputError):
    """A configuration that cannot work."""

    code = "configuration"


class MissingExtraError(ConfigurationError):
    """A part of the package is not installed; `expected` is what to install."""

    code = "missing_extra"


class ClientUseError(InvalidInputError):
    """A client that is closed, or that belongs to another process, event loop or thread than the caller's."""

    code = "client_use"


class DeviceCertificateError(InvalidInputError):
    """A device's certificate that cannot be read, or that two organisations did not sign as it is."""

    code = "device_certificate"


class OtherInstallationError(DeviceCertificateError):
    """A device's certificate that is for another installation."""

    code = "other_installation"


class RecipientCertificateError(InvalidInputError):
    """A recipient's certificate that cannot be read, is not valid now, or that two organisations did not sign."""

    code = "recipient_certificate"


class RequestRefusedError(VeilmatchError):
    """A request that this server may not serve."""

    code = "request_refused"
    exit_status = 4


class RequestExpiredError(RequestRefusedError):
    """The request is past its expiry, or its expiry lies further ahead than servers accept."""

    code = "request_expired"


class WrongClockError(RequestExpiredError):
    """The clock of `party` is wrong: a request that was right elsewhere is far from right by it."""

    code = "wrong_clock"


class RequestReplayedError(RequestRefusedError):
    """The nonce of the request was seen before."""

    code = "request_replayed"


class RequestSignatureError(RequestRefusedError):
    """The request is not signed by the device that it names."""

    code = "request_signature"


class RecipientRevokedError(RequestRefusedError):
    """A recipient's certificate that the organisation of this server has revoked; `got` is the recipient's name."""

    code = "recipient_revoked"


class PartyRefusedError(RequestRefusedError):
    """The certificate at the other end is not that of a party served here."""

    code = "party_refused"


class DeviceRightsError(RequestRefusedError):
    """The certificate of the device does not give it the right to this, or not at this time."""

    code = "device_rights"


class LowThresholdError(DeviceRightsError):
    """The certificate of the device allows this operation from a higher threshold on; got and expected name both."""

    code = "low_threshold"


class KeyMismatchError(VeilmatchError):
    """Another key, epoch, gallery, model or parameter set than the one in use."""

    code = "key_mismatch"
    exit_status = 5


class UnknownGalleryError(KeyMismatchError):
    """The servers have no gallery of this name; `expected` lists those that they have."""

    code = "unknown_gallery"


class UnfitModelError(KeyMismatchError):
    """Embeddings of this face model have another number of coordinates than the parameter set."""

    code = "unfit_model"


class GalleryMismatchError(KeyMismatchError):
    """The two matchers do not hold the same gallery."""

    code = "gallery_mismatch"


class ModelMismatchError(KeyMismatchError):
    """Embeddings of another model than those in the gallery; the two cannot be compared."""

    code = "model_mismatch"


class GalleryRotatedError(KeyMismatchError):
    """A change of a gallery that was rotated: it goes on under a new key, and is only read under this one."""

    code = "gallery_rotated"


class BudgetExceededError(VeilmatchError):
    """More than a budget gives. `budget` names it, `limit` is its size, `retry_after_s` says when to ask again.

    `setting` is the field of [budgets] that sets it, with its window: "device_requests.day"; `party` is who counts.
    retry_after_s is None if the request alone is larger than the budget: it can never be served as it is.
    """

    code = "budget_exceeded"
    exit_status = 9

    def __init__(
        self,
        message: str,
        *,
        budget: str | None = None,
        limit: int | None = None,
        setting: str | None = None,
        **details: Unpack[Details],
    ) -> None:
        if limit is not None:
            details["expected"] = f"<= {limit}"
        super().__init__(message, **details)
        self.budget = budget
        self.setting = setting
        self.limit = limit

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"budget": self.budget, "limit": self.limit, "setting": self.setting}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        limit = _number(fields.get("limit"))
        whole = None if limit is None else int(limit)
        setting = _text(fields.get("setting"))
        return cls(message, budget=_text(fields.get("budget")), limit=whole, setting=setting, **details)


class RefreshIntervalError(BudgetExceededError):
    """Another refresh of the key shares, led by the same key holder, before its interval is over."""

    code = "refresh_interval"


class OverloadedError(VeilmatchError):
    """More requests at once than a server takes. `retry_after_s` says when to ask again: another pair is as busy."""

    code = "overloaded"
    exit_status = 12


class DisagreementError(VeilmatchError):
    """The three pairs of organisations answer one question differently: one of them lies, and nobody can tell which.

    said: what each pair answered, by its name. It is for the device alone: it stands in no text and no log, and is no
    part of `fields`. request_ids: by pair, the name of its request in the logs of all parties.
    """

    code = "disagreement"
    exit_status = 13

    def __init__(
        self,
        message: str,
        *,
        said: Mapping[str, object] | None = None,
        request_ids: Mapping[str, str] | None = None,
        **details: Unpack[Details],
    ) -> None:
        super().__init__(message, **details)
        self.said = dict(said or {})
        self.request_ids = dict(request_ids or {})

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"request_ids": self.request_ids}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        ids = fields.get("request_ids")
        known = {str(pair): str(name) for pair, name in ids.items()} if isinstance(ids, dict) else {}
        return cls(message, request_ids=known, **details)


class UnavailableError(VeilmatchError):
    """Too few parties, or too little stock. `party` is who is missing; `needed` and `available` say of what."""

    code = "unavailable"
    exit_status = 6

    def __init__(
        self, message: str, *, needed: object = None, available: object = None, **details: Unpack[Details]
    ) -> None:
        details.setdefault("expected", needed)
        details.setdefault("got", available)
        super().__init__(message, **details)

    @property
    def needed(self) -> str | None:
        """What was needed; the same as `expected`."""
        return self.expected

    @property
    def available(self) -> str | None:
        """What there was; the same as `got`."""
        return self.got


class HandshakeError(UnavailableError):
    """No connection to `party`, because one end does not accept the other's certificate."""

    code = "handshake"


class AuditLogError(UnavailableError):
    """What is served cannot be noted in the audit log, so nothing is served."""

    code = "audit_log"


class StorageError(UnavailableError):
    """What has to be kept cannot be written or read: a full, failing or read-only disk. Nothing was done."""

    code = "storage"


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
        return cls(message, enrolments=_texts(fields.get("enrolments")), **details)


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


class ModelError(VeilmatchError):
    """A face model that is not installed, or is not the pinned one."""

    code = "model"
    exit_status = 8


class OutputError(VeilmatchError):
    """What was done could not be printed: a reader that has gone, a full disk. The message says what was done."""

    code = "output"
    exit_status = 11


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _number(value: object) -> float | None:
    """Return a number that came from elsewhere, or None for anything else, and for one that cannot be waited for."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER
    return float(value) if usable else None  # type: ignore[arg-type]


def _by_code(root: type[VeilmatchError]) -> dict[str, type[VeilmatchError]]:
    return {root.code: root} | {c: k for sub in root.__subclasses__() for c, k in _by_code(sub).items()}
