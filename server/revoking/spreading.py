"""How revocation lists come to all servers: each asks those that it calls anyway, and gives them what they lack.

A matcher calls the other matchers and its organisation's key holder, a key holder the other key holders. They compare
when they start, every few seconds, and as soon as there is a new list: so a list that an operator has put into one
folder is everywhere a moment later. What comes is checked as what is on disk is, so nobody has to be trusted with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import grpc
import structlog

from veilmatch.common.watched import LOOK_S
from veilmatch.crypto.errors import ProtocolError, RevocationListError, VeilmatchError
from veilmatch.crypto.keys.revocation_list import ID_BYTES, RevocationList
from veilmatch.protos.v1 import revocation_pb2 as pb
from veilmatch.protos.v1 import revocation_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self, described, level_of
from veilmatch.server.revoking.lists import RevocationLists
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.status import from_rpc, retried, unary

SERVICE = "veilmatch.v1.Revocations"
#: How often servers compare what they hold while nothing is new.
COMPARE_S = 10.0
_CALL_S = 5.0
#: Below what a server takes of devices in one message, as a matcher listens for both.
_MESSAGE_BYTES = 3 << 20
#: More lists than three organisations can have are not looked at.
_MOST = 64
#: To hear what the other one has, to give what it lacks, and once more for what came meanwhile.
_ROUNDS = 3

_log = structlog.get_logger(__name__)


class RevocationService(rpc.RevocationsServicer):
    """For the servers that the door lets in."""

    def __init__(self, server: Self, spreading: Spreading) -> None:
        self.server = server
        self._spreading = spreading

    @unary
    @retried
    async def Spread(self, request: pb.RevocationLists, context: Context) -> pb.RevocationLists:
        """See revocation.proto."""
        await self._spreading.take_in(request.lists)
        return self._spreading.for_one_that_has(_ids(request.held))


class Spreading:
    """What one server does for the spread of lists. server: its name. stubs: of the servers that it calls, by name."""

    def __init__(self, server: Self, lists: RevocationLists, stubs: Mapping[str, rpc.RevocationsAsyncStub]) -> None:
        self._server = server
        self._lists = lists
        self._stubs = stubs
        #: For each server that is called: there is something new to tell it.
        self._news = {name: asyncio.Event() for name in stubs}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the folder, and tell and ask the others, while the body runs."""
        tasks = [
            asyncio.ensure_future(self._follow()),
            *(asyncio.ensure_future(self._keep(one)) for one in self._stubs),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def take_in(self, files: Iterable[bytes]) -> None:
        """Take in what another server gives. Raises RevocationListError for what is no list of organisations here."""
        wrong: RevocationListError | None = None
        for data in list(files)[:_MOST]:
            try:
                if await asyncio.to_thread(self._take_in, data):
                    self._tell()
            except RevocationListError as error:
                wrong = error  # the others may be right
        if wrong is not None:
            raise wrong

    def for_one_that_has(self, held: frozenset[bytes]) -> pb.RevocationLists:
        """Return what is held here, and as much of it as one message takes of what is not held there."""
        message, room = pb.RevocationLists(), _MESSAGE_BYTES
        for id_, one in self._lists.held.items():
            message.held.append(id_)
            if id_ not in held and len(data := one.encode()) <= room:
                message.lists.append(data)
                room -= len(data)
        return message

    async def compare(self, name: str) -> None:
        """Compare with one other server, until neither lacks what the other one has.

        Raises ProtocolError or RevocationListError if what it says cannot be; what a call raises.
        """
        theirs: frozenset[bytes] | None = None
        for _ in range(_ROUNDS):
            # Before it is known what the other one has, nothing is sent.
            message = self.for_one_that_has(theirs if theirs is not None else _all(self._lists))
            try:
                reply = await self._stubs[name].Spread(message, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return  # a server of before
                raise from_rpc(error, name) from None
            before, theirs = theirs, _ids(reply.held)
            await self.take_in(reply.lists)
            # What it would not take it is not given again and again.
            if theirs == before or not _all(self._lists) - theirs:
                return

    def _take_in(self, data: bytes) -> bool:
        return self._lists.take_in(RevocationList.decode(data))

    def _tell(self) -> None:
        for event in self._news.values():
            event.set()

    async def _follow(self) -> None:
        known = self._lists.lists
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self._lists.look)
            if self._lists.lists != known:
                known = self._lists.lists
                self._tell()

    async def _keep(self, name: str) -> None:
        failure, news = "", self._news[name]
        while True:
            news.clear()
            try:
                await self.compare(name)
                failure = ""
            except Exception as error:
                code, reason = described(error)
                if code != failure:
                    wrong = isinstance(error, RevocationListError) or not isinstance(error, VeilmatchError)
                    level = logging.ERROR if wrong else level_of(error, logging.INFO)
                    _log.log(level, "revocation lists not compared", server=name, code=code, reason=reason)
                failure = code
            try:
                async with asyncio.timeout(COMPARE_S):
                    await news.wait()
            except TimeoutError:
                continue


def _all(lists: RevocationLists) -> frozenset[bytes]:
    return frozenset(lists.held)


def _ids(held: Iterable[bytes]) -> frozenset[bytes]:
    found = list(held)
    if len(found) > _MOST or any(len(one) != ID_BYTES for one in found):
        raise ProtocolError("not the ids of revocation lists", got=len(found), expected=f"{_MOST} at most")
    return frozenset(found)
