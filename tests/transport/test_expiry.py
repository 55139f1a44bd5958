"""Certificates that end: said ahead of time, louder every week; one that is not valid is not used at all."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from tests.installation.making import certificate, public_file
from tests.transport.parties import tls_from
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.transport.channels import channel_to, server_credentials
from veilmatch.server.transport.expiry import Expiry

NAME, DAY_S = "keyholder-a", 86400.0
LIFE_DAYS = 825


def tls_issued(folder: Path, days_ago: float, authority_days_ago: float = 1000) -> TlsSettings:
    """TLS files whose certificate was issued so many days ago, for 825 days; negative is in the future."""

    def clock(ago: float) -> Callable[[], datetime.datetime]:
        return lambda: datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=ago)

    authority = Authority.fresh(clock(authority_days_ago))
    tls = tls_from(folder, NAME)
    tls.key.parent.mkdir(parents=True)
    made, key = authority.issue(NAME, clock=clock(days_ago))
    tls.authority.write_bytes(authority.certificate_pem())
    tls.certificate.write_bytes(made)
    write_file(tls.key, key, secret=True)
    return tls


def said(folder: Path, tls: TlsSettings, now: Callable[[], float] = time.time) -> dict[str, dict[str, Any]]:
    """What a look says, by certificate."""
    (folder / "devices").mkdir(exist_ok=True)
    with capture_logs() as logged:
        Expiry(tls, folder / "devices", public_file(), now).look()
    return {entry["of"]: dict(entry) for entry in logged}


@pytest.mark.parametrize(
    ("left", "event", "level"),
    [
        (400.5, "certificate", "info"),
        (60.5, "certificate", "info"),
        (59.5, "certificate", "warning"),
        (7.5, "certificate", "warning"),
        (6.5, "alert", "error"),
        (0.5, "alert", "error"),
        (-0.5, "alert", "error"),
    ],
)
def test_the_nearer_the_end_the_louder(left: float, event: str, level: str, tmp_path: Path) -> None:
    tls = tls_issued(tmp_path, LIFE_DAYS - left)
    entry = said(tmp_path, tls)["this party"]
    assert (entry["event"], entry["log_level"], entry["file"]) == (event, level, str(tls.certificate))
    assert entry["days_left"] == int(left // 1)
    end = datetime.datetime.fromisoformat(entry["ends"]).timestamp()
    assert end == pytest.approx(time.time() + left * DAY_S, abs=60)


def test_the_authority_is_looked_at_too(tmp_path: Path) -> None:
    entries = said(tmp_path, tls_issued(tmp_path, 10, authority_days_ago=3650 - 5))
    assert entries["authority"]["log_level"] == "error" and entries["authority"]["days_left"] == 4
    # It cannot outlive its authority.
    assert entries["this party"]["log_level"] == "error"


def test_devices_are_looked_at_as_they_are_then(tmp_path: Path) -> None:
    tls, now = tls_issued(tmp_path, 0), [time.time()]
    (tmp_path / "devices").mkdir()
    expiry = Expiry(tls, tmp_path / "devices", public_file(), lambda: now[0])
    made = certificate("door", Ed25519PrivateKey.generate())
    (tmp_path / "devices" / "door.cert").write_bytes(made.encode())
    (tmp_path / "devices" / "damaged.cert").write_bytes(b"nothing")
    for left, level in ((70, "info"), (20, "warning"), (3, "error"), (-3, "error")):
        now[0] = made.statement.not_after_s - left * DAY_S
        with capture_logs() as logged:
            expiry.look()
        assert [e["log_level"] for e in logged if e["of"] == "door"] == [level]
        assert not any(e["of"] == "damaged" for e in logged)
    (tmp_path / "devices" / "door.cert").unlink()
    with capture_logs() as logged:
        expiry.look()
    assert not any(e["of"] == "door" for e in logged)


@pytest.mark.parametrize("use", [server_credentials, lambda tls: channel_to("localhost:1", NAME, tls)])
@pytest.mark.parametrize(("days_ago", "why"), [(LIFE_DAYS + 1, "has expired"), (-1, "not valid yet")])
async def test_a_certificate_that_is_not_valid_now_is_not_used(
    days_ago: float, why: str, use: Callable[[TlsSettings], Any], tmp_path: Path
) -> None:
    tls = tls_issued(tmp_path, days_ago)
    with pytest.raises(ConfigurationError, match=why) as caught:
        use(tls)
    date = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
    date += datetime.timedelta(days=LIFE_DAYS) if days_ago > 0 else datetime.timedelta(minutes=-5)
    assert str(tls.certificate) in str(caught.value) and f"{date:%Y-%m-%d}" in str(caught.value)


def test_a_daemon_looks_when_it_starts_and_every_day(tmp_path: Path) -> None:
    """A day is a moment here: the lines come again and again, until the daemon is told to stop."""
    program = (
        "import asyncio, os, signal, grpc\n"
        "from pathlib import Path\n"
        "from tests.transport.parties import tls_from\n"
        "from veilmatch.server.transport import daemon\n"
        "from veilmatch.server.transport.channels import server_credentials\n"
        "from veilmatch.server.ground.logs import configure_logging, run_logged\n"
        "daemon.DAY_S, looks = 0.01, []\n"
        "def look():\n"
        "    looks.append(1)\n"
        "    if len(looks) == 2: raise ValueError('SECRET')\n"
        "    if len(looks) == 4: os.kill(os.getpid(), signal.SIGTERM)\n"
        "configure_logging('keyholder-a')\n"
        f"tls = tls_from(Path({str(tmp_path)!r}), 'keyholder-a')\n"
        "async def main():\n"
        "    server, never = grpc.aio.server(), asyncio.Event()\n"
        "    return await daemon.run_daemon(server, server_credentials(tls), '127.0.0.1:0', never.wait, look)\n"
        "raise SystemExit(run_logged(main()))\n"
    )
    tls_issued(tmp_path, 0)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["event"] for e in entries] == ["serving", "alert", "stopping"]
    assert entries[1]["reason"].startswith("ValueError at look:") and "SECRET" not in done.stderr
