"""What gRPC writes by itself, when it is asked to, is in the log: only there it shows why a handshake was refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, datetime, os, subprocess, sys, time
import typer
from veilmatch.common.native_logs import keep_grpc_quiet
keep_grpc_quiet()
from veilmatch.server.commands._daemon import daemon
try:
    with daemon("matcher-a") as named:
        import grpc
        import structlog
        from tests.transport.parties import authority
        named("matcher-a")
        ca = authority().certificate_pem()

        async def main():
            server = grpc.aio.server()
            certificate, key = authority().issue("matcher-a")
            credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
            port = server.add_secure_port("127.0.0.1:0", credentials)
            await server.start()
            old = datetime.timedelta(minutes=-1)
            certificate, key = authority().issue("device-1", is_server=False, validity=old)
            shown = grpc.ssl_channel_credentials(ca, key, certificate)
            name = [("grpc.ssl_target_name_override", "matcher-a")]
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", shown, options=name) as channel:
                try:
                    await channel.unary_unary("/a/b")(b"", timeout=5)
                except grpc.aio.AioRpcError:
                    pass
            await server.stop(None)

        asyncio.run(main())
        structlog.get_logger("veilmatch").info("our own")
        subprocess.run([sys.executable, "-c", "print(1 / 0)"])
        for _ in range(100):
            os.write(2, b"I1130 05:08:58.119447    9020 many.cc:1] words\\x1b\\n")
        time.sleep(1.2)
        os.write(2, b"W1130 05:08:58.119447    9020 one.cc:1] a warning " + b"x" * 1000 + b"\\n")
        time.sleep(0.3)
        raise ValueError("SECRET")
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def lines(verbosity: str | None) -> list[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"}
    environment |= {"GRPC_VERBOSITY": verbosity} if verbosity else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 10, done.stderr.decode()
    assert b"SECRET" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("verbosity", ["info", "INFO"])
def test_every_line_is_one_of_the_log_and_a_refused_handshake_says_why(verbosity: str) -> None:
    entries = [json.loads(line) for line in lines(verbosity)]
    assert {entry["party"] for entry in entries} == {"matcher-a"}
    native = [entry for entry in entries if entry["event"] == "native line"]
    assert [e for e in native if "certificate has expired" in e["text"]]
    assert any("ZeroDivisionError" in entry["text"] for entry in native), "also of processes that this one starts"
    # Whoever has gRPC write lines without end fills no log, and no line is longer than it need be.
    many = [entry for entry in native if "many.cc" in entry["text"]]
    assert 0 < len(many) <= 60 and {e["text"][-6:] for e in many} == {"words?"}
    (warning,) = [entry for entry in native if "one.cc" in entry["text"]]
    assert warning["level"] == "warning" and len(warning["text"]) == 500
    assert len(many) + sum(entry.get("left_out", 0) for entry in native) >= 100
    events = [entry["event"] for entry in entries]
    assert "our own" in events and events[-1] == "did not start"


def test_nothing_is_redirected_unless_grpc_is_asked_to_speak() -> None:
    raw = lines(None)
    assert any(b"ZeroDivisionError" in line and not line.startswith(b"{") for line in raw)
    assert not any(b"native line" in line or b"has expired" in line for line in raw)
