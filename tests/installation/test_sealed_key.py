"""share.key: it opens for its own party, installation, key and passphrase, and for nothing else."""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.installation.making import CHEAP, PASSPHRASE, ceremony, material, organisations, public_file, signers
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyFileError,
    KeyMismatchError,
    UnavailableError,
    VeilmatchError,
    WrongPassphraseError,
)
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.parameters import SAFE_MODULUS_BITS, ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation import sealed, stretching
from veilmatch.server.installation.sealed import ScryptCost, seal, unseal
from veilmatch.server.installation.stretching import cost_for

#: Offsets in the header.
PARTY, KEY_ID, EPOCH, LOG2_N, R, P, INSTALLATION = 8, 9, 25, 29, 30, 31, 60


@cache
def sealed_bytes(directory: Path) -> bytes:
    path = directory / "share.key"
    seal(path, ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
    return path.read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return sealed_bytes(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "share.key"


def opened(path: Path, data: bytes, passphrase: str = PASSPHRASE, **changes: Any) -> KeyHolderKey:
    path.write_bytes(data)
    path.chmod(0o600)
    return unseal(path, "a", changes.pop("public", public_file()), passphrase, **changes)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# -- round trip -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_every_key_survives_sealing(number: int, tmp_path: Path) -> None:
    key, public = ceremony().keys[number], public_file()
    seal(tmp_path / "share.key", key, public, PASSPHRASE, CHEAP)
    again = unseal(tmp_path / "share.key", PARTIES[number], public, PASSPHRASE)
    secrets = [k.to_secret_bytes(public.public_key, SECRET_ACCESS) for k in (key, again)]
    assert secrets[0] == secrets[1]
    assert (again.party, again.epoch, again.key_id) == (PARTIES[number], 1, public.public_key.key_id)


def test_only_the_passphrase_of_a_toy_is_cheap_to_guess() -> None:
    assert all(cost_for(ParameterSet(modulus_bits=bits)) == ScryptCost() for bits in SAFE_MODULUS_BITS)
    assert cost_for(ParameterSet(modulus_bits=1024)) != ScryptCost()


def test_the_default_cost_opens_too(tmp_path: Path) -> None:
    seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE)
    assert tuple((tmp_path / "share.key").read_bytes()[LOG2_N : P + 1]) == (17, 8, 1)
    assert unseal(tmp_path / "share.key", "a", public_file(), PASSPHRASE).party == "a"


def test_two_sealings_of_one_key_have_nothing_in_common_but_the_header(tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
        files.append((tmp_path / "share.key").read_bytes())
    assert files[0][: P + 1] == files[1][: P + 1]
    assert files[0][INSTALLATION:76] == files[1][INSTALLATION:76] == public_file().installation
    for at in (P + 1, P + 17, *range(76, len(files[0]) - 16, 16)):
        assert files[0][at : at + 12] != files[1][at : at + 12]


def test_the_passphrase_may_be_any_text(tmp_path: Path) -> None:
    for passphrase in (" ", "pässwörd \U0001f511", "x" * 5000, "a\nb", "a\0b"):
        seal(tmp_path / "share.key", ceremony().keys[0], public_file(), passphrase, CHEAP)
        assert unseal(tmp_path / "share.key", "a", public_file(), passphrase).party == "a"


# -- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o377])
def test_the_file_is_the_owners_alone_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    previous = os.umask(umask)
    try:
        seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "share.key").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["share.key"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "share.key"
    path.write_bytes(good)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        seal(path, ceremony().keys[1], public_file(), PASSPHRASE, CHEAP)
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == ["share.key"]


def test_file_and_folder_reach_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
    assert steps == ["file", "rename", "folder"]


def test_a_key_of_another_ceremony_is_not_sealed_for_this_one(tmp_path: Path) -> None:
    with pytest.raises(KeyMismatchError):
        seal(tmp_path / "share.key", ceremony(1).keys[0], public_file(0), PASSPHRASE, CHEAP)
    assert list(tmp_path.iterdir()) == []


# -- whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("party", ["b", "c"])
def test_another_partys_file_is_refused(party: Any, good: bytes, scratch: Path) -> None:
    opened(scratch, good)
    with pytest.raises(KeyFileError, match="another party") as caught:
        unseal(scratch, party, public_file(), PASSPHRASE)
    assert (caught.value.got, caught.value.expected) == ("a", party)


@pytest.mark.parametrize("letter", [b"\0", b"0", b"A", b"d", b"\xff"])
def test_a_file_of_no_party_is_refused(letter: bytes, good: bytes, scratch: Path) -> None:
    with pytest.raises(KeyFileError, match="another party"):
        opened(scratch, changed(good, PARTY, letter))


def test_a_file_of_another_public_key_is_refused(good: bytes, scratch: Path) -> None:
    other = PublicFile(ceremony(1).public_key, public_file().installation, organisations(), signers())
    with pytest.raises(KeyMismatchError, match="another public key"):
        opened(scratch, good, public=other)


def test_a_file_of_another_installation_of_the_same_key_is_refused(good: bytes, scratch: Path) -> None:
    with pytest.raises(KeyMismatchError, match="another installation"):
        opened(scratch, good, public=PublicFile(ceremony().public_key, bytes(16), organisations(), signers()))


def test_a_file_of_another_epoch_is_refused_where_one_is_expected(good: bytes, scratch: Path) -> None:
    assert opened(scratch, good, epoch=1).epoch == 1
    with pytest.raises(KeyMismatchError, match="another epoch"):
        opened(scratch, good, epoch=2)


@pytest.mark.parametrize("at", [PARTY, INSTALLATION, KEY_ID, EPOCH + 3])
def test_a_file_cannot_be_relabelled(at: int, good: bytes, scratch: Path) -> None:
    """Where the header is altered to fit, the cipher still knows what the file was made for."""
    public = public_file()
    relabelled, party, key = good, "a", public
    if at == PARTY:
        relabelled, party = changed(good, PARTY, b"b"), "b"
    elif at == INSTALLATION:
        relabelled, key = (
            changed(good, INSTALLATION, bytes(16)),
            PublicFile(public.public_key, bytes(16), organisations(), signers()),
        )
    elif at == KEY_ID:
        other = ceremony(1).public_key
        relabelled = changed(good, KEY_ID, other.key_id)
        key = PublicFile(other, public.installation, organisations(), signers())
    else:
        relabelled = changed(good, EPOCH, struct.pack(">I", 2))
    scratch.write_bytes(relabelled)
    with pytest.raises(WrongPassphraseError):
        unseal(scratch, party, key, PASSPHRASE)  # type: ignore[arg-type]


def test_the_parameter_set_is_bound_even_where_the_key_id_would_not_tell(
    good: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = public_file().public_key
    other = PublicKey(ParameterSet(9, 60, 23, 512), public.modulus, public.hs)
    other.__dict__["key_id"] = public.key_id
    with pytest.raises(WrongPassphraseError):
        opened(scratch, good, public=PublicFile(other, public_file().installation, organisations(), signers()))


# -- damage ---------------------------------------------------------------------------------------


def test_a_wrong_passphrase_is_refused_and_the_message_is_honest(good: bytes, scratch: Path) -> None:
    for wrong in (PASSPHRASE + " ", PASSPHRASE.upper(), "x"):
        with pytest.raises(WrongPassphraseError, match="or the file was altered") as caught:
            opened(scratch, good, wrong)
        assert caught.value.party == "keyholder-a"
        assert wrong not in str(caught.value) or wrong == "x"


def test_an_impossible_passphrase_is_a_configuration_error(good: bytes, scratch: Path) -> None:
    with pytest.raises(ConfigurationError):
        opened(scratch, good, "\udcff")


def test_every_truncated_file_is_refused(good: bytes, scratch: Path) -> None:
    for length in range(len(good)):
        with pytest.raises(KeyFileError):
            opened(scratch, good[:length])


def test_a_longer_file_is_refused(good: bytes, scratch: Path) -> None:
    for tail in (b"\0", good, bytes(1 << 20)):
        with pytest.raises(KeyFileError):
            opened(scratch, good + tail)


def test_a_bit_flipped_in_any_byte_is_noticed(good: bytes, scratch: Path) -> None:
    for at in range(len(good)):
        with pytest.raises((KeyFileError, KeyMismatchError, WrongPassphraseError)):
            opened(scratch, changed(good, at, bytes([good[at] ^ 1])))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_alteration_loads_and_none_escapes_the_tree(data: st.DataObject, good: bytes, scratch: Path) -> None:
    altered = bytearray(good[: data.draw(st.integers(1, len(good)), label="length")])
    for at in data.draw(st.lists(st.integers(0, len(altered) - 1), max_size=6), label="positions"):
        altered[at] = data.draw(st.integers(0, 255))
    assume(bytes(altered) != good)
    # A cost that is allowed but takes its time is tested by itself.
    assume(len(altered) <= P or altered[LOG2_N] <= 12 or altered[LOG2_N] > 20)
    with pytest.raises(VeilmatchError):
        opened(scratch, bytes(altered))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_no_bytes_are_a_key_file(data: bytes, scratch: Path) -> None:
    with pytest.raises(KeyFileError):
        opened(scratch, data)


@pytest.mark.parametrize(
    ("at", "value"),
    [*((LOG2_N, value) for value in (0, 9, 21, 63, 255)), (R, 0), (R, 9), (P, 0), (P, 255)],
)
def test_a_hostile_cost_is_refused_before_any_memory_is_asked_for(
    at: int, value: int, good: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretching, "Scrypt", None)
    with pytest.raises(KeyFileError, match="cost"):
        opened(scratch, changed(good, at, bytes([value])))


def test_a_cost_that_was_raised_or_lowered_is_noticed(good: bytes, scratch: Path) -> None:
    for at, value in ((LOG2_N, 11), (LOG2_N, 14), (R, 8), (P, 4)):
        with pytest.raises(WrongPassphraseError):
            opened(scratch, changed(good, at, bytes([value])))


def test_too_little_memory_is_a_typed_error(good: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Starved:
        def __init__(self, **_: object) -> None: ...

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(stretching, "Scrypt", Starved)
    with pytest.raises(UnavailableError, match="16 MiB"):
        opened(scratch, changed(changed(good, LOG2_N, b"\x0e"), R, b"\x08"))


@pytest.mark.parametrize("cost", [(9, 8, 1), (21, 8, 1), (17, 0, 1), (17, 9, 1), (17, 8, 0), (17, 8, 5), (-1, 8, 1)])
def test_an_unreasonable_cost_cannot_be_asked_for(cost: tuple[int, int, int], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        ScryptCost(*cost).check()
    with pytest.raises(KeyFileError):
        seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE, ScryptCost(*cost))
    assert list(tmp_path.iterdir()) == []


# -- the file itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_file_open_to_others_is_refused(mode: int, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "share.key"
    path.write_bytes(good)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="open to others") as caught:
        unseal(path, "a", public_file(), PASSPHRASE)
    assert (caught.value.got, caught.value.expected) == (f"{path}: mode {mode:04o}", "mode 0600")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_read(mode: int, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "share.key"
    path.write_bytes(good)
    path.chmod(mode)
    assert unseal(path, "a", public_file(), PASSPHRASE).party == "a"


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent", tmp_path / "loop"):
        with pytest.raises(KeyFileError):
            unseal(path, "a", public_file(), PASSPHRASE)


# -- nothing leaks --------------------------------------------------------------------------------


def test_nothing_of_the_key_is_in_an_error_a_log_or_a_representation(
    good: bytes, scratch: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [repr(ceremony().keys[0]), repr(opened(scratch, good)), repr(sealed._Header.decode(good[:76]))]
    for data, passphrase in ((good, "wrong"), (good[:-1], PASSPHRASE), (good[:50], PASSPHRASE)):
        with pytest.raises(VeilmatchError) as caught:
            opened(scratch, data, passphrase)
        said += [str(caught.value), repr(caught.value.fields())]
    text = "".join([*said, caplog.text, *capfd.readouterr()])
    for secret in (*material(ceremony().keys[0]), PASSPHRASE):
        assert secret not in text
    for secret in material(ceremony().keys[0]):
        assert secret.encode() not in good


def test_the_file_holds_nothing_of_the_key_in_clear(good: bytes) -> None:
    whole = ceremony().keys[0].to_secret_bytes(ceremony().public_key, SECRET_ACCESS)
    for at in range(30, len(whole) - 8, 8):
        assert whole[at : at + 8] not in good
