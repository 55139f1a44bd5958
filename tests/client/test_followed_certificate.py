"""A device takes a renewed certificate while it runs, and says before the end that there is one."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import certificate, public_file
from veilmatch.client.certificate import FollowedCertificate
from veilmatch.crypto.errors import DeviceCertificateError
from veilmatch.crypto.health import WARNING_DAYS
from veilmatch.crypto.keys.device_certificate import DeviceCertificate

KEY = Ed25519PrivateKey.generate()
DAY_S = 86400


def followed(path: Path, clock: list[float]) -> FollowedCertificate:
    return FollowedCertificate(path, "door", KEY.public_key().public_bytes_raw(), public_file(), lambda: clock[0])


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "door.cert", [datetime.datetime.now(datetime.UTC).timestamp()]
    path.write_bytes(certificate("door", KEY, rights=("verify",)).encode())
    own = followed(path, clock)
    new = certificate("door", KEY, rights=("enrol", "verify"))
    # Neither a request for it, nor half of it, is in its place before it is.
    for unfinished in (DeviceCertificate(new.statement).encode(), new.encode()[:100]):
        path.write_bytes(unfinished)
        found = own.look(at_once=True)
        assert found is not None and found.statement.rights == ("verify",)
    path.write_bytes(new.encode())
    found = own.look(at_once=True)
    assert found is not None and found.statement == new.statement
    path.write_bytes(b"")
    with pytest.raises(DeviceCertificateError):
        followed(path, clock)


def test_its_end_is_said_from_60_days_before_it_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "door.cert"
    made = certificate("door", KEY, days=100)
    path.write_bytes(made.encode())
    end_s = made.statement.not_after_s
    clock = [end_s - (WARNING_DAYS + 1) * DAY_S * 1.0]
    own = followed(path, clock)

    def said() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            own.look(at_once=True)
        return caplog.messages

    assert said() == []
    clock[0] += 1.5 * DAY_S
    assert len(said()) == 1 and said() == []
    clock[0] += DAY_S
    assert "ends on" in said()[0]
    clock[0] = end_s + 1.0
    assert "ended on" in said()[0]
    path.write_bytes(certificate("door", KEY, days=800).encode())
    assert said() == [], "it was renewed"
