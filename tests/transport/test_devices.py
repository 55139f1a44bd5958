"""A daemon's folder of device certificates: what is in it counts, from the next request on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import certificate, certifiers, public_file
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, DeviceRightsError, StorageError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import Devices
from veilmatch.server.installation.certifying.certifier import certified
from veilmatch.server.installation.lowest import Lowest

KEY = Ed25519PrivateKey.generate()


def put(folder: Path, made: DeviceCertificate, name: str = "door") -> None:
    (folder / f"{name}.cert").write_bytes(made.encode())


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    put(tmp_path, certificate("door", KEY))
    return Devices(tmp_path, public_file())


def test_a_device_that_two_organisations_certified_is_found(devices: Devices) -> None:
    found = devices.find("door")
    assert found is not None and found.public_key == KEY.public_key().public_bytes_raw()
    for name in ("window", "", "../door", "door.cert", "x" * 10_000, "a\0b"):
        assert devices.find(name) is None


def test_a_certificate_that_goes_revokes_the_device_at_once(devices: Devices, tmp_path: Path) -> None:
    (tmp_path / "door.cert").unlink()
    assert devices.find("door") is None
    put(tmp_path, certificate("door", KEY))
    assert devices.find("door") is not None


def test_a_revoked_certificate_is_refused_wherever_a_copy_of_it_comes_from(devices: Devices, tmp_path: Path) -> None:
    first = certificate("door", KEY)
    put(tmp_path, first)
    (tmp_path / f"{first.statement.id.hex()}.revoked").touch()
    for _ in range(2):
        with pytest.raises(DeviceRightsError, match="was revoked") as caught:
            devices.find("door")
        assert caught.value.got == "door"
        (tmp_path / "door.cert").unlink()
        assert devices.find("door") is None
        put(tmp_path, first)
    with pytest.raises(DeviceRightsError):
        Devices(tmp_path, public_file()).find("door")
    # Signed by other two it is the same certificate; with the same key and rights it is another one.
    put(tmp_path, replace(first, signatures=certificate("door", KEY, "bc").signatures))
    put(tmp_path, certificate("door", KEY))
    assert devices.find("door") is not None
    (tmp_path / f"{first.statement.id.hex()}.revoked").unlink()
    put(tmp_path, first)
    assert devices.find("door") is not None


def test_a_disk_that_cannot_tell_what_is_revoked_serves_nobody(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> os.stat_result:
        raise OSError(errno.EIO, "secret")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", fail)
        with pytest.raises(StorageError):
            devices.find("door")
    assert devices.find("door") is not None


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_failing_disk_revokes_nobody(devices: Devices, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(_path: Path, **_options: bool) -> os.stat_result:
        raise OSError(number, "secret")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        with pytest.raises(StorageError) as caught:
            devices.find("door")
    assert caught.value.available == os.strerror(number)
    assert devices.find("door") is not None


def test_a_certificate_that_changes_is_read_again(devices: Devices, tmp_path: Path) -> None:
    put(tmp_path, certificate("door", KEY, rights=("verify",)))
    os.utime(tmp_path / "door.cert", ns=(1, 1))
    found = devices.find("door")
    assert found is not None and found.rights == ("verify",)


def signed_twice_by_one(made: DeviceCertificate) -> DeviceCertificate:
    """b's place holds a signature of a."""
    return made.with_signature("b", certifiers()["a"]._key.sign(made.statement.signed_bytes()))


def lowered(made: DeviceCertificate) -> DeviceCertificate:
    """Its device has put another lowest threshold under the same signatures."""
    return DeviceCertificate(replace(made.statement, lowest=(("verify", 1),)), made.signatures)


def above_all_scores(made: DeviceCertificate) -> DeviceCertificate:
    """Organisations have signed a threshold that their parameter set has not."""
    beyond = public_file().public_key.parameters.threshold_max + 1
    return certified(
        DeviceCertificate(replace(made.statement, lowest=(("verify", beyond),))), list(certifiers().values())
    )


REFUSED: dict[str, tuple[Callable[[], DeviceCertificate], str]] = {
    "nobody has signed it": (lambda: certificate("door", KEY, signers=""), "too few"),
    "one organisation has signed it": (lambda: certificate("door", KEY, signers="a"), "too few"),
    "one organisation has signed it twice": (
        lambda: signed_twice_by_one(certificate("door", KEY, signers="a")),
        "not that of its organisation",
    ),
    "a signature is forged": (
        lambda: certificate("door", KEY, signers="a").with_signature("c", bytes(64)),
        "not that of its organisation",
    ),
    "one of three signatures is forged": (
        lambda: certificate("door", KEY).with_signature("c", bytes(64)),
        "not that of its organisation",
    ),
    "its lowest threshold was lowered": (
        lambda: lowered(certificate("door", KEY, rights=("verify",), lowest=Lowest())),
        "not that of its organisation",
    ),
    "its lowest threshold is above all scores": (
        lambda: above_all_scores(certificate("door", KEY, rights=("verify",))),
        "above all scores",
    ),
    "it is another installation's": (lambda: certificate("door", KEY, public=public_file(1)), "another installation"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_certificate_is_refused_if(
    why: str, devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = REFUSED[why]
    with pytest.raises(DeviceCertificateError, match=reason):
        certified_statement(make(), public_file())
    put(tmp_path, make())
    assert devices.find("door") is None
    assert "door.cert" in capsys.readouterr().out
    put(tmp_path, certificate("gate", KEY), "gate")
    assert devices.find("gate") is not None, "the others are served"


def test_any_two_organisations_are_enough() -> None:
    for signers in ("ab", "ac", "bc", "abc"):
        assert certified_statement(certificate("door", KEY, signers=signers), public_file()).device == "door"


def test_a_file_under_another_name_is_no_certificate_of_it(devices: Devices, tmp_path: Path) -> None:
    put(tmp_path, certificate("door", KEY), "gate")
    assert devices.find("gate") is None


def test_a_certificate_of_the_format_before_serves_nobody_and_the_log_says_what_to_do(
    devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads(certificate("door", KEY).encode()) | {"format": "veilmatch device certificate 1"}
    del fields["lowest_thresholds"]
    (tmp_path / "door.cert").write_text(json.dumps(fields, indent=1) + "\n")
    assert devices.find("door") is None
    assert "request and sign a new one" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"[" * 70_000])
def test_a_file_that_is_none_serves_nobody(devices: Devices, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "door.cert").write_bytes(content)
    assert devices.find("door") is None


def test_a_pipe_in_place_of_a_certificate_hangs_nobody(devices: Devices, tmp_path: Path) -> None:
    (tmp_path / "door.cert").unlink()
    os.mkfifo(tmp_path / "door.cert")
    assert devices.find("door") is None


def test_a_folder_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="folder of device certificates"):
        Devices(tmp_path / "nowhere", public_file())
