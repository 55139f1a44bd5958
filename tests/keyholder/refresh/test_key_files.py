"""share.key, share.key.next, share.key.old: every interruption leaves the state before a step or after it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.installation.making import CHEAP, PASSPHRASE, ceremony, material, public_file
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyFileError,
    KeyMismatchError,
    VeilmatchError,
)
from veilmatch.crypto.keys.refreshing import RefreshName, common_seed, refreshed_key
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.installation.sealed import open_sealed, reseal, seal, waiting_file
from veilmatch.server.keyholder.refresh.key_files import KeyFiles


def next_key(key: KeyHolderKey, epoch: int = 2) -> KeyHolderKey:
    """The key of the epoch after."""
    seeds = {
        pair: common_seed(RefreshName(bytes(32), key.key_id, epoch, pair), bytes(32), b"m" * 32)
        for pair in ("ab", "ac", "bc")
    }
    return refreshed_key(key, seeds, b"n" * 32, public_key())  # type: ignore[arg-type]


def public_key() -> PublicKey:
    return public_file().public_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    seal(tmp_path / "share.key", ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
    return tmp_path / "share.key"


def opened(path: Path) -> KeyFiles:
    return KeyFiles(path, *open_sealed(path, "a", public_file(), PASSPHRASE))


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_a_prepared_key_waits_and_is_then_used_and_the_old_one_goes(path: Path) -> None:
    files, key = opened(path), ceremony().keys[0]
    assert files.prepare(next_key(key)) == next_key(key)
    assert names(path) == ["share.key", "share.key.next"] and opened(path).current == key
    assert stat.S_IMODE(waiting_file(path).stat().st_mode) == 0o600
    assert files.commit() == files.current == next_key(key) and files.keeps_old
    assert names(path) == ["share.key", "share.key.old"]
    again = opened(path)
    assert (again.current, again.waiting, again.keeps_old) == (next_key(key), None, True)
    old = path.with_name("share.key.old")
    again.erase_old()
    assert names(path) == ["share.key"] and not old.exists()
    again.erase_old()


def test_a_waiting_key_is_found_again_and_can_be_discarded(path: Path) -> None:
    opened(path).prepare(next_key(ceremony().keys[0]))
    files = opened(path)
    assert files.waiting == next_key(ceremony().keys[0])
    files.discard()
    assert (files.waiting, names(path)) == (None, ["share.key"])
    files.discard()
    with pytest.raises(KeyMismatchError):
        files.commit()


def test_erasing_overwrites_the_bytes_before_the_name_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(path)
    files.prepare(next_key(ceremony().keys[0]))
    files.commit()
    old = path.with_name("share.key.old")
    sealed = old.read_bytes()
    seen: list[bytes] = []
    unlink = Path.unlink

    def noted(self: Path, **arguments: Any) -> None:
        seen.append(self.read_bytes())
        unlink(self, **arguments)

    monkeypatch.setattr(Path, "unlink", noted)
    files.erase_old()
    (before,) = seen
    assert len(before) == len(sealed) and before[:76] != sealed[:76] and before[-64:] != sealed[-64:]


def test_where_a_file_can_have_no_second_name_nothing_is_prepared(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch would need it, when it is too late to refuse."""

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    files = opened(path)
    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        files.prepare(next_key(ceremony().keys[0]))
    assert names(path) == ["share.key"]


