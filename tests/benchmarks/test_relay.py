"""Relays that delay: which links are slow, and what arrives when."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.relay import Relays, between_organisations

#: Longer than any test may take.
FOREVER_S = 10_000.0


@pytest.mark.parametrize(
    ("caller", "called", "slow"),
    [
        ("matcher-a", "matcher-b", True),
        ("keyholder-c", "keyholder-a", True),
        ("matcher-a", "keyholder-a", False),
        ("device-1", "matcher-b", False),
    ],
)
def test_links_between_organisations_are_slow_and_no_others(caller: str, called: str, slow: bool) -> None:
    assert between_organisations(caller, called) is slow


class _Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, and hangs up after a full stop."""

    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)
            if data.endswith(b"."):
                return


@contextmanager
def calling(directory: Path) -> Iterator[tuple[Relays, dict[str, socket.socket]]]:
    """Matcher b, which sends back what it gets; gives the relays and connections of matcher a and of a device to it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        files = {
            "matcher-b": directory / "organisation-b" / "matcher" / "matcher.toml",
            "matcher-a": directory / "organisation-a" / "matcher" / "matcher.toml",
            "device-1": directory / "device-1" / "device.toml",
        }
        for party, file in files.items():
            file.parent.mkdir(parents=True)
            file.write_text(f'{"listen" if party == "matcher-b" else "peer"} = "{address}"\n')
        with Relays(directory, slow=between_organisations) as relays:
            connections = {}
            for party in ("matcher-a", "device-1"):
                port = int(files[party].read_text().rsplit(":", 1)[1].strip('"\n'))
                connections[party] = socket.create_connection(("127.0.0.1", port), timeout=60.0)
            yield relays, connections
            for connection in connections.values():
                connection.close()
        server.shutdown()
    assert files["device-1"].read_text() == f'peer = "{address}"\n'


def test_what_goes_between_organisations_takes_the_delay_each_way(tmp_path: Path) -> None:
    with calling(tmp_path) as (relays, connections):
        relays.delay_s = 0.05
        began = time.monotonic()
        connections["matcher-a"].sendall(b"x")
        assert connections["matcher-a"].recv(1) == b"x"
        assert time.monotonic() - began >= 0.1


def test_a_device_waits_for_no_delay(tmp_path: Path) -> None:
    with calling(tmp_path) as (relays, connections):
        relays.delay_s = FOREVER_S
        connections["device-1"].sendall(b"x")
        assert connections["device-1"].recv(1) == b"x"


def test_delayed_data_stays_in_order_and_the_end_comes_last(tmp_path: Path) -> None:
    with calling(tmp_path) as (relays, connections):
        sent = b""
        for number in range(200):
            relays.delay_s = 0.02 * (number % 2)  # what is sent later with no delay does not overtake
            part = b"%9d" % number if number < 199 else b"."
            connections["matcher-a"].sendall(part)
            sent += part
        got = b""
        while data := connections["matcher-a"].recv(1 << 16):
            got += data
        assert got == sent
        assert relays.counts()["matcher-a", "matcher-b"] == relays.counts()["matcher-b", "matcher-a"] == len(sent)
