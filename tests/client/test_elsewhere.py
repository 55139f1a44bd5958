"""A client used from where it does not belong: another process, event loop or thread, its own calls. It never hangs."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from veilmatch import AsyncClient, Client, DeviceSettings
from veilmatch.crypto.errors import ClientUseError, UnavailableError, VeilmatchError

from .conftest import FakeCapture, face
from .fakes import FakeMatchers

#: A call of every method, by name.
CALLS: dict[str, Callable[[Any], Any]] = {
    "issue": lambda c: c.issue("alice", "door.jpg", days=1),
    "issue_embedding": lambda c: c.issue_embedding("alice", face(1), model="toy", days=1),
    "revoke_card": lambda c: c.revoke_card("00" * 16),
    "verify": lambda c: c.verify("alice", "door.jpg"),
    "verify_embedding": lambda c: c.verify_embedding("alice", face(1), model="toy"),
    "candidates": lambda c: c.candidates("door.jpg"),
    "candidates_embedding": lambda c: c.candidates_embedding(face(1), model="toy"),
    "identify": lambda c: c.identify("door.jpg"),
    "identify_embedding": lambda c: c.identify_embedding(face(1), model="toy"),
    "quality": lambda c: c.quality("door.jpg"),
    "known": lambda c: c.known("door.jpg"),
    "known_embedding": lambda c: c.known_embedding(face(1), model="toy"),
    "enrol": lambda c: c.enrol("alice", "1.jpg"),
    "enrol_embedding": lambda c: c.enrol_embedding("alice", face(1), model="toy"),
    "enrol_many": lambda c: c.enrol_many({"alice": "1.jpg"}),
    "enrol_many_embeddings": lambda c: c.enrol_many_embeddings({"alice": face(1)}, model="toy"),
    "erase": lambda c: c.erase("alice"),
    "erase_many": lambda c: c.erase_many(["alice"]),
    "compare": lambda c: c.compare("1.jpg", "2.jpg"),
    "take_back": lambda c: c.take_back("alice", bytes(16)),
    "subjects": lambda c: c.subjects(),
    "budgets": lambda c: c.budgets(),
    "rotate": lambda c: c.rotate(bytes(16)),
    "retain": lambda c: c.retain(),
    "templates": lambda c: c.templates("alice"),
}


@pytest.fixture
def client(settings: DeviceSettings, fakes: FakeMatchers) -> Iterator[Client]:
    with Client(settings, matchers=fakes.all, capture=FakeCapture()) as made:
        yield made


def in_child(work: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """Return what `work` returns in a forked child, or the VeilmatchError that it raises. A hanging child is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = work()
        except VeilmatchError as error:
            outcome = error.fields()
        except BaseException as error:
            outcome = repr(error)
        os.write(writing, pickle.dumps(outcome))
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + limit_s
    try:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
            time.sleep(0.01)
        outcome = pickle.loads(os.read(reading, 1 << 16))
    finally:
        os.close(reading)
    if isinstance(outcome, dict) and "code" in outcome:
        return VeilmatchError.from_fields(outcome)
    return outcome


