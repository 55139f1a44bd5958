"""A request that has waited is right when its turn comes, or refused: all that may have changed since is looked at."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.installation.making import certificate
from tests.transport.signed import DEVICE, KEYS, NOW_S, OTHER_DEVICE, Known, body, checker, known, signed
from tests.transport.test_recipients import PUBLIC, SAID
from tests.transport.test_recipients import certificate as of_recipient
from veilmatch.crypto.errors import (
    DeviceRightsError,
    RecipientRevokedError,
    RequestExpiredError,
    RequestSignatureError,
)
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission import requests
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import RequestChecker
from veilmatch.server.admission.revoked import Revoked, revoked_path


class Waiting:
    """A request that was found right, whose server's clock and devices then change."""

    def __init__(self, request: pb.SignedRequest | None = None) -> None:
        self.now_s = NOW_S
        self.devices = known(DEVICE)
        self.request = request or signed(body())
        self.checker: RequestChecker = checker(devices=self.devices, now=lambda: self.now_s)
        self.looked = self.checker.check(self.request, "verify")

    def again(self) -> requests.CheckedRequest:
        return self.checker.check_again(self.looked, self.request)


def test_what_has_not_changed_is_right_and_no_signature_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting()

    class Unused(Ed25519PublicKey):
        @classmethod
        def from_public_bytes(cls, data: bytes) -> Ed25519PublicKey:
            raise AssertionError("it was right under this certificate")

    monkeypatch.setattr(requests, "Ed25519PublicKey", Unused)
    assert waiting.again() == waiting.looked


def test_it_may_have_expired() -> None:
    waiting = Waiting()
    waiting.now_s += 1e5
    with pytest.raises(RequestExpiredError) as caught:
        waiting.again()
    assert caught.value.party == "matcher-a"


def test_its_device_may_be_revoked() -> None:
    waiting = Waiting()
    waiting.devices.clear()
    with pytest.raises(RequestSignatureError) as caught:
        waiting.again()
    assert caught.value.party == "matcher-a"


def test_its_device_may_have_another_certificate() -> None:
    waiting = Waiting()
    waiting.devices.update(known(DEVICE))
    assert waiting.again().certified == waiting.devices[DEVICE]
    waiting.devices.update(known(DEVICE, rights=("enrol",)))
    with pytest.raises(DeviceRightsError):
        waiting.again()
    now = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)
    waiting.devices.update(Known({DEVICE: certificate(DEVICE, KEYS[OTHER_DEVICE], now=now).statement}))
    with pytest.raises(RequestSignatureError):
        waiting.again()


def test_the_certificate_of_its_device_may_have_ended() -> None:
    waiting = Waiting()
    ends_s = waiting.devices[DEVICE].not_after_s
    request = body(issued_at_ms=int(1000 * ends_s) - 1000, expires_at_ms=int(1000 * ends_s) + 10_000)
    waiting.now_s = ends_s - 0.5
    waiting.request = signed(request)
    waiting.looked = waiting.checker.check(waiting.request, "verify")
    waiting.now_s = ends_s + 0.5
    with pytest.raises(DeviceRightsError):
        waiting.again()


def test_its_recipient_may_be_revoked(tmp_path: Path) -> None:
    revoked = Revoked(tmp_path / "revoked")
    right = checker(recipients=Recipients(PUBLIC, revoked, lambda: NOW_S))
    request = signed(body(recipient=SAID.id), recipient_certificate=of_recipient(said=SAID).encode())
    looked = right.check(request, "verify")
    assert right.check_again(looked, request) == looked
    revoked_path(tmp_path / "revoked", SAID.id).write_bytes(b"")
    with pytest.raises(RecipientRevokedError) as caught:
        right.check_again(looked, request)
    assert caught.value.party == "matcher-a"
