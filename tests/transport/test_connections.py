"""Connections that die, that nobody uses, and that nobody may use."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import pytest

from tests.silent_relay import SilentRelay
from tests.transport.parties import METHOD, serving, tls_of
from veilmatch.server.transport import channels
from veilmatch.server.transport.channels import channel_to

SERVER, CALLER = "keyholder-a", "matcher-a"


async def echo(_self: object, request: bytes, _context: object) -> bytes:
    return request


async def answered(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """A call, which waits for a connection where one is being made: nothing is asked about the pause before it."""
    try:
        return bool(await channel.unary_unary(METHOD)(b"x", timeout=timeout_s, wait_for_ready=True) == b"x")
    except grpc.aio.AioRpcError:
        return False


async def test_between_servers_a_connection_that_died_without_a_word_is_replaced_within_a_call_or_two(
    tmp_path: Path,
) -> None:
    tls = tls_of(tmp_path, SERVER)
    async with serving("unary_unary", echo, tls) as address:
        with SilentRelay(address) as relay:
            async with channel_to(relay.address, SERVER, tls_of(tmp_path, CALLER)) as channel:
                assert await answered(channel, 5)
                relay.go_silent()
                lost = 0
                while not await answered(channel, 5):
                    lost += 1
                assert lost <= 2


async def test_a_connection_that_shows_no_certificate_is_closed_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "HANDSHAKE_S", 0.5)
    async with serving("unary_unary", echo, tls_of(tmp_path, SERVER)) as address:
        host, port = address.split(":")
        nobody = [socket.create_connection((host, int(port))) for _ in range(50)]
        await asyncio.sleep(1.5)
        for one in nobody:
            one.settimeout(1)
            assert await asyncio.to_thread(one.recv, 64) == b""
            one.close()


async def test_a_connection_without_calls_is_closed_and_made_again_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "IDLE_S", 0.5)
    async with serving("unary_unary", echo, tls_of(tmp_path, SERVER)) as address:
        with SilentRelay(address) as relay:
            async with channel_to(relay.address, SERVER, tls_of(tmp_path, CALLER)) as channel:
                assert await answered(channel, 5)
                await asyncio.sleep(1.5)
                assert await answered(channel, 5) and relay.accepted == 2


async def test_whoever_pings_a_quiet_connection_as_often_as_a_server_does_is_not_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "PEER_PING_S", 0.25)
    monkeypatch.setattr(channels, "PINGED_S", 0.125)
    async with serving("unary_unary", echo, tls_of(tmp_path, SERVER)) as address:
        with SilentRelay(address) as relay:
            async with channel_to(relay.address, SERVER, tls_of(tmp_path, CALLER)) as channel:
                assert await answered(channel, 5)
                await asyncio.sleep(4)
                assert await answered(channel, 5) and relay.accepted == 1
