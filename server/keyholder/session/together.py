"""Verifications that wait at the same time go in one session of their pair: each costs less, and none waits for others.

The minus holder composes, as it speaks first. A verification that finds nothing under way begins at once. Up to AT_ONCE
sessions are under way with a peer, so that one computes while another waits for the network; what comes meanwhile
waits, and goes together in the next one (composing.py).

The plus holder answers for those that it was brought by its own matcher, and has converted. It waits a little for what
is on the way, and never longer: what it does not have takes no part, and goes alone afterwards, in a session that waits
for it as a search does. So does what is larger than several together. Whatever one request is wrong in ends it alone
(crypto/pair/beginning.py). docs/protocol.md, "Verifications that go together".
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any

from veilmatch.crypto.encryption.scheme import LocalShare, Scheme
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair, Party, other_party
from veilmatch.crypto.pair.messages import Composed, DecisionShare
from veilmatch.server.ground.own_failures import Self, alike, own_failures
from veilmatch.server.ground.request_id import about, about_nothing
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.session.composing import MOST_CIPHERTEXTS, Waiting
from veilmatch.server.keyholder.session.driving import Noted, Surroundings, driven
from veilmatch.server.keyholder.session.pair_link import PairLinks, Strand
from veilmatch.server.keyholder.session.share_worker import ShareWork
from veilmatch.server.keyholder.session.turns import Turns, ending
from veilmatch.server.keyholder.session.verification import Verification

#: Sessions under way with one peer before others wait to go together.
AT_ONCE = 2
#: How long the plus holder waits for verifications that it was not brought yet, and that it has not yet converted.
BROUGHT_S, CONVERTED_S = 0.05, 0.25
#: A session that the peer has not answered after this, or that has not ended after this, keeps nothing from beginning
#: any more: a peer that stalls those that it takes part in ends them, and not what waits behind them.
_ANSWERED_S, _ENDED_S = 0.25, 1.0


class _Place:
    """A place among the sessions under way. leave: called once, when it is free."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave
        self.is_answered = False
        self._timer = asyncio.get_running_loop().call_later(_ANSWERED_S, self.free)

    def answered(self) -> None:
        """The peer takes part: the place is kept until the end, but not for long."""
        self.is_answered = True
        self._timer.cancel()
        if self._leave is not None:
            self._timer = asyncio.get_running_loop().call_later(_ENDED_S, self.free)

    def free(self) -> None:
        self._timer.cancel()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Together:
    """The verifications of one key holder. work_of: what computes for a session, given whose turn it takes."""

    def __init__(
        self, party: Party, server: Self, scheme: Scheme, links: PairLinks,
        work_of: Callable[[Pair, int, str], ShareWork],
    ) -> None:  # fmt: skip
        self._party, self._server, self._scheme, self._links, self._work_of = party, server, scheme, links, work_of
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        #: At the minus holder, by footing: what waits, and how many sessions are under way.
        self._waiting: dict[object, Waiting[Verification]] = {}
        self._under_way: Counter[object] = Counter()
        #: At the plus holder, by peer and request: what was brought here and has no session yet.
        self._brought: dict[tuple[str, bytes], Verification] = {}
        self._listening: set[asyncio.Event] = set()

    async def answer(self, one: Verification) -> DecisionShare:
        """Return this holder's share of the answer. Raises what ends its session."""
        with ending(one.local), ending(one.answer):
            if one.footing.pair[1] == self._party:
                return await self._composed(one)
            return await self._found(one)

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()

    # -- at the minus holder ------------------------------------------------------------------------

    async def _composed(self, one: Verification) -> DecisionShare:
        # A failure of its own is told to the peer where it goes alone.
        await asyncio.wait([one.local])
        if len(one.part.ciphertexts) > MOST_CIPHERTEXTS or not one.is_converted:
            return await self._alone(one)
        name = one.footing.name
        waiting = self._waiting.setdefault(name, Waiting())
        waiting.put(one)
        self._begin(name)
        try:
            answer = await one.answer
        except asyncio.CancelledError:
            one.leave()
            raise
        finally:
            waiting.drop(one)
        if answer is not None:
            return answer
        # Another one: its session with others may still be under way, and is done with this one.
        alone = Verification(one.part, one.footing, one.owner, one.record, one.work, one.local)
        with ending(alone.answer):
            answer = await self._alone(alone)
        one.met_ns = alone.met_ns
        return answer

    def _begin(self, name: object) -> None:
        """Begin sessions of what waits, while there is a place."""
        waiting = self._waiting.get(name)
        while waiting and self._under_way[name] < AT_ONCE:
            members = waiting.take()
            self._under_way[name] += 1
            self._do(self._compose(members, _Place(partial(self._left, name))))
        if not waiting and not self._under_way[name]:
            self._waiting.pop(name, None)
            del self._under_way[name]

    def _left(self, name: object) -> None:
        self._under_way[name] -= 1
        self._begin(name)

    async def _compose(self, members: Sequence[Verification], place: _Place) -> None:
        """Open a session of these, and let each know what becomes of it."""
        if len(members) == 1:
            about(members[0].about)
        for one in members:
            one.go_with(members)
        try:
            async with self._links.about(*(one.part.request for one in members)) as strand:
                with own_failures(self._server):
                    await self._drive(strand, members, place)
        except VeilmatchError as error:
            for one in members:
                # What the peer says before it has answered for any may be about itself, or about one of them.
                if error.said_by and not place.is_answered and len(members) > 1:
                    one.settle(None)
                else:
                    one.fail(_again(error))
        finally:
            place.free()
            for one in members:
                one.fail(self._given_up())
                one.go_no_further()

    # -- at the plus holder -------------------------------------------------------------------------

    async def _found(self, one: Verification) -> DecisionShare:
        request = one.part.request
        at = party_name(other_party(request.pair, self._party)), request.subject_matter()
        self._brought[at] = one
        one.alone = alone = asyncio.ensure_future(self._called_alone(one, at))
        one.local.add_done_callback(lambda _: self._tell())
        self._tell()
        try:
            with ending(alone):
                await asyncio.wait([alone])
                if not alone.cancelled():
                    return alone.result()
                # Others have taken it with them.
                answer = await one.answer
                assert answer is not None
                return answer
        except asyncio.CancelledError:
            one.leave()
            raise
        finally:
            self._leave(at, one)
            one.alone = None  # a cancelled task keeps where it was cancelled, and what was there

    async def _called_alone(self, one: Verification, at: tuple[str, bytes]) -> DecisionShare:
        async with self._links.about(one.part.request) as strand:
            self._leave(at, one)
            with own_failures(self._server):
                return await self._drive_alone(strand, one)

    def _leave(self, at: tuple[str, bytes], one: Verification) -> None:
        if self._brought.get(at) is one:
            del self._brought[at]

    def host(self, strand: Strand, matters: Sequence[bytes]) -> None:
        """Take part in a session about several verifications that the peer has opened."""
        self._do(self._host(strand, matters))

    async def _host(self, strand: Strand, matters: Sequence[bytes]) -> None:
        named = await self._those_here([(strand.peer, matter) for matter in matters])
        here = [one for one in named if one is not None]
        for one in here:
            one.go_with(here)
        try:
            async with self._links.taken(strand):
                with own_failures(self._server):
                    if not here:
                        raise UnavailableError("this server was not brought the requests that its peer was brought")
                    await self._drive(strand, named)
        except VeilmatchError as error:
            for one in here:
                one.fail(_again(error))
        finally:
            for one in here:
                one.fail(self._given_up())
                one.go_no_further()

    async def _those_here(self, wanted: Sequence[tuple[str, bytes]]) -> list[Verification | None]:
        """Return those that were brought here and are converted, when all are or it has been long enough."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        began = loop.time()
        self._listening.add(news)
        try:
            while (until := began + self._patience_s(wanted)) > (now := loop.time()):
                news.clear()
                try:
                    async with asyncio.timeout(until - now):
                        await news.wait()
                except TimeoutError:
                    pass
        finally:
            self._listening.discard(news)
        return self._take(wanted)

    def _patience_s(self, wanted: Sequence[tuple[str, bytes]]) -> float:
        """How long it is worth while to wait for what is missing, since the session was opened."""
        found = [self._brought.get(at) for at in wanted]
        if any(one is not None and not one.local.done() for one in found):
            return CONVERTED_S
        on_the_way = any(one is None and not self._links.refuses(*at) for at, one in zip(wanted, found, strict=True))
        return BROUGHT_S if on_the_way else 0.0

    def _take(self, wanted: Sequence[tuple[str, bytes]]) -> list[Verification | None]:
        """Take those that can go together out of what waits here."""
        found: list[Verification | None] = []
        name: object = None
        for at in wanted:
            one = self._brought.get(at)
            if one is not None and one.is_converted and name in (None, one.footing.name):
                name = one.footing.name
                del self._brought[at]
                assert one.alone is not None
                one.alone.cancel()
                found.append(one)
            else:
                found.append(None)
        return found

    def _tell(self) -> None:
        for news in self._listening:
            news.set()

    # -- at both ------------------------------------------------------------------------------------

    async def _alone(self, one: Verification) -> DecisionShare:
        async with self._links.about(one.part.request) as strand:
            with own_failures(self._server):
                return await self._drive_alone(strand, one)

    async def _drive_alone(self, strand: Strand, one: Verification) -> DecisionShare:
        await self._drive(strand, [one])
        answer = one.answer.result()
        assert answer is not None
        return answer

    async def _drive(self, strand: Strand, named: Sequence[Verification | None], place: _Place | None = None) -> None:
        """Drive one session to its end, and settle what becomes of each of its verifications, but for its error."""
        here = [one for one in named if one is not None]
        for member in here:
            member.met_ns = time.time_ns()
        footing, work = here[0].footing, here[0].work
        if len(named) > 1:
            # A turn of its own: it is nobody's, and waits behind no device.
            work = self._work_of(footing.pair, footing.key.epoch, f"together {next(self._numbers)}")
        peer = other_party(footing.pair, self._party)
        noted = [None if one is None else Noted(one.part, one.record) for one in named]
        session = footing.session([None if one is None else one.part for one in named], self._scheme)
        with footing.stock.session() as stock:
            by = Surroundings(work, Turns(partial(self._links.by_peer, peer), strand), stock)
            async with aclosing(driven(session, _all_of(here), noted, by)) as handed_out:
                going = iter(here)
                async for action in handed_out:
                    if isinstance(action, Composed):
                        if place is not None:
                            place.answered()
                        going = iter([one for i in action.going if (one := named[i]) is not None])
                        if len(named) > 1:
                            self._settle_others(named, action)
                            if not action.going:
                                return
                    elif isinstance(action, DecisionShare):
                        next(going).settle(action)

    def _settle_others(self, named: Sequence[Verification | None], composed: Composed) -> None:
        """Let those know that do not go on: why, or that each goes alone."""
        for i, one in enumerate(named):
            if one is None or i in composed.going:
                continue
            if (error := composed.refused.get(i)) is None:
                one.settle(None)
                continue
            try:
                with own_failures(self._server):
                    raise error
            except VeilmatchError as raised:
                one.fail(raised)

    def _given_up(self) -> VeilmatchError:
        return UnavailableError("this server is stopping", party=self._server.name, needed=self._server.name)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = about_nothing(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _all_of(members: Sequence[Verification]) -> list[LocalShare]:
    return [share for one in members for share in await one.local]


def _again(error: VeilmatchError) -> VeilmatchError:
    """Return the same error for one of those whom it ends: it says later whose request it was."""
    return alike(error, copy.copy(error).with_traceback(error.__traceback__))
