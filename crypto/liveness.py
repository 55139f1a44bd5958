"""What a device says of liveness: that its detector took the face of a request for a live one, which one, and when.

The verdict stands in the body of the request, under the device's one signature: it holds for these ciphertexts, this
nonce and these times, and for nothing else. It is the device's own word. docs/liveness.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import InvalidInputError, LivenessDemandedError

DETECTOR_BYTES = 32
#: In a certificate: a verdict of whichever detector. Stands alone.
ANY_DETECTOR = ("*",)
MAX_DETECTORS = 16
#: Longest span from the check to the issue of the request, both by the device's clock.
MAX_AGE_S = 120

_DETECTOR = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """That a face was taken for a live one. detector: 32 bytes, see `function_id`; checked_at_ms: Unix time.

    Raises InvalidInputError if it is none.
    """

    detector: bytes
    checked_at_ms: int

    def __post_init__(self) -> None:
        if len(self.detector) != DETECTOR_BYTES or not 0 < self.checked_at_ms < 1 << 63:
            raise InvalidInputError(
                "not a verdict of liveness",
                got=f"{len(self.detector)} bytes",
                expected=f"{DETECTOR_BYTES} bytes of a detector, and a time",
            )


def function_id(name: str) -> bytes:
    """Return the id of a detector that is a function, by its name "package.module:name". That of a model is the SHA-256
    of its file.
    """
    return digest("liveness function", name)


def is_demand(detectors: Sequence[str]) -> bool:
    """Return whether a certificate can demand this: nothing, ANY_DETECTOR, or ids in hex, sorted, each once."""
    if tuple(detectors) in ((), ANY_DETECTOR):
        return True
    named = all(_DETECTOR.fullmatch(one) for one in detectors)
    return named and list(detectors) == sorted(set(detectors)) and len(detectors) <= MAX_DETECTORS


def require_demanded(detectors: Sequence[str], verdict: Verdict | None, issued_at_ms: int, what: str) -> None:
    """Raise LivenessDemandedError unless a request has the verdict that a certificate demands.

    detectors: see `is_demand`. issued_at_ms: of the request, not before the check. what: the request asks for.
    """
    if not detectors:
        return
    if verdict is None:
        raise LivenessDemandedError(
            "the device's certificate demands a check of liveness", got=f"{what} without one", expected="[liveness]"
        )
    if tuple(detectors) != ANY_DETECTOR and verdict.detector.hex() not in detectors:
        raise LivenessDemandedError(
            "the device's certificate demands another detector of liveness",
            got=verdict.detector.hex(),
            expected=" or ".join(detectors[:2]) + (" or another" if len(detectors) > 2 else ""),
        )
    if (age_s := (issued_at_ms - verdict.checked_at_ms) / 1000) > MAX_AGE_S:
        raise LivenessDemandedError(
            "the check of liveness was too long before the request", got=f"{age_s:.0f} s", expected=f"<= {MAX_AGE_S} s"
        )
