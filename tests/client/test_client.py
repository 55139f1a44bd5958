"""The synchronous twin: same names, many threads, and nothing left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from veilmatch import AsyncClient, Client, DeviceSettings, SubjectEntry, UnavailableError
from veilmatch.client.recipient import AsyncForRecipient, ForRecipient
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import ClientUseError, ConfigurationError, NoFaceError

from .conftest import FakeCapture, face
from .fakes import FakeMatchers


@pytest.fixture
def client(settings: DeviceSettings, fakes: FakeMatchers) -> Iterator[Client]:
    with Client(settings, matchers=fakes.all, capture=FakeCapture()) as made:
        yield made


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_twins_have_the_same_methods_and_arguments() -> None:
    assert public(Client) - {"close"} == public(AsyncClient) - {"aclose"}
    assert isinstance(Client.parameters, property) and isinstance(AsyncClient.parameters, property)
    for name in public(Client) - {"close", "from_config", "parameters"}:
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        if name == "for_recipient":  # which returns twins as well
            ours, theirs = (one.replace(return_annotation=None) for one in (ours, theirs))
        assert ours == theirs, name
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters
    queries = {
        f"{operation}{of}" for operation in ("verify", "identify", "candidates", "known") for of in ("", "_embedding")
    }
    assert public(ForRecipient) == public(AsyncForRecipient) == queries
    for name in public(ForRecipient):
        assert inspect.signature(getattr(ForRecipient, name)) == inspect.signature(getattr(AsyncForRecipient, name))


def test_every_method_answers(client: Client, fakes: FakeMatchers) -> None:
    fakes.looks_like = {"alice"}
    assert client.enrol("alice", "1.jpg").templates == 1
    assert client.enrol_embedding("alice", face(1), model="toy").templates == 1
    assert client.enrol_many({"bob": "2.jpg"}).templates == 1
    assert client.enrol_many_embeddings({"carol": face(3)}, model="toy").templates == 1
    assert client.verify("alice", "door.jpg") and client.verify_embedding("alice", face(1), model="toy")
    assert client.candidates("door.jpg").subjects == ("alice",)
    assert client.candidates_embedding(face(1), model="toy").subjects == ("alice",)
    assert client.identify("door.jpg").subject == client.identify_embedding(face(1), model="toy").subject == "alice"
    assert client.known("door.jpg") and client.known_embedding(face(1), model="toy")
    assert client.erase("alice").templates == 2
    assert client.subjects() == [SubjectEntry("bob", 1), SubjectEntry("carol", 1)]


def test_errors_come_out_in_the_calling_thread(client: Client) -> None:
    with pytest.raises(NoFaceError):
        client.verify("alice", "empty.jpg")


def test_many_threads_share_a_client(client: Client, fakes: FakeMatchers) -> None:
    fakes.looks_like = {"s3"}
    fakes.a.before = lambda kind, request: asyncio.sleep(0.05)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: bool(client.verify_embedding(f"s{i}", face(i), model="toy")), range(8)))
    assert found == [i == 3 for i in range(8)]
    assert time.monotonic() - started < 2


def test_client_works_inside_a_running_event_loop(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    async def caller() -> Any:
        with Client(settings, matchers=fakes.all) as client:
            return client.subjects()

    assert asyncio.run(caller()) == []


def test_closing_ends_the_thread_and_both_connections(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    client = Client(settings, matchers=fakes.all)
    client.subjects()
    client.close()
    client.close()
    assert fakes.a.closed and fakes.b.closed
    assert "veilmatch-client" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ClientUseError, match="closed"):
        client.subjects()


def test_closing_ends_a_call_of_another_thread(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    fakes.a.before = fakes.b.before = lambda kind, request: asyncio.sleep(60)
    client, ended = Client(settings, matchers=fakes.all), []

    def call() -> None:
        with pytest.raises(UnavailableError, match="closed"):
            client.subjects()
        ended.append(True)

    caller = threading.Thread(target=call)
    caller.start()
    while not fakes.b.requests:
        time.sleep(0.01)
    client.close()
    caller.join(5)
    assert ended == [True] and fakes.a.cancelled == 1


def test_interrupted_call_is_cancelled_at_both(client: Client, fakes: FakeMatchers) -> None:
    fakes.a.before = fakes.b.before = lambda kind, request: asyncio.sleep(60)

    def press_ctrl_c() -> None:
        while not fakes.b.requests:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.subjects()
    for _ in range(100):
        if fakes.a.cancelled:
            break
        time.sleep(0.01)
    assert (fakes.a.cancelled, fakes.b.cancelled) == (1, 1)
    assert time.monotonic() - started < 4, "not because its time was over"


def test_unusable_settings_start_no_thread(settings: DeviceSettings, tmp_path: Any) -> None:
    (tmp_path / "device.key").unlink()
    before = threading.active_count()
    with pytest.raises(ConfigurationError):
        Client(settings)
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("given", ["device.toml", None, {}])
def test_a_path_in_place_of_settings_is_told_how_to_make_a_client(kind: Any, given: object) -> None:
    with pytest.raises(ClientUseError) as caught:
        kind(given)
    assert caught.value.got == type(given).__name__ and "Client.from_config(PATH)" in hint(caught.value)


def test_progress_of_a_bulk_enrolment_ends_with_the_last_photo_whether_it_could_be_used_or_not(client: Client) -> None:
    steps: list[tuple[str, int, int]] = []
    photos = [("alice", "1.jpg"), ("bob", "2.jpg"), ("carol", "empty.jpg")]
    client.enrol_many(photos, progress=lambda *step: steps.append(step), skipped=lambda *_: None)
    captured = [(done, total) for stage, done, total in steps if stage == "capture"]
    assert captured == [(0, 3), (1, 3), (2, 3), (3, 3)]
