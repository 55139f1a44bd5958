"""What a session of a pair is about, and how its two holders find out that they mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.errors import GalleryMismatchError, KeyMismatchError, ProtocolError
from veilmatch.crypto.keys.parties import Pair

Operation = Literal["verify", "candidates", "identify", "known", "enrol", "erase", "rotate"]
#: Operations on records of the gallery, any number of them in one session.
ON_RECORDS: tuple[Operation, ...] = ("erase", "rotate")
#: Templates that one verification compares, at most: the records of so many are converted together with the probe.
MAX_TEMPLATES = 64
#: Verifications that go together in one session, at most.
MAX_TOGETHER = 16
CONTEXT_BYTES = 3 * DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Request:
    """What a session is about; everything here must be the same at both holders.

    request_digest: 32 bytes, of the device's signed request; threshold t in 1..S^2 (0 where there is no
    comparison: an enrolment has one if it is made only unless the face is known already); gallery with its sequence
    number and chain; stock: 32 bytes that name the pair's stock.
    """

    operation: Operation
    threshold: int
    request_digest: bytes
    device_nonce: bytes
    gallery: str
    sequence: int
    chain: bytes
    key_id: bytes
    epoch: int
    pair: Pair
    stock: bytes

    def subject_matter(self) -> bytes:
        """Digest of the request without gallery state and key epoch."""
        return digest(
            "session request", self.operation, self.threshold, self.request_digest, self.device_nonce, self.gallery
        )

    def context(self) -> bytes:
        """Three digests, joined: request, gallery state, keys. Three so that a difference can be named."""
        return b"".join(
            (
                self.subject_matter(),
                digest("session gallery", self.gallery, self.sequence, self.chain),
                digest("session keys", self.key_id, self.epoch, self.pair, self.stock),
            )
        )


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Part:
    """What one request brings into a session: the lane ciphertexts of n vectors, parsed.

    by_device: bool[n], all True unless they are records. views: vectors of the probe, all of one face; of a
    verification they come first, and its records follow. Of an enrolment the first view is what is stored.
    """

    request: Request
    ciphertexts: Sequence[Integer]
    by_device: NDArray[np.bool_]
    views: int = 1


def compare_context(mine: bytes, theirs: bytes) -> None:
    """Raise the error that names what differs; see Request.context."""
    if len(theirs) != CONTEXT_BYTES:
        raise ProtocolError("a context digest of the wrong size", got=len(theirs), expected=CONTEXT_BYTES)
    if mine[2 * DIGEST_BYTES :] != theirs[2 * DIGEST_BYTES :]:
        raise KeyMismatchError("the two key holders do not use the same key, epoch, pair and stock")
    if mine[:DIGEST_BYTES] != theirs[:DIGEST_BYTES]:
        raise ProtocolError("the two key holders were given different requests")
    if mine != theirs:
        raise GalleryMismatchError("the two matchers do not hold the same gallery")
