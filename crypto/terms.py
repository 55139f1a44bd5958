"""What is kept with a template beside subject and record: when it was enrolled, and under which consent.

It is part of the template's leaf, so the change that brought the template is signed over it and every organisation has
the same. It is gone when the template is: the log has the leaf alone. Of changes that are not dated there is nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from veilmatch.crypto.consent import CONSENT_BYTES, LATEST_S, Consent
from veilmatch.crypto.errors import IntegrityError, InvalidInputError

#: Of encoded terms; a longer one is nobody's.
TERMS_BYTES = CONSENT_BYTES + 100


@dataclass(frozen=True, slots=True)
class Terms:
    """enrolled_s: when the device signed the enrolment, whole seconds since 1970, 1..2^53. consent: if there is one."""

    enrolled_s: int
    consent: Consent | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Return the one encoding: JSON."""
        consent = self.consent.encode().decode() if self.consent is not None else None
        fields = {"enrolled_s": self.enrolled_s, "consent": consent}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def decode(data: bytes) -> Terms | None:
        """Return the terms, None for b"": nothing is known. Raises IntegrityError for what `encode` does not make."""
        if not data:
            return None
        try:
            if len(data) > 2 * TERMS_BYTES:
                raise ValueError
            fields = json.loads(data)
            consent = None if fields["consent"] is None else Consent.decode(fields["consent"].encode())
            terms = Terms(fields["enrolled_s"], consent)
            if type(terms.enrolled_s) is not int or not 1 <= terms.enrolled_s <= LATEST_S or terms.encode() != data:
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidInputError):
            raise IntegrityError("what is kept with a template is not what a server writes") from None
        return terms


def require_lasting(consent: bytes, made_s: int) -> None:
    """Raise InvalidInputError unless an encoded consent counts at the time of a dated enrolment."""
    if not made_s:
        raise InvalidInputError("a consent of an enrolment that is not dated", expected="a newer client")
    if Consent.decode(consent).has_ended(made_s):
        raise InvalidInputError("the consent has ended", expected="one that counts when it is given")
