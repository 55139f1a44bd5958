"""`veilmatch key check`: what holds of a sound key, and what is not taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.installation.making import ceremony, organisation_keys, public_file
from veilmatch.crypto.arithmetic import Integer, is_power, jacobi
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import IntegrityError, KeyFileError
from veilmatch.server.ceremony.record import CeremonyRecord
from veilmatch.server.check.public_key import check_public_key
from veilmatch.server.commands.key import register


def record_of(number: int = 0) -> CeremonyRecord:
    public = public_file(number)
    record = CeremonyRecord.of(bytes(32), bytes([1] * 32), bytes([2] * 32), public)
    for party, key in organisation_keys().items():
        record = record.with_signature(party, record.signed(key), public)
    return record


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    public, record = tmp_path / "public.json", tmp_path / "ceremony.json"
    public.write_bytes(public_file().encode())
    record.write_bytes(record_of().encode())
    return public, record


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["key", "check", *map(str, arguments)])


def test_a_sound_key_is_said_to_prove_what_it_does(files: tuple[Path, Path]) -> None:
    public, record = files
    for arguments, count in (((public,), 3), ((public, "--transcript", record), 4)):
        done = run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert document["key_id"] == ceremony().public_key.key_id.hex()
        assert len(document["checks"]) == count
        assert all(one["proves"] and one["leaves_open"] for one in document["checks"])
    assert "too small for real faces" in document["checks"][0]["holds"]


def test_a_record_of_another_key_or_of_two_organisations_is_refused(files: tuple[Path, Path]) -> None:
    public, record = files
    record.write_bytes(record_of(1).encode())
    with pytest.raises(IntegrityError, match="another key"):
        check_public_key(public, record)
    forged = replace(record_of(), signatures={**record_of().signatures, "c": record_of().signatures["b"]})
    record.write_bytes(forged.encode())
    with pytest.raises(IntegrityError, match="organisation c has not signed"):
        check_public_key(public, record)


def test_a_base_of_another_jacobi_symbol_is_refused(files: tuple[Path, Path]) -> None:
    key = ceremony().public_key
    N = key.modulus
    h = next(Integer(x) for x in range(2, 1000) if jacobi(Integer(x), N) == -1)
    wrong = replace(public_file(), public_key=PublicKey(key.parameters, N, pow(h, int(N), N * N)))
    files[0].write_bytes(wrong.encode())
    with pytest.raises(KeyFileError, match="base of the public key is unsound"):
        check_public_key(files[0])


def test_powers_are_told_from_other_numbers() -> None:
    assert is_power(Integer(7) ** 3) and is_power(Integer(15) ** 2)
    assert not is_power(ceremony().public_key.modulus)
