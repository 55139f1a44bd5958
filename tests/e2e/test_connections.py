"""A device's connections to real matchers: across fork(), through a network that forgets them, beside proxies."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from tests.e2e.world import World, veilmatch
from tests.silent_relay import SilentRelay
from veilmatch.client.wire.transport import SILENCE_S
from veilmatch.crypto.errors import UnavailableError

#: What a program does that forks. `child(work)` prints what happens to `work` in a child, which gets ten seconds.
PROGRAM = """
import gc, os, signal, sys, time
from veilmatch import Client, VeilmatchError
config = sys.argv[1]

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            print(work(), flush=True)
        except VeilmatchError as error:
            print(error.code, flush=True)
        os._exit(0)
    deadline = time.monotonic() + 10
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print("hangs", flush=True)
            return
        time.sleep(0.01)

def ask(client):
    return len(client.subjects(timeout_s=5))

def ask_anew():
    with Client.from_config(config) as fresh:
        return ask(fresh)
"""
FORKS = {
    "a client that was used": ("child(lambda: ask(client))", "client_use"),
    "another client beside it": ("child(ask_anew)", "client_use"),
    "many children": ("for _ in range(5): child(ask_anew)", "client_use " * 5),
    "a grandchild": ("child(lambda: child(ask_anew))", "client_use None"),
    "closing": ("child(client.close)", "None"),
    "dropping": ("child(lambda: (globals().pop('client') and None, gc.collect()) and 'dropped')", "dropped"),
}


def run(world: World, *lines: str) -> list[str]:
    """Return the words that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join((PROGRAM, *lines)), str(world.device_config)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("what", FORKS)
def test_a_child_of_a_process_with_an_open_client_is_told_so_and_harms_nothing(world: World, what: str) -> None:
    line, expected = FORKS[what]
    words = run(
        world, "client = Client.from_config(config)", "used = ask(client)", line, "print(ask(client) == used)",
        "client.close()", "print(ask_anew() == used)",
    )  # fmt: skip
    assert words == [*expected.split(), "True", "True"]


def test_a_child_that_ends_as_programs_do_harms_nothing(world: World) -> None:
    words = run(
        world, "client = Client.from_config(config)", "ask(client)", "pid = os.fork()", "if pid == 0: sys.exit(7)",
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))", "time.sleep(0.3)", "ask(client)",
    )  # fmt: skip
    assert words == ["7"]


def test_clients_that_are_made_or_first_used_after_the_fork_work(world: World) -> None:
    words = run(
        world, "shared = Client.from_config(config)", "child(lambda: ask(shared) >= 0)",
        "child(lambda: ask_anew() >= 0)", "print(ask(shared) >= 0)", "shared.close()", "child(lambda: ask_anew() >= 0)",
    )  # fmt: skip
    assert words == ["True"] * 4


def test_an_error_that_the_parent_keeps_does_not_keep_its_connections(world: World) -> None:
    words = run(
        world,
        "from veilmatch.client.config import DeviceSettings",
        "from pathlib import Path",
        "settings = DeviceSettings.load(Path(config)).model_copy(update={'gallery': 'elsewhere'})",
        "with Client(settings) as client:",
        "    try: client.subjects()",
        "    except VeilmatchError as error: kept = error",
        "print(kept.code)",
        "child(lambda: ask_anew() >= 0)",
    )
    assert words == ["unknown_gallery", "True"]


@pytest.mark.parametrize("end", ["", "del client", "threading.Thread(target=forever, daemon=True).start()"])
def test_a_program_that_leaves_its_client_open_ends(world: World, end: str) -> None:
    run(
        world, "import threading", "def forever():", "    while True: client.subjects()",
        "client = Client.from_config(config)", "ask(client)", end, "time.sleep(0.2)",
    )  # fmt: skip


def test_bulk_enrolment_with_processes_works_while_the_client_is_open(world: World) -> None:
    with world.client() as client:
        before = client.subjects()
    words = run(
        world, "import numpy as np", "from veilmatch import DeviceSettings", "from pathlib import Path",
        "client = Client(DeviceSettings.load(Path(config)), workers=2)", "ask(client)",
        "people = {f'forked-{i}': np.random.default_rng(i).standard_normal(128) for i in range(10)}",
        "print(client.enrol_many_embeddings(people, model='toy').templates)",
        "for name in people: client.erase(name)", "client.close()",
    )  # fmt: skip
    assert words == ["10"]
    with world.client() as client:
        assert client.subjects() == before


# -- connections that die without a word -------------------------------------------------------------


@pytest.mark.parametrize("silent", ["a", "b", "ab"])
def test_after_a_connection_died_without_a_word_the_next_call_but_one_at_most_is_served(
    world: World, silent: str
) -> None:
    addresses = world.settings().matchers
    with SilentRelay(addresses["a"]) as to_a, SilentRelay(addresses["b"]) as to_b:
        relays = {"a": to_a, "b": to_b}
        through = {"a": to_a.address, "b": to_b.address}
        with world.client(matchers=through, pairs=["ab"], timeout_s=SILENCE_S + 0.5) as client:
            client.subjects()
            for party in silent:
                relays[party].go_silent()
            with pytest.raises(UnavailableError):
                client.subjects()
            started = time.monotonic()
            client.subjects()
            assert time.monotonic() - started < 1.0
            assert all(relays[party].accepted == 2 for party in silent)
            # The other one waited for it, and said nothing either: to the device both were silent.
            assert all(relays[party].accepted <= 2 for party in "ab")


def test_with_time_enough_the_very_call_is_served_that_found_its_connection_dead(world: World) -> None:
    """The other matcher says who is missing, and the request is repeated on a new connection."""
    addresses = world.settings().matchers
    with SilentRelay(addresses["a"]) as to_a, world.client(matchers={**addresses, "a": to_a.address}) as client:
        before = client.subjects()
        to_a.go_silent()
        face = np.random.default_rng(77).standard_normal(128)
        client.enrol_embedding("silent", face, model="toy")
        assert client.verify_embedding("silent", face, model="toy")
        assert client.erase("silent").templates == 1
        assert client.subjects() == before and to_a.accepted == 2


# -- proxies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_of_the_environment_is_not_asked(world: World, variable: str) -> None:
    arguments = ("subjects", "--config", str(world.device_config), "--timeout", "5")
    proxy = {variable: "http://127.0.0.1:9"}
    assert veilmatch(*arguments, **proxy).returncode == 0
    assert veilmatch(*arguments, **proxy, VEILMATCH_PROXY="environment").returncode == 6
