"""The systemd units: systemd takes them, they leave a daemon few rights, and what they start does serve."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.configured import DEPLOYED
from tests.e2e.world import PASSPHRASE, hold_ceremony
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import DaemonSettings, KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import folder_of

UNITS = sorted((DEPLOYED / "systemd").glob("*.service"))
TIMERS = sorted((DEPLOYED / "systemd").glob("*.timer"))
DAEMONS = ("keyholder", "matcher")
#: Of 100, as systemd counts it: the network, and a root directory that is the machine's, are what is left.
MOST_EXPOSED = 12
VEILMATCH = Path(sys.executable).with_name("veilmatch")
INSTALLED = "/opt/veilmatch/bin/veilmatch"

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def settings_of(unit: Path) -> dict[str, list[str]]:
    """All values of each key, in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.M):
        found.setdefault(key, []).append(value)
    return found


def unit_of(kind: str) -> dict[str, list[str]]:
    return settings_of(DEPLOYED / "systemd" / f"veilmatch-{kind}.service")


def test_there_is_a_systemd_that_looks_at_units() -> None:
    there = shutil.which("systemd-analyze") is not None
    if not there and not os.environ.get("CI"):
        pytest.skip("no systemd-analyze on this machine: units are not looked at (apt-get install systemd)")
    assert there, "CI has to have systemd-analyze: make systemd"


@with_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    assert INSTALLED in text
    # Here it is elsewhere, and `verify` looks.
    copy = tmp_path / unit.name
    for timer in unit.parent.glob(f"{unit.stem}.timer"):
        shutil.copy(timer, tmp_path)
    copy.write_text(text.replace(INSTALLED, str(VEILMATCH)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())], capture_output=True, text=True
    )
    # What is said of units of this machine is not about this one.
    said = [line for line in done.stderr.splitlines() if unit.stem in line or str(tmp_path) in line]
    assert (done.returncode, said) == (0, []), done.stderr
    copy.write_text(text.replace(INSTALLED, str(VEILMATCH)).replace("ProtectSystem=strict", "ProtectSistem=strict"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    assert "ProtectSistem" in done.stderr


@with_systemd
@pytest.mark.parametrize("timer", TIMERS, ids=lambda timer: timer.stem)
def test_a_timer_has_its_service_and_a_time_that_comes(timer: Path) -> None:
    assert timer.with_suffix(".service") in UNITS
    (when,) = settings_of(timer)["OnCalendar"]
    done = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True)
    assert done.returncode == 0 and "Next elapse" in done.stdout and "never" not in done.stdout, done.stderr
    assert settings_of(timer)["WantedBy"] == ["timers.target"]


@with_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_leaves_few_rights(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(unit)],
        capture_output=True, text=True,
    )  # fmt: skip
    with capsys.disabled():
        print(f"\n{done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", DAEMONS)
def test_memory_is_kept_off_disks_and_each_daemon_has_its_user(kind: str) -> None:
    unit = unit_of(kind)
    assert (unit["MemorySwapMax"], unit["LimitCORE"]) == (["0"], ["0"])
    assert unit["User"] == unit["Group"] == [f"veilmatch-{kind}"]
    assert unit["WorkingDirectory"] == [f"/var/lib/{unit['StateDirectory'][0]}"]
    users = (DEPLOYED / "systemd" / "veilmatch.sysusers.conf").read_text()
    assert f'u veilmatch-{kind} - "' in users
    for unit_file in UNITS:
        assert f"u {settings_of(unit_file)['User'][0]} -" in users


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("units") / "installation"
    hold_ceremony(directory, ParameterSet(modulus_bits=1024))
    yield directory


def spoken(folder: Path, kind: str, version: ssl.TLSVersion) -> str | None:
    """Return the version of TLS that a daemon speaks with an organisation's server that has this one alone."""
    settings = (KeyHolderSettings if kind == "keyholder" else MatcherSettings).load(folder / f"{kind}.toml")
    context = ssl.create_default_context(cafile=str(settings.tls.authority))
    context.load_cert_chain(settings.tls.certificate, settings.tls.key)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    host, _, port = settings.listen.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=20)
    with context.wrap_socket(plain, server_hostname=f"{kind}-a") as one:
        return one.version()


@pytest.mark.parametrize("kind", DAEMONS)
def test_what_it_starts_serves_with_the_passphrase_of_its_credential(
    kind: str, installation: Path, tmp_path: Path
) -> None:
    unit, folder = unit_of(kind), installation / folder_of(f"{kind}-a")
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (name,) = (credential.split(":")[0] for credential in unit["LoadCredential"])
    (credentials / name).touch(mode=0o600)
    (credentials / name).write_text(PASSPHRASE)
    (credentials / name).chmod(0o400)
    environment = dict(value.replace("%d", str(credentials)).split("=", 1) for value in unit["Environment"])
    ours = {name.removeprefix("VEILMATCH_").lower() for name in environment}
    assert ours <= set(DaemonSettings.model_fields)
    words = shlex.split(unit["ExecStart"][0].replace(INSTALLED, str(VEILMATCH)))
    notified = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, (tmp_path / "log").open("wb") as log:
        heard.bind(notified)
        heard.settimeout(60)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILMATCH_")}
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=kept | environment | {"NOTIFY_SOCKET": notified},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            assert heard.recv(100) == b"READY=1"
            version = partial(spoken, folder, kind)
            assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                version(ssl.TLSVersion.TLSv1_2)
            process.send_signal(signal.SIGHUP)  # ExecReload
            process.terminate()
            assert process.wait(60) == 0
        except BaseException:
            process.kill()
            process.wait()
            raise AssertionError((tmp_path / "log").read_text()) from None
