"""Tokens made of what is enrolled, so that enrolling it again is seen to be that.

A token names a change to the servers, which do it once (docs/protocol.md). A fresh token for each call does not help
whoever runs the same command again, after a time-out that hid a success above all.

Servers and key holders see tokens, and a digest of a photo would tell them whether it is one that they have. So a
digest of photo, subject, model, gallery, key and device is signed with the signing key of the device, and the token is
a digest of the signature. Ed25519 signs the same message alike each time (RFC 8032, section 5.1.6), and whoever could
compute the signature of a guess without the key could forge signatures; so without the key a token is as good as
random, even to those who know the photo. It reveals that this device enrols the same again, which is its purpose, and
not what. The prefix keeps these messages apart from requests: no signature of one is a signature of the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from veilmatch.client.wire.signing import DeviceKey
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.requests import TOKEN_BYTES

_PREFIX = b"veilmatch enrolment token v1\0"


class EnrolmentTokens:
    """Makes the tokens of one device for one gallery under one key: 16 bytes each.

    time: how many enrolments of the same were made and erased again before; a token is used up with its enrolment.
    """

    def __init__(self, key: DeviceKey, device: str, gallery: str, key_id: bytes) -> None:
        self._key = key
        self._here = digest("enrolling device", device, gallery, key_id)

    def of_photo(self, subject: str, model: str, photo: bytes, time: int) -> bytes:
        """Return the token of a photo, given by its digest, as a template of the subject."""
        return self._token(digest("enrolment of a photo", self._here, subject, model, photo, time))

    def of_photos(self, photos: Iterable[tuple[str, bytes]], model: str, time: int) -> bytes:
        """Return the token of all (subject, photo digest) pairs, enrolled at once, in whatever order."""
        pairs = sorted(digest("photo of a subject", subject, photo) for subject, photo in photos)
        return self._token(digest("enrolment of photos", self._here, model, digest_all("photos", pairs), time))

    def _token(self, what: bytes) -> bytes:
        return digest("enrolment token of a photo", self._key.sign(_PREFIX + what))[:TOKEN_BYTES]
