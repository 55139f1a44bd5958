"""What came cannot be what was meant: photos, vectors, ciphertexts, names, configurations, certificates."""

from __future__ import annotations

from typing import Any, Unpack

from veilmatch.crypto.errors.base import Details, VeilmatchError, texts


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


class LowQualityError(InvalidInputError):
    """A face that is not good enough to be enrolled. `reasons` are texts for a person: what is wrong, what to do."""

    code = "low_quality"

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), **details: Unpack[Details]) -> None:
        super().__init__(message, **details)
        self.reasons = reasons

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"reasons": list(self.reasons)}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        return cls(message, reasons=texts(fields.get("reasons")), **details)


class PresentationAttackError(InvalidInputError):
    """A photo that the liveness detector of this device does not take for one of a live face."""

    code = "presentation_attack"


class LivenessError(InvalidInputError):
    """A check of liveness that is asked for and cannot be made: nothing says that the face is live."""

    code = "liveness"


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
    """A client token was used before, for another mutation; or for an enrolment unless known, and what it would be
    compared with now is not what it was compared with then: something was erased since."""

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


class CardError(InvalidInputError):
    """A card that cannot be read, is not as two organisations signed it, or is not for this gallery or subject."""

    code = "card"
    needs = "cards"


class CardExpiredError(CardError):
    """A card after its end."""

    code = "card_expired"


class CardRevokedError(CardError):
    """A card that was revoked."""

    code = "card_revoked"


class RevocationListError(InvalidInputError):
    """A revocation list that cannot be read, or that an organisation did not sign as it is; or one that contradicts."""

    code = "revocation_list"
