"""The hello of every call between two parties: metadata in which each end says what it speaks (crypto/versions.py).

    stub = MatcherPeerStub(speaking(channel, "matcher-a", "matcher-b"))

The calling end says its hello with the call. The called end has the last word on it before it reads anything
(server/transport/door.py), and says its own before it does anything. The calling end looks at that with the first
answer: a server of version 1 looks at no hello, and says none. Works with whatever gRPC gives, and does not import it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar, cast

from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.versions import HELLO_KEY, NEWEST, OLDEST, UNSAID, Feature, Hello, require_common

#: Anybody may ask for it, whatever both speak: that is how one finds out.
_HEALTH = "/grpc.health.v1.Health/"
C = TypeVar("C")
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@cache
def our_hello() -> Hello:
    """Return what this end says."""
    return Hello(NEWEST, OLDEST, version("veilmatch"), frozenset(Feature))


@cache
def our_metadata() -> tuple[tuple[str, str], ...]:
    """Return the same as metadata of a call."""
    return ((HELLO_KEY, our_hello().write()),)


def hello_in(metadata: Iterable[tuple[str, Any]] | None) -> Hello:
    """Return the hello in the metadata that a call, or its answer, began with. Raises ProtocolError if it is none."""
    said = [value for key, value in metadata or () if key == HELLO_KEY]
    if len(said) > 1:
        raise ProtocolError("a call with several hellos", got=len(said), expected="one at most")
    return Hello.read(said[0]) if said else UNSAID


def speaking(channel: C, name: str, other: str) -> C:
    """Return a channel for stubs whose calls say hello, and raise VersionError if the other end's does not go with it.

    name, other: of this end and of the other one, for that error.
    """
    return cast(C, _Speaking(channel, name, other))


class _Speaking:
    """See `speaking`."""

    def __init__(self, channel: Any, name: str, other: str) -> None:
        self._channel, self._name, self._other = channel, name, other

    def __getattr__(self, kind: str) -> Any:
        made = getattr(self._channel, kind)
        if kind not in _KINDS:
            return made

        def multi(path: str, *args: Any, **options: Any) -> Callable[..., Any]:
            method: Callable[..., Any] = made(path, *args, **options)
            answered = HeardStream if kind.endswith("_stream") else Heard
            return method if path.startswith(_HEALTH) else self._saying_hello(method, answered)

        return multi

    def _saying_hello(self, method: Callable[..., Any], answered: type[Heard]) -> Callable[..., Heard]:
        def call(*args: Any, metadata: Iterable[tuple[str, Any]] | None = None, **options: Any) -> Heard:
            began = method(*args, metadata=(*(metadata or ()), *our_metadata()), **options)
            return answered(began, self._name, self._other)

        return call


class Heard:
    """A call that looks at the other end's hello with its first answer; otherwise as gRPC gives it."""

    def __init__(self, call: Any, name: str, other: str) -> None:
        self._call, self._name, self._other = call, name, other
        self._is_heard = False
        #: What the other end speaks; UNSAID until it is known.
        self.theirs = UNSAID

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer(self._call).__await__()

    async def _answer(self, waited: Any) -> Any:
        if self._is_heard:
            return await waited
        try:
            answer = await waited
        except Exception as error:
            await self._hear_the_end(error)
            raise
        self._hear(await self._call.initial_metadata())
        return answer

    def write(self, message: Any) -> Awaitable[None]:
        """Send the next message, as gRPC does. Raises VersionError: a refusal may come before an answer."""
        written: Awaitable[None] = self._call.write(message)
        return written if self._is_heard else self._written(written)

    async def _written(self, written: Awaitable[None]) -> None:
        try:
            await written
        except Exception as error:
            await self._hear_the_end(error)
            raise

    async def _hear_the_end(self, error: Exception) -> None:
        # What gRPC says by itself is nobody's answer.
        said: Iterable[tuple[str, Any]] = getattr(error, "trailing_metadata", tuple)() or ()
        if any(key == ERROR_KEY for key, _ in said):
            # gRPC takes the beginning for empty if it learns of the end first; the end says it again.
            self._hear(await self._call.initial_metadata() or said)

    def _hear(self, metadata: Iterable[tuple[str, Any]] | None) -> None:
        try:
            self.theirs = hello_in(metadata)
        except ProtocolError as error:
            error.party = self._other
            raise
        require_common(self._name, our_hello(), self._other, self.theirs)
        self._is_heard = True


class HeardStream(Heard):
    """The same of a call with many answers."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        answers = aiter(self._call)
        first = await self._answer(anext(answers, None))
        if first is not None:
            yield first
            async for answer in answers:
                yield answer

    async def read(self) -> Any:
        """Return the next message, as gRPC does. Raises VersionError, ProtocolError for what is no hello."""
        return await self._answer(self._call.read())


def heard_from(call: Any) -> Hello:
    """Return what the other end of a call speaks, as far as it is known: UNSAID of one that gRPC gave."""
    return call.theirs if isinstance(call, Heard) else UNSAID
