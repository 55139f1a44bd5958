"""Every error of the tree crosses gRPC whole; whatever is not one of the tree crosses without its text."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.transport.parties import METHOD, SERVICE, ask, serving
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import (
    BudgetExceededError,
    IntegrityError,
    InvalidInputError,
    KeySafetyError,
    OverloadedError,
    PartyRefusedError,
    RequestRefusedError,
    StorageError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
    VersionError,
)
from veilmatch.crypto.versions import UNSAID, Hello
from veilmatch.server.transport.greeting import spoken
from veilmatch.server.transport.status import from_metadata, from_rpc, streaming, unary

PARTY = "keyholder-b"
SECRET = "coordinates of a template"
Metadata = tuple[tuple[str, str | bytes], ...]


def classes(root: type[VeilmatchError] = VeilmatchError) -> Iterator[type[VeilmatchError]]:
    yield root
    for sub in root.__subclasses__():
        yield from classes(sub)


def filled(kind: type[VeilmatchError]) -> VeilmatchError:
    """An error with every argument that its class takes set to something of its own."""
    values: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            is_tuple = isinstance(parameter.default, tuple)
            is_number = str(parameter.annotation).startswith(("int", "float"))
            text = f"{name}: 1 < \N{GREEK SMALL LETTER ALPHA}"
            values[name] = ("ab", "bc") if is_tuple else len(values) if is_number else text
            if "Mapping" in str(parameter.annotation):
                del values[name]  # what pairs said to a device: no server sends it
    return kind(f"a {kind.__name__} \N{EM DASH} with 100 % of text", **values)


ERRORS = [
    *(pytest.param(filled(kind), id=kind.__name__) for kind in classes()),
    *(pytest.param(kind("bare"), id=f"bare {kind.__name__}") for kind in classes()),
]


@asynccontextmanager
async def ending_with(
    error: BaseException, kind: str, caller_speaks: Hello | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose handler raises the error; one that streams gives an answer first.

    caller_speaks: what the caller has said that it does; as this release unless it is said.
    """

    @unary
    async def call(_self: None, request: Any, context: Any) -> bytes:
        spoken.set(caller_speaks or our_hello())
        raise error

    @streaming
    async def stream(_self: None, request: Any, context: Any) -> AsyncIterator[bytes]:
        spoken.set(caller_speaks or our_hello())
        yield b"first"
        raise error

    async with (
        serving(kind, call if kind == "unary_unary" else stream) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


async def outcome(channel: grpc.aio.Channel, kind: str, answers: list[bytes] | None = None) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if kind == "unary_unary":
            await ask(channel)
        else:
            async for answer in channel.unary_stream(METHOD)(b"", timeout=5):
                (answers if answers is not None else []).append(answer)
    return caught.value


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_every_error_arrives_as_it_was_raised_and_says_by_whom(error: VeilmatchError, kind: str) -> None:
    answers: list[bytes] = []
    async with ending_with(error, kind) as channel:
        arrived = from_rpc(await outcome(channel, kind, answers), PARTY, ("ac",))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error) | {"said_by": (PARTY,)}
    assert str(arrived) == str(error)
    assert answers == ([] if kind == "unary_unary" else [b"first"])


async def test_an_error_that_the_caller_does_not_know_is_said_as_the_one_above_it() -> None:
    error = VersionError("no common version", got="matcher-a: version 1", expected="keyholder-a: versions 2 and 3")
    async with ending_with(error, "unary_unary", UNSAID) as channel:
        arrived = from_rpc(await outcome(channel, "unary_unary"), PARTY)
    assert type(arrived) is UnavailableError
    assert (str(arrived), arrived.got) == (str(error), error.got)


def test_no_two_classes_share_a_code() -> None:
    codes = [kind.code for kind in classes()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UnknownSubjectError, grpc.StatusCode.NOT_FOUND),
        (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
        (RequestRefusedError, grpc.StatusCode.PERMISSION_DENIED),
        (PartyRefusedError, grpc.StatusCode.PERMISSION_DENIED),
        (UnavailableError, grpc.StatusCode.UNAVAILABLE),
        (BudgetExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (IntegrityError, grpc.StatusCode.DATA_LOSS),
        (VeilmatchError, grpc.StatusCode.INTERNAL),
    ],
)
async def test_proxies_see_a_fitting_status(kind: type[VeilmatchError], code: grpc.StatusCode) -> None:
    async with ending_with(kind("text"), "unary_unary") as channel:
        error = await outcome(channel, "unary_unary")
    assert (error.code(), error.details()) == (code, "text")


