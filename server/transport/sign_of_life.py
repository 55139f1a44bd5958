"""Signs of life of another daemon: whether one that owes a message is slow or gone.

A hung process keeps its connections, and a network that loses everything says nothing: both look like a message that
takes long. Whoever waits holds a gallery meanwhile, and so keeps it from a pair that could go on. So the other daemon
is asked how it is, on a connection of this side. One that says anything is slow, and waited for as before.

Whatever it says is a sign, about any request. So a daemon that serves many at once is asked only when it falls silent
about all of them, and then once for all who wait (`Signs`). One that gave no sign is asked on in the background, and
nobody else begins to wait for it until it gives one (`Lookout`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc

from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.ground.request_id import about_nothing

#: Who owes a message is asked when it has been silent for so long, again and again; and has so long for a sign.
ASK_AFTER_S, SIGN_S = 0.5, 2.0
#: Between two attempts to ask while there is no connection.
_CONNECT_AGAIN_S = 0.1
#: Asked by its name, of the daemon as a whole.
_HEALTH, _HOW_IS_ALL = "/grpc.health.v1.Health/Check", b""

_R = TypeVar("_R")
Sign: TypeAlias = Callable[[], Awaitable[bool]]
"""Returns False if a daemon had SIGN_S for a sign of life and gave none."""


class Signs:
    """The signs of life of one daemon, for all who wait for it.

    ask: asks it. now: a clock that never goes back. heard_at: when it last said something that this is not told of.
    """

    def __init__(
        self,
        ask: Sign,
        now: Callable[[], float] = time.monotonic,
        heard_at: Callable[[], float] = lambda: float("-inf"),
    ) -> None:
        self._ask = ask
        self._now = now
        self._elsewhere_at = heard_at
        self._heard_at = float("-inf")
        self._asking: asyncio.Task[bool] | None = None

    def heard(self) -> None:
        """Note that the daemon has just said something."""
        self._heard_at = self._now()

    @property
    def has_spoken(self) -> bool:
        """Whether it has said anything lately."""
        return self._now() - self._last_at() < ASK_AFTER_S

    async def given(self) -> bool:
        """Return whether it has said anything lately, or does so when it is asked."""
        if self.has_spoken:
            return True
        if self._asking is None or self._asking.done():
            self._asking = about_nothing(self._asked())
        # Others may wait for the same answer when this one is done, or come when this one has given up.
        return await asyncio.shield(self._asking)

    async def _asked(self) -> bool:
        began = self._now()
        if await self._ask():
            self.heard()
        return self._last_at() >= began

    def _last_at(self) -> float:
        return max(self._heard_at, self._elsewhere_at())

    def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()


class Lookout(Signs):
    """Signs of life of a daemon that is lost when it gave none as it was asked: it is asked on, until it gives one."""

    _looking: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody should begin to wait for it."""
        return self._looking is not None and not self._looking.done() and not self.has_spoken

    async def given(self) -> bool:
        """Return whether it gives a sign of life; of one that is lost nobody waits for another one."""
        return not self.is_lost and await super().given()

    async def _asked(self) -> bool:
        sign = await super()._asked()
        if not sign and not self.is_lost:
            self._looking = about_nothing(self._look())
        return sign

    async def _look(self) -> None:
        while not await super()._asked():
            await asyncio.sleep(_CONNECT_AGAIN_S)

    def close(self) -> None:
        """Ask no more, and look for it no more."""
        super().close()
        if self._looking is not None:
            self._looking.cancel()


def sign_over(channel: grpc.aio.Channel) -> Sign:
    """Return what asks the daemon at the other end of a channel.

    Who refuses is there. A connection that cannot be made, or that ends, is no sign: the daemon may be reached by
    another one within the time.
    """
    check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)

    async def gives_sign() -> bool:
        ends = time.monotonic() + SIGN_S
        while (left_s := ends - time.monotonic()) > 0:
            try:
                await check(_HOW_IS_ALL, timeout=left_s, wait_for_ready=True)
                return True
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return False
                if error.code() is not grpc.StatusCode.UNAVAILABLE or _is_said(error):
                    return True
            await asyncio.sleep(_CONNECT_AGAIN_S)
        return False

    return gives_sign