def within(work: Callable[[], Any], limit_s: float = 5.0) -> Any:
    """Return what `work` returns in another thread, or what it raises; fail if it hangs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    assert outcome, "it hangs"
    return outcome[0]


# -- another process ---------------------------------------------------------------------------------


def test_every_method_is_called_here() -> None:
    public = {
        name for name, value in vars(Client).items() if not name.startswith("_") and not isinstance(value, property)
    }
    assert set(CALLS) == public - {"close", "from_config", "for_recipient"}  # the last one asks nobody yet


@pytest.mark.parametrize("name", CALLS)
def test_a_client_that_was_used_is_refused_in_a_forked_child(client: Client, fakes: FakeMatchers, name: str) -> None:
    client.subjects()
    error = in_child(lambda: CALLS[name](client))
    assert isinstance(error, ClientUseError) and "another process" in error.message
    assert client.subjects() == []


@pytest.mark.parametrize("name", CALLS)
def test_an_async_client_that_was_used_is_refused_in_a_forked_child(
    settings: DeviceSettings, fakes: FakeMatchers, name: str
) -> None:
    async def use(client: AsyncClient) -> Any:
        return await CALLS[name](client)

    client = AsyncClient(settings, matchers=fakes.all, capture=FakeCapture())
    asyncio.run(_subjects(client))
    error = in_child(lambda: asyncio.run(use(client)))
    assert isinstance(error, ClientUseError) and "another process" in error.message


def test_a_child_leaves_the_block_of_its_parent_and_closes_nothing(client: Client, fakes: FakeMatchers) -> None:
    client.subjects()

    def leave() -> bool:
        client.__exit__(None, None, None)
        client.close()
        return fakes.a.closed

    assert in_child(leave) is False
    assert client.subjects() == []


def test_a_client_that_was_not_used_is_the_childs_own(client: Client) -> None:
    assert in_child(lambda: list(client.subjects())) == []
    assert client.subjects() == []
    assert isinstance(in_child(client.subjects), ClientUseError)


def test_a_client_is_refused_in_a_child_whose_parent_is_in_the_middle_of_its_first_call(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    """The child is forked while another thread holds whatever locks a call holds."""
    fakes.a.before = lambda kind, request: asyncio.sleep(0.002)
    for _ in range(20):
        with Client(settings, matchers=fakes.all) as client:
            with ThreadPoolExecutor(1) as thread:
                called = thread.submit(client.subjects)
                outcome = in_child(client.subjects)
                called.result()
            assert outcome == [] or isinstance(outcome, ClientUseError)


# -- its own calls -----------------------------------------------------------------------------------


def test_callbacks_run_in_the_thread_that_waits_and_may_use_the_client(client: Client, fakes: FakeMatchers) -> None:
    steps: list[Any] = []

    def progress(*step: Any) -> None:
        steps.append((threading.current_thread(), step[0], len(client.subjects()), bool(client.verify("eve", "1.jpg"))))

    def skipped(subject: str, error: VeilmatchError) -> None:
        steps.append((threading.current_thread(), subject, len(client.subjects()), False))

    def work() -> Any:
        client.enrol_many({"alice": "1.jpg", "bob": "empty.jpg"}, progress=progress, skipped=skipped)
        client.rotate(bytes(16), progress=progress)
        return threading.current_thread()

    thread = within(work)
    assert isinstance(thread, threading.Thread)
    assert {step[0] for step in steps} == {thread}
    assert [step[1] for step in steps] == [
        "capture",
        "capture",
        "bob",
        "capture",
        "encrypt",
        "encrypt",
        "rotate",
        "rotate",
    ]
    assert fakes.templates == ["alice"]


def test_an_error_in_a_callback_ends_the_call_before_anything_is_sent(client: Client, fakes: FakeMatchers) -> None:
    def fail(*step: Any) -> None:
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        client.enrol_many_embeddings({"alice": face(1)}, model="toy", progress=fail)
    assert fakes.a.requests == []


def test_ctrl_c_in_a_callback_ends_the_call(client: Client, fakes: FakeMatchers) -> None:
    def interrupt(*step: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.enrol_many_embeddings({"alice": face(1)}, model="toy", progress=interrupt)
    assert client.subjects() == []
    assert len(fakes.a.requests) == 1


def test_a_client_closed_in_a_callback_ends_its_call(client: Client) -> None:
    error = within(
        lambda: client.enrol_many_embeddings({"alice": face(1)}, model="toy", progress=lambda *step: client.close())
    )
    assert isinstance(error, UnavailableError) and "closed" in error.message


def test_photos_may_come_from_a_generator_that_uses_the_client(client: Client, fakes: FakeMatchers) -> None:
    def photos() -> Iterator[tuple[str, str]]:
        yield "alice", f"{len(client.subjects())}.jpg"

    assert within(lambda: client.enrol_many(photos())).templates == 1


@pytest.mark.parametrize("where", ["loop", "capture", "close"])
def test_a_client_called_from_within_its_own_call_says_so(
    settings: DeviceSettings, fakes: FakeMatchers, where: str
) -> None:
    class Nosy(FakeCapture):
        def embed_photo(self, source: Any) -> np.ndarray:
            if where != "loop":
                client.close() if where == "close" else client.subjects()
            return super().embed_photo(source)

    def ask_again(kind: str, request: Any) -> None:
        client.subjects()

    if where == "loop":
        fakes.a.before = ask_again
    client = Client(settings, matchers=fakes.all, capture=Nosy())
    error = within(lambda: client.verify("alice", "door.jpg"))
    assert isinstance(error, ClientUseError) and "call of its own" in error.message
    fakes.a.before = lambda kind, request: None
    assert client.subjects() == []
    client.close()


async def test_callbacks_of_the_async_client_may_be_coroutines_that_use_it(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    seen: list[int] = []

    async def progress(stage: str, done: int, total: int) -> None:
        seen.append(len(await client.subjects()))

    async with AsyncClient(settings, matchers=fakes.all) as client:
        await client.enrol_many_embeddings({"alice": face(1)}, model="toy", progress=progress)
    assert seen == [0, 0]


# -- loops and threads -------------------------------------------------------------------------------


async def _subjects(client: AsyncClient) -> Any:
    return await client.subjects()


@pytest.mark.parametrize("name", CALLS)
def test_an_async_client_is_refused_in_another_loop_and_after_it_was_closed(
    settings: DeviceSettings, fakes: FakeMatchers, name: str
) -> None:
    async def use() -> None:
        await CALLS[name](client)

    async def close() -> None:
        await client.aclose()
        await use()

    client = AsyncClient(settings, matchers=fakes.all, capture=FakeCapture())
    asyncio.run(_subjects(client))
    with pytest.raises(ClientUseError, match="event loop"):
        asyncio.run(use())
    with pytest.raises(ClientUseError, match="closed"):
        asyncio.run(close())
    assert fakes.a.closed


async def test_an_async_client_is_not_closed_under_the_feet_of_its_running_loop(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    async with AsyncClient(settings, matchers=fakes.all) as client:
        with pytest.raises(ClientUseError, match="event loop"):
            await asyncio.to_thread(lambda: asyncio.run(client.aclose()))
        assert await client.subjects() == []


def test_a_client_serves_threads_and_loops_at_once_and_a_late_one_is_refused(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    async def in_a_loop() -> Any:
        return client.subjects()

    with Client(settings, matchers=fakes.all) as client, ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(asyncio.run, in_a_loop()) if i % 2 else threads.submit(client.subjects) for i in range(40)
        ]
        assert [call.result(10) for call in asked] == [[]] * 40
    assert isinstance(within(client.subjects), ClientUseError)


def test_calls_that_race_with_closing_end(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    for _ in range(30):
        client = Client(settings, matchers=fakes.all)
        with ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(client.subjects) for _ in range(3)]
            closing = [threads.submit(client.close) for _ in range(2)]
            ends = [within(lambda call=call: call.exception(5)) for call in (*calls, *closing)]
        assert all(end is None or isinstance(end, ClientUseError | UnavailableError) for end in ends)


# -- left open ---------------------------------------------------------------------------------------


def test_a_client_that_nobody_closes_ends_its_thread_when_it_is_gone(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    def threads() -> int:
        return sum(thread.name == "veilmatch-client" for thread in threading.enumerate())

    before = threads()
    client = Client(settings, matchers=fakes.all)
    client.subjects()
    assert threads() == before + 1
    del client
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == before
