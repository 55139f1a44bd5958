"""The SDK of a device: enrol, verify and identify faces, search a gallery, without anyone else seeing a face.

A complete program; `veilmatch up` makes an installation with the `device.toml` that it reads:

    from veilmatch.client import Client, NoFaceError, UnavailableError

    with Client.from_config("device.toml") as client:
        client.enrol("alice", "alice.jpg")
        try:
            result = client.verify("alice", "door.jpg")
        except NoFaceError:
            print("come closer, please")
        except UnavailableError as error:
            print(f"not now: {error.party} is missing")
        else:
            print("welcome" if result else "not alice")

`AsyncClient` has the same methods for asyncio. Photos need the `device` extra and `veilmatch models install`;
methods that end in `_embedding` need neither. Every error is a VeilmatchError.
"""

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.results import Candidates, Enrolment, Erasure, IdentifyResult, SubjectEntry, Timings, Verification
from veilmatch.crypto.errors import (
    EmbeddingError,
    GalleryMismatchError,
    ImageError,
    IntegrityError,
    InvalidInputError,
    ModelError,
    ModelMismatchError,
    NoFaceError,
    RequestRefusedError,
    SeveralFacesError,
    UnavailableError,
    UnknownSubjectError,
    UnusableFaceError,
    VeilmatchError,
)

__all__ = [
    "AsyncClient",
    "Candidates",
    "Client",
    "DeviceSettings",
    "EmbeddingError",
    "Enrolment",
    "Erasure",
    "GalleryMismatchError",
    "IdentifyResult",
    "ImageError",
    "IntegrityError",
    "InvalidInputError",
    "ModelError",
    "ModelMismatchError",
    "NoFaceError",
    "RequestRefusedError",
    "SeveralFacesError",
    "SubjectEntry",
    "Timings",
    "UnavailableError",
    "UnknownSubjectError",
    "UnusableFaceError",
    "VeilmatchError",
    "Verification",
]
