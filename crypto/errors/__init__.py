"""The one tree of errors: every error that leaves a Veilmatch boundary is one of these.

    VeilmatchError
        InvalidInputError            what came cannot be what was meant; got and expected are fields
            ImageError               not an image, damaged, or too large
            NoFaceError              no face in the photo
            UnusableFaceError        a face in the photo that no embedding can be relied on: too small, tilted
            LowQualityError          a face that is not good enough to be enrolled; reasons is a field
            PresentationAttackError  a photo that is not taken for one of a live face
            LivenessError            a check of liveness that is asked for and cannot be made
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
            CardError                a card that is not as two organisations signed it, or not for this gallery
                CardExpiredError     one after its end
                CardRevokedError     one that was revoked
            RevocationListError      a revocation list that an organisation did not sign as it is, or contradictory ones
        RequestRefusedError          a request that a server may not serve
            RequestExpiredError      past its expiry, or dated too far ahead
                WrongClockError      so far that the clock of the server which says so must be wrong
            RequestReplayedError     its nonce was seen before
            RequestSignatureError    not signed by the device it names
            RecipientRevokedError    for a recipient whose certificate the organisation of this server has revoked
            PartyRefusedError        the certificate at the other end is not that of a party served here
            DeviceRightsError        the device's certificate does not give it the right to this, or not at this time
                LowThresholdError    the device's certificate allows this operation from a higher threshold on
                LivenessDemandedError    it demands a verdict of liveness that the request does not have
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
            VersionError             a party whose version of the protocol and ours do not go together
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
            ReceiptError             a receipt of an erasure that two organisations did not sign as it is
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

from veilmatch.crypto.errors.base import (
    Details,
    VeilmatchError,
)
from veilmatch.crypto.errors.input import (
    CardError,
    CardExpiredError,
    CardRevokedError,
    CiphertextError,
    ClientUseError,
    ConfigurationError,
    DeviceCertificateError,
    DuplicateTokenError,
    EmbeddingError,
    ImageError,
    InvalidInputError,
    KnowledgeProofError,
    LivenessError,
    LowQualityError,
    MissingExtraError,
    NoFaceError,
    OtherInstallationError,
    ParameterError,
    PresentationAttackError,
    RecipientCertificateError,
    RevocationListError,
    SeveralFacesError,
    UnknownSubjectError,
    UnusableFaceError,
)
from veilmatch.crypto.errors.integrity import (
    DealtOpeningError,
    DealtStockError,
    IntegrityError,
    KeyFileError,
    KeySafetyError,
    ProtocolError,
    ReceiptError,
    ServerDeviationError,
    StatementError,
    StatementMismatchError,
    StatementReplayedError,
    StatementTimeError,
    WrongPassphraseError,
)
from veilmatch.crypto.errors.local import (
    ModelError,
    OutputError,
)
from veilmatch.crypto.errors.parties import (
    AuditLogError,
    DisagreementError,
    HandshakeError,
    StorageError,
    UnavailableError,
    VersionError,
)
from veilmatch.crypto.errors.refused import (
    BudgetExceededError,
    DeviceRightsError,
    GalleryMismatchError,
    GalleryRotatedError,
    KeyMismatchError,
    LivenessDemandedError,
    LowThresholdError,
    ModelMismatchError,
    OverloadedError,
    PartyRefusedError,
    RecipientRevokedError,
    RefreshIntervalError,
    RequestExpiredError,
    RequestRefusedError,
    RequestReplayedError,
    RequestSignatureError,
    UnfitModelError,
    UnknownGalleryError,
    WrongClockError,
)

__all__ = [
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
    "Details",
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
]
