"""`veilmatch move`: an installation of two matchers becomes one of three organisations that are alike.

What stays: the key and its shares, device certificates, TLS certificates, the gallery, audit logs, budgets, and every
setting. New are a signing key of each organisation, the matcher of organisation c, and the certificates of the
gallery's changes. Nobody is enrolled again. The old directory is only read.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, GalleryMismatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.config import DaemonSettings, KeyHolderSettings, MatcherSettings
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import FOLDER_MODE, appearing, write_file
from veilmatch.server.installation.layout import check_free
from veilmatch.server.installation.organisation_file import seal_organisation
from veilmatch.server.installation.plan import DEVICES_DIR, REVOKED_DIR, TLS, folder_of
from veilmatch.server.installation.sealed import unfinished_files, unseal
from veilmatch.server.installation.stretching import ScryptCost, cost_for
from veilmatch.server.installation.toml import to_toml
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.moving.earlier import opened
from veilmatch.server.moving.folders import (
    MATCHERS,
    Folder,
    copy_data,
    copy_identity,
    daemon_folders,
    device_folders,
    with_signers,
)
from veilmatch.server.moving.history import Moved, write_moved
from veilmatch.server.transport.daemon import sole_owner

#: How far the port of a matcher is below that of its key holder, in what the ceremony writes.
_BELOW_KEY_HOLDER = 10


@dataclass(frozen=True)
class MatcherC:
    """Where the matcher of organisation c listens, and where others reach it: host:port."""

    listen: str
    address: str


def move_installation(
    old: Path,
    new: Path,
    passphrase: str,
    *,
    dealer_only: bool = False,
    address_c: str | None = None,
    cost: ScryptCost | None = None,
) -> dict[str, Moved]:
    """Write the installation in `old` as one of three alike organisations; return what became of each gallery.

    All daemons are stopped, and their folders with their data are there. passphrase: of the key files and of the
    authority; the new keys are sealed under it. dealer_only: organisation c gets no matcher. address_c: host:port of
    its matcher; ten ports below its key holder unless said. It appears complete or not at all. Raises
    ConfigurationError if something is missing, still running or unfinished, WrongPassphraseError or KeyFileError for a
    key file, GalleryMismatchError if the two matchers do not hold the same.
    """
    check_free(new)
    folders = daemon_folders(old)
    matcher_c = None if dealer_only else _matcher_c(folders, address_c)
    with ExitStack() as stack:
        for folder in folders.values():
            stack.enter_context(sole_owner(folder.data_dir))
        _require_finished(folders)
        own_keys = {party: OrganisationKey.fresh(party) for party in PARTIES}
        public = _public_file(old, folders, own_keys)
        for party in PARTIES:
            unseal(folders[f"keyholder-{party}"].file("key_file", "share.key"), party, public, passphrase)
        cost = cost or cost_for(public.public_key.parameters)
        authority = _authority(old, passphrase, cost)
        with appearing(new) as partial:
            moving = _Moving(partial, public, own_keys, passphrase, cost, matcher_c)
            partial.mkdir(mode=FOLDER_MODE)
            write_file(partial / "public.json", public.encode())
            moving.keep_authority(old)
            for party in PARTIES:
                (partial / f"organisation-{party}").mkdir(mode=FOLDER_MODE)
                moving.key_holder(party, folders[f"keyholder-{party}"])
            for party in MATCHERS:
                moving.matcher(party, folders[f"matcher-{party}"])
            if matcher_c is not None:
                moving.new_matcher(folders, authority)
            for name, folder in device_folders(old).items():
                moving.device(name, folder)
            return moving.galleries(folders)


@dataclass(frozen=True)
class _Moving:
    """Writes the folders of the new installation under `root`."""

    root: Path
    public: PublicFile
    own_keys: Mapping[Party, OrganisationKey]
    passphrase: str
    cost: ScryptCost
    matcher_c: MatcherC | None

    def keep_authority(self, old: Path) -> None:
        """Copy the TLS authority."""
        (self.root / "authority").mkdir(mode=FOLDER_MODE)
        for name in ("ca.pem", "ca-key.pem"):
            write_file(self.root / "authority" / name, (old / "authority" / name).read_bytes(), secret="key" in name)

    def key_holder(self, party: Party, folder: Folder) -> None:
        """Write the folder of a key holder: what it had but its stock, and its organisation's signing key."""
        target = self._begin(f"keyholder-{party}", folder)
        copy_data(folder, target)
        write_file(target / "share.key", folder.file("key_file", "share.key").read_bytes(), secret=True)
        certifier = folder.file("certifier_key", "certifier.key")
        if certifier.exists():  # it may be kept elsewhere
            write_file(target / "certifier.key", certifier.read_bytes(), secret=True)
        fields = _usual(folder) | {"key_file": "share.key", "certifier_key": "certifier.key"}
        if self.matcher_c is None:
            fields["dealer_only"] = "c"
        self._finish(target, "keyholder.toml", fields, KeyHolderSettings)

    def matcher(self, party: Party, folder: Folder) -> None:
        """Write the folder of a matcher that was there before."""
        target = self._begin(f"matcher-{party}", folder)
        copy_data(folder, target)
        fields = _usual(folder)
        other = next(one for one in MATCHERS if one != party)
        peers = {other: fields.pop("peer")} | ({"c": self.matcher_c.address} if self.matcher_c else {})
        key_holder = fields.pop("key_holders")[party]
        fields.pop("seat")
        self._finish(
            target, "matcher.toml", {"party": party, **fields, "key_holder": key_holder, "peers": peers},
            MatcherSettings,
        )  # fmt: skip

    def new_matcher(self, folders: Mapping[str, Folder], authority: Authority) -> None:
        """Write the folder of the matcher of organisation c, with the settings of matcher a."""
        assert self.matcher_c is not None
        like, other = folders["matcher-a"], folders["matcher-b"]
        target = self._begin("matcher-c", like)
        certificate, key = authority.issue("matcher-c")
        write_file(target / TLS["certificate"], certificate)
        write_file(target / TLS["key"], key, secret=True)
        (target / "data").mkdir(mode=FOLDER_MODE)
        fields = {name: value for name, value in _usual(like).items() if name not in ("seat", "peer", "key_holders")}
        fields |= {
            "party": "c",
            "listen": self.matcher_c.listen,
            "key_holder": like.config["key_holders"]["c"],
            "peers": {"a": other.config["peer"], "b": like.config["peer"]},
        }
        self._finish(target, "matcher.toml", fields, MatcherSettings)

    def device(self, name: str, folder: Folder) -> None:
        """Copy the folder of a device, which is told of the third matcher."""
        target = self.root / name
        shutil.copytree(folder.path, target)
        write_file(target / "public.json", self.public.encode())
        matchers = folder.config["matchers"] | ({"c": self.matcher_c.address} if self.matcher_c else {})
        pairs = {} if self.matcher_c else {"pairs": ["ab"]}
        fields = folder.config | {"public_key": "public.json", "matchers": matchers} | pairs
        write_file(target / "device.toml", to_toml(fields).encode())

    def galleries(self, folders: Mapping[str, Folder]) -> dict[str, Moved]:
        """Write the galleries of all matchers. Raises GalleryMismatchError if the two that had them differ."""
        if not any((folders[f"matcher-{party}"].data_dir / FILE_NAME).exists() for party in MATCHERS):
            return {}
        both = {party: self._gallery(party, folders[f"matcher-{party}"]) for party in MATCHERS}
        if both["a"] != both["b"]:
            raise GalleryMismatchError(
                "the two matchers do not hold the same",
                got=f"matcher-b: {_said(both['b'])}",
                expected=f"matcher-a: {_said(both['a'])}",
                hint="Start the daemons of the earlier version once more, ask anything, and stop them again.",
            )
        if self.matcher_c is not None:
            self._gallery("c", folders["matcher-a"])
        return both["a"]

    def _gallery(self, party: Party, folder: Folder) -> dict[str, Moved]:
        key, signers = self.public.public_key, (self.own_keys["a"], self.own_keys["b"])
        target = self.root / folder_of(f"matcher-{party}") / "data"
        store = Store(target, key.key_id, key.parameters, party=f"matcher-{party}")
        try:
            with opened(folder.data_dir, key.key_id, key.parameters) as earlier:
                return {name: write_moved(store, earlier, name, signers) for name in earlier.galleries()}
        finally:
            store.close()

    def _begin(self, daemon: str, folder: Folder) -> Path:
        target = self.root / folder_of(daemon)
        target.mkdir(mode=FOLDER_MODE)
        copy_identity(folder, target, self.public)
        own = self.own_keys[PARTIES[PARTIES.index(daemon[-1])]]
        seal_organisation(target / "organisation.key", own, self.public, self.passphrase, self.cost)
        return target

    @staticmethod
    def _finish(target: Path, name: str, fields: Mapping[str, Any], model: type[DaemonSettings]) -> None:
        write_file(target / name, to_toml(fields).encode())
        model.load(target / name)


