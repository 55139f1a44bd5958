"""The ends of the links between two servers: one calls when it needs a link, and the newest call is their link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeAlias

import grpc

from veilmatch.common.speaking import heard_from
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.server.ground.request_id import about_nothing
from veilmatch.server.transport.greeting import spoken
from veilmatch.server.transport.links import ended_with
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.standing.kinds import H, Kind, S
from veilmatch.server.transport.standing.link import StandingLink, Stream
from veilmatch.server.transport.standing.strand import OtherEnd, Strand, Why

_NEVER = float("-inf")
#: For how long sessions may go on with somebody who is not trusted any more.
_LAST_S = 2.0
#: See Calling.
Renewed: TypeAlias = Callable[[], Renewal]


class Calling(Generic[S, H]):
    """The end that calls, and opens sessions. server: the name of this end, for errors. call: begins a call.

    renewed: returns what becomes of the connection of the call that has just begun. When it is replaced, sessions that
    begin later go on another link, and this one ends with its last session; if it is distrusted, _LAST_S later.
    """

    def __init__(
        self,
        kind: Kind[S, H],
        server: str,
        other: OtherEnd,
        call: Callable[[], Any],
        renewed: Renewed = Renewal,
    ) -> None:
        self._kind, self._server, self._other = kind, server, other
        self._call, self._renewed = call, renewed
        self._link: StandingLink[S, H] | None = None
        self._renewal = Renewal()
        #: What keeps the link, and one that was lost.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def heard_at(self) -> float:
        """When the other end said something last, by `time.monotonic`."""
        return _NEVER if self._link is None else self._link.heard_at

    def link(self) -> StandingLink[S, H]:
        """Return the link, called for if there is none."""
        self._renewal.look()
        if self._link is None or self._link.is_lost or self._renewal.replaced.is_set():
            self._renewal = Renewal()
            self._link = StandingLink(self._kind, self._server, self._other)
            # It outlives the request that it was called for.
            task = about_nothing(self._keep(self._link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._link

    async def _keep(self, link: StandingLink[S, H]) -> None:
        """Call the other end, and carry sessions on that call until it ends, or may be with somebody else."""
        call, why = self._call(), self._other.left
        link.theirs = partial(heard_from, call)
        renewal = self._renewed()
        if self._link is link:
            self._renewal = renewal
        leaving = [asyncio.ensure_future(one) for one in (_stop_when(renewal, link), _close_when(renewal, link))]
        try:
            await link.carry(call)
            call.cancel()
            if renewal.distrusted.is_set():
                why = partial(_distrusted, self._other)
            else:
                why = self._ended_with(await call.code(), await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            why = self._ended_with(error.code(), error.trailing_metadata())
        except VeilmatchError as error:
            why = partial(VeilmatchError.from_fields, error.fields())
        finally:
            for one in leaving:
                one.cancel()
            link.lose(why)
            call.cancel()

    def _ended_with(self, code: Any, metadata: Any) -> Why:
        other = self._other
        return partial(ended_with, code, metadata, other.name, other.alternatives, other.others)

    def close(self) -> None:
        """Carry nothing any more."""
        for task in self._tasks:
            task.cancel()


class Called(Generic[S, H]):
    """The end that is called. offer: takes in a session that the other end has opened, or raises why not."""

    def __init__(self, kind: Kind[S, H], server: str, other: OtherEnd, offer: Callable[[Strand[S, H]], None]) -> None:
        self._kind, self._server, self._other, self._offer = kind, server, other, offer
        #: That of the newest call.
        self.link: StandingLink[S, H] | None = None
        #: That of the call before, whose sessions may end.
        self._before: StandingLink[S, H] | None = None

    @property
    def heard_at(self) -> float:
        """When the other end said something last, by `time.monotonic`."""
        return _NEVER if self.link is None else self.link.heard_at

    async def carry(self, stream: Stream, first: Any) -> None:
        """Carry the sessions that the other end opens on its call, until that ends; `first` has come on it.

        Its newest call is its link: an honest one has lost the one before, or ends it with the sessions that are on it.
        Raises ProtocolError if it deviates.
        """
        theirs = spoken.get()
        link = StandingLink(self._kind, self._server, self._other, self._offer, lambda: theirs)
        if self._before is not None:
            self._before.close()
        self._before = link.before = self.link
        self.link = link
        try:
            await link.carry(stream, first)
        finally:
            link.lose(self._other.left)
            link.before = None
            if self.link is link:
                self.link = None
            if self._before is link:
                self._before = None

    def stop(self) -> None:
        """Take no new sessions; those under way may end."""
        for link in (self.link, self._before):
            if link is not None:
                link.stop()

    def close(self) -> None:
        """Carry nothing any more."""
        for link in (self.link, self._before):
            if link is not None:
                link.close()


async def _stop_when(renewal: Renewal, link: StandingLink[Any, Any]) -> None:
    await renewal.replaced.wait()
    link.stop()


async def _close_when(renewal: Renewal, link: StandingLink[Any, Any]) -> None:
    await renewal.distrusted.wait()
    # Nothing begins on it any more, and most probably it is with whom it was: what is under way may come to its end.
    await asyncio.sleep(_LAST_S)
    link.close()


def _distrusted(other: OtherEnd) -> VeilmatchError:
    return UnavailableError(
        f"the link to {other.name} was ended: it was made under an authority that is not trusted any more",
        party=other.name, needed="another one", alternatives=other.alternatives,
    )  # fmt: skip


@asynccontextmanager
async def ending(strand: Strand[Any, Any]) -> AsyncIterator[None]:
    """Say how a session ends that has the block."""
    try:
        yield
    except VeilmatchError as error:
        strand.end(error)
        raise
    except BaseException:
        strand.abandon()
        raise
    strand.end(None)
