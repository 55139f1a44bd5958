"""Private face matching: only this device, or whom it names, learns the decision. All that a program uses is here.

A complete program; `veilmatch up` makes an installation with the `device.toml` that it reads:

    from veilmatch import Client, NoFaceError, UnavailableError

    with Client.from_config("device.toml") as client:
        client.enrol("alice", "alice.jpg")
        try:
            result = client.verify("alice", "door.jpg")
        except NoFaceError:
            print("come closer, please")
        except UnavailableError as error:
            print(f"not now: {error.party} is missing")
        else:
            print("welcome" if result else "not alice")

`AsyncClient` has the same methods for asyncio. Photos need the extra `device` and `veilmatch models install`; methods
that end in `_embedding` need neither. Every error is a VeilmatchError, and `hint` says what to do about it.

A name is imported when it is first used: the daemons and the mathematics, which live in packages below this one, do
not load the SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veilmatch.client.async_client import (
        AsyncClient,
    )
    from veilmatch.client.capture.image import (
        ImageSource,
    )
    from veilmatch.client.client import (
        Client,
    )
    from veilmatch.client.config import (
        DeviceSettings,
    )
    from veilmatch.client.models import (
        install_models,
    )
    from veilmatch.client.operations.device import (
        Capture,
        Embedding,
        Progress,
        Skipped,
    )
    from veilmatch.client.recipient import (
        AsyncForRecipient,
        ForRecipient,
        SealedResult,
    )
    from veilmatch.client.results import (
        Candidates,
        Enrolment,
        Erasure,
        IdentifyResult,
        Rotation,
        SubjectEntry,
        Subjects,
        Timings,
        Verification,
    )
    from veilmatch.client.wire.transport import (
        Matcher,
    )
    from veilmatch.common.hints import (
        hint,
    )
    from veilmatch.common.settings import (
        TlsSettings,
    )
    from veilmatch.crypto.errors import (
        AuditLogError,
        BudgetExceededError,
        CiphertextError,
        ClientUseError,
        ConfigurationError,
        DealtOpeningError,
        DealtStockError,
        DeviceCertificateError,
        DeviceRightsError,
        DisagreementError,
        DuplicateTokenError,
        EmbeddingError,
        GalleryMismatchError,
        GalleryRotatedError,
        HandshakeError,
        ImageError,
        IntegrityError,
        InvalidInputError,
        KeyFileError,
        KeyMismatchError,
        KeySafetyError,
        KnowledgeProofError,
        LowThresholdError,
        MissingExtraError,
        ModelError,
        ModelMismatchError,
        NoFaceError,
        OtherInstallationError,
        OutputError,
        OverloadedError,
        ParameterError,
        PartyRefusedError,
        ProtocolError,
        RecipientCertificateError,
        RecipientRevokedError,
        RefreshIntervalError,
        RequestExpiredError,
        RequestRefusedError,
        RequestReplayedError,
        RequestSignatureError,
        ServerDeviationError,
        SeveralFacesError,
        StatementError,
        StatementMismatchError,
        StatementReplayedError,
        StatementTimeError,
        StorageError,
        UnavailableError,
        UnfitModelError,
        UnknownGalleryError,
        UnknownSubjectError,
        UnusableFaceError,
        VeilmatchError,
        WrongClockError,
        WrongPassphraseError,
    )
    from veilmatch.crypto.keys.parties import Pair, Party
    from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
    from veilmatch.crypto.sealed_answer import SealedAnswer

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncForRecipient",
    "AuditLogError",
    "BudgetExceededError",
    "Candidates",
    "Capture",
    "CiphertextError",
    "Client",
    "ClientUseError",
    "ConfigurationError",
    "DealtOpeningError",
    "DealtStockError",
    "DeviceCertificateError",
    "DeviceRightsError",
    "DeviceSettings",
    "DisagreementError",
    "DuplicateTokenError",
    "Embedding",
    "EmbeddingError",
    "Enrolment",
    "Erasure",
    "ForRecipient",
    "GalleryMismatchError",
    "GalleryRotatedError",
    "HandshakeError",
    "IdentifyResult",
    "ImageError",
    "ImageSource",
    "IntegrityError",
    "InvalidInputError",
    "KeyFileError",
    "KeyMismatchError",
    "KeySafetyError",
    "KnowledgeProofError",
    "LowThresholdError",
    "Matcher",
    "MissingExtraError",
    "ModelError",
    "ModelMismatchError",
    "NoFaceError",
    "OtherInstallationError",
    "OutputError",
    "OverloadedError",
    "Pair",
    "ParameterError",
    "Party",
    "PartyRefusedError",
    "Progress",
    "ProtocolError",
    "RecipientCertificate",
    "RecipientCertificateError",
    "RecipientRevokedError",
    "RefreshIntervalError",
    "RequestExpiredError",
    "RequestRefusedError",
    "RequestReplayedError",
    "RequestSignatureError",
    "Rotation",
    "SealedAnswer",
    "SealedResult",
    "ServerDeviationError",
    "SeveralFacesError",
    "Skipped",
    "StatementError",
    "StatementMismatchError",
    "StatementReplayedError",
    "StatementTimeError",
    "StorageError",
    "SubjectEntry",
    "Subjects",
    "Timings",
    "TlsSettings",
    "UnavailableError",
    "UnfitModelError",
    "UnknownGalleryError",
    "UnknownSubjectError",
    "UnusableFaceError",
    "VeilmatchError",
    "Verification",
    "WrongClockError",
    "WrongPassphraseError",
    "__version__",
    "hint",
    "install_models",
]

#: Where each name is defined. The imports above say the same to type checkers.
_PLACES = {
    "veilmatch.client.async_client": ("AsyncClient",),
    "veilmatch.client.capture.image": ("ImageSource",),
    "veilmatch.client.client": ("Client",),
    "veilmatch.client.config": ("DeviceSettings",),
    "veilmatch.client.operations.device": (
        "Capture",
        "Embedding",
        "Progress",
        "Skipped",
    ),
    "veilmatch.client.models": ("install_models",),
    "veilmatch.client.recipient": ("AsyncForRecipient", "ForRecipient", "SealedResult"),
    "veilmatch.client.results": (
        "Candidates",
        "Enrolment",
        "Erasure",
        "IdentifyResult",
        "Rotation",
        "SubjectEntry",
        "Subjects",
        "Timings",
        "Verification",
    ),
    "veilmatch.client.wire.transport": ("Matcher",),
    "veilmatch.common.hints": ("hint",),
    "veilmatch.common.settings": ("TlsSettings",),
    "veilmatch.crypto.errors": (
        "AuditLogError",
        "BudgetExceededError",
        "CiphertextError",
        "ClientUseError",
        "ConfigurationError",
        "DealtOpeningError",
        "DealtStockError",
        "DeviceCertificateError",
        "DeviceRightsError",
        "DisagreementError",
        "DuplicateTokenError",
        "EmbeddingError",
        "GalleryMismatchError",
        "GalleryRotatedError",
        "HandshakeError",
        "ImageError",
        "IntegrityError",
        "InvalidInputError",
        "KeyFileError",
        "KeyMismatchError",
        "KeySafetyError",
        "KnowledgeProofError",
        "LowThresholdError",
        "MissingExtraError",
        "ModelError",
        "ModelMismatchError",
        "NoFaceError",
        "OtherInstallationError",
        "OutputError",
        "OverloadedError",
        "ParameterError",
        "PartyRefusedError",
        "ProtocolError",
        "RecipientCertificateError",
        "RecipientRevokedError",
        "RefreshIntervalError",
        "RequestExpiredError",
        "RequestRefusedError",
        "RequestReplayedError",
        "RequestSignatureError",
        "ServerDeviationError",
        "SeveralFacesError",
        "StatementError",
        "StatementMismatchError",
        "StatementReplayedError",
        "StatementTimeError",
        "StorageError",
        "UnavailableError",
        "UnfitModelError",
        "UnknownGalleryError",
        "UnknownSubjectError",
        "UnusableFaceError",
        "VeilmatchError",
        "WrongClockError",
        "WrongPassphraseError",
    ),
    "veilmatch.crypto.keys.parties": (
        "Pair",
        "Party",
    ),
    "veilmatch.crypto.keys.recipient_certificate": ("RecipientCertificate",),
    "veilmatch.crypto.sealed_answer": ("SealedAnswer",),
}
_PLACE = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562)."""
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
