"""The one tree of errors: every error that leaves a Veilmatch boundary is one of these.

    VeilmatchError
        InvalidInputError            what came cannot be what was meant; got and expected are fields
            ImageError               not an image, damaged, or too large
            NoFaceError              no face in the photo
            SeveralFacesError        more than one face in the photo
            EmbeddingError           wrong dimension, not finite, or not a usable direction
            CiphertextError          not an element of Z*_(N^2), wrong length, or not well-formed
            KnowledgeProofError      no proof that the signer of a request knows what its ciphertexts hold
            UnknownSubjectError      no such subject in the gallery
            DuplicateTokenError      a client token was used again for another mutation
            ParameterError           numbers that do not make a sound parameter set
            ConfigurationError       a configuration file that cannot work
            DeviceCertificateError   a device's certificate that two organisations did not sign as it is
        RequestRefusedError          a request that a server may not serve
            RequestExpiredError      past its expiry, or dated too far ahead
            RequestReplayedError     its nonce was seen before
            RequestSignatureError    not signed by the device it names
            PartyRefusedError        the certificate at the other end is not that of a party served here
            DeviceRightsError        the device's certificate does not give it the right to this, or not at this time
                LowThresholdError    the device's certificate allows this operation from a higher threshold on
        KeyMismatchError             another key, epoch, gallery, model or parameter set
            GalleryMismatchError     the two matchers do not hold the same gallery
            ModelMismatchError       embeddings of another model than those in the gallery
            GalleryRotatedError      a change of a gallery that goes on under a new key
        BudgetExceededError          more answers than a device, a subject or a gallery gets; retry_after_s is a field
            RefreshIntervalError     another refresh of the key shares, led by the same key holder, too soon
        UnavailableError             too few parties or too little stock; needed and available are fields
            AuditLogError            what is served cannot be noted in the audit log, so nothing is served
        IntegrityError               stored or received state contradicts itself
            KeyFileError             a key file that is truncated, altered or not one
            WrongPassphraseError     a key file that this passphrase does not open
            DealtStockError          dealt randomness that did not pass its check; party and retry_after_s are fields
                DealtOpeningError    in that check other values were opened than the dealer says
            ProtocolError            a message that does not belong where it came
            KeySafetyError           a key holder opened other values in a conversion than it should have
            ServerDeviationError     servers that answer what honest ones cannot have answered
        ModelError                   a face model that is not installed, or not the pinned one

Naming rule: a class says what is wrong with what came, never who is to blame. `got` and
`expected` describe (sizes, names, counts) and never quote a secret, a probe, a template or a score.
"""

from __future__ import annotations

from typing import Any, ClassVar

#: Numbers of an error that came from elsewhere are below it: exact as floats.
_MAX_NUMBER = 2**53


class VeilmatchError(Exception):
    """Base of all errors. `message` is a sentence; `got` and `expected` are short descriptions or None."""

    #: Stable name on the wire and in `--json`; unique in the tree.
    code: ClassVar[str] = "internal"
    #: Exit status of the command line.
    exit_status: ClassVar[int] = 10

    def __init__(self, message: str, *, got: object = None, expected: object = None) -> None:
        self.message = message
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        super().__init__(message)

    def __str__(self) -> str:
        detail = [f"expected {self.expected}"] if self.expected is not None else []
        detail += [f"got {self.got}"] if self.got is not None else []
        return f"{self.message} ({', '.join(detail)})" if detail else self.message

    def fields(self) -> dict[str, Any]:
        """Everything that `from_fields` needs to raise the same error elsewhere; JSON types only."""
        return {"code": self.code, "message": self.message, "got": self.got, "expected": self.expected}

    @classmethod
    def _restore(cls, fields: dict[str, Any]) -> VeilmatchError:
        return cls(str(fields.get("message", "")), got=fields.get("got"), expected=fields.get("expected"))

    @staticmethod
    def from_fields(fields: dict[str, Any]) -> VeilmatchError:
        """Return the error that `fields` describes; a code of a newer peer becomes a VeilmatchError."""
        return _by_code(VeilmatchError).get(str(fields.get("code")), VeilmatchError)._restore(fields)


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
        *,
        got: object = None,
        expected: object = None,
    ) -> None:
        super().__init__(message, got=got, expected=expected)


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


class DeviceCertificateError(InvalidInputError):
    """A device's certificate that cannot be read, or that two organisations did not sign as it is."""

    code = "device_certificate"