@pytest.mark.parametrize("at", ["link", "replace"])
def test_a_crash_inside_the_switch_leaves_the_old_key_and_the_waiting_one(
    path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(path)
    files.prepare(next_key(ceremony().keys[0]))

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    owner: Any = os if at == "link" else Path
    monkeypatch.setattr(owner, at, fails)
    with pytest.raises(OSError, match="Input/output"):
        files.commit()
    monkeypatch.undo()
    assert files.current == ceremony().keys[0] and files.waiting is not None
    assert names(path) == ["share.key", "share.key.next"]
    again = opened(path)
    assert again.current == ceremony().keys[0] and again.waiting == next_key(ceremony().keys[0])
    assert not again.keeps_old
    assert again.commit() == next_key(ceremony().keys[0]) and files.current != again.current
    assert names(path) == ["share.key", "share.key.old"]


def gone_over(path: Path) -> KeyFiles:
    """Files after a switch: the old key is kept."""
    files = opened(path)
    files.prepare(next_key(ceremony().keys[0]))
    files.commit()
    return files


def test_the_old_key_comes_back_and_the_newer_one_waits(path: Path) -> None:
    files, old, newer = gone_over(path), ceremony().keys[0], next_key(ceremony().keys[0])
    assert files.go_back() == files.current == old and files.waiting == newer
    assert names(path) == ["share.key", "share.key.next"] and not files.keeps_old
    again = opened(path)
    assert (again.current, again.waiting) == (old, newer)
    assert again.commit() == newer and again.keeps_old


def test_without_an_old_key_there_is_no_way_back(path: Path) -> None:
    files = gone_over(path)
    files.erase_old()
    with pytest.raises(KeyFileError, match="no key of the epoch before"):
        files.go_back()
    assert names(path) == ["share.key"] and files.current == next_key(ceremony().keys[0])


def test_an_old_key_that_cannot_be_read_changes_nothing(path: Path) -> None:
    files, old = gone_over(path), path.with_name("share.key.old")
    sealed = old.read_bytes()
    for damaged in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:90], path.read_bytes()):
        old.write_bytes(damaged)
        with pytest.raises(VeilmatchError):
            files.go_back()
        assert names(path) == ["share.key", "share.key.old"] and opened(path).current == next_key(ceremony().keys[0])


