"""What a person should know of a photo before it is used, a few times a second while the camera runs."""

from __future__ import annotations

from typing import Any

from veilmatch.client.operations.device import Capture, MeasuringCapture
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import InvalidInputError


class Look:
    """Says whether a photo could be used, and if not, why and what to do."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __call__(self, photo: bytes) -> dict[str, Any]:
        """Return whether it is good, and reasons with what to do. Raises ModelError."""
        try:
            if not isinstance(self._capture, MeasuringCapture):
                self._capture.embed_photo(photo)
                return {"good": True, "reasons": [], "scores": {}}
            quality = self._capture.capture(photo).quality
        except InvalidInputError as error:
            return {"good": False, "reasons": [{"what": error.message, "remedy": hint(error)}], "scores": {}}
        reasons = [{"what": reason.problem, "remedy": reason.advice} for reason in quality.reasons]
        return {"good": bool(quality), "reasons": reasons, "scores": dict(quality.scores)}
