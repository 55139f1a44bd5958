"""Two photos compared on this device: no server is asked, nothing is enrolled, and nothing is encrypted.

    if compare("passport.jpg", "selfie.jpg"):
        ...

Whoever runs this has both photos, so there is nobody to hide them from. The numbers are quantised as for servers, and
the decision is the one that they would come to.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from veilmatch.client.given.arguments import checked_cosine
from veilmatch.client.given.quoting import about, quoted_photo
from veilmatch.client.results import Comparison
from veilmatch.crypto.errors import InvalidInputError, UnfitModelError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.operations.device import Capture

#: Cosine from which two faces of the installed models are taken for one person's: docs/evaluation.md.
DEFAULT_THRESHOLD = 0.40


def compare(
    photo: ImageSource,
    other: ImageSource,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    capture: Capture | None = None,
) -> Comparison:
    """Return whether two photos show the same person, computed on this device alone.

    Needs no installation, only the extra `device` and the face models, and protects the photos from nobody: what can be
    asked of servers without showing them a face is `Client.verify`. threshold: cosine in (0, 1]. capture: another face
    model than the installed one, of 128 coordinates; with others `Client.compare`. Raises ImageError, NoFaceError,
    UnusableFaceError, SeveralFacesError, saying which photo, ModelError, ParameterError.
    """
    return compared(capture or _installed(), ParameterSet(), photo, other, threshold)


def compared(
    capture: Capture, parameters: ParameterSet, photo: ImageSource, other: ImageSource, threshold: float
) -> Comparison:
    """Return the comparison with this face model, quantised for this parameter set. The rest: see `compare`."""
    from veilmatch.client.capture.quantiser import quantise

    started = time.perf_counter()
    t = parameters.threshold(checked_cosine(threshold))
    if capture.dimension != parameters.dimension:
        raise UnfitModelError(
            "the face model does not fit the parameter set",
            got=f"{capture.dimension} coordinates",
            expected=f"{parameters.dimension} ({parameters.name})",
        )
    vectors: list[Array] = []
    for number, given in enumerate((photo, other), start=1):
        try:
            vectors.append(quantise(capture.embed_photo(given), parameters))
        except InvalidInputError as error:
            raise about(quoted_photo(given, number, 2), error) from None
    score = int(vectors[0] @ vectors[1])
    return Comparison(score >= t, float(threshold), capture.model_id, time.perf_counter() - started)


@functools.cache
def _installed() -> Capture:
    from veilmatch.client.capture.pipeline import CapturePipeline

    return CapturePipeline.default()
