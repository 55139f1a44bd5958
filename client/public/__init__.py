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

TYPE_CHECKING = False  # as in `typing`, which the command line cannot have yet: see veilmatch.client.commands.main
if TYPE_CHECKING:
    from veilmatch.client.async_client import (
        AsyncClient,
    )
    from veilmatch.client.capture.image import (
        ImageSource,
    )
    from veilmatch.client.capture.pipeline import (
        face_quality,
    )
    from veilmatch.client.capture.quality.assessment import (
        Quality,
    )
    from veilmatch.client.card import (
        Card,
    )
    from veilmatch.client.client import (
        Client,
    )
    from veilmatch.client.config import (
        DeviceSettings,
    )
    from veilmatch.client.given.tables import (
        TableSource,
    )
    from veilmatch.client.liveness.shot import (
        Shot,
    )
    from veilmatch.client.models import (
        install_models,
    )
    from veilmatch.client.operations.comparing import (
        compare,
    )
    from veilmatch.client.operations.device import (
        Capture,
        Embedding,
        Progress,
        Skipped,
    )
    from veilmatch.client.receipt import (
        ErasureReceipt,
    )
    from veilmatch.client.recipient import (
        AsyncForRecipient,
        ForRecipient,
        SealedResult,
    )
    from veilmatch.client.results import (
        Budget,
        Budgets,
        Candidates,
        Comparison,
        Enrolment,
        Erasure,
        Erasures,
        IdentifyResult,
        Known,
        Retained,
        Revocation,
        Rotation,
        SubjectEntry,
        Subjects,
        TemplateEntry,
        Timings,
        Verification,
    )
    from veilmatch.client.tracing import (
        traced,
    )
    from veilmatch.client.vectors.captures import (
        ClassCapture,
        FusedCapture,
    )
    from veilmatch.client.vectors.fusing import (
        fuse,
        mean_view,
    )
    from veilmatch.client.vectors.head import (
        Head,
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
    from veilmatch.crypto.consent import (
        Consent,
    )
    from veilmatch.crypto.errors import (
        AuditLogError,
        BudgetExceededError,
        CardError,
        CardExpiredError,
        CardRevokedError,
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
        LivenessDemandedError,
        LivenessError,
        LowQualityError,
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
        PresentationAttackError,
        ProtocolError,
        ReceiptError,
        RecipientCertificateError,
        RecipientRevokedError,
        RefreshIntervalError,
        RequestExpiredError,
        RequestRefusedError,
        RequestReplayedError,
        RequestSignatureError,
        RevocationListError,
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
        VersionError,
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
    "Budget",
    "BudgetExceededError",
    "Budgets",
    "Candidates",
    "Capture",
    "Card",
    "CardError",
    "CardExpiredError",
    "CardRevokedError",
    "CiphertextError",
    "ClassCapture",
    "Client",
    "ClientUseError",
    "Comparison",
    "ConfigurationError",
    "Consent",
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
    "ErasureReceipt",
    "Erasures",
    "ForRecipient",
    "FusedCapture",
    "GalleryMismatchError",
    "GalleryRotatedError",
    "HandshakeError",
    "Head",
    "IdentifyResult",
    "ImageError",
    "ImageSource",
    "IntegrityError",
    "InvalidInputError",
    "KeyFileError",
    "KeyMismatchError",
    "KeySafetyError",
    "KnowledgeProofError",
    "Known",
    "LivenessDemandedError",
    "LivenessError",
    "LowQualityError",
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
    "PresentationAttackError",
    "Progress",
    "ProtocolError",
    "Quality",
    "ReceiptError",
    "RecipientCertificate",
    "RecipientCertificateError",
    "RecipientRevokedError",
    "RefreshIntervalError",
    "RequestExpiredError",
    "RequestRefusedError",
    "RequestReplayedError",
    "RequestSignatureError",
    "Retained",
    "Revocation",
    "RevocationListError",
    "Rotation",
    "SealedAnswer",
    "SealedResult",
    "ServerDeviationError",
    "SeveralFacesError",
    "Shot",
    "Skipped",
    "StatementError",
    "StatementMismatchError",
    "StatementReplayedError",
    "StatementTimeError",
    "StorageError",
    "SubjectEntry",
    "Subjects",
    "TableSource",
    "TemplateEntry",
    "Timings",
    "TlsSettings",
    "UnavailableError",
    "UnfitModelError",
    "UnknownGalleryError",
    "UnknownSubjectError",
    "UnusableFaceError",
    "VeilmatchError",
    "Verification",
    "VersionError",
    "WrongClockError",
    "WrongPassphraseError",
    "__version__",
    "compare",
    "face_quality",
    "fuse",
    "hint",
    "install_models",
    "mean_view",
    "traced",
]

#: Where each name is defined. The imports above say the same to type checkers.
_PLACES = {
    "veilmatch.client.async_client": ("AsyncClient",),
    "veilmatch.client.capture.image": ("ImageSource",),
    "veilmatch.client.capture.pipeline": ("face_quality",),
    "veilmatch.client.capture.quality.assessment": ("Quality",),
    "veilmatch.client.card": ("Card",),
    "veilmatch.client.client": ("Client",),
    "veilmatch.client.config": ("DeviceSettings",),
    "veilmatch.client.given.tables": ("TableSource",),
    "veilmatch.client.operations.comparing": ("compare",),
    "veilmatch.client.operations.device": (
        "Capture",
        "Embedding",
        "Progress",
        "Skipped",
    ),
    "veilmatch.client.liveness.shot": ("Shot",),
    "veilmatch.client.models": ("install_models",),
    "veilmatch.client.receipt": ("ErasureReceipt",),
    "veilmatch.client.recipient": ("AsyncForRecipient", "ForRecipient", "SealedResult"),
    "veilmatch.client.results": (
        "Budget",
        "Budgets",
        "Candidates",
        "Comparison",
        "Enrolment",
        "Erasure",
        "Erasures",
        "IdentifyResult",
        "Known",
        "Retained",
        "Revocation",
        "Rotation",
        "SubjectEntry",
        "Subjects",
        "TemplateEntry",
        "Timings",
        "Verification",
    ),
    "veilmatch.client.tracing": ("traced",),
    "veilmatch.client.vectors.captures": ("ClassCapture", "FusedCapture"),
    "veilmatch.client.vectors.fusing": ("fuse", "mean_view"),
    "veilmatch.client.vectors.head": ("Head",),
    "veilmatch.client.wire.transport": ("Matcher",),
    "veilmatch.common.hints": ("hint",),
    "veilmatch.common.settings": ("TlsSettings",),
    "veilmatch.crypto.consent": ("Consent",),
    "veilmatch.crypto.errors": (
        "AuditLogError",
        "BudgetExceededError",
        "CardError",
        "CardExpiredError",
        "CardRevokedError",
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
        "LivenessDemandedError",
        "LivenessError",
        "LowQualityError",
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
        "PresentationAttackError",
        "ProtocolError",
        "ReceiptError",
        "RecipientCertificateError",
        "RecipientRevokedError",
        "RefreshIntervalError",
        "RequestExpiredError",
        "RequestRefusedError",
        "RequestReplayedError",
        "RequestSignatureError",
        "RevocationListError",
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
        "VersionError",
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


def __getattr__(name: str) -> object:
    """Import a public name on its first use (PEP 562)."""
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
