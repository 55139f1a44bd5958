"""The sealed key file: it opens for its party, public key, installation and passphrase, unaltered; else not at all."""

from __future__ import annotations

import copy
import pickle
import stat
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.installation.making import CHEAP, PASSPHRASE, ceremony, material, public_file
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, VeilmatchError, WrongPassphraseError
from veilmatch.crypto.keys import PARTIES, KeyHolderKey, Party
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation.sealed import ScryptCost, seal, unseal

KEY = ceremony().keys[0]
#: magic, party, key id, epoch, log2 n, r, p, salt, nonce
HEADER = struct.Struct(">8s1s16sIBBB16s12s")
LOG2_N, R, P = 29, 30, 31


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The sealed file of key holder a."""
    path = tmp_path_factory.mktemp("sealed") / "share.key"
    seal(path, KEY, public_file(), PASSPHRASE, CHEAP)
    return path.read_bytes()


def written(folder: Path, data: bytes) -> Path:
    path = folder / "share.key"
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def secret_bytes(key: KeyHolderKey) -> bytes:
    return key.to_secret_bytes(ceremony().public_key, SECRET_ACCESS)


# -- the round trip ---------------------------------------------------------------------------


@pytest.mark.parametrize("party", PARTIES)
def test_a_sealed_key_opens_again(party: Party, tmp_path: Path) -> None:
    key = ceremony().keys[PARTIES.index(party)]
    seal(tmp_path / "share.key", key, public_file(), PASSPHRASE, CHEAP)
    assert secret_bytes(unseal(tmp_path / "share.key", party, public_file(), PASSPHRASE)) == secret_bytes(key)


def test_a_passphrase_may_be_any_text(tmp_path: Path) -> None:
    for passphrase in ("ä ß 🔑", " ", "\n", "x" * 10_000, "a\0b"):
        seal(tmp_path / "share.key", KEY, public_file(), passphrase, CHEAP)
        assert unseal(tmp_path / "share.key", "a", public_file(), passphrase).party == "a"
        with pytest.raises(WrongPassphraseError):
            unseal(tmp_path / "share.key", "a", public_file(), passphrase[:-1])


def test_two_sealings_of_one_key_have_nothing_in_common(tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        seal(tmp_path / name, KEY, public_file(), PASSPHRASE, CHEAP)
        files.append((tmp_path / name).read_bytes())
    plain = [HEADER.unpack(data[: HEADER.size]) for data in files]
    assert plain[0][:7] == plain[1][:7]
    assert plain[0][7] != plain[1][7]
    assert plain[0][8] != plain[1][8]
    assert files[0][HEADER.size :][:32] != files[1][HEADER.size :][:32]


def test_the_file_shows_no_key_material(sealed: bytes) -> None:
    secret = secret_bytes(KEY)
    windows = {secret[i : i + 8] for i in range(29, len(secret) - 8)}
    assert len(windows) > 100
    assert not any(window in sealed for window in windows)


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "share.key"
    seal(path, KEY, public_file(), PASSPHRASE, CHEAP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601, 0o610, 0o602, 0o777])
def test_a_file_that_is_open_to_others_is_refused(sealed: bytes, tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, sealed)
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught:
        unseal(path, "a", public_file(), PASSPHRASE)
    assert caught.value.got == oct(mode)
    path.chmod(0o400)
    assert unseal(path, "a", public_file(), PASSPHRASE).party == "a"


def test_sealing_over_an_open_file_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "share.key"
    path.write_bytes(b"something else")
    path.chmod(0o644)
    seal(path, KEY, public_file(), PASSPHRASE, CHEAP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- what does not open it ----------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", ["", "correct horsf", "correct horse ", "CORRECT HORSE", "correct horse\n"])
def test_another_passphrase_does_not_open_it(sealed: bytes, tmp_path: Path, passphrase: str) -> None:
    with pytest.raises(WrongPassphraseError):
        unseal(written(tmp_path, sealed), "a", public_file(), passphrase)


@pytest.mark.parametrize("party", ["b", "c"])
def test_another_party_cannot_use_it(sealed: bytes, tmp_path: Path, party: Party) -> None:
    with pytest.raises(KeyFileError) as caught:
        unseal(written(tmp_path, sealed), party, public_file(), PASSPHRASE)
    assert not isinstance(caught.value, WrongPassphraseError)
    assert (caught.value.got, caught.value.expected) == ("a", party)


@pytest.mark.parametrize("party", ["b", "c"])
def test_a_renamed_party_in_the_header_does_not_open_it(sealed: bytes, tmp_path: Path, party: Party) -> None:
    renamed = sealed[:8] + party.encode() + sealed[9:]
    with pytest.raises(WrongPassphraseError):
        unseal(written(tmp_path, renamed), party, public_file(), PASSPHRASE)


def test_it_does_not_open_for_another_public_key(sealed: bytes, tmp_path: Path) -> None:
    with pytest.raises(KeyMismatchError) as caught:
        unseal(written(tmp_path, sealed), "a", public_file(1), PASSPHRASE)
    assert caught.value.got == ceremony().public_key.key_id.hex()


def test_it_does_not_open_in_another_installation_of_the_same_key(sealed: bytes, tmp_path: Path) -> None:
    other = PublicFile.fresh(ceremony().public_key)
    with pytest.raises(WrongPassphraseError):
        unseal(written(tmp_path, sealed), "a", other, PASSPHRASE)


def test_another_epoch_in_the_header_does_not_open_it(sealed: bytes, tmp_path: Path) -> None:
    fields = list(HEADER.unpack(sealed[: HEADER.size]))
    fields[3] += 1
    with pytest.raises(WrongPassphraseError):
        unseal(written(tmp_path, HEADER.pack(*fields) + sealed[HEADER.size :]), "a", public_file(), PASSPHRASE)


# -- damaged files ------------------------------------------------------------------------------


def test_a_file_cut_at_any_length_is_refused(sealed: bytes, tmp_path: Path) -> None:
    for length in range(len(sealed)):
        with pytest.raises((KeyFileError, WrongPassphraseError)):
            unseal(written(tmp_path, sealed[:length]), "a", public_file(), PASSPHRASE)


def test_a_file_with_something_behind_it_is_refused(sealed: bytes, tmp_path: Path) -> None:
    for more in (b"\0", sealed):
        with pytest.raises(WrongPassphraseError):
            unseal(written(tmp_path, sealed + more), "a", public_file(), PASSPHRASE)


def test_no_bit_of_the_header_can_be_flipped(sealed: bytes, tmp_path: Path) -> None:
    for at in range(HEADER.size):
        for bit in range(8):
            if at == LOG2_N and 1 << bit == 16:
                continue  # 2^26: among the hostile costs below
            data = bytearray(sealed)
            data[at] ^= 1 << bit
            with pytest.raises(VeilmatchError):
                unseal(written(tmp_path, bytes(data)), "a", public_file(), PASSPHRASE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.integers(0, 10_000), st.integers(1, 255), min_size=1, max_size=6))
@example({HEADER.size: 1})
def test_no_change_of_bytes_loads_or_escapes_as_an_untyped_error(
    sealed: bytes, tmp_path: Path, changes: dict[int, int]
) -> None:
    data = bytearray(sealed)
    for at, mask in changes.items():
        place = at % len(sealed)
        if place not in (LOG2_N, R, P):  # a dear but permitted cost only takes time
            data[place] ^= mask
    if bytes(data) == sealed:
        return
    with pytest.raises(VeilmatchError):
        unseal(written(tmp_path, bytes(data)), "a", public_file(), PASSPHRASE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=500))
def test_no_bytes_are_a_key_file(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KeyFileError):
        unseal(written(tmp_path, data), "a", public_file(), PASSPHRASE)


@pytest.mark.parametrize("cost", [(9, 8, 1), (21, 8, 1), (26, 1, 1), (63, 8, 1), (255, 255, 255), (17, 0, 1),
                                  (17, 9, 1), (17, 8, 0), (17, 8, 5), (0, 0, 0)])  # fmt: skip
def test_a_hostile_scrypt_cost_is_refused_before_it_is_paid(
    sealed: bytes, tmp_path: Path, cost: tuple[int, int, int]
) -> None:
    fields = list(HEADER.unpack(sealed[: HEADER.size]))
    fields[4:7] = cost
    path = written(tmp_path, HEADER.pack(*fields) + sealed[HEADER.size :])
    started = time.perf_counter()
    with pytest.raises(KeyFileError) as caught:
        unseal(path, "a", public_file(), PASSPHRASE)
    assert "scrypt" in caught.value.message
    assert time.perf_counter() - started < 0.2


def test_no_file_is_sealed_at_a_cost_that_could_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        seal(tmp_path / "share.key", KEY, public_file(), PASSPHRASE, ScryptCost(9, 8, 1))
    assert list(tmp_path.iterdir()) == []


def test_the_default_cost_is_at_least_128_mib() -> None:
    cost = ScryptCost().check()
    assert 128 * (1 << cost.log2_n) * cost.r >= 128 << 20


def test_a_missing_file_and_a_folder_are_key_file_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyFileError) as caught:
            unseal(path, "a", public_file(), PASSPHRASE)
        assert caught.value.expected == str(path)


# -- nothing shows --------------------------------------------------------------------------------


def test_no_key_shows_its_material(sealed: bytes, tmp_path: Path) -> None:
    key = unseal(written(tmp_path, sealed), "a", public_file(), PASSPHRASE)
    shown = [f(x) for f in (repr, str) for x in (key, key.share("ab"), key.share("ac"), ceremony())]
    assert not [text for text in shown for secret in material(key) if secret in text]
    assert any(secret in str(int(key.share("ab")._kappa)) for secret in material(key))


def test_no_key_is_pickled_or_copied(sealed: bytes, tmp_path: Path) -> None:
    key = unseal(written(tmp_path, sealed), "a", public_file(), PASSPHRASE)
    for handle in (key, key.share("ab")):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                way(handle)


def test_no_error_shows_passphrase_or_material(sealed: bytes, tmp_path: Path) -> None:
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    wrong = [
        (sealed, "a", public_file(), "wrong horse"), (sealed, "b", public_file(), PASSPHRASE),
        (sealed, "a", public_file(1), PASSPHRASE), (altered, "a", public_file(), PASSPHRASE),
        (sealed[:80], "a", public_file(), PASSPHRASE), (sealed[:90], "a", public_file(), PASSPHRASE),
    ]  # fmt: skip
    for data, party, public, passphrase in wrong:
        with pytest.raises(VeilmatchError) as caught:
            unseal(written(tmp_path, data), party, public, passphrase)
        error: BaseException | None = caught.value
        while error is not None:
            for text in (str(error), repr(error), repr(getattr(error, "fields", dict)())):
                assert not [secret for secret in (*material(KEY), PASSPHRASE, "wrong horse") if secret in text]
            error = error.__cause__


def test_a_key_that_contradicts_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "share.key"

    class Disguised(KeyHolderKey):
        """Says that it is key holder b's, and writes key holder a's secret."""

        def to_secret_bytes(self, *args: object) -> bytes:
            return secret_bytes(KEY)

    b = ceremony().keys[1]
    seal(path, Disguised("b", b.key_id, 1, b._shares, bytes(32), bytes(32)), public_file(), PASSPHRASE, CHEAP)
    with pytest.raises(KeyFileError) as caught:
        unseal(path, "b", public_file(), PASSPHRASE)
    assert not isinstance(caught.value, WrongPassphraseError)


# -- the encoding inside --------------------------------------------------------------------------


def test_the_secret_encoding_is_refused_at_every_other_length() -> None:
    secret, public = secret_bytes(KEY), ceremony().public_key
    for data in [secret[:n] for n in range(len(secret))] + [secret + b"\0"]:
        with pytest.raises(KeyFileError):
            KeyHolderKey.from_secret_bytes(data, public)
    assert secret_bytes(KeyHolderKey.from_secret_bytes(secret, public)) == secret


def test_a_secret_of_another_public_key_party_or_epoch_is_refused() -> None:
    secret, public = secret_bytes(KEY), ceremony().public_key
    with pytest.raises(KeyMismatchError):
        KeyHolderKey.from_secret_bytes(secret, ceremony(1).public_key)
    for at, value in ((24, b"d"), (24, b"A"), (24, b"\0"), (25, bytes(4))):
        with pytest.raises(KeyFileError):
            KeyHolderKey.from_secret_bytes(secret[:at] + value + secret[at + len(value) :], public)


def test_a_share_out_of_range_is_refused() -> None:
    secret, public = secret_bytes(KEY), ceremony().public_key
    kappa_bytes = public.parameters.modulus_bits // 8
    seeds = 64
    for data in (
        secret[:29] + b"\xff" + secret[30:],
        secret[: -seeds - kappa_bytes] + b"\xff" * kappa_bytes + secret[-seeds:],
    ):
        assert len(data) == len(secret)
        with pytest.raises(KeyFileError) as caught:
            KeyHolderKey.from_secret_bytes(data, public)
        assert "range" in caught.value.message
