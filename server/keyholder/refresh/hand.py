"""The refresh that a key holder has in hand: its key files, its record and what is under way in memory, as one.

`position` says where it stands, `state` says so to others, `word_of` reads what a peer says of the same refresh, and
`take` does what settling.py has decided. A key comes into use once that is noted in the audit log, and every step ends
where a restart goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog

from veilmatch.crypto.errors import AuditLogError, IntegrityError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.keys.refreshing import is_decision
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.attempt import Attempt
from veilmatch.server.keyholder.refresh.key_files import KeyFiles
from veilmatch.server.keyholder.refresh.pace import Pace
from veilmatch.server.keyholder.refresh.record import InHand, Record
from veilmatch.server.keyholder.refresh.settling import Position, Stage, Step, Word
from veilmatch.server.keyholder.session.serving import KeyHolder

_TO_WIRE = {
    Stage.NONE: pb.REFRESH_STAGE_NONE,
    Stage.PREPARING: pb.REFRESH_STAGE_PREPARING,
    Stage.READY: pb.REFRESH_STAGE_READY,
    Stage.WITHDRAWN: pb.REFRESH_STAGE_WITHDRAWN,
    Stage.USED: pb.REFRESH_STAGE_USED,
}
STAGES = {wire: stage for stage, wire in _TO_WIRE.items()}

_log = structlog.get_logger(__name__)


class Hand:
    """See the module. What changes files is called by one task at a time."""

    def __init__(self, holder: KeyHolder, files: KeyFiles, record: Record, pace: Pace) -> None:
        self.files = files
        self.record = record
        self.pace = pace
        #: A refresh is led here, and not decided.
        self.leading = False
        self.attempt: Attempt | None = None
        self._holder = holder
        #: When the attempt is over, whatever came of it.
        self._ends_at = 0.0

    # -- where it stands ------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """Where this holder stands. Raises UnavailableError if its record cannot be read."""
        row = self._row()
        stage = self._stage(row)
        if row is None:
            leader = self.attempt.leader if self.attempt else None
            return Position(stage, leader, under_way=self.is_under_way)
        return Position(stage, row.leader, bool(row.decision), self.is_under_way, row.going_back, row.without)

    @property
    def is_under_way(self) -> bool:
        """Whether a refresh is led here and not decided, or the time for preparing one is not over."""
        live = self.attempt is not None and asyncio.get_running_loop().time() < self._ends_at
        return self.leading or live

    @property
    def new_epoch(self) -> int:
        """The epoch that the refresh in hand makes."""
        return self.files.current.epoch + (0 if self._stage(self._row()) is Stage.USED else 1)

    def state(self) -> pb.RefreshState:
        """Return how far this key holder is. The epoch is that on disk: what a restart would serve with."""
        row, at = self._row(), self.position
        name = row.refresh_id if row else self.attempt.refresh_id if self.attempt else b""
        return pb.RefreshState(
            key_id=self._holder.key.key_id, epoch=self.files.current.epoch, stage=_TO_WIRE[at.stage], refresh_id=name,
            decision=row.decision if row else b"", going_back=at.going_back,
            switching=self._holder.epoch != self.files.current.epoch,
        )  # fmt: skip

    def word_of(self, state: pb.RefreshState) -> Word | None:
        """Return what a peer's state says of the refresh in hand here, or None if it says nothing of it."""
        stage, epoch, mine = STAGES.get(state.stage), self.new_epoch, self.state().refresh_id
        if stage is None or state.key_id != self._holder.key.key_id or state.epoch not in (epoch - 1, epoch):
            return None
        is_new = state.epoch == epoch
        if not is_new and mine and state.refresh_id and state.refresh_id != mine:
            # It has another one in hand: hence nothing of this one.
            stage = Stage.NONE
        return Word(is_new, stage, state.going_back, state.switching)

    def learn(self, state: pb.RefreshState) -> None:
        """Keep the leader's decision, if a peer shows it and it is that of the refresh in hand."""
        row = self._row()
        if row is None or row.decision or state.refresh_id != row.refresh_id:
            return
        if not is_decision(state.decision, row.refresh_id, self._holder.key.key_id, row.epoch):
            return
        at = self.position
        self.record.decide(state.decision)
        if at.stage is not Stage.READY and not at.going_back and at.leader not in (None, self._holder.party):
            # An honest leader decides once all are ready, and then does not say that it has given up.
            leader = party_name(at.leader) if at.leader else ""
            _log.error("leader of a refresh deviates", leader=leader, epoch=row.epoch)
            with suppress(AuditLogError):
                self._holder.auditor.refresh("contradicted", row.epoch, at.leader)

    # -- preparing ------------------------------------------------------------------------------

    def open(self, attempt: Attempt, ends_at: float) -> None:
        """Take part in a refresh, or lead it. ends_at: by the clock of the event loop."""
        self.attempt, self._ends_at = attempt, ends_at

    def keep(self, attempt: Attempt, key: KeyHolderKey) -> KeyHolderKey:
        """Keep the next key durably, and return it as it was read back. Raises what `KeyFiles.prepare` raises."""
        self._require_current(attempt)
        self._holder.auditor.refresh("prepared", attempt.epoch, attempt.leader)
        self.record.put(InHand(attempt.refresh_id, attempt.epoch, attempt.leader))
        return self.files.prepare(key)

    def make_ready(self, attempt: Attempt) -> None:
        """Note that the next key fits: what is left is the leader's decision."""
        self._require_current(attempt)
        self.record.make_ready()
        self._close()

    def give_up(self) -> None:
        """Lead no more, and let nobody work on the attempt any more."""
        self.leading = False
        self._close()

    def decide(self, decision: bytes) -> None:
        """Decide the refresh that is led here, durably, and use its key. Raises AuditLogError if it cannot be noted."""
        if self.position.stage is not Stage.READY:
            raise UnavailableError("the refresh was ended", needed="another attempt")
        self._note_used()
        self.record.decide(decision)
        self.leading = False
        self._use_next()

    def ask_back(self, without: Party | None) -> None:
        """Have this holder go back from the refresh in hand, as soon as settling.py lets it."""
        row = self._row() or InHand(b"", self.new_epoch, None)
        self._holder.auditor.refresh("recover", row.epoch, row.leader, without)
        self.record.put(replace(row, going_back=True, without=without))

    # -- steps ----------------------------------------------------------------------------------

    async def take(self, step: Step) -> None:
        """Do a step. Raises AuditLogError or UnavailableError if it cannot be noted or done; it is due again then."""
        match step:
            case Step.WITHDRAW:
                self._close()
                self.record.withdraw()
            case Step.USE:
                self._note_used()
                self._use_next()
                await self.switch()
            case Step.DISCARD:
                self._discard()
            case Step.ERASE_OLD:
                self.files.erase_old()
                self._forget(self.files.current.epoch - 1)
            case Step.GO_BACK:
                self._go_back()
                await self.switch()
            case Step.STAY:
                self.record.stay()
            case Step.WAIT:
                pass

    async def switch(self) -> None:
        """Serve with the key that counts, if that is not so yet."""
        key, before = self.files.current, self._holder.epoch
        if key.epoch != before:
            await self._holder.switch(key)
            _log.info("shares refreshed" if key.epoch > before else "old shares in use again", epoch=key.epoch)

    def _note_used(self) -> None:
        row = self._row()
        self._holder.auditor.refresh("used", self.new_epoch, row.leader if row else None)
        if row is not None:
            self.pace.use(row.refresh_id)

    def _use_next(self) -> None:
        """Make the next key the one that counts, after every restart too."""
        try:
            self.files.commit()
        except OSError as error:
            raise _unrenamed(error) from None
        self._close()

    def _discard(self) -> None:
        row, epoch = self._row(), self.new_epoch
        self._close()
        if self.files.waiting is not None:
            self.files.discard()
            _log.warning("refresh abandoned", epoch=epoch)
            with suppress(AuditLogError):
                self._holder.auditor.refresh("abandoned", epoch, row.leader if row else None)
        self._forget(epoch)

    def _go_back(self) -> None:
        row = self._row()
        if row is None:
            raise IntegrityError("no refresh to go back from", got=self.files.current.epoch)
        self._holder.auditor.refresh("back", row.epoch, row.leader)
        try:
            self.files.go_back()
        except OSError as error:
            raise _unrenamed(error) from None

    def _require_current(self, attempt: Attempt) -> None:
        if self.attempt is not attempt:
            raise UnavailableError("the refresh was ended", needed="another attempt")

    def _close(self) -> None:
        """Whatever still works on the attempt ends at its next step, before it keeps anything."""
        if self.attempt is not None:
            self.attempt.close()
        self.attempt = None

    def _forget(self, epoch: int) -> None:
        """Have nothing in hand any more, and nothing of the epoch whose key is gone."""
        self._holder.leave_behind(epoch)
        self.record.forget()

    def tidy(self) -> None:
        """Finish what a crash left behind the deletion of a key. At the start, before anybody is served."""
        row, epoch = self.record.read(), self.files.current.epoch
        if row is not None and self._stage(row) is Stage.NONE:
            self._forget(row.epoch if row.epoch > epoch else row.epoch - 1)

    # -- files and record together --------------------------------------------------------------

    def _row(self) -> InHand | None:
        """Return the record, if it is of what lies beside the key: a crash may leave one of a refresh that is over."""
        row = self.record.read()
        if row is None:
            return None
        waits = self.files.waiting is not None and row.epoch == self.files.current.epoch + 1
        return row if waits or (self.files.keeps_old and row.epoch == self.files.current.epoch) else None

    def _stage(self, row: InHand | None) -> Stage:
        if self.attempt is not None:
            return Stage.PREPARING
        if self.files.waiting is not None:
            return Stage.READY if row is not None and row.ready and not row.going_back else Stage.WITHDRAWN
        return Stage.USED if self.files.keeps_old else Stage.NONE


def _unrenamed(error: OSError) -> UnavailableError:
    return UnavailableError("the key file cannot be renamed", available=error.strerror)
