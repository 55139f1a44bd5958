"""The key of a recipient, its folder, and whom it trusts."""

from __future__ import annotations

import copy
import json
import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.relying.stating import INSTALLATION, KEY, KEY_ID, ORGANISATIONS, TRUST, recipient
from veilmatch.crypto import answer_share
from veilmatch.crypto.encryption.public_key_format import FORMAT as PUBLIC_FORMAT
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES, KEY_ID_BYTES
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyFileError,
    RecipientCertificateError,
    StatementError,
    VeilmatchError,
)
from veilmatch.crypto.keys import recipient_certificate
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.relying import RecipientKey, Trust, trust
from veilmatch.relying.folder import open_folder, request_certificate

PUBLIC = {
    "format": "veilmatch public key 2", "installation": INSTALLATION.hex(), "parameter_set": "d128-s126-c38-l46-n3072",
    "key_id": KEY_ID.hex(), "modulus": "1", "hs": "1", "organisations": {},
    "signers": {party: one.public_bytes.hex() for party, one in ORGANISATIONS.items()},
}  # fmt: skip
NOW_S = 1_750_000_000.0


@pytest.fixture
def public(tmp_path: Path) -> Path:
    (tmp_path / "public.json").write_text(json.dumps(PUBLIC))
    return tmp_path / "public.json"


def test_sizes_and_formats_are_those_of_the_public_file() -> None:
    assert recipient_certificate.INSTALLATION_BYTES == INSTALLATION_BYTES
    assert answer_share.KEY_ID_BYTES == KEY_ID_BYTES
    assert trust.FORMAT == PUBLIC_FORMAT


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(KEY) == "<RecipientKey>"
    for leak in (lambda: pickle.dumps(KEY), lambda: copy.copy(KEY), lambda: copy.deepcopy(KEY)):
        with pytest.raises(TypeError):
            leak()


def test_what_is_altered_or_for_another_does_not_open() -> None:
    with pytest.raises(StatementError):
        KEY.open(b"", b"")
    with pytest.raises(StatementError):
        KEY.open(bytes(80), b"info")


def test_a_folder_from_request_to_key(tmp_path: Path, public: Path) -> None:
    folder = tmp_path / "bank"
    made = request_certificate(folder, "bank", public, 30, NOW_S)
    assert stat.S_IMODE((folder / "recipient.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made == RecipientCertificate.decode((folder / "recipient.cert").read_bytes()) and not made.signatures
    assert (made.statement.not_after_s, made.statement.installation) == (NOW_S + 30 * 86400, INSTALLATION)
    for party in ("a", "c"):
        made = made.with_signature(party, ORGANISATIONS[party].sign(CONTEXT, made.statement.id))  # type: ignore
    (folder / "recipient.cert").write_bytes(made.encode())
    found, key, seen = open_folder(folder)
    assert found == TRUST and key.certificate == made and seen.register([bytes(32)], 1, 0)
    found.require(made)
    secret = (folder / "recipient.key").read_bytes()
    assert key.to_secret_bytes(SECRET_ACCESS) == secret
    # Another request in the same folder is for the same key.
    again = request_certificate(folder, "bank", folder / "public.json", 60, NOW_S)
    assert (folder / "recipient.key").read_bytes() == secret
    assert again.statement.public_key == made.statement.public_key and again.statement.id != made.statement.id


def test_a_request_that_cannot_be_is_refused_and_makes_nothing(tmp_path: Path, public: Path) -> None:
    for name, source, days, kind in (
        ("", public, 30, RecipientCertificateError),
        ("a\nb", public, 30, RecipientCertificateError),
        ("bank", public, 0, ConfigurationError),
        ("bank", public, 3651, ConfigurationError),
        ("bank", tmp_path / "none.json", 30, ConfigurationError),
    ):
        with pytest.raises(kind):
            request_certificate(tmp_path / "r", name, source, days, NOW_S)
    assert not (tmp_path / "r").exists()


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    key, certificate = tmp_path / "recipient.key", tmp_path / "recipient.cert"
    mine = recipient()
    key.write_bytes(mine.to_secret_bytes(SECRET_ACCESS))
    certificate.write_bytes(mine.certificate.encode())
    key.chmod(0o640)
    with pytest.raises(KeyFileError, match="open to others"):
        RecipientKey.load(key, certificate)
    key.chmod(0o600)
    assert RecipientKey.load(key, certificate).statement == mine.statement
    certificate.write_bytes(recipient().certificate.encode())
    with pytest.raises(RecipientCertificateError, match="another key"):
        RecipientKey.load(key, certificate)
    certificate.write_bytes(b"{}")
    with pytest.raises(RecipientCertificateError, match=r"recipient\.cert"):
        RecipientKey.load(key, certificate)
    other = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"nonsense", other):
        key.write_bytes(data)
        with pytest.raises(KeyFileError, match="not the key of a recipient"):
            RecipientKey.load(key, certificate)
    for missing in ((tmp_path / "none", certificate), (key, tmp_path / "none")):
        key.write_bytes(mine.to_secret_bytes(SECRET_ACCESS))
        with pytest.raises(ConfigurationError):
            RecipientKey.load(*missing)


def test_trust_is_that_of_a_public_file_or_none(public: Path) -> None:
    assert Trust.load(public) == TRUST
    one = PUBLIC["signers"]["a"]  # type: ignore[index]
    for change in (
        {"format": "veilmatch public key 1"}, {"installation": "00"}, {"key_id": None}, {"signers": {"a": one}},
        {"signers": dict.fromkeys("abc", one)}, {"signers": dict.fromkeys("abcd", one)}, {"parameter_set": "large"},
        {"signers": {"a": one, "b": "00", "c": "11" * 32}}, {"signers": []}, {"installation": "zz" * 16},
    ):  # fmt: skip
        with pytest.raises(KeyFileError):
            Trust.decode(json.dumps(PUBLIC | change).encode())
    for data in (b"", b"[]", b"1", b"\xff", b"[" * 100_000):
        with pytest.raises(VeilmatchError):
            Trust.decode(data)


def test_a_key_is_refused_a_certificate_of_another(tmp_path: Path) -> None:
    with pytest.raises(RecipientCertificateError):
        RecipientKey(X25519PrivateKey.generate(), KEY.certificate)
