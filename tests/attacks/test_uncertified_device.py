"""One organisation makes up a device: it can let it in at its own daemons, nobody else does."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.installation.making import ANY_THRESHOLD, certifiers
from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import Trio, device_key, public_file, signed, started, stocked
from veilmatch.crypto.errors import RequestSignatureError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.protos.v1.request_pb2 import SignedRequest
from veilmatch.server.admission import devices as devices_module
from veilmatch.server.installation.certifying.certifier import Grant

PROBE = vectors(71, 1)[0]
MADE_UP = "kiosk-9"


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with started(await stocked(tmp_path / "trio")) as made:
        yield made


def made_up(how: str) -> DeviceCertificate:
    """What organisation a can make alone."""
    key = device_key(MADE_UP).public_key().public_bytes_raw()
    grant = Grant(lowest=ANY_THRESHOLD)
    request = grant.request(public_file(), MADE_UP, key, datetime.datetime.now(datetime.UTC))
    own = certifiers()["a"]
    once = own.certify(request)
    if how == "its own signature":
        return once
    if how == "its own signature in two places":
        return once.with_signature("b", dict(once.signatures)["a"])
    return once.with_signature("b", bytes(64))


def everywhere(trio: Trio, certificate: DeviceCertificate) -> None:
    """Even a daemon of another organisation has the file: it goes by what it says, not by where it is."""
    for party in PARTIES:
        (trio.devices_dir(party) / f"{MADE_UP}.cert").write_bytes(certificate.encode())


def request() -> SignedRequest:
    return signed(PROBE, "ab", device=MADE_UP, key=device_key(MADE_UP))


HOW = ["its own signature", "its own signature in two places", "a forged second one"]


@pytest.mark.parametrize("how", HOW)
async def test_the_others_refuse_a_device_that_one_organisation_made_up(trio: Trio, how: str) -> None:
    everywhere(trio, made_up(how))
    async with trio.both(request(), "ab") as calls:
        outcomes = await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RequestSignatureError] * 2
    assert all(trio.running[party].pool.batches == 0 for party in PARTIES)


@pytest.mark.parametrize("how", HOW)
async def test_without_the_check_they_serve_it(trio: Trio, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "certified_statement", lambda certificate, public: certificate.statement)
    everywhere(trio, made_up(how))
    templates = np.array([PROBE, -PROBE])
    bits = await trio.decide(request(), "ab", gallery_of(templates), [0, 1])
    assert bits == [1, 0]
