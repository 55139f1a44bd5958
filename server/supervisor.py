"""All parties of an installation on one machine, as separate processes: for development, tests and the demo.

In production each organisation runs its own daemon under its own supervisor (docs/operations.md).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from veilmatch.crypto.errors import ConfigurationError, UnavailableError
from veilmatch.server.config import KeyHolderSettings, MatcherSettings

DAEMONS = ("keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b")
_STOP_GRACE_S = 15.0


class Supervisor:
    """Starts, watches and stops the daemons of an installation directory; a context manager.

    environment: added to the daemons' environment, e.g. the passphrase. Their logs go to
    `<party>/log.jsonl`.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = dict(os.environ) | dict(environment or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        missing = [party for party in DAEMONS if not (directory / party).is_dir()]
        if missing:
            raise ConfigurationError(
                "not an installation", got=str(directory), expected=f"folders {', '.join(missing)}"
            )

    def start(self, *parties: str) -> None:
        """Start these parties (default: all that are not running)."""
        for party in parties or DAEMONS:
            if party in self._processes and self._processes[party].poll() is None:
                continue
            kind = party.split("-")[0]
            with (self._directory / party / "log.jsonl").open("ab") as log:
                self._processes[party] = subprocess.Popen(
                    [sys.executable, "-m", "veilmatch", kind, "--config", str(self.config(party))],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )

    def config(self, party: str) -> Path:
        """Return the configuration file of a party."""
        return self._directory / party / f"{party.split('-')[0]}.toml"

    def pid(self, party: str) -> int:
        """Return the process id of a running party."""
        return self._processes[party].pid

    def alive(self, party: str) -> bool:
        """Return whether a party that was started runs."""
        return self._processes[party].poll() is None

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when every started party serves. Raises UnavailableError if one ends or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        for party in self._processes:
            self._wait_serving(party, deadline)

    def kill(self, party: str) -> None:
        """End a party as a power cut would: SIGKILL to it and its workers."""
        process = self._processes.pop(party)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, *parties: str) -> dict[str, int]:
        """Stop these parties (default: all) gracefully; return their exit statuses."""
        chosen = [party for party in (parties or DAEMONS) if party in self._processes]
        for party in chosen:
            self._processes[party].send_signal(signal.SIGTERM)
        statuses = {}
        for party in chosen:
            process = self._processes.pop(party)
            try:
                statuses[party] = process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                statuses[party] = process.wait()
        return statuses

    def wait(self) -> str:
        """Block until one of the parties ends by itself; return its name."""
        while True:
            for party, process in self._processes.items():
                if process.poll() is not None:
                    return party
            time.sleep(0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_serving(self, party: str, deadline: float) -> None:
        settings = load_daemon(self.config(party))
        credentials = grpc.ssl_channel_credentials(
            settings.tls.authority.read_bytes(), settings.tls.key.read_bytes(), settings.tls.certificate.read_bytes()
        )
        name = [("grpc.ssl_target_name_override", party), ("grpc.initial_reconnect_backoff_ms", 50)]
        name += [("grpc.max_reconnect_backoff_ms", 200)]
        with grpc.secure_channel(settings.listen, credentials, options=name) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                if self._processes[party].poll() is not None:
                    log = self._directory / party / "log.jsonl"
                    raise UnavailableError(f"{party} did not start, see {log}", party=party, needed="a running daemon")
                try:
                    check = stub.Check  # type: ignore[attr-defined]  # missing in the stubs of grpc_health
                    status = check(health_pb2.HealthCheckRequest(), timeout=1.0, wait_for_ready=True).status
                    if status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    pass
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{party} is not ready in time", party=party, needed="health SERVING")


def load_daemon(config: Path) -> KeyHolderSettings | MatcherSettings:
    """Return the settings of a daemon's configuration file."""
    return (KeyHolderSettings if config.name == "keyholder.toml" else MatcherSettings).load(config)
