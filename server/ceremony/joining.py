"""One organisation's part in a key ceremony, from its configuration to its installation.

    joined = asyncio.run(join(CeremonySettings.load(path), passphrase, progress))

It meets the other two, and with them holds a ceremony, or finishes one that a crash has interrupted (keeping.py). It is
the same call for all of that, and for whoever has finished already: it tells the others so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.ceremony.joint.session import CeremonySession
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES, PublicFile
from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony.holding import hold
from veilmatch.server.ceremony.introduction import Introduction, agreement, read_introductions
from veilmatch.server.ceremony.keeping import Decision, Keeper, decide
from veilmatch.server.ceremony.links import Links
from veilmatch.server.ceremony.meeting import Greeting, Meeting, Standing, called_by, channels_to, held, name_of
from veilmatch.server.ceremony.preparing import OwnKeys, open_keys, tls_of
from veilmatch.server.ceremony.progress import Progress
from veilmatch.server.ceremony.record import FILE, CeremonyRecord
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.installation.files import FOLDER_MODE, write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.layout import Organisation, write_organisation
from veilmatch.server.installation.plan import AUTHORITY, Plan
from veilmatch.server.installation.stretching import cost_for
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.transport.daemon import sole_owner

_AGAIN_S = 1.0


@dataclass(frozen=True)
class Joined:
    """The outcome. unconfirmed: who has not said that it has kept its part as well: it may have been cut off."""

    public: PublicFile
    record: CeremonyRecord
    installation: Path
    unconfirmed: tuple[Party, ...]
    sent_bytes: int


async def join(settings: CeremonySettings, passphrase: str, progress: Progress) -> Joined:
    """Take part in a ceremony; return when this organisation has its installation.

    Raises ConfigurationError, KeyFileError or WrongPassphraseError if what `prepare` has made, an introduction or the
    place of the installation is not right; UnavailableError if the others do not come, or one leaves; whatever ends a
    session. On an error nothing is kept here, unless its hint says so.
    """
    with sole_owner(settings.keys):
        return await _Joining(settings, passphrase, progress).run()


class _Joining:
    def __init__(self, settings: CeremonySettings, passphrase: str, progress: Progress) -> None:
        self._settings, self._passphrase, self._progress = settings, passphrase, progress
        self._party, self._parameters = settings.party, settings.parameter_set
        self._cost = cost_for(self._parameters)
        self._introductions = read_introductions(settings.introductions, settings.party, settings.fingerprints)
        self._agreement = agreement(self._parameters.name, settings.dealer_only, self._introductions)
        self._keeper = Keeper(settings.installation, settings.pending)
        self._greeting = self._keeper.greeting(self._agreement)

    async def run(self) -> Joined:
        settings, own = self._settings, self._introductions[self._party]
        keys = await asyncio.to_thread(open_keys, settings.keys, own, self._passphrase, self._cost)
        tls = tls_of(settings.keys, self._introductions)
        meeting = Meeting(self._party, self._greeting)
        if self._greeting.standing is Standing.KEPT:
            self._progress.say("this organisation has its installation; the others may have to finish theirs")
        addresses = {peer: self._plan.address(name_of(peer)) for peer in settings.peers} | settings.addresses
        try:
            async with (
                asyncio.timeout(settings.wait_s) as limit,
                held(self._party, settings.listen, tls, meeting),
                channels_to(called_by(self._party), addresses, tls) as channels,
            ):
                while True:
                    async with meeting.met(channels, self._progress.waiting) as met:
                        links = Links({peer: one.link for peer, one in met.items()}, settings.patience_s)
                        greetings = {peer: one.greeting for peer, one in met.items()} | {self._party: self._greeting}
                        if await self._all_met(links, greetings):
                            limit.reschedule(None)
                            meeting.close()
                            return await self._together(links, decide(greetings), keys)
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            raise UnavailableError(
                "the other key holders did not come", needed="all three at the same time",
                available=f"{settings.wait_s:g} s of waiting",
                hint="Run it at all three. If it runs there, look at the addresses in the introductions, and at what"
                " each of them says that it waits for.",
            ) from None  # fmt: skip

    async def _all_met(self, links: Links, greetings: Mapping[Party, Greeting]) -> bool:
        """Return whether all three have met. Raises ProtocolError if two were greeted differently by the third."""
        parts: list[bytes | int] = []
        for party in PARTIES:
            parts += [greetings[party].standing.value, greetings[party].session]
        standings = digest("ceremony standings", *parts)
        try:
            heard = await links.swapped("standings", standings, self._settings.wait_s)
        except UnavailableError:
            return False
        for peer, theirs in heard.items():
            if theirs != standings:
                raise ProtocolError(
                    f"{name_of(peer)} was told something else of what the others have", party=name_of(peer)
                )
        return True

    async def _together(self, links: Links, decision: Decision, keys: OwnKeys) -> Joined:
        if decision is Decision.HOLD:
            await self._hold(links, keys)
        elif self._greeting.standing is not Standing.KEPT:
            self._progress.say("all three have the key of the ceremony before: it is finished now")
        return await self._finish(links)

    async def _hold(self, links: Links, keys: OwnKeys) -> None:
        """Hold a ceremony. What comes of it is pending here then."""
        if self._keeper.discard():
            self._progress.say("what was left of an earlier ceremony is removed: not all three had it")
        session = CeremonySession(self._party, self._parameters, self._progress.reached)
        made = await hold(session, links, self._progress.sent)
        public = PublicFile(
            made.public_key,
            digest("ceremony installation", session.name)[:INSTALLATION_BYTES],
            tuple(self._introductions[party].certifier for party in PARTIES),
            tuple(self._introductions[party].signer for party in PARTIES),
        )
        record = CeremonyRecord.of(session.name, session.told, self._agreement, public)
        own = record.signed(keys.signer)
        signatures = {self._party: own} | await links.swapped("made", own)
        for party, signature in signatures.items():
            record = record.with_signature(party, signature, public)
        # Everybody has everything: from here on there is something on disk.
        self._progress.reached("writing", 0)
        await asyncio.to_thread(
            self._keeper.write_pending, lambda folder: self._write(folder, made, public, record, keys)
        )

    def _write(self, folder: Path, made: JointKey, public: PublicFile, record: CeremonyRecord, keys: OwnKeys) -> None:
        """Write the installation of this organisation. The record is last: with it, it is one."""
        folder.mkdir(mode=FOLDER_MODE)
        others = {peer: self._introductions[peer].authority for peer in self._settings.peers}
        home = AuthorityFolder.make(folder / AUTHORITY, keys.authority, self._passphrase, self._cost, others)
        # What is shown in the ceremony is a key holder's certificate for everybody, until it ends or is revoked.
        home.remember(AuthorityFolder(self._settings.keys / AUTHORITY))
        issuer = Issuer(public, keys.authority, home)
        write_file(folder / "public.json", public.encode())
        own = Organisation(made.key, keys.certifier, keys.signer)
        write_organisation(folder, issuer, own, self._plan, self._passphrase, self._cost)
        write_file(folder / FILE, record.encode())

    async def _finish(self, links: Links) -> Joined:
        """Give what is pending its place once all three have it."""
        settings, kept = self._settings, self._greeting.standing is Standing.KEPT
        record = CeremonyRecord.read((settings.installation if kept else settings.pending) / FILE)
        try:
            for peer, theirs in (await links.swapped("stored", record.session)).items():
                if theirs != record.session:
                    raise ProtocolError(f"{name_of(peer)} has stored another key", party=name_of(peer))
        except VeilmatchError as error:
            error.hint = (
                f"A key is in {settings.pending}, and it is not known whether all three have it. Do not use or move it:"
                " run the same command again at all three. They keep it if all have it, and remove it if not."
            )
            raise
        self._keeper.keep()
        unconfirmed: tuple[Party, ...] = ()
        try:
            await links.swapped("kept", record.session)
        except UnavailableError as error:
            unconfirmed = tuple(peer for peer in links.peers if error.party in (None, name_of(peer)))
        public = read_public_file(settings.installation / "public.json")
        record.require_of(public)
        return Joined(public, record, settings.installation, unconfirmed, links.sent_bytes)

    @property
    def _plan(self) -> Plan:
        places = {party: _place(one) for party, one in self._introductions.items()}
        host, base_port = places[self._party]
        return Plan(host, base_port, self._settings.workers, self._settings.dealer_only, places)


def _place(introduction: Introduction) -> tuple[str, int]:
    return introduction.host, introduction.base_port