LOUD, QUIET = [("alert", "error"), ("call refused", "info")], [("call refused", "info")]
LEVELS: dict[str, tuple[Callable[[], Exception], list[tuple[str, str]]]] = {
    "a request": (lambda: RequestRefusedError("text"), QUIET),
    "a party that is down": (lambda: UnavailableError("text", party="keyholder-a"), QUIET),
    "a deviation elsewhere": (lambda: KeySafetyError("text", party="keyholder-a"), LOUD),
    "damage elsewhere": (lambda: IntegrityError("text", party="matcher-a"), LOUD),
    "damage that another server reports": (lambda: StorageError("text", said_by=("matcher-b",)), QUIET),
    "damage here": (lambda: IntegrityError("text"), LOUD),
    "a full disk": (lambda: StorageError("text"), LOUD),
    "unforeseen": (lambda: ValueError("text"), LOUD),
}


@pytest.mark.parametrize(("error", "expected"), LEVELS.values(), ids=LEVELS.keys())
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_what_an_operator_must_look_at_is_one_line_at_level_error(
    error: Callable[[], Exception], expected: list[tuple[str, str]], kind: str
) -> None:
    with capture_logs() as logged:
        async with ending_with(error(), kind) as channel:
            await outcome(channel, kind)
    assert [(entry["event"], entry["log_level"]) for entry in logged] == expected


# -- what is not of the tree -----------------------------------------------------------------------

