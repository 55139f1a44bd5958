"""Who owes a message is waited for while it gives signs of life, and no longer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.transport import sign_of_life
from veilmatch.server.transport.sign_of_life import Lookout, Owing, Signs, sign_over, unless_silent
from veilmatch.server.transport.status import abort


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_of_life, "ASK_AFTER_S", 0.01)


async def owed(after_s: float) -> str:
    await asyncio.sleep(after_s)
    return "message"


async def test_who_is_slow_and_gives_signs_is_waited_for() -> None:
    asked = 0

    async def sign() -> bool:
        nonlocal asked
        asked += 1
        return True

    assert await unless_silent(owed(0.2), sign, 60) == "message"
    assert asked > 1


async def test_who_gives_no_sign_is_left() -> None:
    async def no_sign() -> bool:
        await asyncio.sleep(0.05)
        return False

    with pytest.raises(TimeoutError):
        await unless_silent(owed(60), no_sign, 60)


async def test_a_message_that_comes_before_the_sign_is_taken() -> None:
    async def never() -> bool:
        await asyncio.sleep(60)
        return False

    assert await unless_silent(owed(0.1), never, 60) == "message"


async def test_a_wait_in_which_somebody_was_asked_leaves_no_garbage() -> None:
    """What leads back to itself stays until Python looks for it, and with it what the request held."""

    class Request:
        async def sign(self) -> bool:
            return True

    request = Request()
    gone = weakref.ref(request)

    gc.disable()
    try:
        assert await unless_silent(owed(0.1), request.sign, 60) == "message"
        del request
        await asyncio.sleep(0.05)  # the task that asks ends
        assert gone() is None
    finally:
        gc.enable()


async def test_a_wait_that_is_cancelled_leaves_no_garbage() -> None:
    class Request:
        async def answered(self) -> None:
            await asyncio.sleep(60)

    request = Request()
    gone = weakref.ref(request)
    gc.disable()
    try:
        waiting = asyncio.create_task(unless_silent(request.answered(), None, 60))
        del request
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        del waiting
        assert gone() is None
    finally:
        gc.enable()


async def test_nobody_who_is_quick_is_asked() -> None:
    async def never() -> bool:
        raise AssertionError("asked")

    assert await unless_silent(owed(0), never, 60) == "message"


async def test_the_error_of_what_is_owed_is_raised() -> None:
    async def fails() -> str:
        await asyncio.sleep(0.03)
        raise ValueError("of the link")

    async def sign() -> bool:
        return True

    with pytest.raises(ValueError, match="of the link"):
        await unless_silent(fails(), sign, 60)


@pytest.mark.parametrize("asked", [True, False])
async def test_who_takes_too_long_is_left_whatever_signs_it_gives(asked: bool) -> None:
    async def sign() -> bool:
        return True

    with pytest.raises(TimeoutError):
        await unless_silent(owed(60), sign if asked else None, 0.1)


async def test_nothing_is_waited_for_once_the_time_is_over() -> None:
    with pytest.raises(TimeoutError):
        await unless_silent(owed(60), None, -1.0)
    assert await unless_silent(at_hand(), None, -1.0) == "message", "what is there is taken"


async def at_hand() -> str:
    return "message"


async def test_whoever_owes_is_named_with_those_that_do_without_it() -> None:
    server = Owing("keyholder-b", ("ac",))
    assert await server.pays(owed(0), 60) == "message"
    with pytest.raises(UnavailableError, match="keyholder-b does not answer") as caught:
        await server.pays(owed(60), 0.05)
    assert (caught.value.party, caught.value.needed, caught.value.alternatives) == (
        "keyholder-b", "keyholder-b", ("ac",),
    )  # fmt: skip


# -- for all who wait ------------------------------------------------------------------------------


class Daemon:
    """Counts how often it is asked for a sign of life; gives what `lives` says after a while."""

    def __init__(self, *, lives: bool = True, takes_s: float = 0.05) -> None:
        self.lives, self.takes_s, self.asked = lives, takes_s, 0
        self.signs = Signs(self.ask)

    async def ask(self) -> bool:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        return self.lives


async def test_all_who_wait_for_a_daemon_ask_it_once() -> None:
    daemon = Daemon()
    assert await asyncio.gather(*(daemon.signs.given() for _ in range(20))) == [True] * 20
    assert daemon.asked == 1


async def test_a_daemon_that_has_just_said_something_is_not_asked() -> None:
    daemon = Daemon(lives=False)
    owing = Owing.with_signs("matcher-b", ("ac",), daemon.signs)
    await owing.says(owed(0), 60)
    assert await daemon.signs.given() and daemon.asked == 0
    await asyncio.sleep(0.02)
    assert not await daemon.signs.given() and daemon.asked == 1


async def test_what_only_goes_out_to_a_daemon_is_no_sign_of_it() -> None:
    daemon = Daemon(lives=False)
    await Owing.with_signs("matcher-b", ("ac",), daemon.signs).pays(owed(0), 60)
    assert not await daemon.signs.given()


async def test_a_daemon_that_says_something_while_it_is_asked_is_there() -> None:
    daemon = Daemon(lives=False)
    given = asyncio.ensure_future(daemon.signs.given())
    await asyncio.sleep(0.02)
    daemon.signs.heard()
    assert await given


async def test_who_gives_up_leaves_the_question_to_the_others() -> None:
    daemon = Daemon()
    first, second = (asyncio.ensure_future(daemon.signs.given()) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second and first.cancelled() and daemon.asked == 1


async def test_a_daemon_that_falls_silent_about_all_is_left_by_all() -> None:
    daemon = Daemon(lives=False, takes_s=0.5)  # long enough for all to join, on a busy machine too
    owing = Owing.with_signs("matcher-b", ("ac",), daemon.signs)
    await owing.says(owed(0), 60)
    waiting = [asyncio.ensure_future(owing.says(owed(60), 60)) for _ in range(5)]
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 5 and daemon.asked == 1


# -- one that was lost -----------------------------------------------------------------------------


async def test_a_daemon_that_gave_no_sign_is_lost_until_it_gives_one() -> None:
    daemon = Daemon(lives=False)
    lookout = Lookout(daemon.ask)
    assert not lookout.is_lost
    assert not await lookout.given() and lookout.is_lost
    await asyncio.sleep(0.3)
    assert lookout.is_lost and daemon.asked > 1, "it is asked on"
    daemon.lives = True
    while lookout.is_lost:
        await asyncio.sleep(0.01)
    assert await lookout.given()


async def test_who_waits_no_longer_leaves_the_question_to_those_who_come() -> None:
    """Who waits for a message has a limit of its own, which may end before the other one has had its time."""
    daemon = Daemon(lives=False, takes_s=0.2)
    lookout = Lookout(daemon.ask)
    with pytest.raises(UnavailableError):
        await Owing("keyholder-c", ("ab",), lookout.given).pays(owed(60), 0.1)
    assert not lookout.is_lost
    await asyncio.sleep(0.2)
    assert lookout.is_lost


async def test_of_one_that_is_lost_nobody_waits_for_another_sign() -> None:
    daemon = Daemon(lives=False)
    lookout = Lookout(daemon.ask)
    assert not await lookout.given()
    daemon.takes_s = 60.0
    await asyncio.sleep(0.2)
    async with asyncio.timeout(5):
        assert not await lookout.given()


async def test_one_that_speaks_of_itself_is_not_lost_and_not_asked() -> None:
    daemon, heard_at = Daemon(lives=False), float("-inf")
    lookout = Lookout(daemon.ask, heard_at=lambda: heard_at)
    assert not await lookout.given() and lookout.is_lost
    heard_at = float("inf")
    assert not lookout.is_lost and await lookout.given()
    await asyncio.sleep(0.2)
    asked = daemon.asked
    assert await lookout.given() and daemon.asked == asked, "and it is looked for no more"
    heard_at = float("-inf")
    assert not await lookout.given()
    lookout.close()


async def test_a_lookout_that_is_closed_asks_no_more() -> None:
    daemon = Daemon(lives=False)
    lookout = Lookout(daemon.ask)
    await lookout.given()
    lookout.close()
    await asyncio.sleep(0.2)
    assert daemon.asked <= 2


# -- over a channel --------------------------------------------------------------------------------


@asynccontextmanager
async def listening(answers: Callable[..., Awaitable[bytes]] | None, port: int = 0) -> AsyncIterator[int]:
    """A daemon with this health service, or with none."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if answers is not None:
        check = grpc.unary_unary_rpc_method_handler(answers)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),)
        )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


async def well(_request: bytes, _context: Any) -> bytes:
    return b""


async def stopping(_request: bytes, context: Any) -> bytes:
    await abort(context, UnavailableError("keyholder-b is stopping", party="keyholder-b"))


@pytest.mark.parametrize("answers", [well, stopping, None])
async def test_whatever_a_daemon_says_is_a_sign(answers: Callable[..., Awaitable[bytes]] | None) -> None:
    async with listening(answers) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await sign_over(channel)()


async def test_a_connection_that_is_refused_or_ends_is_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_of_life, "SIGN_S", 1.0)
    asked = asyncio.Event()

    async def never(_request: bytes, _context: Any) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return b""

    async with AsyncExitStack() as stack:
        async with listening(never) as port:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            sign = asyncio.ensure_future(sign_over(channel)())
            await asked.wait()
        # Its connection has ended, as it does when pings find it dead.
        assert not await sign
        assert not await sign_over(channel)()


async def test_a_daemon_that_is_started_in_time_gives_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_of_life, "SIGN_S", 30.0)
    async with listening(well) as port:
        pass
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 250)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        sign = asyncio.ensure_future(sign_over(channel)())
        await asyncio.sleep(0.2)
        async with listening(well, port):
            assert await sign
