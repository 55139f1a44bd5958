"""Who owes a message is waited for while it gives signs of life, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.transport import sign_of_life
from veilmatch.server.transport.sign_of_life import Owing, unless_silent


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