class RequestRefusedError(VeilmatchError):
    """A request that this server may not serve."""

    code = "request_refused"
    exit_status = 4


class RequestExpiredError(RequestRefusedError):
    """The request is past its expiry, or its expiry lies further ahead than servers accept."""

    code = "request_expired"


class RequestReplayedError(RequestRefusedError):
    """The nonce of the request was seen before."""

    code = "request_replayed"


class RequestSignatureError(RequestRefusedError):
    """The request is not signed by the device that it names."""

    code = "request_signature"


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
        retry_after_s: float | None = None,
        got: object = None,
    ) -> None:
        super().__init__(message, got=got, expected=None if limit is None else f"<= {limit}")
        self.budget = budget
        self.limit = limit
        self.retry_after_s = retry_after_s

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        own = {"budget": self.budget, "limit": self.limit, "retry_after_s": self.retry_after_s}
        return super().fields() | own

    @classmethod
    def _restore(cls, fields: dict[str, Any]) -> VeilmatchError:
        limit, retry_after_s = (_number(fields.get(name)) for name in ("limit", "retry_after_s"))
        budget = fields.get("budget")
        return cls(
            str(fields.get("message", "")),
            budget=None if budget is None else str(budget),
            limit=None if limit is None else int(limit),
            retry_after_s=retry_after_s,
            got=fields.get("got"),
        )


class RefreshIntervalError(BudgetExceededError):
    """Another refresh of the key shares, led by the same key holder, before its interval is over."""

    code = "refresh_interval"


class UnavailableError(VeilmatchError):
    """Too few parties, or too little stock. `party` is who is missing; `alternatives` are pairs that could serve.

    `retry_after_s` says when the party is asked again, if that is known.
    """

    code = "unavailable"
    exit_status = 6

    def __init__(
        self,
        message: str,
        *,
        party: str | None = None,
        needed: object = None,
        available: object = None,
        alternatives: tuple[str, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, got=available, expected=needed)
        self.party = party
        self.retry_after_s = retry_after_s
        self.needed = self.expected
        self.available = self.got
        self.alternatives = tuple(alternatives)

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        own = {"party": self.party, "alternatives": list(self.alternatives), "retry_after_s": self.retry_after_s}
        return super().fields() | own

    @classmethod
    def _restore(cls, fields: dict[str, Any]) -> VeilmatchError:
        return cls(
            str(fields.get("message", "")),
            party=fields.get("party"),
            needed=fields.get("expected"),
            available=fields.get("got"),
            alternatives=tuple(map(str, fields.get("alternatives") or ())),
            retry_after_s=_number(fields.get("retry_after_s")),
        )


class AuditLogError(UnavailableError):
    """What is served cannot be noted in the audit log, so nothing is served."""

    code = "audit_log"


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

    def __init__(
        self,
        message: str,
        *,
        party: str | None = None,
        retry_after_s: float | None = None,
        got: object = None,
        expected: object = None,
    ) -> None:
        super().__init__(message, got=got, expected=expected)
        self.party = party
        self.retry_after_s = retry_after_s

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"party": self.party, "retry_after_s": self.retry_after_s}

    @classmethod
    def _restore(cls, fields: dict[str, Any]) -> VeilmatchError:
        party = fields.get("party")
        return cls(
            str(fields.get("message", "")),
            party=None if party is None else str(party),
            retry_after_s=_number(fields.get("retry_after_s")),
            got=fields.get("got"),
            expected=fields.get("expected"),
        )


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

    def __init__(
        self, message: str, *, got: object = None, expected: object = None, enrolments: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, got=got, expected=expected)
        self.enrolments = tuple(enrolments)

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"enrolments": list(self.enrolments)}

    @classmethod
    def _restore(cls, fields: dict[str, Any]) -> VeilmatchError:
        return cls(
            str(fields.get("message", "")),
            got=fields.get("got"),
            expected=fields.get("expected"),
            enrolments=tuple(map(str, fields.get("enrolments") or ())),
        )


class ModelError(VeilmatchError):
    """A face model that is not installed, or is not the pinned one."""

    code = "model"
    exit_status = 8


def _number(value: object) -> float | None:
    """Return a number that came from elsewhere, or None for anything else, and for one that cannot be waited for."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER
    return float(value) if usable else None  # type: ignore[arg-type]


def _by_code(root: type[VeilmatchError]) -> dict[str, type[VeilmatchError]]:
    return {root.code: root} | {c: k for sub in root.__subclasses__() for c, k in _by_code(sub).items()}
