"""What every command prints: results on standard output, everything else on standard error.

With `--json` a command prints exactly one JSON document on standard output, an error included. Without
it, a result is a line for people. A failure always shows as a panel on standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from veilmatch.crypto import errors
from veilmatch.crypto.errors import BudgetExceededError, UnavailableError, VeilmatchError

#: Shows the trace of an unforeseen error. Off by default: its text may quote what was being handled.
DEBUG_VARIABLE = "VEILMATCH_DEBUG"

#: What to do about an error; the first class that fits, so the special ones come first.
_HINTS: tuple[tuple[type[VeilmatchError], str], ...] = (
    (errors.ModelError, "Install the face models with `veilmatch models install`."),
    (errors.NoFaceError, "Take a photo in which one face is large and seen from the front."),
    (
        errors.UnusableFaceError,
        "Take a photo of the upright face from nearer, with more light, or turn the photo upright.",
    ),
    (errors.SeveralFacesError, "Crop the photo to the one face that is meant."),
    (errors.UnknownSubjectError, "`veilmatch subjects` lists who is enrolled."),
    (errors.RequestExpiredError, "Check the clock of this device, and request_lifetime_s."),
    (
        errors.RequestSignatureError,
        "Every daemon needs a certificate of this device, for its present signing key: `veilmatch device list` there.",
    ),
    (errors.LowThresholdError, "Ask with a higher threshold, or have a certificate with a lower one signed."),
    (errors.DeviceRightsError, "Have a certificate signed that gives this right: `veilmatch device request`."),
    (errors.PartyRefusedError, "Check the certificates in [tls], and the name of this device."),
    (errors.GalleryMismatchError, "Repeat once; if it stays, tell the operators of both matchers."),
    (errors.ModelMismatchError, "Use the face model that the gallery was enrolled with, or another gallery."),
    (errors.GalleryRotatedError, "Use the configuration of this device under the new key."),
    (errors.KeyMismatchError, "Get the present public key and parameter set from the installation."),
    (errors.WrongPassphraseError, "Try the passphrase again."),
    (errors.KeyFileError, "Restore the file from where it was made."),
    (errors.DealtStockError, "There was no answer; tell the operators of the key holders, or ask another pair."),
    (
        errors.ServerDeviationError,
        "Do not enrol again before the servers have been looked at. Empty templates match nobody; `veilmatch erase"
        " SUBJECT --enrolment TOKEN` takes one back.",
    ),
    (errors.IntegrityError, "Do not rely on an answer; tell the operators of both matchers."),
)


def show(text: str) -> None:
    """Print a line of a result. Names of subjects come from servers: no control character gets through."""
    sys.stdout.write("".join(c if c.isprintable() or c == "\t" else "?" for c in text) + "\n")


def show_json(document: object) -> None:
    """Print the one JSON document of a command."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")


def messages() -> Console:
    """Return the console for progress and remarks: standard error."""
    return Console(stderr=True, highlight=False)


def report(error: VeilmatchError, *, as_json: bool) -> None:
    """Show an error to a person, and to a program if it asked for JSON."""
    if as_json:
        show_json({"error": error_document(error)})
    body = Text(error.message)
    for name, value in (("expected", error.expected), ("got", error.got), ("hint", hint(error))):
        if value:
            body.append(f"\n{name}: ", style="bold").append(value)
    messages().print(Panel(body, title=Text(error.code), title_align="left", border_style="red"))


def error_document(error: VeilmatchError) -> dict[str, Any]:
    """Return the fields of an error, its exit status and its hint."""
    return error.fields() | {"exit_status": error.exit_status, "hint": hint(error)}


def hint(error: VeilmatchError) -> str | None:
    """Return what to do about the error, if there is anything to say."""
    if isinstance(error, UnavailableError):
        others = f" Pairs that could serve: {', '.join(error.alternatives)}." if error.alternatives else ""
        when = "later" if error.retry_after_s is None else f"in {_span(error.retry_after_s)}"
        return f"Try again {when}; {error.party or 'a party'} is missing.{others}"
    if isinstance(error, BudgetExceededError):
        if error.retry_after_s is None:
            return "This can never be served: the request alone is larger than the budget."
        return f"Try again in {_span(error.retry_after_s)}; asking earlier does not help."
    return next((text for kind, text in _HINTS if isinstance(error, kind)), None)


def _span(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


def unforeseen(error: Exception) -> VeilmatchError:
    """Return what is said of an error that is none of ours: its kind and place, not its text."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return VeilmatchError(
        f"this should not have happened; set {DEBUG_VARIABLE}=1 to see where",
        got=f"{type(error).__name__}{place}",
    )
