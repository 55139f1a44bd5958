"""A channel whose certificate can be renewed: calls that begin later go over a new connection, none is cut.

Stubs are made of it once and stay. A channel of gRPC has its credentials for life, so another one is dialled when the
files have been replaced; the old one is closed when the last call on it has ended. Whoever keeps a call without an
end, as the link between two servers is one, is told by its `Renewal`: that another call would go over a newer
connection, so that it begins nothing more on this one; and that it has to end it. gRPC does not say which certificate
the other end has shown, so when an authority is not trusted any more that the channel was made under, it may have been
one of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.x509 import Certificate

from veilmatch.common.watched import Watched
from veilmatch.crypto.errors import VeilmatchError

#: A channel, and the authorities whose servers it takes.
Dialled = tuple[grpc.aio.Channel, Collection[Certificate]]


@dataclass(frozen=True)
class Renewal:
    """What becomes of a connection. look: looks whether the files were replaced, if that was not done just now.

    replaced: set when calls that begin later go over another one. distrusted: set when an authority that it was made
    under is not trusted any more.
    """

    look: Callable[[], object] = lambda: None
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    distrusted: asyncio.Event = field(default_factory=asyncio.Event)


class _Line:
    """One channel, what was made of it, and how many calls are on it. trusted: the authorities it was made under."""

    def __init__(self, channel: grpc.aio.Channel, trusted: Collection[Certificate], look: Callable[[], object]) -> None:
        self.channel, self.trusted = channel, trusted
        self.renewal = Renewal(look)
        self.methods: dict[_Method, Any] = {}
        self.calls = 0
        self.is_old = False


class _Method:
    """What a stub calls: a method of whichever line is the newest."""

    def __init__(self, line: Callable[[], _Line], kind: str, path: str, options: dict[str, Any]) -> None:
        self._line, self._kind, self._path, self._options = line, kind, path, options

    def __call__(self, *args: Any, **options: Any) -> Any:
        line = self._line()
        method = line.methods.get(self)
        if method is None:
            method = line.methods[self] = getattr(line.channel, self._kind)(self._path, **self._options)
        call = method(*args, **options)
        line.calls += 1
        call.add_done_callback(lambda _: _ended(line))
        return call


class RenewedChannel(grpc.aio.Channel):
    """dial: makes a channel with the files as they are. files: what to look at before a call."""

    def __init__(self, dial: Callable[[], Dialled], files: Watched) -> None:
        self._dial = dial
        self._files = files
        self._newest = _Line(*dial(), self._line)
        #: Those before it that have calls.
        self._older: list[_Line] = []

    def renewal(self) -> Renewal:
        """Return what becomes of the connection of a call that has just begun."""
        return self._newest.renewal

    def _line(self) -> _Line:
        if self._files.changed():
            try:
                line = _Line(*self._dial(), self._line)
            except VeilmatchError:
                # Half of the files, maybe. The side that listens looks at the same ones, and says what is wrong.
                return self._newest
            old, self._newest = self._newest, line
            old.is_old = True
            old.renewal.replaced.set()
            _close_if_idle(old)
            self._older = [one for one in (*self._older, old) if one.calls]
            for one in self._older:
                if any(authority not in line.trusted for authority in one.trusted):
                    one.renewal.distrusted.set()
        return self._newest

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("stream_stream", method, args, options)

    def _method(self, kind: str, path: str, args: tuple[Any, ...], options: dict[str, Any]) -> _Method:
        names = ("request_serializer", "response_deserializer")
        return _Method(self._line, kind, path, dict(zip(names, args, strict=False)) | options)

    async def close(self, grace: float | None = None) -> None:
        """See grpc.aio.Channel."""
        await self._newest.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self._newest.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self._newest.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self._newest.channel.channel_ready()

    async def __aenter__(self) -> RenewedChannel:
        """See grpc.aio.Channel."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """See grpc.aio.Channel."""
        await self.close()


#: Channels that are being closed.
_closing: set[asyncio.Task[None]] = set()


def _ended(line: _Line) -> None:
    line.calls -= 1
    _close_if_idle(line)


def _close_if_idle(line: _Line) -> None:
    if line.is_old and not line.calls:
        closing = asyncio.ensure_future(line.channel.close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
