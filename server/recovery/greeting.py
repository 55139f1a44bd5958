"""What the three begin a recovery with, who calls whom, and what they do, given what each has.

A fresh machine calls both others: only the side that is called learns which certificate is shown, and it is theirs to
compare it with what was read out. Of the rest, the one whose letter comes first calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

from veilmatch.common.pem import certificates_of
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import IntegrityError, KeyMismatchError, PartyRefusedError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import ceremony_pb2 as pb
from veilmatch.server.ceremony.meeting import Admit, Greeting, Standing, Waiting, called_by, name_of
from veilmatch.server.recovery.fingerprint import fingerprint_of
from veilmatch.server.transport.channels import Context


@dataclass(frozen=True)
class RecoveryGreeting(Greeting):
    """What a key holder begins with. epoch: of the share that it uses, 0 if it has none."""

    epoch: int = 0

    def to_wire(self) -> pb.CeremonyMessage:
        """Return it as a message."""
        message = super().to_wire()
        message.greeting.epoch = self.epoch
        return message

    @property
    def standings(self) -> tuple[Standing, ...]:
        """All that there are."""
        return tuple(Standing)

    def disagreement(self, peer: Party) -> KeyMismatchError:
        """Return the error for a peer that is about something else."""
        return KeyMismatchError(
            f"{name_of(peer)} is about something else than these new shares", party=name_of(peer),
            expected="the same public.json, the same key holder that was lost, the same fingerprint of its new machine",
            hint="Compare what was typed at each of the three.",
        )  # fmt: skip

    def _of(self, found: pb.CeremonyGreeting, standing: Standing) -> Self:
        return replace(self, standing=standing, session=found.session, epoch=found.epoch)


def agreement(public: PublicFile, lost: Party | None, fingerprint: str) -> bytes:
    """Return the digest of what the three have to agree on before, 32 bytes. fingerprint: empty if none is lost."""
    return digest("recovery agreement", public.encode(), lost or "", fingerprint)


def calls_of(party: Party, lost: Party | None) -> tuple[Party, ...]:
    """Return whom this party calls."""
    if party == lost:
        return tuple(peer for peer in PARTIES if peer != party)
    return tuple(peer for peer in called_by(party) if peer != lost)


def only_machine(lost: Party | None, fingerprint: str, waiting: Waiting) -> Admit:
    """Return what lets no machine pass for the fresh one but that whose fingerprint was read out.

    waiting: hears of others, for the people who wait.
    """

    def admit(context: Context, peer: Party) -> None:
        if peer != lost:
            return
        shown = bytes(next(iter(context.auth_context()["x509_pem_cert"])))
        if fingerprint_of(certificates_of(shown)[0]) != fingerprint:
            waiting(peer, "a machine with another fingerprint than the one that was read out has called")
            raise PartyRefusedError(
                "this machine is not the one whose fingerprint was read out here", got=name_of(peer),
                hint="Have it read out and typed again. If it still differs, somebody is between: stop.",
            )  # fmt: skip

    return admit


class Decision(Enum):
    """What the three do."""

    HOLD = "make new shares"
    FINISH = "finish the recovery before"
    #: Then the fresh machine, which has lost what it had, begins again with both others.
    FINISH_WITHOUT = "finish the recovery before without the fresh machine"


def decide(greetings: Mapping[Party, RecoveryGreeting], lost: Party | None) -> Decision:
    """Return what to do, given what all three have: the same at all of them.

    A recovery is finished if all three have what it made, or both that are left: these two have a pair then. It is
    given up if nobody uses it yet. Raises IntegrityError if one uses what another one that is left has nothing of,
    KeyMismatchError if those with old shares are in different epochs.
    """
    left = [party for party in PARTIES if party != lost]
    open_ = {one.session for one in greetings.values() if one.standing in (Standing.PENDING, Standing.KEPT)}
    used = {p: one.session for p, one in greetings.items() if one.standing in (Standing.KEPT, Standing.SETTLED)}
    for session in open_:
        have = {party for party in PARTIES if greetings[party].session == session}
        if len(have) == len(PARTIES):
            return Decision.FINISH
        if session not in used.values():
            continue
        if lost and have == set(left):
            return Decision.FINISH_WITHOUT
        without = next(party for party in PARTIES if party not in have)
        kept = next(party for party, one in used.items() if one == session)
        raise IntegrityError(
            f"{name_of(kept)} uses a new share that {name_of(without)} has nothing of", party=name_of(without),
            expected="the same recovery at both that are left",
            hint=f"If {name_of(without)} was restored from a backup since, docs/recovery.md says how the other one goes"
            " back. Otherwise one of the two machines has lost a file, or its organisation lies.",
        )  # fmt: skip
    epochs = {party: greetings[party].epoch for party in left}
    if len(set(epochs.values())) != 1:
        raise KeyMismatchError(
            "the key holders that are left have shares of different epochs",
            got=", ".join(f"epoch {epoch} at {name_of(party)}" for party, epoch in epochs.items()),
            expected="one epoch",
            hint="Start their daemons, which finish a refresh that was interrupted, and stop them again. See also"
            " `veilmatch keyholder refresh --recover`.",
        )  # fmt: skip
    return Decision.HOLD
