"""Where requests of devices come in: what they wait for before anything that costs is done for them.

A request goes to both matchers of its pair by its device. It waits, in a place for that, until the other matcher has
it too; the places are few and shared fairly (places.py), so a device that brings requests to one matcher alone fills
none that another device needs. Then, at the matcher that leads, it waits for its turn (turns.py), and the other matcher
is told when it has it. No nonce is noted and no budget charged for a request that gets none.

Changes are done one after the other anyway. So few are let in at once, in turns of their own: a query comes behind
two of them at most.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple, cast

from google.protobuf.message import DecodeError

from veilmatch.crypto.errors import RequestExpiredError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.requests import Operation, request_digest
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.config import AdmissionLimits
from veilmatch.server.ground.places import Places
from veilmatch.server.ground.request_id import about_request
from veilmatch.server.matcher.admission import Admission
from veilmatch.server.matcher.agreement.meeting import Meeting, Meetings
from veilmatch.server.matcher.turns import Turns
from veilmatch.server.transport.channels import Context, caller

#: One that is done, and one that follows at once.
_CHANGES_AT_ONCE = 2
#: How much longer than a query a change waits for its turn.
_CHANGE_PATIENCE = 3


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
        self._turns = Turns(at_once, waiting, limits.wait_s, server)
        change_wait_s = _CHANGE_PATIENCE * limits.wait_s
        self._changes = Turns(_CHANGES_AT_ONCE, waiting, change_wait_s, server)
        self._longest_wait_s = change_wait_s + limits.wait_s
        # Requests that the leader is about to refuse come to the follower as well.
        self._unmet = Places((2 if meetings.leaders else 1) * (at_once + waiting), server)

    @asynccontextmanager
    async def meeting(
        self, request: request_pb2.SignedRequest, context: Context, *operations: Operation, changes: bool = False
    ) -> AsyncIterator[Met]:
        """Meet the other matcher about a request, and hold a turn for the body at the one that leads.

        changes: whether it changes a gallery. Raises OverloadedError, what `Admission.look` raises, and
        UnavailableError if the other matcher is not brought the request. One that is far from right by this clock, and
        that the other matcher takes, shows that a clock is wrong: WrongClockError, an alert here.
        """
        device, said = _said(request, context), _said_pair(request)
        turns = [] if not self._meetings.leads(said) else [self._changes, self._turns] if changes else [self._turns]
        for one in turns:
            one.require_room(device)
        try:
            looked = self._admission.look(request, device, *operations)
        except RequestExpiredError as error:
            if said in self._meetings.pairs and self._admission.is_far(request, self._meetings.rendezvous.timeout_s):
                async with self._unmet.place(device):
                    await self._meetings.compare_clocks(request_digest(request.body), said, error)
            raise
        async with AsyncExitStack() as stack:
            async with self._unmet.place(device):
                meeting = await stack.enter_async_context(self._meetings.met(looked.digest, looked.pair))
            for one in turns:
                await stack.enter_async_context(one.turn(device))
            await meeting.begin(self._longest_wait_s)
            yield Met(meeting, looked)


def _said(request: request_pb2.SignedRequest, context: Context) -> str:
    """Return the device that calls; from here on all that is logged of the call is about this request of it."""
    device = caller(context)
    about_request(request_digest(request.body), device[:60])
    return device


def _said_pair(request: request_pb2.SignedRequest) -> Pair:
    """Return the pair that a request names, before anything of it is known to be right: it may be none."""
    try:
        return cast(Pair, request_pb2.RequestBody.FromString(request.body).pair)
    except DecodeError:
        return cast(Pair, "")
