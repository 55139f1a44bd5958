"""Refreshing the shares of all three pairs: in two phases, so that a crash leaves the old epoch or the new one.

One key holder leads, the one at which `veilmatch keyholder refresh` was run.

1. All three begin: same key, same epoch, nothing unfinished, and no other refresh under way.
2. All three prepare: each pair agrees on a common seed, each holder keeps its next key durably beside the current one
   and shows its peers that the shares fit (refresh_attempt.py). Until here anything that fails ends the refresh, and
   nothing has changed.
3. The leader uses its next key, durably: this decides the refresh. Then its peers use theirs.

A key that waits is used once a peer is in its epoch. It is deleted once both peers have answered that they are in
the old epoch and do not lead: whoever led is then not going to use it. In any other case it waits, and the old epoch
serves on. `settle` decides this, again and again while anything is unfinished; that is all there is of recovery. The
old key is deleted once both peers are in the new epoch.

Files are written without leaving the event loop, so a call that is cancelled never leaves one half done.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import grpc
import structlog

from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import (
    AuditLogError,
    IntegrityError,
    KeyMismatchError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.shares import PARTIES, Pair, Party, other_party, pairs_of
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.attempt import Attempt
from veilmatch.server.keyholder.refresh.key_files import KeyFiles
from veilmatch.server.keyholder.session.serving import KeyHolder
from veilmatch.server.transport.status import from_rpc

#: Parts of the time-out between key holders: one short answer, one phase of a refresh, one refresh.
_ANSWER, _PHASE, _WHOLE = 1.0, 4.0, 10.0
#: How often something unfinished is looked at again.
_SETTLE_EVERY_S = 0.5
#: And after something of this machine has failed: every attempt is noted in the audit log.
_AFTER_FAILURE_S = 15.0

_log = structlog.get_logger(__name__)


class Refresher:
    """The refreshes of one key holder: leads them, takes part in those of others, and finishes what was interrupted."""

    def __init__(self, holder: KeyHolder, files: KeyFiles, timeout_s: float) -> None:
        self.party: Party = holder.party
        self._holder = holder
        self._files = files
        self._timeout_s = timeout_s
        self._peers: list[Party] = [p for p in PARTIES if p != holder.party]
        self._attempt: Attempt | None = None
        #: When the attempt is over, whatever came of it.
        self._ends_at = 0.0
        #: A refresh is led here: from the command to its end, and while it is not decided.
        self._busy, self._leading = False, False
        #: One at a time: settling, keeping a next key, using it.
        self._lock = asyncio.Lock()
        self._leads: set[asyncio.Task[None]] = set()
        self._note()

    def state(self) -> pb.RefreshState:
        """Return how far this key holder is. The epoch is that on disk: what a restart would serve with."""
        return pb.RefreshState(
            key_id=self._holder.key.key_id, epoch=self._files.current.epoch, waiting=self._files.waiting is not None,
            leading=self._leading, keeps_old=self._files.keeps_old,
        )  # fmt: skip

    async def settle_for_ever(self) -> None:
        """Finish what is unfinished whenever the peers can be reached."""
        while True:
            wait_s = _SETTLE_EVERY_S
            try:
                await self.settle()
            except Exception as error:
                # A full disk, say. Its text may quote data.
                reason = error.message if isinstance(error, VeilmatchError) else type(error).__name__
                _log.error("refresh not finished", reason=reason)
                wait_s = _AFTER_FAILURE_S
            await asyncio.sleep(wait_s)

    async def settle(self) -> None:
        """Use or delete a key that waits, and delete the old one, as far as the peers' states decide it.

        Raises AuditLogError or UnavailableError if the next key cannot be noted or renamed: it waits on.
        """
        async with self._lock:
            await self._switch()
            attempt = self._attempt
            if self._leading or not (self._files.waiting or self._files.keeps_old or attempt):
                return
            states = await asyncio.gather(*(self._state_of(peer) for peer in self._peers), return_exceptions=True)
            found = [state for state in states if isinstance(state, pb.RefreshState)]
            complete = len(found) == len(states)
            if self._files.waiting is not None and any(s.epoch == self._files.waiting.epoch for s in found):
                self._use_next()
                await self._switch()
            elif complete and not any(state.leading for state in found) and self._attempt is attempt:
                self._discard()
            if complete and all(s.epoch >= self._holder.epoch for s in found) and self._files.waiting is None:
                self._files.erase_old()
            self._note()

    # -- leading --------------------------------------------------------------------------------

    async def lead(self) -> pb.RefreshState:
        """Refresh the shares of all three pairs and return the state afterwards.

        Raises UnavailableError naming who is missing, or if a refresh is under way or not finished; KeyMismatchError
        if the key holders are in different epochs; ParameterError after the last refresh; ConfigurationError or
        AuditLogError if something cannot be written. Nothing is changed then.
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
            async with asyncio.timeout(_WHOLE * self._timeout_s):
                await self._all_settled()
                self._files.require_refreshable()
                # Nobody leads, so what was begun here once is over.
                attempt = self._new_attempt(secrets.token_bytes(DIGEST_BYTES), self.party)
                self._leading = True
                step = self._step(attempt)
                await _together([self._call(peer, "Begin", step, _ANSWER) for peer in self._peers])
                await _together(
                    [self._prepare(attempt), *(self._call(peer, "Prepare", step, _PHASE) for peer in self._peers)]
                )
                async with self._lock:
                    self._require_current(attempt)
                    self._use_next()
        except BaseException as error:
            if self._leading:
                await self._give_up()
            if isinstance(error, TimeoutError):
                raise UnavailableError(
                    "the refresh took too long: nothing was changed", needed="another attempt"
                ) from None
            raise
        # Decided. What fails from here on is finished by `settle_for_ever`, at each of the three.
        with suppress(VeilmatchError):
            await self.settle()
        query = pb.RefreshQuery(key_id=self._holder.key.key_id)
        for _ in ("use the next key", "delete the old one"):
            await asyncio.gather(
                *(self._call(peer, "Settle", query, _PHASE) for peer in self._peers), return_exceptions=True
            )
        with suppress(VeilmatchError):
            await self.settle()

    async def _all_settled(self) -> None:
        """Finish earlier refreshes everywhere. Raises unless all three are in one epoch with nothing unfinished."""
        states = await asyncio.gather(*(self._state_of(peer) for peer in self._peers), return_exceptions=True)
        missing = [p for p, found in zip(self._peers, states, strict=True) if isinstance(found, UnavailableError)]
        if missing:
            names = ", ".join(map(party_name, missing))
            raise UnavailableError(
                f"shares are refreshed with all three key holders or not at all: {names} cannot be reached",
                party=party_name(missing[0]), needed="all three key holders", available=f"all but {names}",
            )  # fmt: skip
        # Own things first: a peer's can depend on them.
        await self.settle()
        query = pb.RefreshQuery(key_id=self._holder.key.key_id)
        settled = await _together([self._call(peer, "Settle", query, _PHASE) for peer in self._peers])
        await self.settle()
        for peer, found in zip(self._peers, settled, strict=True):
            if found.epoch != self._holder.epoch:
                raise self._holder.other_epoch(peer, found.epoch)
            if found.waiting or found.keeps_old or found.leading:
                raise _unfinished(peer)
        if self._files.waiting or self._files.keeps_old:
            raise _unfinished(self.party)

    async def _give_up(self) -> None:
        """End the refresh that is led here and not decided: nobody shall use its keys."""
        attempt = self._attempt
        self._leading = False
        async with self._lock:
            self._discard()
        if attempt is not None:
            calls = (self._call(peer, "Abandon", self._step(attempt), _ANSWER) for peer in self._peers)
            await asyncio.gather(*calls, return_exceptions=True)

    def _led(self, task: asyncio.Task[None]) -> None:
        self._leads.discard(task)
        self._busy = self._leading = False
        if not task.cancelled() and (error := task.exception()) is not None:
            reason = error.message if isinstance(error, VeilmatchError) else type(error).__name__
            _log.warning("shares not refreshed", reason=reason)

    # -- taking part ----------------------------------------------------------------------------

    async def begin(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Take part in the refresh of a peer. Raises if this holder is in another epoch, or not free for it."""
        self._require_key(leader, step)
        if self._busy or (self._attempt is not None and self._attempt.leader != leader and self._is_live()):
            raise _under_way(self.party if self._busy or self._attempt is None else self._attempt.leader)
        if self._files.waiting or self._files.keeps_old:
            raise _unfinished(self.party)
        self._files.require_refreshable()
        self._new_attempt(step.refresh_id, leader)
        return self.state()

    async def prepare(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Prepare the next key with both peers; it is kept durably, and known to fit, when this returns."""
        attempt = self._attempt_of(step)
        if attempt.leader != leader:
            raise ProtocolError("a refresh that another key holder leads", got=party_name(leader))
        await self._prepare(attempt)
        return self.state()

    async def abandon(self, leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        """Delete the next key: its leader will not use its own."""
        if self._attempt is not None and (self._attempt.refresh_id, self._attempt.leader) == (step.refresh_id, leader):
            self._close_attempt()
            async with self._lock:
                self._discard()
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
            answer = await self._call(other_party(pair, self.party), what, message, _PHASE)
            return bytes(answer.value)

        async def work() -> None:
            *_, key = await _together([*(attempt.agree(pair, ask) for pair in plus), attempt.next_key()])
            async with self._lock:
                self._require_current(attempt)
                self._holder.auditor.refresh("prepared", attempt.epoch, attempt.leader)
                attempt.kept(self._files.prepare(key))
                self._note()
            await _together([*(attempt.show(pair, ask) for pair in plus), attempt.fit()])

        await self._bounded(work())

    async def _bounded(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do a phase's work. Raises UnavailableError if it takes too long or the refresh is ended meanwhile."""
        try:
            async with asyncio.timeout(_PHASE * self._timeout_s):
                return await work
        except TimeoutError:
            raise UnavailableError("a key holder does not answer in this refresh", needed="all three") from None
        except asyncio.CancelledError:
            # This call itself was cancelled, or only what it waited for: an attempt that was closed.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise UnavailableError("the refresh was ended", needed="another attempt") from None

    def _use_next(self) -> None:
        """Make the key that waits the one that counts, after every restart too. Under the lock; then `_switch`."""
        waiting = self._files.waiting
        if waiting is None:
            raise IntegrityError("no key of another epoch is kept here", got=self._holder.epoch)
        leader = self._attempt.leader if self._attempt is not None else None
        self._holder.auditor.refresh("used", waiting.epoch, leader)
        try:
            self._files.commit()
        except OSError as error:
            raise UnavailableError("the key file cannot be renamed", available=error.strerror) from None
        self._leading = False
        self._close_attempt()
        self._note()

    async def _switch(self) -> None:
        """Serve with the key that counts, if that is not so yet. Under the lock."""
        key = self._files.current
        if self._holder.epoch != key.epoch:
            await self._holder.switch(key)
            _log.info("shares refreshed", epoch=key.epoch)

    def _discard(self) -> None:
        """Delete the key that waits, if any, and forget the attempt. Under the lock."""
        waiting, leader = self._files.waiting, self._attempt.leader if self._attempt else None
        self._close_attempt()
        if waiting is not None:
            self._files.discard()
            _log.warning("refresh abandoned", epoch=waiting.epoch)
            with suppress(AuditLogError):
                self._holder.auditor.refresh("abandoned", waiting.epoch, leader)
        self._note()

    def _close_attempt(self) -> None:
        """Whatever still works on it ends at its next step, before it keeps anything."""
        if self._attempt is not None:
            self._attempt.close()
        self._attempt = None

    def _note(self) -> None:
        self._holder.unsettled = self._files.waiting is not None or self._files.keeps_old

    # -- what is under way ----------------------------------------------------------------------

    def _new_attempt(self, refresh_id: bytes, leader: Party) -> Attempt:
        self._close_attempt()
        self._attempt = Attempt(refresh_id, leader, self._holder.key, self._holder.scheme)
        self._ends_at = asyncio.get_running_loop().time() + _WHOLE * self._timeout_s
        return self._attempt

    def _is_live(self) -> bool:
        return asyncio.get_running_loop().time() < self._ends_at

    def _attempt_of(self, step: pb.RefreshStep) -> Attempt:
        if self._attempt is None or self._attempt.refresh_id != step.refresh_id or not self._is_live():
            raise UnavailableError("that refresh is not under way here", needed="another attempt")
        return self._attempt

    def _require_current(self, attempt: Attempt) -> None:
        if self._attempt is not attempt:
            raise UnavailableError("the refresh was ended", needed="another attempt")

    def _require_key(self, peer: Party, step: pb.RefreshStep) -> None:
        if step.key_id != self._holder.key.key_id:
            raise KeyMismatchError(
                "a key holder of another key", got=step.key_id[:16].hex(), expected=self._holder.key.key_id.hex()
            )
        if step.epoch != self._holder.epoch:
            raise self._holder.other_epoch(peer, step.epoch)

    def _step(self, attempt: Attempt) -> pb.RefreshStep:
        return pb.RefreshStep(key_id=self._holder.key.key_id, epoch=attempt.epoch - 1, refresh_id=attempt.refresh_id)

    # -- calls ----------------------------------------------------------------------------------

    async def _state_of(self, peer: Party) -> pb.RefreshState:
        state: pb.RefreshState = await self._call(
            peer, "State", pb.RefreshQuery(key_id=self._holder.key.key_id), _ANSWER
        )
        return state

    async def _call(self, peer: Party, method: str, message: Any, patience: float) -> Any:
        """Call a peer. Raises the error that it ends with."""
        call: Callable[..., Awaitable[Any]] = getattr(self._holder.peers.refresh_stub(peer), method)
        try:
            return await call(message, timeout=patience * self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, party_name(peer)) from None


async def _together(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Return what all of these return. Raises the first error, once the others have ended or been cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _under_way(leader: Party) -> UnavailableError:
    return UnavailableError(
        f"another refresh is under way, led by {party_name(leader)}", party=party_name(leader), needed="its end"
    )


def _unfinished(party: Party) -> UnavailableError:
    return UnavailableError(
        f"an earlier refresh is not finished at {party_name(party)}",
        party=party_name(party), needed="all three key holders, to finish it",
    )  # fmt: skip