def _usual(folder: Folder) -> dict[str, Any]:
    """Return the settings of a daemon, with the usual names of what is copied."""
    fields = folder.config | {
        "data_dir": "data",
        "public_key": "public.json",
        "organisation_key": "organisation.key",
        "devices_dir": DEVICES_DIR,
        "revoked_dir": REVOKED_DIR,
        "tls": dict(TLS),
    }
    if "passphrase_file" in fields:
        fields["passphrase_file"] = str(folder.file("passphrase_file", "").absolute())
    return fields


def _matcher_c(folders: Mapping[str, Folder], address: str | None) -> MatcherC:
    listen, reached = folders["keyholder-c"].config["listen"], folders["matcher-a"].config["key_holders"]["c"]
    if address is None:
        return MatcherC(_below(listen), _below(reached))
    return MatcherC(f"{listen.rpartition(':')[0]}:{address.rpartition(':')[2]}", address)


def _below(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) <= _BELOW_KEY_HOLDER:
        raise ConfigurationError("no port for matcher-c", got=address, expected="--matcher-c HOST:PORT")
    return f"{host}:{int(port) - _BELOW_KEY_HOLDER}"


def _require_finished(folders: Mapping[str, Folder]) -> None:
    """Raise ConfigurationError if a rotation or a refresh is under way."""
    for name, folder in folders.items():
        if "rotation" in folder.config:
            raise ConfigurationError(
                "a rotation is under way", got=name, expected="no [rotation] in matcher.toml",
                hint="Finish it, or give it up, with the version that began it.",
            )  # fmt: skip
        key_file = folder.file("key_file", "share.key")
        if name.startswith("keyholder") and unfinished_files(key_file):
            raise ConfigurationError(
                "a refresh of the shares is under way", got=name, expected="no share.key.next and no share.key.old",
                hint="Start the daemons of the earlier version until they have finished it.",
            )  # fmt: skip


def _public_file(old: Path, folders: Mapping[str, Folder], own_keys: Mapping[Party, OrganisationKey]) -> PublicFile:
    """Return the new public file. Raises ConfigurationError if the daemons do not all have the same old one."""
    data = (old / "public.json").read_bytes()
    for name, folder in folders.items():
        if folder.file("public_key", "public.json").read_bytes() != data:
            raise ConfigurationError("a daemon of another installation", got=name, expected=f"{old / 'public.json'}")
    return with_signers(data, tuple(own_keys[party].public_bytes for party in PARTIES))


def _authority(old: Path, passphrase: str, cost: ScryptCost) -> Authority:
    try:
        certificate = (old / "authority" / "ca.pem").read_bytes()
        key = read_private(old / "authority" / "ca-key.pem", "the authority's key")
    except OSError:
        raise ConfigurationError("not an installation with its authority", got=str(old)) from None
    return Authority.from_pem(certificate, key, passphrase, cost)


def _said(galleries: Mapping[str, Moved]) -> str:
    return ", ".join(f"{name} {moved.sequence} {moved.chain.hex()[:8]}" for name, moved in galleries.items())
