"""The door of a daemon: nothing of a call is read before it is known who calls, and there is a place for its message.

For a method that takes one message gRPC would collect that message, as long as it is, before any code of ours runs: a
caller that leaves out the last byte holds it for ever, and so does one that nobody knows here. So the door offers every
such method to gRPC as one that takes a stream, which is the same on the wire, and reads its one message itself:

1. whoever may not call the service is refused, and so is who has too many calls at once, unread;
2. a message is read in one of a few places, a few for each caller, in a short time (`Gate`);
3. one that is larger than any of this service is refused before it is looked into.

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

from veilmatch.crypto.errors import InvalidInputError, OverloadedError, PartyRefusedError, UnavailableError
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.ground.places import Places
from veilmatch.server.transport.channels import Context, caller
from veilmatch.server.transport.limits import (
    CALLS_OF_DEVICE,
    CALLS_OF_PEER,
    PEER_MESSAGE_BYTES,
    READ_S,
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
    of a method that takes one. server: its name, for errors.
    """

    def __init__(
        self, require: Callable[[str], None], calls: int, reads: int, reads_each: int, message_bytes: int, server: str
    ) -> None:
        self._require = require
        self._calls = calls
        self._reads_each = reads_each
        self.message_bytes = message_bytes
        self._server = server
        self._in_progress: Counter[str] = Counter()
        #: For each caller that has a call in progress.
        self._turns_to_read: dict[str, asyncio.Semaphore] = {}
        self._places = Places(reads, server)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Count a call of this caller. Raises what `require` raises, and OverloadedError if it has too many."""
        self._require(name)
        if self._in_progress[name] >= self._calls:
            raise OverloadedError(
                f"{self._server} takes no more calls of {name[:60]} at once",
                got=self._calls + 1, expected=f"at most {self._calls}", party=self._server, retry_after_s=1.0,
            )  # fmt: skip
        self._in_progress[name] += 1
        try:
            yield
        finally:
            self._in_progress -= Counter({name: 1})
            if name not in self._in_progress:
                self._turns_to_read.pop(name, None)

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[None]:
        """Hold one of the places in which messages are read. Raises UnavailableError if it takes longer than READ_S,
        OverloadedError if others need the place.
        """
        turns = self._turns_to_read.setdefault(name, asyncio.Semaphore(self._reads_each))
        try:
            async with asyncio.timeout(READ_S):
                await turns.acquire()
            try:
                async with self._places.place(name, READ_S):
                    yield
            finally:
                turns.release()
        except TimeoutError:
            raise silent(name[:60], READ_S) from None


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
    """Return the gate of the health service, for whoever has a certificate."""
    return Gate(lambda _: None, CALLS_OF_DEVICE, READS_OF_STRANGERS, 1, _HEALTH_MESSAGE_BYTES, server)


class Door(grpc.aio.ServerInterceptor):
    """See the module. server: whose it is. gates: by the full name of the service; health needs none."""

    def __init__(self, server: Self, gates: Mapping[str, Gate]) -> None:
        self.server = server
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


def _entering(gate: Gate, name: str, streams: bool, deserialise: Callable[[bytes], Any] | None) -> Handler:
    """Return what lets a call in: it counts it, and returns its one message if it is no stream."""

    async def enter(_door: Door, held: ExitStack, context: Context) -> Any:
        who = caller(context)
        held.enter_context(gate.call(who))
        if streams:
            reading.set(partial(gate.reading, who))
            return None
        async with gate.reading(who):
            data = await context.read()
        if not isinstance(data, bytes):
            raise UnavailableError(f"{who[:60]} left before its request was complete", party=who[:60], needed=who[:60])
        if len(data) > gate.message_bytes:
            raise InvalidInputError(
                "a message larger than any of this kind", got=len(data), expected=f"<= {gate.message_bytes} bytes"
            )
        try:
            return deserialise(data) if deserialise else data
        except Exception:
            raise InvalidInputError("the message cannot be read", got=f"{len(data)} bytes", expected=name) from None

    enter.__name__ = name  # for the log
    return unary(enter)
