"""The door of a daemon: nothing of a call is read before it is known who calls, and there is a place for its message.

For a method that takes one message gRPC would collect that message, as long as it is, before any code of ours runs: a
caller that leaves out the last byte holds it for ever, and so does one that nobody knows here. So the door offers every
such method to gRPC as one that takes a stream, which is the same on the wire, and reads its one message itself:

1. the daemon says which versions of the protocol it speaks (greeting.py);
2. whoever may not call the service is refused, and so are a certificate that is not good any more, and who has too many
   calls or connections at once, unread;
3. and so is who speaks none of these versions;
4. a message is read in one of a few places, a few for each caller, in a short time (`Gate`);
5. one that is larger than any of this service is refused before it is looked into.

Until it is read, gRPC holds 64 kB of a call at most (`limits.WINDOW_BYTES`). A stream reads its first message in such a
place as well (streams.first_message), and later ones as its handler asks for them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc

from veilmatch.crypto.errors import (
    InvalidInputError,
    OverloadedError,
    PartyRefusedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.server.bounds import USUAL
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.ground.places import Places
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.channels import Context, caller
from veilmatch.server.transport.connections import Caller, Connections
from veilmatch.server.transport.greeting import hear_hello, say_hello
from veilmatch.server.transport.identity import Identity
from veilmatch.server.transport.limits import (
    CALLS_OF_DEVICE,
    CALLS_OF_PEER,
    PEER_MESSAGE_BYTES,
    READS_EACH,
    READS_OF_DEVICES,
    READS_OF_STRANGERS,
)
from veilmatch.server.transport.status import unary
from veilmatch.server.transport.streams import reading, silent

#: The standard health service: anybody with a certificate may ask.
HEALTH = "grpc.health.v1.Health"
_HEALTH_MESSAGE_BYTES = 1 << 12

Handler = Callable[..., Any]


class Gate:
    """Who may call a service, and what is kept of their unfinished calls.

    require: raises the error of a caller that is not served, by its name. calls: of one caller at once.
    reads, reads_each: messages that are read at once, of all callers and of one. message_bytes: the largest message
    of a method that takes one. server: its name, for errors. greets: whether both say what they speak.
    """

    def __init__(
        self, require: Callable[[str], None], calls: int, reads: int, reads_each: int, message_bytes: int, server: str,
        *, greets: bool = True,
    ) -> None:  # fmt: skip
        self._require = require
        self._calls = calls
        self._reads_each = reads_each
        self.message_bytes = message_bytes
        self.greets = greets
        self._server = server
        self._in_progress: Counter[Caller] = Counter()
        #: For each caller that has a call in progress.
        self._turns_to_read: dict[Caller, asyncio.Semaphore] = {}
        self._places = Places(reads, server)

    @contextmanager
    def call(self, who: Caller) -> Iterator[None]:
        """Count a call of this caller. Raises what `require` raises, and OverloadedError if it has too many."""
        self._require(who.name)
        if self._in_progress[who] >= self._calls:
            raise OverloadedError(
                f"{self._server} takes no more calls of {who} at once",
                got=self._calls + 1, expected=f"at most {self._calls}", party=self._server, retry_after_s=1.0,
            )  # fmt: skip
        self._in_progress[who] += 1
        try:
            yield
        finally:
            self._in_progress -= Counter({who: 1})
            if who not in self._in_progress:
                self._turns_to_read.pop(who, None)

    @asynccontextmanager
    async def reading(self, who: Caller, within_s: float) -> AsyncIterator[None]:
        """Hold one of the places in which messages are read. Raises UnavailableError if it takes longer than within_s,
        OverloadedError if others need the place.
        """
        turns = self._turns_to_read.setdefault(who, asyncio.Semaphore(self._reads_each))
        try:
            async with asyncio.timeout(within_s):
                await turns.acquire()
            try:
                async with self._places.place(who, within_s):
                    yield
            finally:
                turns.release()
        except TimeoutError:
            raise silent(who.name[:60], within_s) from None


def peers_gate(server: str, *names: str) -> Gate:
    """Return the gate of a service for these servers alone."""

    def require(name: str) -> None:
        if name not in names:
            raise PartyRefusedError("not served here", got=name[:60], expected=" or ".join(names))

    return Gate(require, CALLS_OF_PEER, READS_EACH * len(names), READS_EACH, PEER_MESSAGE_BYTES, server)


def devices_gate(server: str, require: Callable[[str], None], message_bytes: int) -> Gate:
    """Return the gate of a service for devices. require: raises if one is not known here. The rest: see `Gate`."""
    return Gate(require, CALLS_OF_DEVICE, READS_OF_DEVICES, READS_EACH, message_bytes, server)


def health_gate(server: str) -> Gate:
    """Return the gate of the health service, for whoever has a certificate, and whatever it speaks."""
    return Gate(lambda _: None, CALLS_OF_DEVICE, READS_OF_STRANGERS, 1, _HEALTH_MESSAGE_BYTES, server, greets=False)


class Door(grpc.aio.ServerInterceptor):
    """See the module.

    server: whose it is. gates: by the full name of the service; health needs none. identity: whose certificates are
    good; None: whoever got through the handshake. connections: counts those of each caller; None: nobody does.
    """

    def __init__(
        self,
        server: Self,
        gates: Mapping[str, Gate],
        identity: Identity | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.server = server
        self.connections = connections
        #: How long the message of a call may take to arrive.
        self.read_s = (connections.limits if connections is not None else USUAL).read_s
        self.identity = identity
        self._gates = {HEALTH: health_gate(server.name), **gates}
        self._handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], handler_call_details: Any) -> Any:
        """Return how gRPC is to serve a call of this method; None if it is not offered here, and nothing is read."""
        method = handler_call_details.method
        if method not in self._handlers:
            gate, handler = self._gates.get(method.strip("/").split("/")[0]), await continuation(handler_call_details)
            if gate is None or handler is None:
                return None  # not kept: a caller may make names up without end
            self._handlers[method] = self._guarded(handler, gate, method.rsplit("/", 1)[-1])
        return self._handlers[method]

    def _guarded(self, handler: Any, gate: Gate, name: str) -> Any:
        inner: Handler = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if not (inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)):
            return None  # what a generated class stands in for a method that nobody has written
        enter = partial(_entering(gate, name, handler.request_streaming, handler.request_deserializer), self)

        async def call(requests: Any, context: Context) -> Any:
            with calls.call(name):
                if gate.greets:
                    await say_hello(context)
                async with self._good(name, context):
                    with ExitStack() as held:
                        only = await enter(held, context)
                        given = requests if handler.request_streaming else only
                        if inspect.iscoroutinefunction(inner):
                            return await inner(given, context)
                        async with aclosing(inner(given, context)) as answers:
                            async for answer in answers:
                                await context.write(answer)

        kind = "stream_stream" if handler.response_streaming else "stream_unary"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        # One message is read as it is, and looked into once its size is known to be right.
        deserializer = handler.request_deserializer if handler.request_streaming else None
        return make(call, request_deserializer=deserializer, response_serializer=handler.response_serializer)

    @asynccontextmanager
    async def _good(self, name: str, context: Context) -> AsyncIterator[None]:
        """Hold a call as long as its caller's certificate is good, and end it with the reason if it is not."""
        if self.identity is None:
            yield
            return
        try:
            async with self.identity.serving(context):
                yield
        except (PartyRefusedError, UnavailableError) as error:
            await _refusing(name)(self, error, context)


