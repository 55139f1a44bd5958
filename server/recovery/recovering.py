"""One key holder's part in new shares, from its configuration to its new share.

    recovered = asyncio.run(recover(settings, passphrase, "c", fingerprint, progress))

It meets the other two, and with them makes new shares, or finishes what a crash has interrupted (keeping.py): the same
call for all of that, at all three. Its daemon does not run meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.ceremony.joint.renewal import Renewal, RenewalSession, renewed_epoch
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyFileError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.ceremony.holding import hold
from veilmatch.server.ceremony.links import Links
from veilmatch.server.ceremony.meeting import Meeting, Standing, channels_to, held, name_of
from veilmatch.server.ceremony.progress import Progress
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.organisation_file import unseal_organisation
from veilmatch.server.installation.sealed import Sealing, open_sealed, seal
from veilmatch.server.installation.stretching import cost_for
from veilmatch.server.keyholder.audit.log import AuditLog
from veilmatch.server.keyholder.audit.record import Auditor
from veilmatch.server.recovery import seeds
from veilmatch.server.recovery.fingerprint import fingerprint_of, read_out
from veilmatch.server.recovery.greeting import (
    Decision,
    RecoveryGreeting,
    agreement,
    calls_of,
    decide,
    only_machine,
)
from veilmatch.server.recovery.keeping import Keeper
from veilmatch.server.recovery.record import RecoveryRecord
from veilmatch.server.transport.daemon import sole_owner
from veilmatch.server.transport.tls_files import TlsFiles

_AGAIN_S = 1.0
#: How long another one may be silent once it has begun: the longest computation between two messages takes seconds.
_PATIENCE_S = 120.0
_AGAIN = "Run the same command again at all three: they find out how far it is, and finish it or begin anew."


@dataclass(frozen=True)
class Recovered:
    """The outcome. unconfirmed: who has not said that it uses its new share as well: it may have been cut off."""

    epoch: int
    record: RecoveryRecord
    unconfirmed: tuple[Party, ...]
    sent_bytes: int


def own_fingerprint(settings: KeyHolderSettings) -> str:
    """Return the fingerprint of this machine. Raises what `TlsFiles.read` raises."""
    return fingerprint_of(TlsFiles.read(settings.tls, settings.party_name, settings.tls.crl).own)


def keeper_of(settings: KeyHolderSettings, public: PublicFile) -> Keeper:
    """Return what keeps the key files of a key holder."""
    return Keeper(settings.key_file, settings.data_dir, settings.party, public)


async def recover(
    settings: KeyHolderSettings,
    passphrase: str,
    lost: Party | None,
    fingerprint: str,
    progress: Progress,
    wait_s: float = 3600.0,
    patience_s: float = _PATIENCE_S,
) -> Recovered:
    """Take part in new shares; return when this key holder uses its own.

    lost: whose place a fresh machine takes; that is this one if it is this party. None: all three have their shares.
    fingerprint: of the fresh machine, as it was read out; of no use at itself and where none is lost.

    Raises ConfigurationError if its daemon runs, InvalidInputError if the fingerprint cannot be one, what opening
    the key and the organisation's key raises, UnavailableError if the others do not come, or one leaves; whatever ends
    a session. On an error the old share is in use, unless its hint says otherwise.
    """
    with sole_owner(settings.data_dir):
        return await _Recovering(settings, passphrase, lost, fingerprint, progress, wait_s, patience_s).run()


class _Recovering:
    def __init__(
        self,
        settings: KeyHolderSettings,
        passphrase: str,
        lost: Party | None,
        fingerprint: str,
        progress: Progress,
        wait_s: float,
        patience_s: float,
    ) -> None:
        self._settings, self._passphrase, self._progress = settings, passphrase, progress
        self._wait_s, self._patience_s = wait_s, patience_s
        self._party: Party = settings.party
        self._lost: Party | None = lost
        self._public = read_public_file(settings.public_key)
        self._machine = ""
        if lost:
            self._machine = own_fingerprint(settings) if self._is_fresh else read_out(fingerprint)
        self._keeper = keeper_of(settings, self._public)
        self._greeting = self._new_greeting()

    @property
    def _is_fresh(self) -> bool:
        return self._party == self._lost

    def _new_greeting(self) -> RecoveryGreeting:
        standing, session = self._keeper.standing()
        epoch = self._keeper.epoch
        if not epoch and not self._is_fresh:
            raise KeyFileError(
                "there is no share here", got=str(self._settings.key_file),
                expected=f"the key file of {self._settings.party_name}, or a recovery of {self._settings.party_name}",
            )  # fmt: skip
        return RecoveryGreeting(agreement(self._public, self._lost, self._machine), standing, session, epoch)

    async def run(self) -> Recovered:
        settings, called = self._settings, calls_of(self._party, self._lost)
        key, sealing, signer = await asyncio.to_thread(self._opened)
        admit = only_machine(self._lost, self._machine, self._progress.waiting)
        meeting = Meeting(self._party, self._greeting, called, admit)
        try:
            async with (
                asyncio.timeout(self._wait_s) as limit,
                held(self._party, settings.listen, settings.tls, meeting, settings.tls.crl),
                channels_to(called, settings.peers, settings.tls) as channels,
            ):
                while True:
                    async with meeting.met(channels, self._progress.waiting) as met:
                        links = Links({peer: one.link for peer, one in met.items()}, self._patience_s)
                        greetings = {peer: one.greeting for peer, one in met.items()} | {self._party: self._greeting}
                        if await self._all_met(links, greetings):
                            limit.reschedule(None)
                            meeting.close()
                            return await self._together(links, greetings, key, sealing, signer)
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            raise UnavailableError(
                "the other key holders did not come", needed="all three at the same time",
                available=f"{self._wait_s:g} s of waiting",
                hint="Run it at all three, with their daemons stopped. Look at `listen` and `peers` of their"
                " configurations, and at what each of them says that it waits for.",
            ) from None  # fmt: skip

    def _opened(self) -> tuple[KeyHolderKey | None, Sealing | None, OrganisationKey]:
        """Return the share in use, what seals others, and the organisation's signing key."""
        settings, public = self._settings, self._public
        signer = unseal_organisation(settings.organisation_key, self._party, public, self._passphrase)
        if self._is_fresh:
            return None, None, signer
        return *open_sealed(settings.key_file, self._party, public, self._passphrase), signer

    async def _all_met(self, links: Links, greetings: Mapping[Party, RecoveryGreeting]) -> bool:
        """Return whether all three have met. Raises ProtocolError if two were greeted differently by the third."""
        parts: list[bytes | int] = []
        for party in PARTIES:
            one = greetings[party]
            parts += [one.standing.value, one.session, one.epoch]
        standings = digest("recovery standings", *parts)
        try:
            heard = await links.swapped("standings", standings, self._wait_s)
        except UnavailableError:
            return False
        for peer, theirs in heard.items():
            if theirs != standings:
                raise ProtocolError(
                    f"{name_of(peer)} was told something else of what the others have", party=name_of(peer)
                )
        return True

    async def _together(
        self,
        links: Links,
        greetings: Mapping[Party, RecoveryGreeting],
        key: KeyHolderKey | None,
        sealing: Sealing | None,
        signer: OrganisationKey,
    ) -> Recovered:
        decision = decide(greetings, self._lost)
        if decision is Decision.FINISH_WITHOUT:
            raise await self._finished_without(links)
        if decision is Decision.HOLD:
            left = next(party for party in PARTIES if party != self._lost)
            await self._hold(links, renewed_epoch(greetings[left].epoch), key, sealing, signer)
        else:
            self._progress.say("all three have the new shares of the recovery before: it is finished now")
        return await self._finish(links)

    async def _hold(
        self, links: Links, epoch: int, key: KeyHolderKey | None, sealing: Sealing | None, signer: OrganisationKey
    ) -> None:
        """Make new shares. What comes of it is pending here then."""
        if self._keeper.discard():
            self._progress.say("what was left of an earlier recovery is removed: not all three had it")
        renewal = Renewal(self._public.public_key, epoch, self._lost, self._greeting.agreement)
        session = RenewalSession(self._party, renewal, key, self._progress.reached)

        async def named() -> None:
            for peer, theirs in (await links.swapped("seeds", seeds.shown(session, signer))).items():
                seeds.require_same(session, peer, theirs, self._public)

        made = await hold(session, links, self._progress.sent, named)
        record = RecoveryRecord.of(
            session.name, session.told, self._greeting.agreement, self._public, epoch, self._lost
        )
        own = record.signed(signer)
        for party, signature in ({self._party: own} | await links.swapped("made", own)).items():
            record = record.with_signature(party, signature, self._public)
        # Everybody has everything: from here on there is something on disk.
        self._progress.reached("writing", 0)
        await asyncio.to_thread(self._keeper.write_pending, record, lambda path: self._seal(path, made, sealing))

    def _seal(self, path: Path, made: KeyHolderKey, sealing: Sealing | None) -> None:
        """Write a sealed share and read it back."""
        if sealing is None:
            seal(path, made, self._public, self._passphrase, cost_for(self._public.public_key.parameters))
            found, _ = open_sealed(path, self._party, self._public, self._passphrase)
        else:
            sealing.seal(path, made)
            found = sealing.unseal(path)
        if found != made:
            raise KeyFileError("the file of the new share does not hold what was written", got=str(path))

    async def _finish(self, links: Links) -> Recovered:
        """Take what is pending into use once all three have it; delete what is of before once all three use theirs."""
        record = self._keeper.record
        if record is None:
            raise ConfigurationError("there is no record of the recovery", got=str(self._settings.key_file.parent))
        try:
            self._require_same(await links.swapped("stored", record.session), record)
        except VeilmatchError as error:
            error.hint = f"A new share is here, and it is not known whether all three have theirs. {_AGAIN}"
            raise
        await asyncio.to_thread(self._use, record)
        unconfirmed: tuple[Party, ...] = ()
        try:
            self._require_same(await links.swapped("kept", record.session), record)
        except UnavailableError as error:
            unconfirmed = tuple(peer for peer in links.peers if error.party in (None, name_of(peer)))
        else:
            await asyncio.to_thread(self._keeper.settle)
        return Recovered(record.epoch, record, unconfirmed, links.sent_bytes)

    async def _finished_without(self, links: Links) -> UnavailableError:
        """Finish the recovery before at the two that are left, and return what everybody ends with."""
        record = None if self._is_fresh else self._keeper.record
        if record is not None:
            await asyncio.to_thread(self._use, record)
        heard = await links.swapped("kept", record.session if record else b"")
        if record is not None:
            self._require_same({peer: x for peer, x in heard.items() if peer != self._lost}, record)
            await asyncio.to_thread(self._keeper.settle)
        fresh = name_of(self._lost) if self._lost else None
        return UnavailableError(
            "the machine that is new has lost what it had of the recovery before; the other two have finished that one",
            party=fresh, needed="another recovery", hint="Run the same command again at all three.",
        )  # fmt: skip

    def _require_same(self, heard: Mapping[Party, bytes], record: RecoveryRecord) -> None:
        for peer, theirs in heard.items():
            if theirs != record.session:
                raise ProtocolError(f"{name_of(peer)} has stored another share", party=name_of(peer))

    def _use(self, record: RecoveryRecord) -> None:
        """Take what is pending into use, once that is noted. Raises AuditLogError if it cannot be noted."""
        record.require_of(self._public)
        if self._keeper.standing()[0] is not Standing.PENDING:
            return
        settings = self._settings
        log = AuditLog(settings.data_dir, self._party, self._public.public_key.key_id, settings.audit_file_bytes)
        auditor = Auditor(log, self._party)
        try:
            auditor.recovery(record.epoch, record.lost, record.session)
        finally:
            auditor.close()
        self._keeper.keep()
