"""`veilmatch up` and the start of daemons: ready means that its own daemons serve, and an end says who and why."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, hold_ceremony, unit, veilmatch
from veilmatch import Client
from veilmatch.client.demo.parties import all_parties
from veilmatch.client.demo.parties import hold_ceremony as demonstration_ceremony
from veilmatch.crypto.errors import (
    ConfigurationError,
    ParameterError,
    UnavailableError,
    VeilmatchError,
    WrongPassphraseError,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server import supervisor
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.preflight import check_keys, check_places
from veilmatch.server.supervisor import Supervisor, load_daemon

TOY = ParameterSet(modulus_bits=1024)
KEY_HOLDER, MATCHER = "organisation-a/keyholder/keyholder.toml", "organisation-a/matcher/matcher.toml"
#: Of a proxy that nobody listens at: gRPC takes it from the environment, for this machine too.
PROXY = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "grpc", "all")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("up") / "installation"
    hold_ceremony(directory, TOY)
    return directory


@pytest.fixture
def directory(made: Path) -> Iterator[Path]:
    """An installation as the ceremony left it, of which no process is left at the end."""
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file() and "data" not in path.parts}
    yield made
    for path, content in before.items():
        path.write_bytes(content)


def up(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "veilmatch", "up", str(directory), *arguments],
        env=os.environ | ENVIRONMENT | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def refused(directory: Path, **environment: str) -> tuple[dict[str, Any], int]:
    """What `up --json` ends with; one document, and nothing was started."""
    before = {party: _log_size(directory, party) for party in EVERYBODY}
    done = veilmatch("up", str(directory), "--json", **environment)
    assert {party: _log_size(directory, party) for party in EVERYBODY} == before
    return json.loads(done.stdout)["error"], done.returncode


def _log_size(directory: Path, party: str) -> int:
    log = directory / folder_of(party) / "log.jsonl"
    return log.stat().st_size if log.exists() else 0


def test_up_is_ready_once_and_a_second_one_on_the_same_installation_is_not(directory: Path) -> None:
    first = up(directory, "--json", **PROXY)
    try:
        assert first.stdout is not None
        ready = json.loads(first.stdout.readline())
        assert ready["ready"] and set(ready["parties"]) == set(EVERYBODY)
        second = veilmatch("up", str(directory), "--json")
        error = json.loads(second.stdout)["error"]
        assert (second.returncode, error["party"]) == (3, "keyholder-a")
        assert "another daemon uses the data directory" in error["message"]
        holders = {child.pid for child in psutil.Process(first.pid).children()}
        assert any(f"process {pid}" in error["got"] and f"process {pid}" in error["hint"] for pid in holders)
        assert "`veilmatch up` of this installation" in error["hint"]
        with Client.from_config(directory / "device-1" / "device.toml") as client:
            assert list(client.subjects()) == []
            # The daemons reach each other as well, past the proxy.
            vector = unit(np.random.default_rng(1), 1, TOY.dimension)[0]
            client.enrol_embedding("alice", vector, model="m")
            assert client.verify_embedding("alice", vector, model="m")
        # A daemon that dies is told by name, and there is no second document.
        config = str(directory / folder_of("keyholder-b") / "keyholder.toml")
        victim = next(child for child in psutil.Process(first.pid).children() if config in child.cmdline())
        victim.kill()
        rest, told = first.communicate(timeout=60)
        assert rest == "" and first.returncode == 6
        assert "keyholder-b has ended" in told and "SIGKILL" in told
        assert (
            "organisation-b/keyholder/log.jsonl" in "".join(told.split()).replace("\u2502", "")
            and "Try again" not in told
        )
    finally:
        first.terminate()
        first.wait(60)


def test_daemons_end_with_an_up_that_is_killed_and_the_next_one_starts(directory: Path) -> None:
    first = up(directory, "--json")
    assert first.stdout is not None and json.loads(first.stdout.readline())["ready"]
    started = psutil.Process(first.pid).children(recursive=True)
    assert len(started) >= len(EVERYBODY)
    first.kill()
    first.communicate()
    try:
        _, alive = psutil.wait_procs(started, timeout=30)
        assert not alive
        assert check_places(directory), "nothing of it holds a folder or a port"
    finally:
        for process in started:
            if process.is_running():
                process.kill()


def test_the_folder_is_looked_at_before_anybody_is_asked_for_a_passphrase(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "VEILMATCH_PASSPHRASE"}
    done = subprocess.run(
        [sys.executable, "-m", "veilmatch", "up", str(tmp_path), "--json"], env=environment, stdin=theirs,
        stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=60, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    error = json.loads(done.stdout)["error"]
    told = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (done.returncode, error["message"]) == (3, "not an installation")
    assert "Passphrase" not in told and "veilmatch ceremony" in error["hint"]


def test_ports_are_looked_at_before_anything_starts(directory: Path) -> None:
    address = load_daemon(directory / folder_of("matcher-b") / "matcher.toml").listen
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        error, status = refused(directory)
    assert (status, error["party"]) == (3, "matcher-b")
    assert "cannot listen" in error["message"] and error["got"].startswith(address)


def test_the_passphrase_is_tried_before_anything_starts(directory: Path) -> None:
    error, status = refused(directory, VEILMATCH_PASSPHRASE="another")
    assert (status, error["code"], error["party"]) == (7, "wrong_passphrase", "keyholder-a")
    assert "later" not in error["hint"]


def test_certificates_and_configurations_are_looked_at_before_anything_starts(directory: Path) -> None:
    (directory / folder_of("keyholder-c") / "tls.pem").write_text("nothing")
    error, status = refused(directory)
    assert (status, error["code"], error["party"]) == (3, "configuration", "keyholder-c")
    shutil.copy(
        directory / folder_of("keyholder-c") / "keyholder.toml", directory / folder_of("matcher-a") / "matcher.toml"
    )
    error, status = refused(directory)
    assert (status, error["party"], error["got"]) == (3, "matcher-a", "a keyholder.toml")


def test_what_a_daemon_ends_with_is_what_the_supervisor_raises(directory: Path) -> None:
    """Without the look before: the daemon itself says why, in the last line of its log."""
    with Supervisor(directory, ENVIRONMENT | {"VEILMATCH_PASSPHRASE": "another"}) as parties:
        parties.start("keyholder-b")
        with pytest.raises(WrongPassphraseError, match="keyholder-b did not start") as caught:
            parties.wait_ready()
    assert caught.value.party == "keyholder-b"
    with Supervisor(directory, ENVIRONMENT) as parties, Supervisor(directory, ENVIRONMENT) as others:
        parties.start("matcher-a")
        parties.wait_ready()
        others.start("matcher-a")
        # The first one's daemon answers at that address all the time.
        with pytest.raises(ConfigurationError, match="matcher-a did not start: another daemon"):
            others.wait_ready()
        assert parties.alive("matcher-a")
        parties.kill("matcher-a")
        parties.start("keyholder-a")
        parties.wait_ready()
        os.kill(parties.pid("keyholder-a"), signal.SIGKILL)
        ended = parties.wait()
    assert isinstance(ended, UnavailableError) and ended.party == "keyholder-a"
    assert "has ended" in ended.message and ended.available == "signal SIGKILL"


@pytest.mark.parametrize(("said", "in_environment", "status"), [("0", None, -9), ("30", None, 0), ("0", "30", 0)])
def test_a_daemon_has_as_long_to_stop_as_it_gives_its_requests(
    said: str, in_environment: str | None, status: int, directory: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(supervisor, "_STOP_GRACE_S", 0.2)
    installation = Path(shutil.copytree(directory, tmp_path / "copy"))
    config = config_of(installation, "matcher-a")
    config.write_text(f"stop_s = {said}\n{config.read_text()}")
    began = tmp_path / "began"

    def launch(_words: object, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """A process that ends two seconds after it is told to."""
        script = f"trap 'sleep 2; exit 0' TERM; touch {began}; while :; do sleep 0.05; done"
        return subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=log, env=environment, start_new_session=True
        )

    environment = {} if in_environment is None else {"VEILMATCH_STOP_S": in_environment}
    with Supervisor(installation, environment, launch=launch) as parties:
        parties.start("matcher-a")
        while not began.exists():
            time.sleep(0.01)
        assert parties.stop("matcher-a") == {"matcher-a": status}


def test_what_up_looks_at_is_free_again_for_the_daemons(directory: Path) -> None:
    with Supervisor(directory, ENVIRONMENT) as parties:
        settings = check_places(directory)
        check_keys(settings, ENVIRONMENT["VEILMATCH_PASSPHRASE"])
        assert set(settings) == set(EVERYBODY)
        parties.start("keyholder-c")
        parties.wait_ready()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "status"),
    [
        (
            ["keyholder", "--config", KEY_HOLDER],
            {"VEILMATCH_PASSPHRASE": "x"},
            "wrong_passphrase",
            7,
        ),
        (["keyholder", "--config", MATCHER], {}, "configuration", 3),
        (["matcher", "--config", "nowhere.toml"], {}, "configuration", 3),
        (
            ["matcher", "--config", MATCHER],
            {"VEILMATCH_LISTEN": "192.0.2.1:7"},
            "configuration",
            3,
        ),
        (
            ["matcher", "--config", MATCHER],
            {"VEILMATCH_LISTENN": "x"},
            "configuration",
            3,
        ),
    ],
)
def test_a_daemon_that_does_not_start_says_so_in_one_line_of_json(
    arguments: list[str], environment: dict[str, str], code: str, status: int, directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(directory)
    done = veilmatch(*arguments, **environment)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == status and done.stdout == ""
    last = lines[-1]
    assert (last["event"], last["level"], last["error"]["code"]) == ("did not start", "error", code)
    assert last["party"].startswith(arguments[0]) and last["timestamp"] and last["error"]["hint"]
    assert isinstance(VeilmatchError.from_fields(last["error"]), VeilmatchError)


def test_a_device_of_another_installation_is_told_about_certificates(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gRPC's own lines are not in the way."""
    hold_ceremony(tmp_path / "other", TOY)
    addresses = load_daemon(directory / folder_of("matcher-a") / "matcher.toml").listen
    config = tmp_path / "other" / "device-1" / "device.toml"
    other = load_daemon(tmp_path / "other" / folder_of("matcher-a") / "matcher.toml").listen
    config.write_text(config.read_text().replace(other, addresses))
    with Supervisor(directory, ENVIRONMENT) as parties:
        parties.start("matcher-a", "matcher-b")
        parties.wait_ready()
        done = veilmatch("subjects", "--config", str(config), "--json", "--timeout", "5")
    told = json.loads(done.stdout)["error"]
    assert done.returncode == 6 and told["code"] == "handshake" and "certificate" in told["hint"]
    assert done.stderr.startswith("\u256d") and not any(word in done.stderr for word in ("E0000", "ssl_", "grpc"))


def test_a_person_at_a_terminal_sees_a_panel_beside_the_line_of_the_log(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "veilmatch", "matcher", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    told = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (3, b"")
    assert json.loads(told.splitlines()[0])["event"] == "did not start"
    assert "configuration" in told.splitlines()[1] and "hint" in told


def test_the_demonstration_ends_with_what_its_parties_end_with(directory: Path) -> None:
    with pytest.raises(WrongPassphraseError, match="keyholder-a cannot start"), all_parties(directory, "another"):
        pass
    with pytest.raises(ParameterError, match="--allow-unsafe"):
        demonstration_ceremony(directory, TOY.name, "x")
