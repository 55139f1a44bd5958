"""Hellos of calls: both ends say which versions they speak, over every method that there is, and go on if one fits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.parties import tls_of
from veilmatch.common import speaking
from veilmatch.common.speaking import Heard, hello_in
from veilmatch.common.speaking import speaking as speaking_over
from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import IntegrityError, ProtocolError, VeilmatchError, VersionError
from veilmatch.crypto.versions import (
    HELLO_KEY,
    NEWEST,
    OLDEST,
    UNSAID,
    Feature,
    Hello,
    common,
    remark,
    require_common,
)
from veilmatch.protos.v1 import ceremony_pb2, keyholder_pb2, matcher_pb2, revocation_pb2
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.transport import greeting
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.door import Door, Gate
from veilmatch.server.transport.status import from_rpc

METHODS = [
    method
    for file in (matcher_pb2, keyholder_pb2, ceremony_pb2, revocation_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
NOW = Hello(NEWEST, OLDEST, "0.1.0", frozenset(Feature))
NEXT, AFTER_NEXT = Hello(NEWEST + 1, OLDEST + 1, "0.2.0"), Hello(NEWEST + 2, OLDEST + 2, "0.3.0")
CALLER, CALLED = "keyholder-a", "keyholder-b"


def kind_of(method: MethodDescriptor) -> str:
    return "_".join("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))


def handler_of(method: MethodDescriptor) -> grpc.RpcMethodHandler:
    """Answers with one empty message of the kind that the method has."""
    takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

    async def once(_request: Any, _context: Any) -> Any:
        return gives()

    async def stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield gives()

    made: grpc.RpcMethodHandler = getattr(grpc, f"{kind_of(method)}_rpc_method_handler")(
        stream if method.server_streaming else once, takes.FromString, lambda message: message.SerializeToString()
    )
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hellos")


@asynccontextmanager
async def server(folder: Path, *, greets: bool = True) -> AsyncIterator[str]:
    """All methods of all services, behind a door. greets: False is a server of version 1."""
    services = {method.containing_service.full_name for method in METHODS}
    gate = Gate(lambda _: None, 100, 16, 16, 1 << 20, CALLED, greets=greets)
    door = Door(Self(CALLED), dict.fromkeys(services, gate))
    made = grpc.aio.server(interceptors=[door], options=server_options(serves_devices=False))
    for service in services:
        handlers = {m.name: handler_of(m) for m in METHODS if m.containing_service.full_name == service}
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = made.add_secure_port("127.0.0.1:0", server_credentials(tls_of(folder, CALLED)))
    await made.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await made.stop(None)


async def call(channel: Any, method: MethodDescriptor) -> tuple[Any, Any]:
    """Make a call of this method with one empty message; return it, and its first answer, read as of a link.

    If the server ends it while that message is being sent, gRPC forgets what the server said
    (https://github.com/grpc/grpc/issues/36066): then it is made again.
    """
    for _ in range(50):
        try:
            return await called_once(channel, method)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INTERNAL or error.trailing_metadata():
                raise
    raise AssertionError("gRPC forgets every time what the server said")


async def called_once(channel: Any, method: MethodDescriptor) -> tuple[Any, Any]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    multi = getattr(channel, kind_of(method))(
        path, request_serializer=takes.SerializeToString, response_deserializer=gives.FromString
    )
    made = multi(timeout=10) if method.client_streaming else multi(takes(), timeout=10)
    if method.client_streaming:
        await made.write(takes())
    if method.server_streaming:
        return made, await made.read()
    if method.client_streaming:
        await made.done_writing()
    return made, await made


@pytest.fixture(params=METHODS, ids=lambda method: f"{method.containing_service.name}.{method.name}")
def method(request: pytest.FixtureRequest) -> Iterator[MethodDescriptor]:
    """Every method that a party offers to another one."""
    yield request.param


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the two ends of a call, which are one process here, be of two releases."""

    def set_ends(calling: Hello, called: Hello) -> None:
        monkeypatch.setattr(speaking, "our_hello", lambda: calling)
        monkeypatch.setattr(speaking, "our_metadata", lambda: ((HELLO_KEY, calling.write()),))
        monkeypatch.setattr(greeting, "our_hello", lambda: called)
        monkeypatch.setattr(greeting, "our_metadata", lambda: ((HELLO_KEY, called.write()),))

    return set_ends


async def refused(folder: Path, method: MethodDescriptor, address: str) -> VeilmatchError:
    """What a call ends with. A stream that is refused while a message is on its way may be reset before gRPC has read
    the words; who meets that asks again, and so does this."""
    for _ in range(3):
        error = await refused_once(folder, method, address)
        if not (method.client_streaming and type(error) is IntegrityError):
            break
    return error


async def refused_once(folder: Path, method: MethodDescriptor, address: str) -> VeilmatchError:
    async with channel_to(address, CALLED, tls_of(folder, CALLER)) as channel:
        with pytest.raises((grpc.aio.AioRpcError, VeilmatchError)) as caught:
            _, answer = await call(channel, method)
            assert answer is not grpc.aio.EOF, "ended without a reason"
    return from_rpc(caught.value, CALLED) if isinstance(caught.value, grpc.aio.AioRpcError) else caught.value


async def test_releases_of_now_understand_each_other(folder: Path, method: MethodDescriptor) -> None:
    async with server(folder) as address, channel_to(address, CALLED, tls_of(folder, CALLER)) as channel:
        made, answer = await call(channel, method)
        assert isinstance(answer, GetMessageClass(method.output_type))
        assert isinstance(made, Heard) and made.theirs == speaking.our_hello()
        made.cancel()


@pytest.mark.parametrize(
    ("calling", "called", "late"),
    [(NOW, AFTER_NEXT, CALLER), (AFTER_NEXT, NOW, CALLED)],
    ids=["the called one is too new", "the calling one is too new"],
)
async def test_two_releases_apart_are_refused_in_words_that_name_both(
    folder: Path, method: MethodDescriptor, ends: Any, calling: Hello, called: Hello, late: str
) -> None:
    ends(calling, called)
    async with server(folder) as address:
        error = await refused(folder, method, address)
    assert type(error) is VersionError
    assert error.party == late and f"{late} has to be updated" in error.message
    assert f"{CALLER}: {calling}" in str(error) and f"{CALLED}: {called}" in str(error)
    assert "versions 1 and 2" in str(error) and "versions 3 and 4" in str(error)
    assert error.alternatives == (("bc",) if late == CALLER else ("ac",))


async def test_a_server_that_says_no_hello_is_refused_once_its_version_is_not_spoken(
    folder: Path, method: MethodDescriptor, ends: Any
) -> None:
    ends(NEXT, NEXT)
    async with server(folder, greets=False) as address:
        error = await refused(folder, method, address)
    assert type(error) is VersionError and error.party == CALLED
    assert f"{CALLED}: version 1" in str(error)


async def test_an_end_that_grpc_gives_before_the_beginning_is_of_whoever_says_so_in_it(ends: Any) -> None:
    class Ended:
        def __await__(self) -> Any:
            said = grpc.aio.Metadata((ERROR_KEY, b"{}"), (HELLO_KEY, AFTER_NEXT.write()))
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), said)
            yield

        async def initial_metadata(self) -> tuple[()]:
            return ()

        async def write(self, message: object) -> None:
            await self

    for ours, expected in ((NEXT, grpc.aio.AioRpcError), (NOW, VersionError)):
        ends(ours, AFTER_NEXT)
        with pytest.raises(expected) as caught:
            await Heard(Ended(), CALLER, CALLED)
        with pytest.raises(expected):
            await Heard(Ended(), CALLER, CALLED).write(b"")
    assert f"{CALLED}: {AFTER_NEXT}" in str(caught.value)


