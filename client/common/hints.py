"""What to do about an error: by its class, and by its fields where the class alone does not tell.

Every class of the tree stands here.
"""

from __future__ import annotations

from collections.abc import Callable

from veilmatch.crypto import errors as e
from veilmatch.crypto.errors import VeilmatchError

Hint = str | Callable[[VeilmatchError], str]


def hint(error: VeilmatchError) -> str:
    """Return what to do about the error, in a sentence or two: never empty."""
    if error.hint:
        return error.hint
    found = next(HINTS[kind] for kind in type(error).__mro__ if kind in HINTS)
    return found if isinstance(found, str) else found(error)


def span(seconds: float) -> str:
    """Return a length of time in the largest unit of which it has two."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _unavailable(error: VeilmatchError) -> str:
    others = f" Pairs that could serve: {', '.join(error.alternatives)}." if error.alternatives else ""
    return f"Try again {_when(error)}; {error.party or 'a party'} is missing.{others}"


def _when(error: VeilmatchError) -> str:
    return "later" if error.retry_after_s is None else f"in {span(error.retry_after_s)}"


def _budget(error: VeilmatchError) -> str:
    if error.retry_after_s is None:
        when = "This can never be served: the request alone is larger than the budget."
    else:
        when = f"Try again in {span(error.retry_after_s)}; asking earlier does not help."
    where = f" The budget is {_setting(error)}."
    return when + (where if isinstance(error, e.BudgetExceededError) and error.setting else "")


def _setting(error: VeilmatchError) -> str:
    """Say where a budget is set: of whom, in which file, in which field."""
    setting = getattr(error, "setting", None)
    party = error.party or ""
    file = "matcher.toml" if party.startswith("matcher") else "keyholder.toml"
    return f"{setting} in [budgets] of {file}" + (f" at {party}, whose operators set it" if party else "")


def _rights(error: VeilmatchError) -> str:
    """Of a certificate that is right but for its time, what is missing is no right."""
    if "expired" in error.message:
        return "Renew it: `veilmatch device renew` asks for the same certificate once more, for longer."
    if "not valid yet" in error.message:
        return "Compare the clocks of this device, of the servers and of the ceremony with the time."
    return "Have a certificate signed that gives this right: `veilmatch device request`."


def _overloaded(error: VeilmatchError) -> str:
    return f"Try again {_when(error)}: every pair is as busy. If it stays so, devices ask more than the servers can do."


def _storage(error: VeilmatchError) -> str:
    return f"The operators of {error.party or 'that party'} have to look at the disk of its data_dir.{_others(error)}"


def _others(error: VeilmatchError) -> str:
    return f" Meanwhile these pairs could serve: {', '.join(error.alternatives)}." if error.alternatives else ""


def _model(error: VeilmatchError) -> str:
    # What is missing may be of another bundle than the models: `expected` then says how to install that.
    command = error.expected if "models install" in (error.expected or "") else "veilmatch models install"
    return f"Install it: `{command}`."


def _low_quality(error: VeilmatchError) -> str:
    reasons = [text[:1].upper() + text[1:] + "." for text in getattr(error, "reasons", ())]
    return " ".join([*reasons, "Or enrol this photo all the same: --accept-any, in the SDK accept_any=True."])


def _handshake(error: VeilmatchError) -> str:
    return (
        f"The certificates of this device and of {error.party or 'the party'} do not go together: look whether [tls] of"
        " device.toml is of that installation, whether a certificate has expired, and whose address it is."
    )


def _version(error: VeilmatchError) -> str:
    return f"See docs/upgrading.md; `veilmatch status` shows which versions each server speaks.{_others(error)}"


def _expired(error: VeilmatchError) -> str:
    whose = f" and of {error.party}" if error.party else ""
    return f"Compare the clocks of this device{whose} with the time; see also request_lifetime_s in device.toml."


#: By class, and every class stands here: tests see to it.
HINTS: dict[type[VeilmatchError], Hint] = {
    VeilmatchError: "Please report it, with what is printed under VEILMATCH_DEBUG=1.",
    # what came
    e.InvalidInputError: "Correct what the message names, and try again.",
    e.ImageError: "Open the photo elsewhere; if it is good, save it anew as JPEG or PNG.",
    e.NoFaceError: "Take a photo in which one face is large and seen from the front.",
    e.UnusableFaceError: "Take a photo of the upright face, large and seen from the front.",
    e.LowQualityError: _low_quality,
    e.PresentationAttackError: "Stand before the camera yourself; a picture, a screen or a mask is refused. If it"
    " was a live face, look at `threshold` in [liveness] of device.toml.",
    e.LivenessError: "Nothing says that the face is live, so nothing was asked. Look at [liveness] of device.toml, and"
    " at the images that it names.",
    e.SeveralFacesError: "Crop the photo to the one face that is meant, or say that it is the largest:"
    ' `--face largest`, or face = "largest" in [capture] of device.toml.',
    e.EmbeddingError: "Give the embedding as the face model gives it: finite numbers, not all zero, of its size.",
    e.CiphertextError: "Update this device's software: the servers take no such ciphertext.",
    e.KnowledgeProofError: "Update this device's software; if it stays, tell the operators of the servers.",
    e.UnknownSubjectError: "`veilmatch subjects` lists who is enrolled.",
    e.DuplicateTokenError: "A token stands for one change: use a fresh one for another. Of an enrolment unless known, "
    "first take back what the token has enrolled.",
    e.ParameterError: "Use a parameter set of the documentation: d128-s126-c38-l46-n3072, for example.",
    e.ConfigurationError: "Correct it where the message says, and start again.",
    e.MissingExtraError: lambda error: f"Install what is missing: {error.expected or error.message}.",
    e.ClientUseError: "Make a client where it is used: one for each process, and close it at the end.",
    e.DeviceCertificateError: "Have it signed by two organisations: `veilmatch device request`, then `device certify`.",
    e.OtherInstallationError: "Take public.json, the certificates and [tls] of one installation; with its own"
    " public.json in the folder, `veilmatch device request --folder` asks for a certificate there.",
    e.RecipientCertificateError: "Have it signed by two organisations: `veilmatch recipient new`, then"
    " `recipient certify` at each, then `recipient issue`.",
    e.CardError: "Read the card once more, from its file if there is one; a card of another gallery, or one that was"
    " altered, is no good: issue another.",
    e.CardExpiredError: "Issue another card: this one has reached the end that stands on it.",
    e.CardRevokedError: "Whoever issued it has taken it back: issue another card, if its person is to have one.",
    e.RevocationListError: "`veilmatch device revoke --config` makes them; a copy of the file may be damaged.",
    # refused
    e.RequestRefusedError: "Ask the operators of the servers why; their logs name the request.",
    e.RequestExpiredError: _expired,
    e.WrongClockError: lambda error: (
        f"The operators of {error.party or 'that party'} have to set its clock.{_others(error)}"
    ),
    e.RequestReplayedError: "Make the call again: every request has a nonce of its own.",
    e.RequestSignatureError: "Every daemon needs a certificate of this device, for its present signing key: `veilmatch"
    " device list` there. If it has one, this device may be of another installation.",
    e.RecipientRevokedError: "Name no recipient by this certificate; ask it for a new one, or the organisations why.",
    e.PartyRefusedError: "Check the certificates in [tls], and the name of this device.",
    e.DeviceRightsError: _rights,
    e.LowThresholdError: "Ask with a higher threshold, or have a certificate with a lower one signed.",
    e.LivenessDemandedError: "Set up [liveness] in device.toml with a detector that the certificate allows, and give"
    " photos, not embeddings.",
    # another key
    e.KeyMismatchError: "Get the present public key and parameter set from the installation.",
    e.UnknownGalleryError: "Set `gallery` in device.toml to one that the matchers have, or have it added to `galleries`"
    " in both matcher.toml.",
    e.UnfitModelError: "Use embeddings of that many coordinates (the methods *_embedding), or an installation with a"
    " parameter set for this face model.",
    e.GalleryMismatchError: "Repeat once; if it stays, tell the operators of the matchers.",
    e.ModelMismatchError: "Use the face model that the gallery was enrolled with, or another gallery.",
    e.GalleryRotatedError: "Use the configuration of this device under the new key.",
    # budgets, load, absence
    e.BudgetExceededError: _budget,
    e.RefreshIntervalError: lambda error: (
        f"Try again {_when(error)}; refresh_interval_s of keyholder.toml says how often one key holder may lead."
    ),
    e.OverloadedError: _overloaded,
    e.DisagreementError: "Do not rely on any of the answers; tell the operators of all three organisations. Their"
    " audit logs have the requests, which `request_ids` names.",
    e.UnavailableError: _unavailable,
    e.HandshakeError: _handshake,
    e.VersionError: _version,
    e.AuditLogError: _storage,
    e.StorageError: _storage,
    # contradictions
    e.IntegrityError: "Do not rely on an answer; tell the operators of the matchers.",
    e.KeyFileError: "Restore the file from where it was made.",
    e.WrongPassphraseError: "Try the passphrase again.",
    e.DealtStockError: "There was no answer; tell the operators of the key holders, or ask another pair.",
    e.DealtOpeningError: "There was no answer; tell the operators of the key holders, or ask another pair.",
    e.ProtocolError: "See that both ends run the same version of Veilmatch; if so, tell the operators of the servers.",
    e.KeySafetyError: "There was no answer; tell the operators of all three key holders at once.",
    e.ServerDeviationError: "Do not enrol again before the servers have been looked at. Empty templates match nobody;"
    " `veilmatch erase SUBJECT --enrolment TOKEN` takes one back.",
    e.ReceiptError: "Do not rely on the receipt: see that it and public.json are of one installation, and unaltered.",
    e.StatementError: "Do not rely on the answer; ask the device for a new one, and if it stays, tell the operators.",
    e.StatementMismatchError: "Do not rely on the answer: see that the device was asked what is expected here.",
    e.StatementTimeError: "Ask the device for a new answer; if it stays, compare the clocks.",
    e.StatementReplayedError: "Ask the device for a new answer: each counts once.",
    # this machine
    e.ModelError: _model,
    e.OutputError: "What was done stands: do not do it again only to see it. Send the output where it can be read.",
}
