"""What operators read: every line of every daemon's log is JSON, and one request is followed through all of them."""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.test_failures import TOY, Wire
from tests.e2e.world import ENVIRONMENT, EVERYBODY, World, hold_ceremony, set_budgets, settle, supervised, veilmatch
from tests.matcher.cluster.nodes_here import free_port
from veilmatch.crypto.errors import (
    BudgetExceededError,
    ConfigurationError,
    RequestSignatureError,
    UnavailableError,
    UnknownSubjectError,
)
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1 import matcher_pb2, request_pb2
from veilmatch.server.ground.request_id import ID_DIGITS
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.supervisor import load_daemon

#: Methods that serve one request of a device. What nobody took on a link (`Pair`, `Meet`) knows no request.
ABOUT_A_REQUEST = ("Match", "Mutate", "Subjects", "Exchange", "Serve")
IN_PAIR_AB = ("matcher-a", "matcher-b", "keyholder-a", "keyholder-b")
#: Verifications of one subject a day.
BUDGET = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with worker processes and a small budget, whose logs have the whole story at the end."""
    directory = tmp_path_factory.mktemp("logs") / "installation"
    hold_ceremony(directory, TOY)
    for party in "ab":
        set_budgets(directory, f"matcher-{party}", subject_requests={"day": BUDGET})
    environment = {"VEILMATCH_BACKEND": "gmpy2", "VEILMATCH_WORKERS": "1"}
    with supervised(directory, ENVIRONMENT | environment) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, TOY, parties)
        settle(made)
        with made.client() as client:
            client.enrol_embedding("known", np.ones(TOY.dimension), model="toy")
        yield made


@pytest.fixture(scope="module")
def wire(world: World) -> Wire:
    return Wire(world)


def entries(world: World, party: str) -> list[dict[str, Any]]:
    """The log of a party, every line of which has to be one."""
    found = [json.loads(line) for line in world.log(party).splitlines()]
    for entry in found:
        assert entry["party"] == party and entry["event"] and entry["timestamp"].endswith("Z")
        assert entry["level"] in ("debug", "info", "warning", "error")
    return found


def about(world: World, party: str, request: str) -> list[str]:
    return [entry["event"] for entry in entries(world, party) if entry.get("request") == request]


def eventually(holds: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def id_of(body: bytes) -> str:
    return request_digest(body).hex()[:ID_DIGITS]


# -- one request -------------------------------------------------------------------------------------


def test_a_served_request_has_one_id_in_four_logs_and_in_the_audit_logs(world: World, wire: Wire) -> None:
    signed = wire.signer().sign(wire.draft(wire.probe()), "ab")
    assert isinstance(wire.match(signed), matcher_pb2.MatchReply)
    request = id_of(signed.body)
    for party, event in zip(IN_PAIR_AB, ("admitted", "admitted", "served", "served"), strict=True):
        eventually(lambda party=party, event=event: event in about(world, party, request))  # type: ignore[misc]
    for letter in "ab":
        audit = world.directory / folder_of(f"keyholder-{letter}") / "data" / "audit"
        noted = [json.loads(line) for file in audit.iterdir() for line in file.read_text().splitlines()]
        assert [e["request"][:ID_DIGITS] for e in noted if e["event"] == "session"][-1] == request
    assert not about(world, "keyholder-c", request)


def test_a_refused_request_is_followed_by_the_id_in_its_error(world: World, wire: Wire) -> None:
    signed = wire.signer().sign(wire.draft(wire.probe(), "nobody"), "ab")
    refused = wire.match(signed)
    assert isinstance(refused, UnknownSubjectError) and refused.request_id == id_of(signed.body)
    # Each matcher finds it out for itself, once the request has its turn; matcher a's call about it ends at b as well.
    for party in ("matcher-a", "matcher-b"):
        found = [e for e in entries(world, party) if e.get("request") == refused.request_id]
        (last,) = [e for e in found if e["event"] == "call refused" and e["method"] == "Match"]
        assert last["code"] == "unknown_subject" and last["level"] == "info"
        assert last["device"] == last["caller"] == wire.settings.device


def test_two_requests_at_once_do_not_mix(world: World, wire: Wire) -> None:
    first, second = (wire.signer().sign(wire.draft(wire.probe(), "nobody"), "ab") for _ in range(2))
    wire.match(first, second)
    ids = {id_of(first.body), id_of(second.body)}
    for party in ("matcher-a", "matcher-b"):
        assert len({e["request"] for e in entries(world, party) if e.get("request") in ids}) == 1


# -- faults ------------------------------------------------------------------------------------------


def test_requests_that_are_refused(world: World, wire: Wire) -> None:
    signed = wire.signer().sign(wire.draft(wire.probe()), "ab")
    signed.signature = bytes(64)
    assert isinstance(wire.match(signed), RequestSignatureError)
    outcomes = [wire.match(wire.signer().sign(wire.draft(wire.probe()), "ab")) for _ in range(BUDGET)]
    assert isinstance(outcomes[-1], BudgetExceededError)


def test_whoever_does_not_speak_tls_or_has_no_certificate(world: World) -> None:
    for party in EVERYBODY:
        settings = load_daemon(world.parties.config(party))
        host, port = settings.listen.rsplit(":", 1)
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(200), os.urandom(3000)):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(garbage)
        context = ssl.create_default_context(cafile=str(settings.tls.authority))
        context.check_hostname = False
        with socket.create_connection((host, int(port))) as connection:
            try:
                with context.wrap_socket(connection, server_hostname=party) as tls:
                    tls.recv(100)
            except OSError:
                pass
        with grpc.insecure_channel(settings.listen) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/veilmatch.v1.Matcher/Subjects")(b"", timeout=1.0)


@pytest.mark.parametrize("victim", ["keyholder-a", "matcher-b"])
def test_a_peer_that_dies(world: World, wire: Wire, victim: str) -> None:
    draft = replace(wire.draft(wire.probe()), operation=request_pb2.OPERATION_CANDIDATES, subject="")
    world.parties.kill(victim)
    try:
        missing = wire.match(wire.signer().sign(draft, "ab"))
        assert isinstance(missing, UnavailableError) and missing.party == victim
    finally:
        world.restart()


def test_a_hangup_has_files_read_again_and_ends_nothing(world: World) -> None:
    for party in EVERYBODY:
        os.killpg(world.parties.pid(party), signal.SIGHUP)  # workers, too, as a terminal does
    for party in EVERYBODY:
        eventually(lambda party=party: any(e["event"] == "configuration read again" for e in entries(world, party)))  # type: ignore[misc]
        assert world.parties.alive(party)
    with world.client() as client:
        assert client.candidates_embedding(np.ones(TOY.dimension), model="toy").subjects == ("known",)


def test_every_line_of_every_log_is_one_and_those_about_requests_say_which(world: World, tmp_path: Path) -> None:
    assert set(world.parties.stop().values()) == {0}
    events: set[str] = set()
    for party in EVERYBODY:
        for entry in entries(world, party):
            events.add(entry["event"])
            if entry["event"] in ("admitted", "served") or entry.get("method") in ABOUT_A_REQUEST:
                assert len(entry["request"]) == ID_DIGITS, entry
            if entry["event"] in (
                "stocked",
                "stock complete",
                "stock not refilled",
                "serving",
                "stopping",
                "certificate",
            ):
                assert "request" not in entry, entry
    assert {"admitted", "served", "call refused", "stock not refilled", "stopping", "certificate"} <= events
    world.parties.start()
    world.parties.wait_ready()


# -- certificates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", ["keyholder-a", "matcher-a"])
def test_a_daemon_whose_certificate_has_ended_does_not_start(party: str, world: World, tmp_path: Path) -> None:
    copy = tmp_path / party
    copy.mkdir()
    begun = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=900)
    certificate, key = Authority.fresh(lambda: begun).issue(party, clock=lambda: begun)
    (copy / "tls.pem").write_bytes(certificate)
    write_file(copy / "tls-key.pem", key, secret=True)
    tls = {f"VEILMATCH_TLS__{n}": str(copy / f) for n, f in (("CERTIFICATE", "tls.pem"), ("KEY", "tls-key.pem"))}
    # Beside the one that runs, with its addresses but for this one, which is taken first.
    data = {"VEILMATCH_DATA_DIR": str(copy / "data"), "VEILMATCH_METRICS__LISTEN": f"127.0.0.1:{free_port()}"}
    done = veilmatch(party.split("-")[0], "--config", str(world.parties.config(party)), **tls, **data)
    said = " ".join(done.stderr.replace("│", " ").split())
    ended = begun + datetime.timedelta(days=825)
    assert done.returncode == ConfigurationError.exit_status, said
    assert "the certificate has expired" in said and f"{ended:%Y-%m-%d}" in said
