"""TLS 1.3 alone: what listens refuses a caller that has 1.2 and no more, and what calls such a server."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ceremony.three import prepared, settings_of
from tests.deploy.configured import port_of
from tests.e2e.world import EVERYBODY, World
from tests.installation.making import PASSPHRASE
from tests.nursery import nursery
from veilmatch.common.settings import TlsSettings
from veilmatch.common.tls_versions import CIPHERS_VARIABLE, NO_CIPHER
from veilmatch.server.installation.plan import AUTHORITY, config_of
from veilmatch.server.installation.tls.folder import CERTIFICATE
from veilmatch.server.supervisor import load_daemon

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
#: A program of a user, which has the SDK.
PROGRAM = """
import sys
from veilmatch import Client, VeilmatchError
try:
    with Client.from_config(sys.argv[1]) as client:
        client.subjects(timeout_s=5)
except VeilmatchError as error:
    print(error.code)
"""


def spoken(port: int, server: str, authority: Path, certificate: Path, key: Path, version: ssl.TLSVersion) -> str:
    """Return the version that a server speaks with a caller that it knows and that has this one alone.

    Raises ssl.SSLError or ConnectionError if they find none.
    """
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(plain, server_hostname=server) as one:
        return str(one.version())


@pytest.mark.parametrize("party", EVERYBODY)
def test_a_daemon_refuses_whoever_has_tls_1_2_alone(world: World, party: str) -> None:
    settings = load_daemon(config_of(world.directory, party))
    tls = settings.tls
    # Its own certificate is one of the authority: who may call is not looked at before the version.
    caller = (port_of(settings.listen), party, tls.authority, tls.certificate, tls.key)
    assert spoken(*caller, NEW) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        spoken(*caller, OLD)


def test_a_key_ceremony_refuses_whoever_has_tls_1_2_alone(tmp_path: Path) -> None:
    configs = prepared(tmp_path)
    settings = settings_of(configs)
    listening, calling = settings["c"], settings["a"]
    words = ["ceremony", "join", str(configs["c"])]
    with (tmp_path / "log").open("wb") as log:
        process = nursery().fork(words, os.environ | {"VEILMATCH_PASSPHRASE": PASSPHRASE}, log, log)
        try:
            keys, authority = calling.keys, listening.keys / AUTHORITY / CERTIFICATE
            caller = (port_of(listening.listen), "keyholder-c", authority, keys / "tls.pem", keys / "tls-key.pem")
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert spoken(*caller, NEW) == "TLSv1.3"
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.1)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                spoken(*caller, OLD)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@dataclass
class OldServer:
    """A server that has TLS 1.2 alone, with a certificate that is right. met: versions that callers agreed on."""

    tls: TlsSettings
    met: list[str] = field(default_factory=list)
    failed: int = 0

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Listen in the body, at the port that it gets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        context.maximum_version = OLD
        context.set_alpn_protocols(["h2"])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=self._serve, args=(listener, context), daemon=True)
            thread.start()
            yield listener.getsockname()[1]
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)

    def _serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(20)
            try:
                with context.wrap_socket(plain, server_side=True) as one:
                    self.met.append(str(one.version()))
            except OSError:
                self.failed += 1


#: What a process is, what its environment says of ciphers, and whether it speaks TLS 1.2 then.
WHO = [
    ("a program with the SDK", {}, True),
    ("a program with the SDK", {CIPHERS_VARIABLE: NO_CIPHER}, False),
    ("the command line", {}, False),
    ("the command line", {CIPHERS_VARIABLE: "HIGH"}, False),
]


@pytest.mark.parametrize(("who", "chosen", "old_is_spoken"), WHO)
def test_a_server_that_has_tls_1_2_alone(world: World, who: str, chosen: dict[str, str], old_is_spoken: bool) -> None:
    old, config = OldServer(load_daemon(config_of(world.directory, "matcher-a")).tls), str(world.device_config)
    command = ["-m", "veilmatch", "subjects", "--config", config]
    kept = {name: value for name, value in os.environ.items() if name != CIPHERS_VARIABLE}
    with old.serving() as port:
        there = {"VEILMATCH_MATCHERS__A": f"127.0.0.1:{port}", "VEILMATCH_PAIRS": '["ab"]', "VEILMATCH_TIMEOUT_S": "5"}
        done = subprocess.run(
            [sys.executable, *(command if who == "the command line" else ["-c", PROGRAM, config])],
            env=kept | there | chosen, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.stdout or done.returncode, done
    # A program that has agreed may still go away in the middle of another connection.
    assert ("TLSv1.2" in old.met) == old_is_spoken and (old_is_spoken or old.failed), (old, done)
