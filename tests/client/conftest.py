"""A device with real keys of an UNSAFE toy size, and three fake matchers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.crypto.toys import ORGANISATIONS, SIGNERS
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire.signing import DeviceKey
from veilmatch.crypto.arithmetic import Integer, from_bytes, invert, power
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS

from .fakes import FakeMatchers

PARAMETERS = ParameterSet(dimension=8, scale=20, clip=15, modulus_bits=512)


@pytest.fixture(scope="session")
def ceremony() -> Ceremony:
    return run_ceremony(PARAMETERS)


@pytest.fixture(scope="session")
def decrypt(ceremony: Ceremony) -> Callable[[bytes], list[Integer]]:
    """Decrypts joined ciphertexts with the whole secret o, which no party of a real installation has."""
    N, size = ceremony.public_key.modulus, PARAMETERS.ciphertext_bytes
    plus, minus = (ceremony.keys[i].share("ab").exponent(ceremony.public_key, SECRET_ACCESS) for i in (0, 1))
    o = plus - minus

    def run(joined: bytes) -> list[Integer]:
        parts = [from_bytes(joined[i : i + size]) for i in range(0, len(joined), size)]
        return [(power(c, o, N * N) - 1) // N * invert(o, N) % N for c in parts]

    return run


@pytest.fixture(scope="session")
def device_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def settings(ceremony: Ceremony, device_key: Ed25519PrivateKey, tmp_path: Path) -> DeviceSettings:
    (tmp_path / "public.json").write_bytes(PublicFile.fresh(ceremony.public_key, ORGANISATIONS, SIGNERS).encode())
    pem = device_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "device.key").write_bytes(pem)
    (tmp_path / "device.key").chmod(0o600)
    (tmp_path / "device.toml").write_text(
        """
        device = "kiosk-1"
        gallery = "staff"
        public_key = "public.json"
        signing_key = "device.key"
        threshold = 0.5
        timeout_s = 5
        request_lifetime_s = 30
        [matchers]
        a = "localhost:1"
        b = "localhost:2"
        c = "localhost:3"
        [tls]
        authority = "ca.pem"
        certificate = "device.pem"
        key = "device-tls.key"
        """
    )
    return DeviceSettings.load(tmp_path / "device.toml")


@pytest.fixture
def fakes() -> FakeMatchers:
    return FakeMatchers()


@dataclass
class FakeCapture:
    """Embeds any photo as the numbers of its name; refuses those called `empty`."""

    dimension: int = PARAMETERS.dimension
    model_id: str = "names-2"

    def embed_photo(self, source: Any) -> np.ndarray:
        from veilmatch.crypto.errors import NoFaceError

        if "empty" in str(source):
            raise NoFaceError("there is no face in the photo", got=0, expected="one face")
        return face(sum(map(ord, str(source))))


def face(seed: int) -> np.ndarray:
    e = np.random.default_rng(seed).standard_normal(PARAMETERS.dimension)
    return np.asarray(e / np.linalg.norm(e))


def faces(count: int) -> Sequence[np.ndarray]:
    return [face(i) for i in range(count)]


@pytest.fixture
async def client(settings: DeviceSettings, fakes: FakeMatchers) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(settings, matchers=fakes.all, capture=FakeCapture()) as made:
        yield made


@pytest.fixture
def signing_handle(device_key: Ed25519PrivateKey) -> DeviceKey:
    return DeviceKey(device_key)
