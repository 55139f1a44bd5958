"""The device's side: the SDK, the face pipeline, the command line.

Programs import from `veilmatch`, which has these names, the errors and the types; modules below this one may move.
"""

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.results import Candidates, Enrolment, Erasure, IdentifyResult, SubjectEntry, Timings, Verification

__all__ = [
    "AsyncClient",
    "Candidates",
    "Client",
    "DeviceSettings",
    "Enrolment",
    "Erasure",
    "IdentifyResult",
    "SubjectEntry",
    "Timings",
    "Verification",
]
