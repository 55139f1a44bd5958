"""Options of a consent that is given with an enrolment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import InvalidInputError

Reference = Annotated[
    str | None, typer.Option("--consent", metavar="ID", help="Opaque id of the consent that this is enrolled under.")
]
Version = Annotated[str | None, typer.Option("--consent-version", help="With --consent: of the text agreed to.")]
End = Annotated[
    str | None, typer.Option("--consent-end", metavar="DATE", help="With --consent: first day (UTC) without it.")
]


def given_consent(reference: str | None, version: str | None, end: str | None) -> Consent | None:
    """Return the consent of the options, None without any. Raises InvalidInputError."""
    if reference is None:
        if version is not None or end is not None:
            raise InvalidInputError("of which consent?", expected="--consent ID with --consent-version, --consent-end")
        return None
    try:
        moment = None if end is None else datetime.fromisoformat(end)
    except ValueError:
        raise InvalidInputError("the end of a consent is a date", expected="2027-01-31, or with a time") from None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Consent(reference, version or "", 0 if moment is None else int(moment.timestamp()))