async def test_a_caller_that_says_no_hello_is_served_as_version_1_or_told_so_in_an_error_that_it_knows(
    folder: Path, method: MethodDescriptor, ends: Any
) -> None:
    tls = tls_of(folder, CALLER)
    credentials = grpc.ssl_channel_credentials(
        tls.authority.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes()
    )
    options = [("grpc.ssl_target_name_override", CALLED)]
    async with server(folder) as address, grpc.aio.secure_channel(address, credentials, options) as channel:
        made, answer = await call(channel, method)
        assert isinstance(answer, GetMessageClass(method.output_type))
        made.cancel()
        ends(NOW, NEXT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method)
    (fields,) = [json.loads(value) for key, value in caught.value.trailing_metadata() or () if key == ERROR_KEY]
    assert fields["code"] == "unavailable" and "versions 2 and 3" in fields["expected"]
    assert f"{CALLER} has to be updated" in fields["message"]


@pytest.mark.parametrize("said", ["", "2", "1 2 0.1.0", "2 1 0.1.0 Feature", "02 1 0.1.0", "2 1 0.1.0 " + "x" * 600])
async def test_a_hello_that_cannot_be_read_is_refused(folder: Path, monkeypatch: Any, said: str) -> None:
    monkeypatch.setattr(speaking, "our_metadata", lambda: ((HELLO_KEY, said),))
    async with server(folder) as address:
        error = await refused(folder, METHODS[0], address)
    assert type(error) is ProtocolError and "hello" in error.message and (not said or said not in str(error))


