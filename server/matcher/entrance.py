"""Where requests of devices come in: what they wait for before anything that costs is done for them.

A request goes to both matchers of its pair by its device. It waits, in a place for that, until the other matcher has
it too; the places are few and shared fairly (places.py), so a device that brings requests to one matcher alone fills
none that another device needs. Then, at the matcher that leads, it waits for its turn (turns.py), and the other matcher
is told when it has it. No nonce is noted and no budget charged for a request that gets none.

Changes are done one after the other anyway. So few are let in at once, in turns of their own: a query comes behind
two of them at most. Verifications have turns of their own as well, and more at once: key holders compute together what
is there, and searches keep none of them waiting for a turn.

The matcher that follows takes what the leader has given a turn, up to a bound that no honest leader comes near
(at_once.py): its machine must not depend on how another organisation sets its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from typing import NamedTuple, cast

from google.protobuf.message import DecodeError

from veilmatch.crypto.errors import OverloadedError, RequestExpiredError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.requests import VERIFICATIONS, Operation, request_digest
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest, operation_said
from veilmatch.server.bounds import AdmissionLimits
from veilmatch.server.ground.at_once import AtOnce
from veilmatch.server.ground.places import Places
from veilmatch.server.ground.request_id import about_request
from veilmatch.server.matcher.admission import Admission
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.turns import Turns
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.channels import Context, caller

#: One that is done, and one that follows at once.
_CHANGES_AT_ONCE = 2
#: How much longer than a query a change waits for its turn.
_CHANGE_PATIENCE = 3
#: How long a leader that is told to come later is heard first.
_NEXT_S = 0.25


class Met(NamedTuple):
    """The other matcher, about a request whose turn has come, and what was found right in it before it waited."""

    meeting: Meeting
    looked: CheckedRequest


class Entrance:
    """cores: of this machine. server: the name of this matcher, for errors."""

    def __init__(
        self, limits: AdmissionLimits, admission: Admission, meetings: Meetings, server: str, cores: int
    ) -> None:
        at_once, waiting = limits.resolved(cores)
        self._admission = admission
        self._meetings = meetings
        verifying = limits.verifying_at_once(cores)
        self._turns = Turns(at_once, waiting, limits.wait_s, server)
        self._verifications = Turns(verifying, waiting, limits.wait_s, server)
        change_wait_s = _CHANGE_PATIENCE * limits.wait_s
        self._changes = Turns(_CHANGES_AT_ONCE, waiting, change_wait_s, server)
        self._longest_wait_s = change_wait_s + limits.wait_s
        #: Requests under way that another matcher leads, by what `_lane` says.
        self._followed = {
            lane: AtOnce(most, server)
            for leader in meetings.leaders
            for lane, most in (
                (_lane(leader), limits.most_followed(cores)),
                (_lane(leader, verifies=True), limits.most_verifications_followed(cores)),
            )
        }
        # Requests that the leader is about to refuse come to the follower as well.
        self._unmet = Places((2 if meetings.leaders else 1) * (at_once + verifying + waiting), server)

    @property
    def turns(self) -> Mapping[str, Turns]:
        """Turns of verifications, of other queries, and of changes."""
        return {"verify": self._verifications, "query": self._turns, "change": self._changes}

    @property
    def followed(self) -> Mapping[str, AtOnce]:
        """What is under way of other matchers that lead, by their names; verifications apart."""
        return self._followed

    @asynccontextmanager
    async def meeting(
        self, request: request_pb2.SignedRequest, context: Context, *operations: Operation, changes: bool = False
    ) -> AsyncIterator[Met]:
        """Meet the other matcher about a request, and hold a turn for the body at the one that leads.

        changes: whether it changes a gallery. Raises OverloadedError, what `Admission.look` raises, and
        UnavailableError if the other matcher is not brought the request. One that is far from right by this clock, and
        that the other matcher takes, shows that a clock is wrong: WrongClockError, an alert here.
        """
        device, (said, operation) = _said(request, context), _said_pair(request)
        turns = self._turns_of(operation, changes=changes) if self._meetings.leads(said) else []
        async with AsyncExitStack() as stack:
            coming = stack.enter_context(ExitStack())
            for one in turns:
                coming.enter_context(one.coming(device))
            looked = await self._look(request, device, said, *operations)
            watch = calls.Stages()
            async with self._unmet.place(device):
                meeting = await stack.enter_async_context(
                    self._meetings.met(looked.digest, looked.pair, on_link=looked.operation in VERIFICATIONS)
                )
            watch.lap("meet")
            coming.close()
            for one in turns:
                await stack.enter_async_context(one.turn(device))
            await meeting.begin(self._longest_wait_s)
            watch.lap("turn")
            if not meeting.leads:
                stack.enter_context(await self._follow(meeting, device, verifies=looked.operation in VERIFICATIONS))
            yield Met(meeting, looked)

    def _turns_of(self, operation: str, *, changes: bool) -> list[Turns]:
        """Return what a request of this operation waits for, one after the other."""
        if operation in VERIFICATIONS:
            return [self._verifications]
        return [self._changes, self._turns] if changes else [self._turns]

    async def _look(
        self, request: request_pb2.SignedRequest, device: str, said: Pair, *operations: Operation
    ) -> CheckedRequest:
        """Return what is found right in a request before it waits. said: the pair that it names."""
        try:
            return self._admission.look(request, device, *operations)
        except RequestExpiredError as error:
            if said in self._meetings.pairs and self._admission.is_far(request, self._meetings.rendezvous.timeout_s):
                async with self._unmet.place(device):
                    await self._meetings.compare_clocks(request_digest(request.body), said, error)
            raise

    async def _follow(self, meeting: Meeting, device: str, *, verifies: bool) -> ExitStack:
        """Return a place among what is followed. Raises OverloadedError, which the leader hears, if there is none."""
        with ExitStack() as held:
            try:
                held.enter_context(self._followed[_lane(meeting.peer, verifies=verifies)].one(device))
            except OverloadedError:
                await _said_something(meeting)
                raise
            return held.pop_all()


def _lane(leader: str, *, verifies: bool = False) -> str:
    return f"{leader} verify" if verifies else leader


async def _said_something(meeting: Meeting) -> None:
    """Wait for what the leader says next: a call that ends while it sends would not tell it why."""
    with suppress(TimeoutError, VeilmatchError):
        async with asyncio.timeout(_NEXT_S):
            await meeting.receive("begin")


def _said(request: request_pb2.SignedRequest, context: Context) -> str:
    """Return the device that calls; from here on all that is logged of the call is about this request of it."""
    device = caller(context)
    about_request(request_digest(request.body), device[:60])
    return device


def _said_pair(request: request_pb2.SignedRequest) -> tuple[Pair, str]:
    """Return the pair and the operation that a request names, before anything of it is known to be right.

    Either may be none that there is.
    """
    try:
        body = request_pb2.RequestBody.FromString(request.body)
    except DecodeError:
        return cast(Pair, ""), ""
    # For a request that is told to come later, too.
    calls.about(operation := operation_said(body))
    return cast(Pair, body.pair), operation