UNFORESEEN = [ValueError(SECRET), KeyError(SECRET), AssertionError(SECRET), StopAsyncIteration(SECRET), TimeoutError()]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
async def test_an_unforeseen_error_crosses_without_its_text(
    error: Exception, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with ending_with(error, kind) as channel:
        raw = await outcome(channel, kind)
    arrived = from_rpc(raw, PARTY)
    assert type(arrived) is IntegrityError
    assert (arrived.message, arrived.party, arrived.alternatives) == (
        "keyholder-b failed on this request",
        "keyholder-b",
        ("ac",),
    )
    written = "".join(capfd.readouterr())
    assert type(error).__name__ in written or "RuntimeError" in written
    assert SECRET not in f"{raw!r} {arrived} {arrived.fields()} {written}"


class Silent:
    """The context of a call that must not be ended by hand."""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    async def abort(self, *arguments: Any) -> None:
        raise AssertionError("a cancelled call was given a status")


async def test_cancellation_is_not_an_error() -> None:
    closed = []

    @unary
    async def call(_self: None, request: Any, context: Any) -> None:
        await asyncio.sleep(60)

    @streaming
    async def stream(_self: None, request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            await asyncio.sleep(60)
            yield b""
        finally:
            closed.append(True)

    for work in (call(SERVICE, b"", Silent()), anext(stream(SERVICE, b"", Silent()))):
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closed == [True]


async def test_a_caller_that_leaves_a_stream_closes_its_handler() -> None:
    closed = asyncio.Event()

    @streaming
    async def stream(_self: None, request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with serving("unary_stream", stream) as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream(METHOD)(b"", timeout=5)
        assert await call.read() == b"more"
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_stream_that_is_left_between_two_answers_closes_its_handler() -> None:
    closed, kept = [], []

    async def answers() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            yield b"second"
        finally:
            closed.append(True)

    @streaming
    def stream(_self: None, request: Any, context: Any) -> AsyncIterator[bytes]:
        kept.append(answers())
        return kept[0]

    left = stream(SERVICE, b"", Silent())
    assert await anext(left) == b"first"
    await left.aclose()  # type: ignore[attr-defined]
    assert closed == [True]


async def test_answers_arrive_in_order_and_the_stream_ends() -> None:
    @streaming
    async def stream(_self: None, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for i in range(5):
            yield request + bytes([i])

    async with serving("unary_stream", stream) as address, grpc.aio.insecure_channel(address) as channel:
        answers = [answer async for answer in channel.unary_stream(METHOD)(b"n", timeout=5)]
    assert answers == [b"n" + bytes([i]) for i in range(5)]


# -- what another server may send ------------------------------------------------------------------


def sent(*fields: Any) -> Metadata:
    return tuple((ERROR_KEY, json.dumps(one).encode()) for one in fields)


@pytest.mark.parametrize("value", [b"", b"\xff", b"{", b"null", b"3", b"[]", b'"text"', b"[" * 5000, b"1" * 5000])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS])
def test_an_error_that_cannot_be_read_is_an_integrity_error(value: bytes, code: grpc.StatusCode) -> None:
    error = from_metadata(code, ((ERROR_KEY, value),), PARTY)
    assert type(error) is IntegrityError and PARTY in error.message


def test_alternatives_that_are_none_are_left_out() -> None:
    error = from_metadata(grpc.StatusCode.UNAVAILABLE, sent({"code": "unavailable", "alternatives": 3}), PARTY)
    assert type(error) is UnavailableError and error.alternatives == ()


@pytest.mark.parametrize("code", ["from_the_future", "", None, 7, ["unavailable"]])
def test_a_code_that_is_not_known_here_is_still_an_error_of_the_tree(code: Any) -> None:
    error = from_metadata(grpc.StatusCode.INTERNAL, sent({"code": code, "message": "new", "more": 1}), PARTY)
    assert type(error) is VeilmatchError and error.message == "new"


def test_missing_fields_are_empty() -> None:
    error = from_metadata(grpc.StatusCode.UNAVAILABLE, sent({"code": "unavailable"}), PARTY)
    assert isinstance(error, UnavailableError)
    assert (error.message, error.party, error.needed, error.available, error.alternatives) == ("", None, None, None, ())


def test_metadata_of_others_is_passed_over() -> None:
    metadata: Metadata = (("grpc-server-stats-bin", b"\x00"), ("veilmatch-error", "{}"), *sent({"code": "integrity"}))
    assert type(from_metadata(grpc.StatusCode.UNAVAILABLE, metadata, PARTY)) is IntegrityError


@pytest.mark.parametrize("metadata", [None, (), (("other", "x"),)], ids=["none", "empty", "of others"])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_grpcs_own_becomes_a_typed_error_naming_the_party(code: grpc.StatusCode, metadata: Any) -> None:
    error = from_metadata(code, metadata, PARTY, ("ac",))
    expected = {
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
        grpc.StatusCode.CANCELLED: UnavailableError,
        grpc.StatusCode.ABORTED: UnavailableError,
        grpc.StatusCode.PERMISSION_DENIED: PartyRefusedError,
        grpc.StatusCode.UNAUTHENTICATED: PartyRefusedError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: RequestRefusedError,
    }.get(code, IntegrityError)
    assert type(error) is expected and PARTY in error.message
    if isinstance(error, UnavailableError):
        assert (error.party, error.alternatives) == (PARTY, ("ac",))


async def test_nobody_at_the_address_is_unavailable() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(grpc.aio.insecure_channel("127.0.0.1:1"))
    error = from_rpc(caught.value, PARTY, ("ac", "bc"))
    assert isinstance(error, UnavailableError)
    assert (error.party, error.needed, error.alternatives) == (PARTY, PARTY, ("ac", "bc"))


async def test_whoever_is_told_to_come_later_again_and_again_does_not_fill_the_log() -> None:
    """One line of it in a second; of what else is refused, each."""
    busy = OverloadedError("busy", party=PARTY, retry_after_s=1.0)
    with capture_logs() as logged:
        async with ending_with(busy, "unary_unary") as channel:
            for _ in range(20):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(METHOD)(b"x", timeout=5)
    lines = [entry for entry in logged if entry["event"] == "call refused" and entry["log_level"] == "info"]
    # So few as seconds have passed.
    assert 1 <= len(lines) < 10 and len(logged) >= 20
    with capture_logs() as logged:
        async with ending_with(RequestRefusedError("no"), "unary_unary") as channel:
            for _ in range(5):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(METHOD)(b"x", timeout=5)
    assert sum(entry["log_level"] == "info" for entry in logged) == 5