@pytest.mark.parametrize("at", ["link", "replace", "nothing"])
def test_a_crash_on_the_way_back_leaves_the_newer_key_and_the_old_one(
    path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "nothing": a death between the two renames, which leaves both names of the newer key."""
    files = gone_over(path)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    if at == "nothing":
        os.link(path, waiting_file(path))
    else:
        owner: Any = os if at == "link" else Path
        monkeypatch.setattr(owner, at, fails)
        with pytest.raises(OSError, match="Input/output"):
            files.go_back()
        monkeypatch.undo()
        assert files.current == next_key(ceremony().keys[0]) and files.waiting is None
    again = opened(path)
    assert again.current == next_key(ceremony().keys[0]) and again.waiting is None and again.keeps_old
    assert names(path) == ["share.key", "share.key.old"]
    assert again.go_back() == ceremony().keys[0]


def test_the_key_in_use_is_not_erased_by_its_second_name(path: Path) -> None:
    """What a death between the two renames leaves: both names lead to one file."""
    files = opened(path)
    os.link(path, path.with_name("share.key.old"))
    assert not files.keeps_old
    files.erase_old()
    assert names(path) == ["share.key"] and opened(path).current == ceremony().keys[0]
    os.link(path, path.with_name("share.key.old"))
    assert opened(path).current == ceremony().keys[0] and names(path) == ["share.key"]


def test_a_disk_that_is_full_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        files.prepare(next_key(ceremony().keys[0]))
    assert names(path) == ["share.key"] and files.waiting is None


def test_only_a_key_of_the_next_epoch_waits(path: Path) -> None:
    files, after = opened(path), next_key(ceremony().keys[0])
    for wrong in (ceremony().keys[0], next_key(after, 3)):
        with pytest.raises(KeyMismatchError):
            files.prepare(wrong)
    assert names(path) == ["share.key"]


def test_what_waits_for_an_epoch_that_is_over_is_erased_at_the_start(path: Path) -> None:
    """Copied back from somewhere: a file of the epoch in use, and of one that does not follow."""
    key = ceremony().keys[0]
    for stale in (key, next_key(next_key(key), 3)):
        open_sealed(path, "a", public_file(), PASSPHRASE)[1].seal(waiting_file(path), stale)
        assert opened(path).waiting is None and names(path) == ["share.key"]


def test_what_waits_and_cannot_be_read_stops_the_start(path: Path) -> None:
    """It may be the key that the peers already use the counterpart of: nothing is guessed."""
    key, next_path = ceremony().keys[0], waiting_file(path)
    seal(next_path, next_key(key), public_file(), "another passphrase", CHEAP)
    cases: list[tuple[bytes, type[VeilmatchError]]] = [(next_path.read_bytes(), KeyMismatchError), (b"", KeyFileError)]
    open_sealed(path, "a", public_file(), PASSPHRASE)[1].seal(next_path, next_key(key))
    good = next_path.read_bytes()
    cases += [(good[:-1] + bytes([good[-1] ^ 1]), KeyFileError), (good[:90], KeyFileError)]
    seal(next_path, ceremony().keys[1], public_file(), PASSPHRASE, CHEAP)
    cases += [(next_path.read_bytes(), KeyFileError)]
    for data, kind in cases:
        next_path.write_bytes(data)
        with pytest.raises(kind):
            opened(path)
        assert next_path.exists()
    next_path.write_bytes(good)
    assert opened(path).waiting == next_key(key)


def test_a_key_file_that_was_altered_since_the_start_is_no_matter_of_the_passphrase(path: Path) -> None:
    """And the error says whose file it is: it is read where another key holder leads a refresh."""
    files, good = opened(path), path.read_bytes()
    for at, kind in ((-1, KeyFileError), (len(good) // 2, KeyFileError)):
        altered = bytearray(good)
        altered[at] ^= 1
        path.write_bytes(altered)
        with pytest.raises(kind, match="key file of keyholder-a was altered"):
            files.require_refreshable()
    seal(path, ceremony().keys[0], public_file(), "another passphrase", CHEAP)
    with pytest.raises(KeyMismatchError, match="key file of keyholder-a was sealed again") as caught:
        files.require_refreshable()
    assert caught.value.party == "keyholder-a"


def test_a_link_stays_and_the_file_that_it_leads_to_is_refreshed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "share.key"
    link.parent.mkdir()
    link.symlink_to(path)
    files = opened(link)
    files.prepare(next_key(ceremony().keys[0]))
    files.commit()
    assert link.is_symlink() and names(link) == ["share.key"]
    assert opened(link).current.epoch == opened(path).current.epoch == 2


def test_no_other_passphrase_while_another_key_is_kept(path: Path) -> None:
    opened(path).prepare(next_key(ceremony().keys[0]))
    with pytest.raises(ConfigurationError, match="not finished"):
        reseal(path, "a", public_file(), PASSPHRASE, "another")
    opened(path).commit()
    with pytest.raises(ConfigurationError, match="not finished"):
        reseal(path, "a", public_file(), PASSPHRASE, "another")
    opened(path).erase_old()
    reseal(path, "a", public_file(), PASSPHRASE, "another", CHEAP)


def test_a_sealing_opens_what_it_sealed_and_shows_nothing(path: Path) -> None:
    key, sealing = open_sealed(path, "a", public_file(), PASSPHRASE)
    texts = material(key)
    assert repr(sealing) == "<Sealing>" and repr(opened(path)) == "<KeyFiles>"
    assert not any(text in repr((sealing, opened(path))) for text in texts)
    with pytest.raises(TypeError):
        sealing.__reduce__()
    nonces = set()
    for _ in range(3):
        sealing.seal(path, key)
        nonces.add(path.read_bytes()[48:60])
        assert open_sealed(path, "a", public_file(), PASSPHRASE)[0] == key == sealing.unseal(path)
    assert len(nonces) == 3
    with pytest.raises(KeyMismatchError):
        sealing.seal(path, ceremony(1).keys[0])
    with pytest.raises(KeyMismatchError, match="another epoch"):
        sealing.unseal(path, epoch=2)
