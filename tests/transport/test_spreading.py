"""Revocation lists come to servers that were not told, over real gRPC, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from tests.installation.making import public_file
from tests.transport.test_revocation_lists import X, Y, signed
from veilmatch.crypto.errors import ProtocolError, RevocationListError
from veilmatch.crypto.keys.revocation_list import RevocationList
from veilmatch.protos.v1 import revocation_pb2 as pb
from veilmatch.protos.v1 import revocation_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.revoking.lists import RevocationLists
from veilmatch.server.revoking.spreading import RevocationService, Spreading


@asynccontextmanager
async def served(folder: Path, *calls: int) -> AsyncIterator[tuple[RevocationLists, Spreading, int]]:
    """A server with a folder of its own, which calls those at these ports; gives its port."""
    lists = RevocationLists(folder, public_file())
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}")) for port in calls]
        stubs = {str(port): rpc.RevocationsStub(one) for port, one in zip(calls, channels, strict=True)}
        spreading = Spreading(Self(folder.name), lists, stubs)
        server = grpc.aio.server()
        rpc.add_RevocationsServicer_to_server(RevocationService(Self(folder.name), spreading), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        yield lists, spreading, port


async def until_all_have(certificate: bytes, everywhere: Sequence[RevocationLists]) -> None:
    async with asyncio.timeout(60):
        while not all(one.has(certificate) for one in everywhere):
            await asyncio.sleep(0.01)


async def test_both_ends_of_a_call_have_what_either_had_and_keep_it(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "called") as (called, _, port),
        served(tmp_path / "calls", port) as (calls, spreading, _),
    ):
        called.take_in(signed("a", 1, X))
        calls.take_in(signed("c", 4, X, Y))
        await spreading.compare(str(port))
        assert called.has(X) and calls.has(X) and not calls.has(Y)
        assert set(calls.lists) == set(called.lists)
    for name in ("called", "calls"):
        assert RevocationLists(tmp_path / name, public_file()).has(X)


async def test_a_list_in_one_folder_comes_to_servers_that_are_not_called_from_there(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "third") as (third, third_spreading, third_port),
        served(tmp_path / "second", third_port) as (second, second_spreading, second_port),
        served(tmp_path / "first", second_port) as (first, first_spreading, _),
        third_spreading.running(),
        second_spreading.running(),
        first_spreading.running(),
    ):
        (tmp_path / "first").mkdir(exist_ok=True)
        (tmp_path / "first" / "brought.list").write_bytes(signed("ab", 1, X).encode())
        await until_all_have(X, [first, second, third])


async def test_what_no_organisation_has_signed_comes_no_further(tmp_path: Path) -> None:
    class Forger(rpc.RevocationsServicer):
        async def Spread(self, request: pb.RevocationLists, context: object) -> pb.RevocationLists:
            right = signed("ab", 1, X)
            forged = RevocationList(signed("c", 1, Y).statement, right.signatures)
            return pb.RevocationLists(held=[b"x" * 32], lists=[forged.encode(), b"nonsense", right.encode()])

    server = grpc.aio.server()
    rpc.add_RevocationsServicer_to_server(Forger(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with served(tmp_path / "calls", port) as (lists, spreading, _):
            with pytest.raises(RevocationListError):
                await spreading.compare(str(port))
            assert lists.has(X) and not lists.has(Y), "what is right beside it counts"
            with capture_logs() as logs:
                async with spreading.running(), asyncio.timeout(60):
                    while not logs:
                        await asyncio.sleep(0.01)
            assert [line["log_level"] for line in logs if line["event"] == "revocation lists not compared"] == ["error"]
    finally:
        await server.stop(0)


async def test_a_server_of_before_is_no_failure_and_nonsense_is_refused(tmp_path: Path) -> None:
    older = grpc.aio.server()
    port = older.add_insecure_port("127.0.0.1:0")
    await older.start()
    try:
        async with served(tmp_path / "calls", port) as (_, spreading, own_port):
            await spreading.compare(str(port))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{own_port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await rpc.RevocationsStub(channel).Spread(pb.RevocationLists(held=[b"short"]))
            assert caught.value.code() is grpc.StatusCode.DATA_LOSS, ProtocolError.code
    finally:
        await older.stop(0)
