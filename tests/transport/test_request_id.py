"""A request's id is in every line about it and in no other: calls, threads and tasks do not mix."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.transport.parties import METHOD, ask, serving
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.server.ground.request_id import (
    About,
    about_nothing,
    about_request,
    add_request,
    current_request,
    now_about,
)
from veilmatch.server.transport.links import AcceptedLink, Rendezvous
from veilmatch.server.transport.status import from_rpc, unary


async def test_every_call_knows_its_own_request_and_no_earlier_one() -> None:
    """All on one connection, many at once, and again afterwards."""
    before: list[str | None] = []

    async def method(_self: Any, request: bytes, context: Any) -> bytes:
        before.append(current_request())
        about_request(request * 32, "door")
        await asyncio.sleep(0.02)
        in_thread = await asyncio.to_thread(current_request)
        in_task = await asyncio.ensure_future(_current())
        assert in_thread == in_task == current_request()
        return (current_request() or "").encode()

    async with (
        serving("unary_unary", method) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = channel.unary_unary(METHOD)
        for _ in range(3):
            answers = await asyncio.gather(*(call(bytes([n]), timeout=10) for n in range(20)))
            assert answers == [bytes([n]).hex().encode() * 8 for n in range(20)]
    assert set(before) == {None}


async def test_an_error_names_the_request_it_is_about() -> None:
    @unary
    async def method(_self: Any, request: bytes, context: Any) -> bytes:
        if request != b"unknown":
            about_request(bytes(range(32)))
        raise InvalidInputError("no")

    async with serving("unary_unary", method) as address:
        for sent, expected in ((b"known", "0001020304050607"), (b"unknown", None)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(grpc.aio.insecure_channel(address), sent)
            assert from_rpc(caught.value, "keyholder-b").request_id == expected


async def test_work_that_outlives_a_request_is_about_none() -> None:
    about_request(bytes(32), "door")
    assert await about_nothing(_current()) is None
    assert current_request() == "0" * 16


async def test_a_peers_call_is_about_the_request_that_took_it() -> None:
    rendezvous: Rendezvous[Any] = Rendezvous(5.0)
    link: AcceptedLink[Any] = AcceptedLink(_Silent(), "keyholder-a")

    async def call() -> About | None:
        rendezvous.bring(b"subject matter", link)
        with pytest.raises(InvalidInputError):
            await link.feed()
        return now_about()

    async def session() -> None:
        about_request(b"\xab" * 32, "door")
        with pytest.raises(InvalidInputError):
            async with rendezvous.take(b"subject matter", "keyholder-a"):
                raise InvalidInputError("no")

    found, _ = await asyncio.gather(call(), session())
    assert found == About("ab" * 8, "door")


async def test_a_line_says_what_it_is_about_unless_it_says_so_itself() -> None:
    assert add_request(None, "info", {"event": "x"}) == {"event": "x"}
    about_request(bytes(32))
    assert add_request(None, "info", {"event": "x"}) == {"event": "x", "request": "0" * 16}
    about_request(bytes(32), "door")
    assert add_request(None, "info", {"event": "x", "device": "y"})["device"] == "y"


async def _current() -> str | None:
    return current_request()


class _Silent:
    async def read(self) -> None:
        await asyncio.Event().wait()
