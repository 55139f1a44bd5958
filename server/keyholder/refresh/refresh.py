"""Refreshing the shares of all three pairs: in two phases, so that a crash leaves the old epoch or the new one.

One key holder leads, the one at which `veilmatch keyholder refresh` was run.

1. All three begin: same key, same epoch, nothing unfinished, no other refresh under way, and none led by the same one
   within the interval (pace.py).
2. All three prepare: each pair agrees on a common seed, each holder keeps its next key durably beside the current one
   and shows its peers that the shares fit (attempt.py). Until here anything that fails ends the refresh, and nothing
   has changed. A holder that has done all of this is ready, and only the leader's decision is missing.
3. The leader writes its decision down: this decides the refresh. It uses its next key and shows the decision to its
   peers; they use theirs, and show it to whoever asks.

What becomes of a refresh that was interrupted, or whose leader deviates, is decided by where all three stand:
settling.py. `settle` asks the peers and takes the steps that follow, again and again while anything is unfinished.

Files are written without leaving the event loop, so a call that is cancelled never leaves one half done.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog

from veilmatch.crypto.errors import (
    KeyMismatchError,
    ProtocolError,
    RefreshIntervalError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import Pair, Party, other_party, pairs_of
from veilmatch.crypto.keys.refreshing import DECISION_BYTES, refresh_id_of
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import described, level_of
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.attempt import Attempt
from veilmatch.server.keyholder.refresh.calls import ANSWER, PHASE, WHOLE, Calls, together
from veilmatch.server.keyholder.refresh.hand import STAGES, Hand
from veilmatch.server.keyholder.refresh.recovery import Found, plan
from veilmatch.server.keyholder.refresh.settling import Stage, Step, Word, next_step
from veilmatch.server.keyholder.session.serving import KeyHolder

#: How often something unfinished is looked at again.
_SETTLE_EVERY_S = 0.5
#: And after something of this machine has failed: every attempt is noted in the audit log.
_AFTER_FAILURE_S = 15.0

_log = structlog.get_logger(__name__)


class Refresher:
    """The refreshes of one key holder: leads them, takes part in those of others, and finishes what was interrupted."""

    def __init__(self, holder: KeyHolder, hand: Hand, timeout_s: float) -> None:
        self.party: Party = holder.party
        self._holder = holder
        self._hand = hand
        self._calls = Calls(holder.party, holder.key.key_id, holder.peers, timeout_s)
        #: A refresh is led here, from the command to its end.
        self._busy = False
        #: One at a time: settling, keeping a next key, using it.
        self._lock = asyncio.Lock()
        self._leads: set[asyncio.Task[None]] = set()
        hand.tidy()
        self._note()

    def state(self) -> pb.RefreshState:
        """Return how far this key holder is; see `Hand.state`."""
        return self._hand.state()

    # -- settling -------------------------------------------------------------------------------

    async def settle_for_ever(self) -> None:
        """Finish what is unfinished whenever the peers can be reached."""
        while True:
            wait_s = _SETTLE_EVERY_S
            try:
                await self.settle()
            except Exception as error:
                # A full disk, say.
                code, reason = described(error)
                _log.error("refresh not finished", code=code, reason=reason)
                wait_s = _AFTER_FAILURE_S
            await asyncio.sleep(wait_s)

    async def settle(self) -> None:
        """Go on with the refresh in hand, as far as the peers' states decide it.

        Raises AuditLogError or UnavailableError if a step cannot be noted or done: it is due again then.
        """
        async with self._lock:
            await self._hand.switch()
            if not self._hand.leading:
                await self._advance(self._words)

    async def _advance(self, words: Callable[[], Awaitable[Mapping[Party, Word | None]]]) -> None:
        """Take the steps that follow from what the peers say, until there is none. Under the lock."""
        try:
            while self._hand.position.stage is not Stage.NONE:
                said = await words()
                if (step := next_step(self.party, self._hand.position, said)) is Step.WAIT:
                    break
                await self._hand.take(step)
        finally:
            self._note()

    async def _words(self) -> dict[Party, Word | None]:
        """Ask both peers how far they are with the refresh in hand."""
        found = await self._calls.states()
        for state in found.values():
            if isinstance(state, pb.RefreshState):
                self._hand.learn(state)
        return {p: self._hand.word_of(s) if isinstance(s, pb.RefreshState) else None for p, s in found.items()}

    def _note(self) -> None:
        """Let sessions and stocks know whether two epochs may be in use."""
        unsettled = self._hand.position.stage is not Stage.NONE
        self._holder.unsettled = self._holder.stocks.keeps_other_epochs = unsettled

    # -- going back -----------------------------------------------------------------------------

    async def recover(self, without: Party | None, *, go: bool) -> pb.RecoverReport:
        """Have this holder go back to the epoch before, or only say what that would mean; see recovery.py.

        without: the peer whose word is not to count. Raises what `recovery.plan` raises, if it is to go.
        """
        report = pb.RecoverReport()
        async with self._lock:
            found = {peer: Found.of(state, self._hand.word_of) for peer, state in (await self._calls.states()).items()}
            for peer, one in found.items():
                report.peers.add(party=party_name(peer), counts=peer != without, found=str(one))
            try:
                if self._busy:
                    raise _under_way(self.party)
                report.will = plan(self.party, self._hand.position, self._hand.new_epoch, found, without)
                if go:
                    self._hand.ask_back(without)
            except VeilmatchError as error:
                if go:
                    raise
                report.refused = str(error)
        if go:
            # What cannot be done now is done by `settle_for_ever`.
            with suppress(VeilmatchError):
                await self.settle()
        report.state.CopyFrom(self.state())
        return report

    # -- leading --------------------------------------------------------------------------------

    async def lead(self) -> pb.RefreshState:
        """Refresh the shares of all three pairs and return the state afterwards.

        Raises RefreshIntervalError if that is too soon, for this holder or a peer; UnavailableError naming who is
        missing, or if a refresh is under way or not finished; KeyMismatchError if the key holders are in different
        epochs; ParameterError after the last refresh; ConfigurationError or AuditLogError if something cannot be
        written. Nothing is changed then.
        """
        if self._busy:
            raise _under_way(self.party)
        self._busy = True
        # A task of its own: a command that is interrupted does not interrupt the refresh.
        leading = asyncio.create_task(self._lead())
        self._leads.add(leading)
        leading.add_done_callback(self._led)
        await asyncio.shield(leading)
        return self.state()

    async def _lead(self) -> None:
        try:
            async with asyncio.timeout(WHOLE * self._calls.timeout_s):
                self._hand.pace.require(self.party)
                await self._all_settled()
                self._hand.files.require_refreshable()
                await self._decide()
        except TimeoutError:
            raise UnavailableError("the refresh took too long: nothing was changed", needed="another attempt") from None
        # Decided. What fails from here on is finished by `settle_for_ever`, at each of the three.
        with suppress(VeilmatchError):
            await self.settle()
        for _ in ("use the next key", "delete the old one"):
            await self._calls.tell("Settle", self._calls.query, PHASE)
        with suppress(VeilmatchError):
            await self.settle()

    async def _decide(self) -> None:
        """Lead all three through both phases until it is decided that the next keys are used."""
        epoch, decision = self._holder.epoch + 1, secrets.token_bytes(DECISION_BYTES)
        attempt = self._open(refresh_id_of(decision, self._holder.key.key_id, epoch), self.party)
        self._hand.leading = True
        step = self._step(attempt)
        try:
            try:
                await self._calls.both("Begin", step, ANSWER)
            finally:
                self._hand.pace.note(attempt.refresh_id)
            await together([self._prepare(attempt), self._calls.both("Prepare", step, PHASE)])
            async with self._lock:
                self._hand.decide(decision)
                self._note()
        except BaseException:
            await self._give_up(step)
            raise

    async def _all_settled(self) -> None:
        """Finish earlier refreshes everywhere. Raises unless all three are in one epoch with nothing unfinished."""
        found = await self._calls.states()
        missing = [peer for peer, state in found.items() if isinstance(state, UnavailableError)]
        if missing:
            names = ", ".join(map(party_name, missing))
            raise UnavailableError(
                f"shares are refreshed with all three key holders or not at all: {names} cannot be reached",
                party=party_name(missing[0]), needed="all three key holders", available=f"all but {names}",
            )  # fmt: skip
        # Own things first: a peer's can depend on them.
        await self.settle()
        settled = await self._calls.both("Settle", self._calls.query, PHASE)
        await self.settle()
        for peer, state in zip(self._calls.peers, settled, strict=True):
            if state.epoch != self._holder.epoch:
                raise self._holder.other_epoch(peer, state.epoch)
            if STAGES.get(state.stage) is not Stage.NONE:
                raise _unfinished(peer)
        if self._hand.position.stage is not Stage.NONE:
            raise _unfinished(self.party)

    async def _give_up(self, step: pb.RefreshStep) -> None:
        """End the refresh that is led here: without a decision on record nobody shall use its keys."""
        self._hand.give_up()

        async def nothing() -> dict[Party, Word | None]:
            return {}

        async with self._lock:
            # If it was the decision that failed to be written, the disk says whether it was.
            with suppress(VeilmatchError, OSError):
                await self._advance(nothing)
        if self._hand.position.stage is Stage.NONE:
            await self._calls.tell("Abandon", step, ANSWER)

    def _led(self, task: asyncio.Task[None]) -> None:
        self._leads.discard(task)
        self._busy = False
        if not task.cancelled() and (error := task.exception()) is not None:
            code, reason = described(error)
            _log.log(level_of(error, logging.WARNING), "shares not refreshed", code=code, reason=reason)

    # -- taking part ----------------------------------------------------------------------------

    async def begin(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Take part in the refresh of a peer. Raises if this holder is in another epoch, or not free for it.

        Raises RefreshIntervalError if it is too soon for another one with this leader.
        """
        self._require_key(leader, step)
        at = self._hand.position
        if self._busy or at.under_way:
            raise _under_way(self.party if self._busy or at.leader is None else at.leader)
        if at.stage is not Stage.NONE:
            raise _unfinished(self.party)
        self._hand.files.require_refreshable()
        try:
            self._hand.pace.begin(leader, step.refresh_id)
        except RefreshIntervalError as error:
            _log.warning("refresh refused", leader=party_name(leader), retry_after_s=error.retry_after_s)
            raise
        self._open(step.refresh_id, leader)
        return self.state()

    async def prepare(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Prepare the next key with both peers; it is kept durably, and known to fit, when this returns."""
        attempt = self._attempt_of(step)
        if attempt.leader != leader:
            raise ProtocolError("a refresh that another key holder leads", got=party_name(leader))
        await self._prepare(attempt)
        return self.state()

    async def abandon(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Hear from the leader that it will not use its next key."""
        if (self._hand.position.leader, self.state().refresh_id) == (leader, step.refresh_id):

            async def gave_up() -> dict[Party, Word | None]:
                return {leader: Word(is_new=False, stage=Stage.NONE)}

            async with self._lock:
                await self._advance(gave_up)
        return self.state()

    async def answer(self, peer: Party, what: str, message: pb.RefreshMessage) -> pb.RefreshMessage:
        """Answer the plus holder of a pair: to its "Commitment", "Reveal" or "Fit"."""
        pair = next((p for p in pairs_of(self.party) if p == message.pair), None)
        if pair is None or pair != f"{peer}{self.party}":
            raise ProtocolError("a refresh of a pair with another plus holder", got=message.pair[:2])
        attempt, value = self._attempt_of(message.step), b""
        if what == "Commitment":
            value = attempt.contribute(pair, message.value)
        elif what == "Reveal":
            attempt.learn(pair, message.value)
        else:
            value = await self._bounded(attempt.compare(pair, message.value))
        return pb.RefreshMessage(step=message.step, pair=pair, value=value)

    # -- both -----------------------------------------------------------------------------------

    async def _prepare(self, attempt: Attempt) -> None:
        plus = [pair for pair in pairs_of(self.party) if pair[0] == self.party]

        async def ask(what: str, pair: Pair, value: bytes) -> bytes:
            message = pb.RefreshMessage(step=self._step(attempt), pair=pair, value=value)
            answer = await self._calls.one(other_party(pair, self.party), what, message, PHASE)
            return bytes(answer.value)

        attempt.take_up()

        async def work() -> None:
            *_, key = await together([*(attempt.agree(pair, ask) for pair in plus), attempt.next_key()])
            async with self._lock:
                attempt.kept(self._hand.keep(attempt, key))
                self._note()
            await together([*(attempt.show(pair, ask) for pair in plus), attempt.fit()])
            async with self._lock:
                self._hand.make_ready(attempt)

        await self._bounded(work())

    async def _bounded(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do a phase's work. Raises UnavailableError if it takes too long or the refresh is ended meanwhile."""
        try:
            async with asyncio.timeout(PHASE * self._calls.timeout_s):
                return await work
        except TimeoutError:
            raise UnavailableError("a key holder does not answer in this refresh", needed="all three") from None
        except asyncio.CancelledError:
            # This call itself was cancelled, or only what it waited for: an attempt that was closed.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise UnavailableError("the refresh was ended", needed="another attempt") from None

    # -- what is under way ----------------------------------------------------------------------

    def _open(self, refresh_id: bytes, leader: Party) -> Attempt:
        attempt = Attempt(refresh_id, leader, self._holder.key, self._holder.scheme)
        self._hand.open(attempt, asyncio.get_running_loop().time() + WHOLE * self._calls.timeout_s)
        return attempt

    def _attempt_of(self, step: pb.RefreshStep) -> Attempt:
        attempt = self._hand.attempt
        if attempt is None or attempt.refresh_id != step.refresh_id or not self._hand.is_under_way:
            raise UnavailableError("that refresh is not under way here", needed="another attempt")
        return attempt

    def _require_key(self, peer: Party, step: pb.RefreshStep) -> None:
        if step.key_id != self._holder.key.key_id:
            raise KeyMismatchError(
                "a key holder of another key", got=step.key_id[:16].hex(), expected=self._holder.key.key_id.hex()
            )
        if step.epoch != self._holder.epoch:
            raise self._holder.other_epoch(peer, step.epoch)

    def _step(self, attempt: Attempt) -> pb.RefreshStep:
        return pb.RefreshStep(key_id=self._holder.key.key_id, epoch=attempt.epoch - 1, refresh_id=attempt.refresh_id)


def _under_way(leader: Party) -> UnavailableError:
    return UnavailableError(
        f"another refresh is under way, led by {party_name(leader)}", party=party_name(leader), needed="its end"
    )


def _unfinished(party: Party) -> UnavailableError:
    return UnavailableError(
        f"an earlier refresh is not finished at {party_name(party)}",
        party=party_name(party), needed="all three key holders, to finish it",
    )  # fmt: skip
