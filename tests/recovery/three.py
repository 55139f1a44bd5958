"""Three key holders of one installation that make new shares in this process, over real gRPC and TLS."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.ceremony.three import Heard
from tests.crypto.ceremony.test_key import require_sound
from tests.e2e.world import base_port
from tests.installation.making import CHEAP, PARAMETERS, PASSPHRASE, install
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.plan import AUTHORITY, Plan, config_of
from veilmatch.server.installation.sealed import unseal
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.recovery.keeping import FILE
from veilmatch.server.recovery.recovering import Recovered, keeper_of, own_fingerprint, recover

Outcomes = dict[Party, Recovered | BaseException]


@dataclass
class Three:
    """Their folders. typed: the fingerprint of the fresh machine as each has heard it, where it is another one."""

    directory: Path
    lost: Party | None
    typed: dict[Party, str] = field(default_factory=dict)
    #: As it was before.
    old_keys: dict[Party, KeyHolderKey] = field(default_factory=dict)

    @staticmethod
    def installed(directory: Path, lost: Party | None) -> Three:
        """An installation in which one has lost its machine: the fresh one has everything but share and data."""
        install(directory, plan=Plan("127.0.0.1", base_port(), 1))
        three = Three(directory, lost)
        three.old_keys = three.keys()
        if lost:
            three.fresh_machine()
        return three

    def fresh_machine(self) -> None:
        """Another machine for the one that is lost: a TLS key of its own, no share, no data."""
        assert self.lost
        settings = self.settings(self.lost)
        for path in settings.key_file.parent.glob("share.key*"):
            path.unlink()
        for path in settings.key_file.parent.glob(f"{FILE}*"):
            path.unlink()
        shutil.rmtree(settings.data_dir)
        settings.data_dir.mkdir()
        self.tls_key(self.lost)

    def tls_key(self, party: Party) -> None:
        """Another TLS certificate of this installation's authority."""
        home = AuthorityFolder(self.directory / AUTHORITY)
        authority: Authority = home.open(PASSPHRASE, CHEAP)
        certificate, key = home.issue(authority, f"keyholder-{party}", is_server=True)
        tls = self.settings(party).tls
        tls.certificate.write_bytes(certificate)
        tls.key.write_bytes(key)

    def settings(self, party: Party) -> KeyHolderSettings:
        return KeyHolderSettings.load(config_of(self.directory, f"keyholder-{party}"))

    @property
    def public(self) -> PublicFile:
        return read_public_file(self.directory / "public.json")

    def key(self, party: Party, suffix: str = "") -> KeyHolderKey | None:
        """The key in one of its key files."""
        path = self.settings(party).key_file
        path = path.with_name(path.name + suffix)
        return unseal(path, party, self.public, PASSPHRASE) if path.exists() else None

    def keys(self) -> dict[Party, KeyHolderKey]:
        """What each has in use, where there is something."""
        found = {party: self.key(party) for party in PARTIES}
        return {party: key for party, key in found.items() if key is not None}

    def files(self, party: Party) -> list[str]:
        """What there is beside the usual."""
        folder = self.settings(party).key_file.parent
        names = [path.name for pattern in ("share.key*", f"{FILE}*", ".*") for path in folder.glob(pattern)]
        return sorted(names)

    def require_untouched(self) -> None:
        """Nothing has changed at any of the three."""
        left = {party: self.old_keys[party] for party in PARTIES if party != self.lost}
        assert self.keys() == left
        assert all(self.files(party) == (["share.key"] if party in left else []) for party in PARTIES)

    def require_renewed(self, epoch: int) -> None:
        """All three use new shares that fit, and nothing of before is left."""
        keys = self.keys()
        joint = {party: JointKey(self.public.public_key, key) for party, key in keys.items()}
        require_sound(joint, PARAMETERS, epoch)
        assert all(self.files(party) == [FILE, "share.key"] for party in PARTIES), [map(self.files, PARTIES)]
        records = {(self.settings(party).key_file.parent / FILE).read_bytes() for party in PARTIES}
        assert len(records) == 1
        record = keeper_of(self.settings("a"), self.public).record
        assert record and (record.epoch, record.lost) == (epoch, self.lost)
        record.require_of(self.public)
        for party in PARTIES:
            noted = [e.fields for e in entries_of(self.settings(party).data_dir) if e.fields["event"] == "recovery"]
            assert noted[-1]["epoch"] == epoch and noted[-1]["session"] == record.session.hex()

    async def recover(
        self, heard: Mapping[Party, Heard] | None = None, wait_s: float = 60.0, patience_s: float = 20.0
    ) -> Outcomes:
        """Run it at all three; return by party what came of it."""
        heard = heard or {party: Heard() for party in PARTIES}
        fingerprint = own_fingerprint(self.settings(self.lost)) if self.lost else ""
        outcomes = await asyncio.gather(
            *(
                recover(
                    self.settings(party), PASSPHRASE, self.lost, self.typed.get(party, fingerprint), heard[party],
                    wait_s, patience_s,
                )
                for party in PARTIES
            ),
            return_exceptions=True,
        )  # fmt: skip
        return dict(zip(PARTIES, outcomes, strict=True))
