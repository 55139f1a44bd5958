"""In the background: this matcher hears of what the others commit, and takes what it lacks from whomever it reaches.

    following = Following("c", stubs, lambda: followed)
    async with following.running():
        ...                                    # serve

One call of Watch to each of the others, again after it failed; one task for each gallery that is behind. A change in
which this organisation has a part is let be committed by the pair first. Whoever stated that it is ahead, and did not
give that much, is asked after the others from then on, and waited for less long while there is another one to ask: so
one that lies about it keeps nobody from an honest one.

Where one of the three was restored from an old copy, this matcher meets whom it has to (`readmission`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from veilmatch.crypto.errors import GalleryMismatchError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.bell import Bell
from veilmatch.server.ground.own_failures import Self, alert, described, level_of
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Scope, Signers, Statement
from veilmatch.server.matcher.agreement.lies import proofs_in
from veilmatch.server.matcher.follow.catching_up import catch_up
from veilmatch.server.matcher.follow.followed import Followed
from veilmatch.server.matcher.follow.readmission import Readmission, is_to_meet
from veilmatch.server.matcher.follow.serving import CHANGES_AT_ONCE, KEEPALIVE_S, LOOK_S
from veilmatch.server.transport.status import from_rpc

#: A pair tells both of its matchers within this that a change is committed; whoever then does not have it had no part.
_SETTLE_S = 0.2
#: After a failure it waits this long, twice as long after the next one, and so on.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.25, 10.0
#: At most before it calls again to hear: whoever is back is followed soon, however long it was away.
_LAST_CALL_S = 2.0
#: A lag that lasts longer is logged.
_LAG_S = 2.0
#: How often it looks whether it has to meet somebody, and how long it waits after it has.
_LOOK_S, _MET_S = 0.25, 1.0
#: A gallery in service is held for at most one part in so many by meetings about no request: who says that it was
#: restored may say so for ever, and be slow.
_RARELY = 20
#: Whoever says nothing for so long is not there.
_SILENT_S = 3 * KEEPALIVE_S

_log = structlog.get_logger(__name__)
_Key = tuple[str, bytes]


@dataclass
class _Lag:
    """A gallery that is behind. heard: what each other organisation has stated last. since_s: None if it is level.

    unmet: whom each other organisation says that it has still to meet, as one that was restored.
    failed: who did not give what it stated it has; a larger number is a later failure. fresh: somebody else is ahead.
    told: rung whenever somebody has stated something.
    """

    heard: dict[Party, GalleryState] = field(default_factory=dict)
    unmet: dict[Party, set[Party]] = field(default_factory=dict)
    failed: dict[Party, int] = field(default_factory=dict)
    told: Bell = field(default_factory=Bell)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    since_s: float | None = None
    is_logged: bool = False


class Following:
    """See the module. party: whose matcher this is. stubs: of the other matchers. followed: the galleries here.

    readmission: where it meets the others; without it nobody is readmitted in the background.
    """

    def __init__(
        self,
        party: Party,
        stubs: Mapping[Party, rpc.MatcherPeerAsyncStub],
        followed: Callable[[], Iterable[Followed]],
        readmission: Readmission | None = None,
    ) -> None:
        self._party = party
        self._self = Self(f"matcher-{party}")
        self._stubs = stubs
        self._followed = followed
        self._readmission = readmission
        self._lags: dict[_Key, _Lag] = {}
        #: No peer sends more changes at once.
        self._turns = {party: asyncio.Semaphore(CHANGES_AT_ONCE) for party in stubs}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow while the body runs. What is being applied when it ends is applied to its end."""
        self._lags = {_key(one): _Lag() for one in self._followed()}
        tasks = [asyncio.ensure_future(self._keep_watching(party)) for party in self._stubs]
        tasks += [asyncio.ensure_future(self._keep_level(one)) for one in self._followed()]
        if self._readmission is not None:
            tasks += [
                asyncio.ensure_future(self._keep_met(one, party, self._readmission))
                for one in self._followed()
                for party in self._stubs
            ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def behind(self) -> dict[str, tuple[int, float]]:
        """Return by how many changes others say that they are ahead, and for how many seconds, by gallery."""
        now_s, found = asyncio.get_running_loop().time(), dict[str, tuple[int, float]]()
        for one in self._followed():
            lag, mine = self._lags.get(_key(one)), one.gallery.state.sequence
            if lag is not None:
                most = max((state.sequence for state in lag.heard.values()), default=mine)
                behind_s = 0.0 if lag.since_s is None else now_s - lag.since_s
                found[one.name] = max(0, most - mine), behind_s
        return found

    # -- hearing --------------------------------------------------------------------------------

    async def _keep_watching(self, party: Party) -> None:
        pauses, failure = _Pauses(_LAST_CALL_S), ""
        while True:
            try:
                galleries = [one.to_wire() for one in self._followed()]
                async for news in watch(self._stubs[party], f"matcher-{party}", galleries):
                    if failure:
                        _log.info("followed again", matcher=f"matcher-{party}")
                    failure = ""
                    pauses.reset()
                    await self._hear(party, news)
                    # An honest one has less to say: one that talks without end costs no more than so much of this loop.
                    await asyncio.sleep(LOOK_S / 2 / max(1, len(galleries)))
            except Exception as error:
                code, reason = described(error)
                if code != failure:
                    _log.log(level_of(error, logging.INFO), "not followed", matcher=f"matcher-{party}", code=code,
                             reason=reason)  # fmt: skip
                failure = code
            await pauses.wait()

    async def _hear(self, party: Party, news: pb.GalleryNews) -> None:
        followed = next((one for one in self._followed() if one.to_wire() == news.gallery), None)
        if followed is None:
            return
        statement = read_statement(followed.scope, followed.signers, party, news)
        await self._find_lies(followed, statement, restored=news.restored)
        state, lag = statement.state, self._lags[_key(followed)]
        lag.heard[party] = state
        # One that lies may send any text.
        lag.unmet[party] = {one for one in PARTIES if one in news.unmet}
        lag.told.ring()
        mine = followed.gallery.state
        if state.sequence == mine.sequence and state.chain != mine.chain:
            error = GalleryMismatchError(
                "the two matchers do not hold the same gallery",
                got=f"{state} at matcher-{party}", expected=f"{mine} at {self._self.name}",
            )  # fmt: skip
            # Not one for each chain: it may state any, as often as it likes.
            alert(error, self._self, party, gallery=followed.name)
        if state.sequence > mine.sequence:
            lag.news.set()
            if party not in lag.failed:
                lag.fresh.set()

    async def _find_lies(self, followed: Followed, statement: Statement, *, restored: bool) -> None:
        """Keep, and say, what this statement and what is kept already prove: two changes in one ballot, say.

        restored: who states it says that it was; then it may have forgotten what it accepted, and no more.
        """
        gallery = followed.gallery
        known = [*gallery.heard.values(), statement]
        for proof in proofs_in(known, gallery.votes.values()):
            if proof.party == self._party or (restored and proof.party == statement.party and proof.what != "fork"):
                continue
            await asyncio.to_thread(followed.store.keep_proof, followed.name, proof)
            error = GalleryMismatchError(
                f"organisation {proof.party} has lied about the gallery: {proof.what}", party=f"matcher-{proof.party}"
            )
            alert(error, self._self, followed.name, gallery=followed.name)

    # -- after one was restored -----------------------------------------------------------------

    async def _keep_met(self, followed: Followed, party: Party, readmission: Readmission) -> None:
        lag, gallery, woken = self._lags[_key(followed)], followed.gallery, asyncio.Event()
        with lag.told.heard_by(woken), gallery.changed.heard_by(woken):
            await self._meet_when_told(followed, party, readmission, woken)

    async def _meet_when_told(
        self, followed: Followed, party: Party, readmission: Readmission, woken: asyncio.Event
    ) -> None:
        lag, gallery = self._lags[_key(followed)], followed.gallery
        while True:
            await asyncio.sleep(_LOOK_S)
            woken.clear()
            if not is_to_meet(gallery, self._party, party, lag.heard, lag.unmet):
                await woken.wait()
                continue
            was_restored, clock = bool(gallery.unmet), asyncio.get_running_loop().time
            started = clock()
            try:
                sat_s = await readmission.meet(followed, party)
            except Exception as error:
                sat_s = 0.0 if isinstance(error, UnavailableError) else clock() - started
                code, reason = described(error)
                _log.log(level_of(error, logging.INFO), "not met", gallery=followed.name, matcher=f"matcher-{party}",
                         code=code, reason=reason)  # fmt: skip
            if was_restored and not gallery.unmet:
                _log.info("restored gallery takes part again", gallery=followed.name)
            await asyncio.sleep(max(_MET_S, 0.0 if was_restored else _RARELY * sat_s))

    # -- catching up ----------------------------------------------------------------------------

    async def _keep_level(self, followed: Followed) -> None:
        lag, pauses, loop = self._lags[_key(followed)], _Pauses(), asyncio.get_running_loop()
        while True:
            await lag.news.wait()
            lag.news.clear()
            lag.fresh.clear()
            await asyncio.sleep(_SETTLE_S)
            if not self._ahead(followed, lag):
                continue
            lag.since_s = loop.time() if lag.since_s is None else lag.since_s
            took = await self._once(followed, lag)
            if self._ahead(followed, lag):
                lag.news.set()
                self._say_behind(followed, lag, loop.time())
            else:
                self._say_level(followed, lag, loop.time())
            if took:
                pauses.reset()
            else:
                await pauses.wait(lag.fresh)

    async def _once(self, followed: Followed, lag: _Lag) -> bool:
        """Take what is missing from whoever has it; return whether anybody gave what it stated it has."""
        # Their history may be the one that was given up here.
        liars = {proof.party for proof in await asyncio.to_thread(followed.store.proofs, followed.name)}
        for party in self._ahead(followed, lag):
            if party in liars:
                continue
            stated = lag.heard[party].sequence
            # At the end of the order, until it has given it.
            lag.failed[party] = max(lag.failed.values(), default=0) + 1
            try:
                async with self._turns[party]:
                    taken = await catch_up(
                        followed, self._stubs[party], f"matcher-{party}", lambda: self._others_wait(followed, lag)
                    )
            except GalleryMismatchError as error:
                alert(error, self._self, followed.name, gallery=followed.name)
            except VeilmatchError as error:
                if level_of(error, logging.INFO) == logging.ERROR:
                    alert(error, self._self, followed.name, gallery=followed.name)
                else:
                    _log.debug("not caught up", gallery=followed.name, matcher=f"matcher-{party}",
                               code=error.code, reason=error.claim)  # fmt: skip
            except Exception as error:
                code, reason = described(error)
                _log.error("alert", code=code, reason=reason, gallery=followed.name)
            else:
                _log.debug("caught up", gallery=followed.name, matcher=f"matcher-{party}", **taken._asdict())
                if followed.gallery.state.sequence >= stated:
                    del lag.failed[party]
                    return True
        return False

    def _others_wait(self, followed: Followed, lag: _Lag) -> bool:
        """Return whether somebody states more than there is here, and was not asked for it in vain."""
        return any(party not in lag.failed for party in self._ahead(followed, lag))

    def _ahead(self, followed: Followed, lag: _Lag) -> list[Party]:
        """Return who states more than there is here: who failed longest ago, or never, first, then who has most."""
        sequence = followed.gallery.state.sequence
        ahead = [party for party, state in lag.heard.items() if state.sequence > sequence]
        return sorted(ahead, key=lambda party: (lag.failed.get(party, 0), -lag.heard[party].sequence))

    def _say_behind(self, followed: Followed, lag: _Lag, now_s: float) -> None:
        if lag.since_s is not None and now_s - lag.since_s >= _LAG_S and not lag.is_logged:
            lag.is_logged = True
            party, state = max(lag.heard.items(), key=lambda one: one[1].sequence)
            by = state.sequence - followed.gallery.state.sequence
            # Its word: no certificate comes with it, and one that lies may state any number.
            _log.warning("gallery behind", gallery=followed.name, changes=by, seconds=round(now_s - lag.since_s, 1),
                         reason=f"matcher-{party} says that it is ahead by {by} changes")  # fmt: skip

    def _say_level(self, followed: Followed, lag: _Lag, now_s: float) -> None:
        if lag.since_s is not None and (lag.is_logged or now_s - lag.since_s >= _LAG_S):
            seconds = round(now_s - lag.since_s, 1)
            sequence = followed.gallery.state.sequence
            _log.info("gallery level again", gallery=followed.name, sequence=sequence, seconds=seconds)
        lag.since_s, lag.is_logged = None, False


async def watch(
    stub: rpc.MatcherPeerAsyncStub, peer: str, galleries: Iterable[pb.WatchedGallery], within_s: float = _SILENT_S
) -> AsyncIterator[pb.GalleryNews]:
    """Yield what `peer` states of these galleries, as it comes; it ends when the peer stops.

    within_s: how long nothing may come. Raises UnavailableError, and what the call ends with.
    """
    call: Any = stub.Watch(pb.WatchRequest(galleries=galleries))
    try:
        while True:
            async with asyncio.timeout(within_s):
                news = await call.read()
            if news is grpc.aio.EOF:
                return
            yield news
    except TimeoutError:
        raise UnavailableError(f"{peer} does not answer", party=peer, needed=peer) from None
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, peer) from None
    finally:
        call.cancel()


def read_statement(scope: Scope, signers: Signers, party: Party, news: pb.GalleryNews) -> Statement:
    """Return what an organisation states. Raises ProtocolError unless it has signed that."""
    statement = Statement.decode(news.statement)
    if statement.party != party:
        raise ProtocolError("a statement of another organisation", got=statement.party, expected=party)
    statement.check(scope, signers)
    return statement


class _Pauses:
    """Waits after failures, each twice the one before up to last_s, and never the same at two matchers."""

    def __init__(self, last_s: float = _LAST_PAUSE_S) -> None:
        self._next_s, self._last_s = _FIRST_PAUSE_S, last_s

    def reset(self) -> None:
        self._next_s = _FIRST_PAUSE_S

    async def wait(self, until: asyncio.Event | None = None) -> None:
        """Wait, at most until this is set."""
        try:
            async with asyncio.timeout(self._next_s * random.uniform(0.5, 1.0)):  # noqa: S311  # nothing secret
                await (until or asyncio.Event()).wait()
        except TimeoutError:
            pass
        self._next_s = min(2 * self._next_s, self._last_s)


def _key(followed: Followed) -> _Key:
    return followed.scope.gallery, followed.scope.key_id
