"""Small sets of made-up faces, and people from the ORL photos in a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.crypto.toys import ORGANISATIONS, SIGNERS
from veilmatch.client.evaluation.data.faces import FaceSet, from_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, Statement
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import Operation

#: The real numbers over a toy modulus: 18 slots a pack.
TOY = ParameterSet(128, 60, 23, 512)


DEVICE = """# the door in the yard
device = "door"
matchers = { a = "localhost:1", b = "localhost:2", c = "localhost:3" }
public_key = "public.json"
signing_key = "signing.pem"   # mode 0600
threshold = 0.40  # from the manual
pairs = [
    "ab",  # first choice
    "ac",
]

[tls]
authority = "ca.pem"
certificate = "device.pem"
key = "device.key"
"""


def write_crowd(path: Path, subjects: int, photos: int, *, noise: float = 0.6, seed: int = 1) -> Path:
    """Write embeddings of made-up people: a direction each, and noise of this length in every photo."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((subjects, 1, 128)) / np.sqrt(128)
    vectors = centres + noise * rng.standard_normal((subjects, photos, 128)) / np.sqrt(128)
    names = np.repeat([f"person {i}" for i in range(subjects)], photos)
    np.savez(path, embeddings=vectors.reshape(-1, 128), subjects=names, model="made up")
    return path


@pytest.fixture
def crowd(tmp_path: Path) -> FaceSet:
    """Seven people with five photos each."""
    return from_file(write_crowd(tmp_path / "crowd.npz", 7, 5), TOY)


@pytest.fixture(scope="session")
def people(orl: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four ORL people, three photos each, and one photo that shows nobody."""
    folder = tmp_path_factory.mktemp("people")
    for subject in range(1, 5):
        (folder / f"s{subject}").mkdir()
        for photo in range(1, 4):
            shutil.copy(orl(subject, photo), folder / f"s{subject}" / f"{photo}.pgm")
    (folder / "s4" / "nobody.pgm").write_bytes(b"P5 64 64 255\n" + bytes(64 * 64))
    return folder


@pytest.fixture(scope="session")
def public_file() -> bytes:
    return PublicFile.fresh(run_ceremony(TOY).public_key, ORGANISATIONS, SIGNERS).encode()


@pytest.fixture
def device(tmp_path: Path, public_file: bytes) -> Path:
    (tmp_path / "public.json").write_bytes(public_file)
    path = tmp_path / "device.toml"
    path.write_text(DEVICE)
    path.chmod(0o640)
    return path


def certified(device: Path, lowest: dict[Operation, float], name: str = "door") -> None:
    """Give the device a signing key, and a certificate with these lowest thresholds. Who signed it is for servers."""
    folder, key = device.parent, Ed25519PrivateKey.generate()
    (folder / "signing.pem").touch(mode=0o600)
    (folder / "signing.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made = DeviceCertificate(
        Statement(
            installation=PublicFile.decode((folder / "public.json").read_bytes()).installation, device=name,
            public_key=key.public_key().public_bytes_raw(), rights=tuple(lowest), galleries=("main",),
            lowest=tuple((o, TOY.threshold(c)) for o, c in lowest.items()), not_before_s=1, not_after_s=2,
            serial=bytes(16),
        )
    )  # fmt: skip
    parties: tuple[Party, ...] = ("a", "b")
    for party in parties:
        made = made.with_signature(party, bytes(64))
    (folder / "door.cert").write_bytes(made.encode())
    device.write_text(device.read_text().replace("signing_key", 'certificate = "door.cert"\nsigning_key'))
