"""The decision: a shot is live, or an error says why not. There is no third outcome."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import numpy as np

from veilmatch.client.capture.detector import Detector, YuNetDetector
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import upright_faces
from veilmatch.client.liveness.scorers import Box, Scorer, scorer_of
from veilmatch.client.liveness.settings import Kind, LivenessSettings
from veilmatch.client.liveness.shot import Shot
from veilmatch.crypto.errors import LivenessError, PresentationAttackError, SeveralFacesError, VeilmatchError
from veilmatch.crypto.liveness import Verdict


class LivenessCheck:
    """Detector, threshold and the images that are needed; may be used from several threads.

    The face is looked for anew, so that the check does not depend on what captures it. detector, scorer: in place of
    the installed one and that of the settings, which are loaded with the first shot. now: the clock, Unix time in
    seconds.
    """

    def __init__(
        self,
        settings: LivenessSettings,
        capture: CaptureSettings | None = None,
        *,
        detector: Detector | None = None,
        scorer: Scorer | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._capture = capture or CaptureSettings()
        self._detector = detector
        self._scorer = scorer
        self._now = now
        self._loading = threading.Lock()

    def require_live(self, shot: ImageSource | Shot) -> Verdict:
        """Return the verdict if the face in the shot is live: which detector says so, and when.

        Raises PresentationAttackError if it is taken for an attack; LivenessError if nothing can be said: an image that
        is missing or does not fit, no detector, or one that fails or gives no number of 0 to 1; what is wrong with a
        photo as `CapturePipeline.embed_photo` does.
        """
        checked_at_ms = int(self._now() * 1000)
        if not self.is_live(shot):
            raise PresentationAttackError("the photo is not taken for one of a live face")
        return Verdict(self._settings.detector_id, checked_at_ms)

    def is_live(self, shot: ImageSource | Shot) -> bool:
        """Return the decision. Errors: `require_live`, but for PresentationAttackError."""
        images, box = self._seen(shot if isinstance(shot, Shot) else Shot(shot))
        scorer = self._loaded()
        try:
            score = float(scorer(images, box))
        except VeilmatchError as error:
            raise LivenessError(f"the liveness detector fails: {error.message}", got=error.got) from error
        except Exception as error:  # of the user's function
            raise LivenessError("the liveness detector fails", got=type(error).__name__) from error
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise LivenessError("the liveness detector gives no score", expected="a number of 0 to 1")
        return score >= self._settings.threshold

    def _seen(self, shot: Shot) -> tuple[dict[Kind, RgbArray], Box]:
        """Return the upright images in the order of the settings, and the box of the face."""
        image = load_image(shot.colour)
        detector = self._face_detector()
        largest = self._capture.face == "largest"
        view, faces = upright_faces(image, detector, lambda f: f.box[2] - f.box[0] if largest else f.score)
        if len(faces) > 1 and not largest:
            raise SeveralFacesError(
                "there is more than one face in the photo; crop it to one", got=len(faces), expected="one face"
            )
        images: dict[Kind, RgbArray] = {}
        for kind in self._settings.images:
            if kind == "colour":
                images[kind] = view
                continue
            source = getattr(shot, kind)
            if source is None:
                raise LivenessError(
                    f"[liveness] needs an image in {kind}", got="none", expected=f"Shot(photo, {kind}=...)"
                )
            other = load_image(source)
            if view is not image or other.shape != image.shape:
                raise LivenessError(
                    f"the image in {kind} does not lie on the colour photo",
                    got="a photo that had to be turned" if view is not image else f"{other.shape[1]}x{other.shape[0]}",
                    expected=f"upright, {image.shape[1]}x{image.shape[0]}",
                )
            images[kind] = np.asarray(other)
        return images, faces[0].box

    def _loaded(self) -> Scorer:
        with self._loading:
            if self._scorer is None:
                self._scorer = scorer_of(self._settings)
            return self._scorer

    def _face_detector(self) -> Detector:
        with self._loading:
            if self._detector is None:
                self._detector = YuNetDetector.installed(self._capture.detector)
            return self._detector