async def test_several_hellos_are_refused(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(speaking, "our_metadata", lambda: ((HELLO_KEY, NOW.write()), (HELLO_KEY, NOW.write())))
    async with server(folder) as address:
        assert type(await refused(folder, METHODS[0], address)) is ProtocolError
    with pytest.raises(ProtocolError):
        hello_in(((HELLO_KEY, NOW.write()),) * 2)


async def test_health_is_told_to_everybody_whatever_they_speak(folder: Path) -> None:
    class Channel:
        def unary_unary(self, path: str) -> str:
            return path

    asked = speaking_over(Channel(), CALLER, CALLED)
    assert asked.unary_unary("/grpc.health.v1.Health/Check") == "/grpc.health.v1.Health/Check"
    assert asked.unary_unary("/veilmatch.v1.KeyHolderPeer/Deal") != "/veilmatch.v1.KeyHolderPeer/Deal"


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", max_size=20).map(lambda text: f"x{text}")
numbers = st.tuples(st.integers(1, 9999), st.integers(1, 9999))


@given(numbers, st.text("0123456789.abcrv+", min_size=1, max_size=40), st.frozensets(names, max_size=4))
def test_a_hello_is_read_as_it_was_written(both: tuple[int, int], release: str, features: frozenset[str]) -> None:
    hello = Hello(max(both), min(both), release, features)
    assert Hello.read(hello.write()) == hello


@given(numbers, numbers)
def test_both_ends_find_the_same_common_version(one: tuple[int, int], other: tuple[int, int]) -> None:
    ours, theirs = (Hello(max(both), min(both)) for both in (one, other))
    both_speak = set(range(ours.oldest, ours.newest + 1)) & set(range(theirs.oldest, theirs.newest + 1))
    assert common(ours, theirs) == common(theirs, ours) == max(both_speak, default=None)


def test_neighbouring_releases_always_understand_each_other_and_a_device_is_told_of_another_pair() -> None:
    assert NEWEST - OLDEST <= 1
    assert require_common(CALLER, NOW, CALLED, NEXT) == require_common(CALLER, NEXT, CALLED, NOW) == NEWEST
    with pytest.raises(VersionError) as caught:
        require_common("matcher-c", AFTER_NEXT, "device-1", NOW)
    assert "device-1 has to be updated" in caught.value.message
    assert (caught.value.party, caught.value.alternatives) == ("matcher-c", ("ab",))


def test_the_remark_says_who_is_behind_and_when_nobody_is() -> None:
    assert "not spoken by matcher-b, matcher-c:" in remark(
        "matcher", {"matcher-a": NOW, "matcher-b": UNSAID, "matcher-c": UNSAID}
    )
    assert "the next upgrade may begin" in remark("matcher", {"matcher-a": NOW, "matcher-b": NOW})
    assert "alone" in remark("matcher", {"matcher-a": UNSAID})
    assert remark("matcher", {}) == "no matcher says what it speaks"
