"""TLS certificates of a running installation: renewed, revoked, replaced, and nobody restarts or loses a request."""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509

from tests.e2e.world import EVERYBODY, PASSPHRASE, World, running, unit, veilmatch
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceRightsError,
    HandshakeError,
    PartyRefusedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import config_of
from veilmatch.server.installation.tls.renewing import renew
from veilmatch.server.supervisor import load_daemon

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(3), 2, TOY.dimension)
#: Files are looked at every two seconds; the rest is a busy machine.
SOON_S = 20.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("certificates") / "installation", TOY, devices=3) as world:
        with world.client() as client:
            client.enrol_embedding("ann", FACES[0], model="toy")
        yield world


def device(world: World, number: int, **changes: Any) -> DeviceSettings:
    settings = DeviceSettings.load(world.directory / f"device-{number}" / "device.toml")
    return settings.model_copy(update=changes)


def authority(world: World, *arguments: str) -> dict[str, Any]:
    """Run `veilmatch authority` as an operator would."""
    done = veilmatch("authority", arguments[0], *arguments[1:], "--installation", str(world.directory), "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def entries(world: World, party: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in world.log(party).splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def eventually(what: Callable[[], bool], within_s: float = SOON_S) -> float:
    """Wait for it; return how long that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() < began + within_s
        time.sleep(0.05)
    return time.monotonic() - began


def shown_by(world: World, party: str) -> x509.Certificate:
    """The certificate that a daemon shows to who connects now."""
    settings = load_daemon(config_of(world.directory, party))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(settings.tls.certificate, settings.tls.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = settings.listen.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def on_disk(world: World, party: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(load_daemon(config_of(world.directory, party)).tls.certificate.read_bytes())


def shows_what_is_there(world: World) -> bool:
    return all(shown_by(world, party) == on_disk(world, party) for party in EVERYBODY)


@contextmanager
def load(world: World, threads: int = 3) -> Iterator[Callable[[], int]]:
    """Verify without end over one client. Yields how many were answered; raises what one ended with."""
    answered, failed, stop = [0] * threads, list[BaseException](), threading.Event()

    def verify(client: Client, number: int) -> None:
        while not stop.is_set():
            try:
                # The limit is the test's: the machine may be busy.
                assert client.verify_embedding("ann", FACES[number % 2], model="toy", timeout_s=60).decision is (
                    number % 2 == 0
                )
                answered[number] += 1
            except BaseException as error:
                failed.append(error)
                return

    with world.client() as client:
        workers = [threading.Thread(target=verify, args=(client, number)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield lambda: sum(answered)
            goes_on(lambda: sum(answered))
        finally:
            stop.set()
            for worker in workers:
                worker.join()
    assert failed == []


def goes_on(answered: Callable[[], int]) -> None:
    """Wait until some more were answered."""
    now = answered()
    eventually(lambda: answered() >= now + 6, 60)


def test_all_certificates_are_renewed_under_load_and_no_request_is_lost(world: World) -> None:
    before = {party: shown_by(world, party) for party in EVERYBODY}
    before_refused = {party: len(entries(world, party, "call refused")) for party in EVERYBODY}
    with load(world) as answered:
        goes_on(answered)
        for _ in range(2):
            done = authority(world, "renew")
            assert {one["party"] for one in done["renewed"]} >= {*EVERYBODY, "device-1"}
            eventually(lambda: shows_what_is_there(world))
            goes_on(answered)
    assert all(shown_by(world, party) != before[party] for party in EVERYBODY)
    # Nobody refused anybody, and nobody was missed; a busy machine may be slow.
    for party in EVERYBODY:
        refused = entries(world, party, "call refused")[before_refused[party] :]
        assert [e for e in refused if "certificate" in e["reason"] or "reached" in e["reason"]] == []
    status = authority(world, "status")
    assert {one["state"] for one in status["held"]} == {"good"}
    assert {one["party"] for one in status["held"]} == {*EVERYBODY, "device-1", "device-2", "device-3"}


def test_a_revoked_device_is_refused_by_every_server_soon(world: World) -> None:
    with Client(device(world, 2)) as client, load(world, 1):
        assert client.verify_embedding("ann", FACES[0], model="toy")
        authority(world, "revoke", "device-2")

        def refused() -> bool:
            try:
                client.verify_embedding("ann", FACES[0], model="toy")
            except (PartyRefusedError, UnavailableError) as error:  # the second: in the middle of a call
                return isinstance(error, PartyRefusedError) and error.got == "it was revoked"
            return False

        took_s = eventually(refused)
        print(f"refused {took_s:.1f} s after the list was in place")
    eventually(lambda: all(entries(world, party, "TLS files read again")[-1]["revoked"] for party in EVERYBODY))
    for pair in ("ab", "ac", "bc"):
        with Client(device(world, 2, pairs=[pair])) as again, pytest.raises(PartyRefusedError, match="device-2"):
            again.verify_embedding("ann", FACES[0], model="toy")
    # The operators see who was refused, and why; a new certificate under the name is served.
    assert entries(world, "matcher-a", "call refused")[-1]["caller"] == "device-2"
    authority(world, "renew", "device-2")
    with Client(device(world, 2)) as again:
        assert again.verify_embedding("ann", FACES[0], model="toy")


def test_a_device_that_two_organisations_revoke_is_refused_everywhere(world: World) -> None:
    """Each runs one command at its own key holder: no file is carried to any of the six daemons."""

    def device_command(*arguments: str) -> dict[str, Any]:
        done = veilmatch("device", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    installation = ("--installation", str(world.directory))
    device_command("issue", str(world.directory), "door")

    def asks(pair: str) -> VeilmatchError | None:
        settings = DeviceSettings.load(world.directory / "door" / "device.toml").model_copy(update={"pairs": [pair]})
        with Client(settings) as client:
            try:
                assert client.verify_embedding("ann", FACES[0], model="toy")
            except VeilmatchError as error:
                return error
        return None

    folders = [world.folder(party) / "revoked" for party in EVERYBODY]
    for party, signed in (("c", "c"), ("a", "ac")):
        assert [asks(pair) for pair in ("ab", "ac", "bc")] == [None] * 3, "one alone revokes nothing"
        device_command("revoke", "door", "--config", str(config_of(world.directory, f"keyholder-{party}")))
        # The second one signs the list of the first.
        eventually(lambda signed=signed: all([*folder.glob(f"{signed}-1-*.list")] for folder in folders), 60)  # type: ignore[misc]
    # On disk before it counts, by a thread: a moment later it does.
    eventually(lambda: all(isinstance(asks(pair), DeviceRightsError) for pair in ("ab", "ac", "bc")))
    for pair in ("ab", "ac", "bc"):
        assert "two organisations have revoked" in str(asks(pair))
    # For good, and that certificate alone: another one of the same device is served.
    device_command("renew", "door", *installation)
    assert [asks(pair) for pair in ("ab", "ac", "bc")] == [None] * 3


def test_an_old_certificate_of_a_server_is_revoked_and_its_new_one_serves(world: World) -> None:
    """The link between the key holders was made with the old one: it ends, and another one takes its place."""
    authority(world, "renew", "keyholder-a", "matcher-a")
    eventually(lambda: shows_what_is_there(world))
    authority(world, "revoke", "keyholder-a", "--older")
    authority(world, "revoke", "matcher-a", "--older")
    eventually(lambda: all(entries(world, party, "TLS files read again")[-1]["revoked"] >= 3 for party in EVERYBODY))

    def serves() -> bool:
        with world.client(pairs=["ab"]) as client:
            try:
                return bool(client.verify_embedding("ann", FACES[0], model="toy"))
            except VeilmatchError:
                return False

    eventually(serves)


def test_the_authority_is_replaced_under_load(world: World) -> None:
    old = on_disk(world, "matcher-a").issuer
    with load(world) as answered:
        for step in (("replace",), ("renew",), ("replace", "--end")):
            seen = {party: len(entries(world, party, "TLS files read again")) for party in EVERYBODY}
            authority(world, *step)
            eventually(
                lambda seen=seen: all(len(entries(world, p, "TLS files read again")) > seen[p] for p in EVERYBODY)  # type: ignore[misc]
            )
            eventually(lambda: shows_what_is_there(world))
            goes_on(answered)
    assert all(shown_by(world, party).issuer != old for party in EVERYBODY)
    assert len(authority(world, "status")["authorities"]) == 1


def test_certificates_that_have_ended_are_told_of_in_words_at_both_ends(world: World) -> None:
    short = datetime.timedelta(seconds=6)
    renew(world.directory, ["device-3"], PASSPHRASE, validity=short)
    with Client(device(world, 3)) as client:
        assert client.verify_embedding("ann", FACES[0], model="toy", timeout_s=60)
        time.sleep(short.total_seconds())
        with pytest.raises(PartyRefusedError, match="certificate of device-3 is not good any more") as caught:
            client.verify_embedding("ann", FACES[0], model="toy")
        assert str(caught.value.got).startswith("it ended on")
        assert entries(world, "matcher-a", "call refused")[-1]["caller"] == "device-3"
    with pytest.raises(ConfigurationError, match="has expired"), Client(device(world, 3)) as client:
        client.verify_embedding("ann", FACES[0], model="toy")
    renew(world.directory, ["matcher-b"], PASSPHRASE, validity=short)
    eventually(lambda: shown_by(world, "matcher-b") == on_disk(world, "matcher-b"))
    time.sleep(short.total_seconds())
    with world.client(pairs=["ab"]) as client, pytest.raises(HandshakeError, match="expired") as failed:
        client.verify_embedding("ann", FACES[0], model="toy")
    assert failed.value.party == "matcher-b"
    os.kill(world.parties.pid("matcher-b"), signal.SIGHUP)  # as it does every day
    eventually(
        lambda: any(
            e.get("reason") == "a certificate has ended" and e.get("of") == "this party"
            for e in entries(world, "matcher-b", "alert")
        )
    )
    renew(world.directory, ["matcher-b"], PASSPHRASE)
    eventually(lambda: shown_by(world, "matcher-b") == on_disk(world, "matcher-b"))
    with world.client(pairs=["ab"]) as client:

        def served() -> bool:
            try:
                return bool(client.verify_embedding("ann", FACES[0], model="toy", timeout_s=60))
            except UnavailableError:  # matcher-a connects to it again at a pace of its own
                return False

        eventually(served, within_s=60.0)


def test_a_hangup_changes_the_level_of_the_log_and_says_what_it_does_not(world: World) -> None:
    party = "keyholder-b"
    config = config_of(world.directory, party)
    text = config.read_text()

    def hang_up() -> None:
        before = world.log(party).count('"event": "hangup"')
        os.kill(world.parties.pid(party), signal.SIGHUP)
        if 'log_level = "error"' not in text:
            eventually(lambda: world.log(party).count('"event": "hangup"') > before)

    try:
        config.write_text('log_level = "debug"\npeer_timeout_s = 6.0\n' + text)
        hang_up()
        eventually(lambda: bool(entries(world, party, "configuration read again")))
        said = entries(world, party, "configuration read again")[-1]
        assert (said["log_level"], said["takes_a_restart"]) == ("debug", ["peer_timeout_s"])
        config.write_text('log_level = "shout"\n' + text)
        hang_up()
        eventually(lambda: any("log_level" in e.get("reason", "") for e in entries(world, party, "alert")))
        config.write_text('log_level = "error"\n' + text)
        hang_up()
        time.sleep(2)
        size = len(world.log(party))
        with world.client(pairs=["ab"]) as client:
            assert client.verify_embedding("ann", FACES[0], model="toy", timeout_s=60)
        assert len(world.log(party)) == size
    finally:
        config.write_text(text)
        os.kill(world.parties.pid(party), signal.SIGHUP)
    with world.client(pairs=["ab"]) as client:
        eventually(
            lambda: (
                bool(client.verify_embedding("ann", FACES[0], model="toy", timeout_s=60))
                and len(world.log(party)) > size
            )
        )


def test_everything_in_the_logs_was_json(world: World) -> None:
    for party in EVERYBODY:
        for line in world.log(party).splitlines():
            assert isinstance(json.loads(line), dict)


def test_a_daemon_with_a_list_that_is_missing_does_not_start(world: World, tmp_path: Path) -> None:
    crl = world.folder("matcher-c") / "crl.pem"
    aside = crl.rename(tmp_path / "crl.pem")
    world.parties.stop("matcher-c")
    try:
        done = veilmatch("matcher", "--config", str(world.parties.config("matcher-c")))
        assert done.returncode == ConfigurationError.exit_status
        last = json.loads(done.stderr.splitlines()[-1])
        assert (last["event"], "revocation list" in last["error"]["message"]) == ("did not start", True)
    finally:
        aside.rename(crl)
        world.restart()