def _is_said(error: grpc.aio.AioRpcError) -> bool:
    """Whether an error came from the daemon, and not from the connection to it."""
    return any(key == ERROR_KEY for key, _ in error.trailing_metadata() or ())


@dataclass(frozen=True, slots=True)
class Owing:
    """Another server that owes messages.

    gives_sign: what asks it for a sign of life; None: it is waited for as long as it may take. heard: is told of what
    it says. alternatives: pairs that could serve without it, for the error that says it is down.
    """

    name: str
    alternatives: tuple[str, ...] = ()
    gives_sign: Sign | None = None
    heard: Callable[[], None] | None = None

    @staticmethod
    def with_signs(name: str, alternatives: tuple[str, ...], signs: Signs | None) -> Owing:
        """Return a server whose signs of life are these, if there are any."""
        return Owing(name, alternatives) if signs is None else Owing(name, alternatives, signs.given, signs.heard)

    async def says(self, owed: Coroutine[Any, Any, _R], within_s: float) -> _R:
        """Return the message that `owed` waits for, which is a sign of life. Raises as `pays` does."""
        message = await self.pays(owed, within_s)
        if self.heard is not None:
            self.heard()
        return message

    async def pays(self, owed: Coroutine[Any, Any, _R], within_s: float) -> _R:
        """Return what waits for the server. A gallery may be kept meanwhile, so one that is silent is not waited for.

        Raises UnavailableError if it takes longer, or gives no sign of life.
        """
        try:
            return await unless_silent(owed, self.gives_sign, within_s)
        except TimeoutError:
            raise self.missing() from None

    def missing(self) -> UnavailableError:
        """Return the error for one that is not waited for any more."""
        return UnavailableError(
            f"{self.name} does not answer", party=self.name, needed=self.name, alternatives=self.alternatives
        )


async def unless_silent(owed: Coroutine[Any, Any, _R], gives_sign: Sign | None, within_s: float) -> _R:
    """Return what `owed` returns, or raise its error; TimeoutError if that takes longer.

    TimeoutError as well once who owes it gives no sign of life. Costs one timer where nothing is silent: every message
    between servers is waited for like this.
    """
    async with asyncio.timeout(None) as limit:
        watch = _Watch(limit, gives_sign, within_s)
        # A limit leads to its task, and a task that is cancelled here keeps this frame, and all that it waited in.
        del limit
        try:
            return await owed
        finally:
            watch.end()


class _Watch:
    """Ends a wait that takes too long; and asks for signs of life meanwhile, and ends it when there is none."""

    def __init__(self, limit: asyncio.Timeout, gives_sign: Sign | None, within_s: float) -> None:
        self._limit: asyncio.Timeout | None = limit
        self._gives_sign = gives_sign
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        began = self._loop.time()
        self._ends = began + within_s
        first = self._ends if gives_sign is None else min(self._ends, began + ASK_AFTER_S)
        self._timer = self._loop.call_at(first, self._late)

    def end(self) -> None:
        self._timer.cancel()
        # Both lead back here, see `unless_silent`.
        self._limit, asking, self._asking = None, self._asking, None
        if asking is not None:
            asking.cancel()

    def _late(self) -> None:
        if self._limit is None:
            return
        self._limit.reschedule(self._ends)
        if self._gives_sign is not None and self._loop.time() < self._ends:
            self._asking = self._loop.create_task(self._until_silent(self._gives_sign))

    async def _until_silent(self, gives_sign: Sign) -> None:
        while await gives_sign():
            await asyncio.sleep(ASK_AFTER_S)
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._loop.time())
