"""The matchers as the SDK sees them, over mutual TLS.

`Matcher` is what the rest of the SDK calls: pass your own ones to `AsyncClient` to test without a
network. `open_matchers` makes the real ones. Whatever goes wrong leaves as a VeilmatchError.

A connection can die without a word: a firewall that forgets an idle flow, a machine that is suspended. Three things
find that out. Pings, while there are calls and for some minutes after the last one (`channel_options`). The kernel,
when what was sent is not acknowledged. And silence: where a call ends without a word of the matcher (lookout.py), or
another matcher says that this one is missing, the next call makes a new connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc

from veilmatch.client.wire.credentials import Credentials
from veilmatch.client.wire.health_check import said_over
from veilmatch.client.wire.processes import note_channel, require_own_grpc
from veilmatch.client.wire.statuses import error_of_status, sent_error
from veilmatch.common.speaking import speaking
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.versions import Hello
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2

if TYPE_CHECKING:
    from veilmatch.client.config import DeviceSettings

MIB = 1 << 20
#: One message of an answer. The subjects of a gallery come in as many as they take, of 4 MiB at most.
RECEIVE_BYTES = 16 * MIB
#: All messages of an answer together, and the subjects in them: with sixteen million they are no gallery's.
ANSWER_BYTES, SUBJECTS_MOST = 1 << 30, 1 << 24
#: A probe is 3 kB, a bulk pack with its records less than 2 MB.
SEND_BYTES = 4 * MIB
#: A connection is pinged when it has been quiet for so long; servers allow one a second.
PING_S = 20.0
#: How long a ping may go unanswered, and how long what was sent may go unacknowledged.
UNANSWERED_S = 5.0
#: A connection without calls is closed after this: no pings all night.
IDLE_S = 300.0
#: How long one attempt to connect may take, TLS included.
CONNECT_S = 5.0
#: A connection is not doubted for a call that ended sooner.
SILENCE_S = 1.0
#: The standard health service, which daemons have; asked by its name, for its messages come with an extra of servers.
_HEALTH = "/grpc.health.v1.Health/Check"
#: What it is asked, of the daemon as a whole, and what it answers while the daemon is ending.
_HOW_IS_ALL, _NOT_SERVING = b"", b"\x08\x02"
#: Ends of that call which are no answer of the daemon.
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
#: When a matcher that refuses a bulk enrolment by its header has mostly said so.
_REFUSED_S = 0.1
_LOOK_S = 0.02

_T = TypeVar("_T")
_M = TypeVar("_M", pb.MatchReply, pb.SubjectsReply)
ConnectionState: TypeAlias = Literal["up", "down", "new"]
"""new: in place of one that was silent, and not connected yet."""


class Matcher(Protocol):
    """One matcher. Every call ends within timeout_s and raises nothing but VeilmatchErrors."""

    @property
    def party(self) -> str:
        """The matcher's name: "matcher-a", "matcher-b" or "matcher-c"."""

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected, as far as this end knows."""

    async def connect(self, timeout_s: float) -> bool:
        """Connect if need be, trying again until timeout_s is over; return whether it is connected."""

    async def alive(self, timeout_s: float) -> bool:
        """Ask for a sign of life, connecting if need be; return whether one came. It says nothing about requests."""

    async def speaks(self, timeout_s: float) -> Hello | None:
        """Ask what it speaks, connecting if need be; return None if no answer came. It says nothing about requests."""

    def doubt(self) -> None:
        """Be told that this matcher is missed. If it was silent here as well, its connection is replaced."""

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        """verify, candidates and identify."""

    async def mutate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.MutateReply:
        """enrol and erase."""

    async def bulk_enrol(
        self, header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack], timeout_s: float
    ) -> pb.MutateReply:
        """Send the header, then the packs in order."""

    async def subjects(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.SubjectsReply:
        """Who is enrolled."""

    async def rotate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.RotateReply:
        """One step of a rotation."""

    async def budgets(self, timeout_s: float) -> pb.BudgetsReply:
        """What its organisation has counted of this device."""

    async def close(self) -> None:
        """Close the connection; calls under way end."""


class _Line:
    """One channel, its stub, and when the calls on it began."""

    def __init__(self, channel: grpc.aio.Channel, device: str, party: str, *, replaces_another: bool = False) -> None:
        self.channel = note_channel(channel)
        self.stub = rpc.MatcherStub(speaking(channel, device, party))
        self.calls: list[float] = []
        self.fresh = replaces_another
        #: Of the last call that has ended.
        self.was_silent = False
        #: When there was a sign of life.
        self.heard = float("-inf")

    @property
    def silent(self) -> bool:
        """Whether the last call, or one that goes on, has heard nothing for a while."""
        return self.was_silent or any(self.quiet_s(began) >= SILENCE_S for began in self.calls)

    def quiet_s(self, began: float) -> float:
        """Return for how long nothing was heard, if a call began then."""
        return time.monotonic() - max(began, self.heard)


class GrpcMatcher:
    """A matcher at the other end of a channel.

    dial: makes one; the channels belong to this object. address: where it dials, for errors. version: of what is shown
    there; when it is another one, the next call goes over a new channel, and calls under way go on. device: the name
    of this end.
    """

    def __init__(
        self, party: str, dial: Callable[[], grpc.aio.Channel], address: str, version: Callable[[], int] = lambda: 1,
        device: str = "this device",
    ) -> None:  # fmt: skip
        self.party = party
        self._device = device
        self._address = address
        self._dial = dial
        self._version = version
        self._dialled_with = version()
        self._line: _Line | None = self._dialled()
        self._known = False

    @property
    def state(self) -> ConnectionState:
        """See Matcher."""
        line = self._line
        if line is not None and line.channel.get_state() is grpc.ChannelConnectivity.READY:
            line.fresh = False
            return "up"
        return "new" if line is not None and line.fresh else "down"

    async def connect(self, timeout_s: float) -> bool:
        """See Matcher."""
        ends = time.monotonic() + timeout_s
        while (line := self._line) is not None:
            if line.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return True
            if time.monotonic() >= ends:
                break
            await asyncio.sleep(_LOOK_S)
        return False

    async def alive(self, timeout_s: float) -> bool:
        """See Matcher."""
        started = time.monotonic()
        if not await self.connect(timeout_s) or (line := self._line) is None:
            return False
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = line.channel.unary_unary(_HEALTH)
        left_s = max(_LOOK_S, started + timeout_s - time.monotonic())
        try:
            answered = bool(await check(_HOW_IS_ALL, timeout=left_s) != _NOT_SERVING)
        except grpc.aio.AioRpcError as error:
            # Who refuses, or does not know the question, is there.
            answered = error.code() not in _NO_ANSWER
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError):
            answered = False
        if answered:
            line.heard, line.was_silent = time.monotonic(), False
        elif time.monotonic() - started >= SILENCE_S:
            line.was_silent = True
        return answered

    async def speaks(self, timeout_s: float) -> Hello | None:
        """See Matcher."""
        started = time.monotonic()
        if not await self.connect(timeout_s) or (line := self._line) is None:
            return None
        said = await said_over(line.channel, max(_LOOK_S, started + timeout_s - time.monotonic()))
        return None if said is None else said.speaks

    def doubt(self) -> None:
        """See Matcher."""
        # Of a connection that has ended gRPC knows, and makes another as soon as there is somebody to connect to.
        if self._line is not None and self._line.silent and self.state == "up":
            self._line = self._dialled(replaces_another=True)

    def _dialled(self, *, replaces_another: bool = False) -> _Line:
        return _Line(self._dial(), self._device, self.party, replaces_another=replaces_another)

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        """See Matcher."""
        return await self._call(lambda stub: _whole(stub.Match(request, timeout=timeout_s), "labels"), timeout_s)

    async def mutate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.MutateReply:
        """See Matcher."""
        return await self._call(lambda stub: stub.Mutate(request, timeout=timeout_s), timeout_s)

    async def bulk_enrol(
        self, header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack], timeout_s: float
    ) -> pb.MutateReply:
        """See Matcher."""
        return await self._call(lambda stub: stub.BulkEnrol(_chunks(header, packs), timeout=timeout_s), timeout_s)

    async def subjects(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.SubjectsReply:
        """See Matcher."""
        more = "templates" if request_pb2.RequestBody.FromString(request.body).details else "subjects"
        return await self._call(lambda stub: _whole(stub.Subjects(request, timeout=timeout_s), more), timeout_s)

    async def rotate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.RotateReply:
        """See Matcher."""
        return await self._call(lambda stub: stub.Rotate(request, timeout=timeout_s), timeout_s)

    async def budgets(self, timeout_s: float) -> pb.BudgetsReply:
        """See Matcher."""
        return await self._call(lambda stub: stub.Budgets(pb.BudgetsQuestion(), timeout=timeout_s), timeout_s)

    async def close(self) -> None:
        """See Matcher."""
        line, self._line = self._line, None
        if line is not None:
            await line.channel.close()

    async def _call(self, ask: Callable[[rpc.MatcherAsyncStub], Awaitable[_T]], timeout_s: float) -> _T:
        await self._follow()
        line, started = self._line, time.monotonic()
        if line is None:
            raise IntegrityError(f"the connection to {self.party} is closed")
        line.calls.append(started)
        heard = False
        failure: BaseException
        try:
            answer = await ask(line.stub)
            heard = self._known = True
            return answer
        except grpc.aio.AioRpcError as error:
            failure, heard = self._told(error, timeout_s)
        except VeilmatchError as error:  # what the matcher says that it speaks does not go with this end
            failure, heard = error.with_traceback(None), True
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
            failure = IntegrityError(f"the call to {self.party} failed", got=type(error).__name__)
        except asyncio.CancelledError:
            # A task that was cancelled keeps its error, too.
            failure = asyncio.CancelledError()
        finally:
            line.calls.remove(started)
            lasted_s = time.monotonic() - started
            line.was_silent = not heard and line.quiet_s(started) >= SILENCE_S
            if line is self._line and lasted_s >= timeout_s - _LOOK_S:
                self.doubt()
            if line is not self._line and not line.calls:
                await line.channel.close()
        # Not from within the handler: an error that is kept must not keep gRPC's objects (processes.py).
        del line, ask
        raise failure

    async def _follow(self) -> None:
        """Dial again if what this end shows was renewed. The last call on the old channel closes it."""
        line = self._line
        if line is not None and (version := self._version()) != self._dialled_with:
            self._dialled_with, self._line = version, self._dialled(replaces_another=True)
            if not line.calls:
                await line.channel.close()

    def _told(self, error: grpc.aio.AioRpcError, timeout_s: float) -> tuple[VeilmatchError, bool]:
        """Return what the call ended with, and whether the matcher has said anything."""
        sent = sent_error(error, self.party)
        if sent is None:
            # An end of the connection is no silence: gRPC knows about it, and connects again by itself.
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            told = error_of_status(error, self.party, known=self._known, address=self._address, timeout_s=timeout_s)
            return told, not silent
        self._known = True
        return sent, True


def organisation_of(matcher: Matcher) -> Party:
    """Return the organisation whose matcher this is. Raises ConfigurationError if its name is none of a matcher."""
    found = [party for party in PARTIES if matcher.party == f"matcher-{party}"]
    if not found:
        raise ConfigurationError("not the name of a matcher", got=matcher.party, expected="matcher-a, -b or -c")
    return found[0]


def open_matchers(settings: DeviceSettings) -> dict[Party, Matcher]:
    """Return the matcher of each organisation that the settings name one of; connections are made on the first call.

    They belong to the running event loop. Raises what `dials` raises.
    """
    return {
        party: GrpcMatcher(f"matcher-{party}", dialled.dial, settings.matchers[party], dialled.version, settings.device)
        for party, dialled in dials(settings).items()
    }


class Dialled(NamedTuple):
    """How one matcher is reached: `dial` makes a channel with the TLS files as they are, of this `version`."""

    dial: Callable[[], grpc.aio.Channel]
    version: Callable[[], int]


def dials(settings: DeviceSettings) -> dict[Party, Dialled]:
    """Return how the matcher of each organisation that the settings name one of is reached.

    They follow the TLS files when these are replaced. Raises what `Credentials` raises, ClientUseError in a process
    that was forked while a client was open.
    """
    require_own_grpc()
    credentials = Credentials(settings.tls)

    def dialled(party: Party, address: str) -> Dialled:
        # Each matcher has to show the certificate of its own name: the same server twice is no pair.
        name = f"matcher-{party}"
        options = channel_options(name, settings.proxy)
        return Dialled(
            lambda: grpc.aio.secure_channel(address, credentials.for_server(name), options=options), credentials.version
        )

    return {party: dialled(party, settings.matchers[party]) for party in PARTIES if party in settings.matchers}


def channel_options(party: str, proxy: Literal["none", "environment"] = "none") -> list[tuple[str, int | str]]:
    """Return the gRPC options of a channel to `party`. proxy: see DeviceSettings."""
    return [
        ("grpc.ssl_target_name_override", party),
        ("grpc.max_receive_message_length", RECEIVE_BYTES),
        ("grpc.max_send_message_length", SEND_BYTES),
        ("grpc.enable_http_proxy", int(proxy == "environment")),
        ("grpc.keepalive_time_ms", round(PING_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(UNANSWERED_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.ping_timeout_ms", round(UNANSWERED_S * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.client_idle_timeout_ms", round(IDLE_S * 1000)),
        # Or a new channel would be given the dead connection of the one that it replaces.
        ("grpc.use_local_subchannel_pool", 1),
        # The SDK itself decides what is repeated, with a fresh nonce.
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        # By its name the shortest pause; it is the longest attempt as well.
        ("grpc.min_reconnect_backoff_ms", round(CONNECT_S * 1000)),
    ]


async def _chunks(header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack]) -> AsyncIterator[pb.BulkChunk]:
    yield pb.BulkChunk(header=header)
    # A refusal comes now, and gRPC forgets the reason of a call that ends in the middle of a write.
    await asyncio.sleep(_REFUSED_S)
    for pack in packs:
        yield pb.BulkChunk(pack=pack)


async def _whole(call: grpc.aio.UnaryStreamCall[Any, _M], more: str) -> _M:
    """Return the first message of an answer with what the others have more of. more: that field.

    Raises IntegrityError if there is none, if they have anything else, or more than any gallery has.
    """
    whole: _M | None = None
    size = 0
    try:
        async for part in call:
            size += part.ByteSize()
            if whole is None:
                whole = part
            elif [field.name for field, _ in part.ListFields()] != [more]:
                raise IntegrityError("an answer that goes on with something else", expected=more)
            else:
                getattr(whole, more).extend(getattr(part, more))
            if size > ANSWER_BYTES or len(getattr(whole, more)) > SUBJECTS_MOST:
                raise IntegrityError("more subjects than any gallery has", got=f"{size} bytes")
    finally:
        call.cancel()
    if whole is None:
        raise IntegrityError("an answer without a message")
    return whole