def _refusing(name: str) -> Handler:
    async def refuse(_door: Door, error: VeilmatchError, _context: Context) -> None:
        raise error

    refuse.__name__ = name  # for the log
    return unary(refuse)


def _entering(gate: Gate, method: str, streams: bool, deserialise: Callable[[bytes], Any] | None) -> Handler:
    """Return what lets a call in: it counts it, and returns its one message if it is no stream."""

    async def enter(door: Door, held: ExitStack, context: Context) -> Any:
        name = caller(context)
        who = Caller(name, "" if door.identity is None else door.identity.named_by(context))
        held.enter_context(gate.call(who))
        if door.connections is not None:
            held.enter_context(door.connections.call(context.peer(), who))
        if gate.greets:
            hear_hello(door.server.name, name, context)
        if streams:
            reading.set(partial(gate.reading, who, door.read_s))
            return None
        async with gate.reading(who, door.read_s):
            data = await context.read()
        if not isinstance(data, bytes):
            left = name[:60]
            raise UnavailableError(f"{left} left before its request was complete", party=left, needed=left)
        if len(data) > gate.message_bytes:
            raise InvalidInputError(
                "a message larger than any of this kind", got=len(data), expected=f"<= {gate.message_bytes} bytes"
            )
        try:
            return deserialise(data) if deserialise else data
        except Exception:
            raise InvalidInputError("the message cannot be read", got=f"{len(data)} bytes", expected=method) from None

    enter.__name__ = method  # for the log
    return unary(enter)
