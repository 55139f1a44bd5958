"""All parties of an installation on one machine, as separate processes: for development, tests and the demo.

In production each organisation runs its own daemon under its own supervisor (docs/operations.md).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from veilmatch.common.process import LIFELINE_VARIABLE
from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.errors import ConfigurationError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.config import DaemonSettings, KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.transport.daemon import NOTIFY_VARIABLE

KEY_HOLDERS = tuple(f"keyholder-{party}" for party in PARTIES)
MATCHERS = tuple(f"matcher-{party}" for party in PARTIES)
#: What a daemon has beyond the time that it gives its requests.
_STOP_GRACE_S = 5.0
#: What says it in the daemon's environment, before its configuration.
_STOP_VARIABLE = "VEILMATCH_STOP_S"
_LOOK_S = 0.1
#: Of the end of a log: its last line says why a daemon ended.
_TAIL_BYTES = 1 << 16


class Process(Protocol):
    """What a supervisor needs of a process: a part of `subprocess.Popen`."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended; raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal."""


#: Starts `veilmatch ARGUMENTS` in a session of its own, with this environment and log; standard input is a pipe.
Launch = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Process]


def _launch(arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "veilmatch", *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    )


@dataclass
class _Daemon:
    """A process that was started. notified: where it says that it serves. stop_s: how long it has to end."""

    process: Process
    notified: socket.socket
    log_start: int
    stop_s: float
    ready: bool = False

    def close(self) -> None:
        """Forget the process, which has ended."""
        self.notified.close()
        if self.process.stdin is not None:
            self.process.stdin.close()


def daemons_of(directory: Path) -> tuple[str, ...]:
    """Return the names of the daemons of an installation: three key holders, and three matchers or two.

    Raises ConfigurationError unless there is a folder for every one.
    """
    missing = [name for name in KEY_HOLDERS if not (directory / folder_of(name)).is_dir()]
    matchers = tuple(name for name in MATCHERS if (directory / folder_of(name)).is_dir())
    if len(matchers) < 2:
        missing += [name for name in MATCHERS if name not in matchers]
    if missing:
        raise ConfigurationError(
            "not an installation",
            got=str(directory),
            expected=f"folders {', '.join(str(folder_of(name)) for name in missing)}",
            hint="Name the directory that `veilmatch ceremony` made.",
        )
    return KEY_HOLDERS + matchers


class Supervisor:
    """Starts, watches and stops the daemons of an installation directory; a context manager.

    environment: added to the daemons' environment, e.g. the passphrase. Their logs go to log.jsonl of their folders.
    They end with this process, however it ends. launch: how a process is started.
    """

    def __init__(
        self, directory: Path, environment: Mapping[str, str] | None = None, *, launch: Launch = _launch
    ) -> None:
        self._launch = launch
        #: Names of the daemons.
        self.names = daemons_of(directory)
        self._directory = directory
        self._environment = dict(os.environ) | dict(environment or {})
        self._daemons: dict[str, _Daemon] = {}
        # The path of a socket has room for some hundred characters only: not in the installation.
        self._sockets = tempfile.TemporaryDirectory(prefix="veilmatch-")

    def start(self, *parties: str) -> None:
        """Start these parties (default: all that are not running)."""
        for party in parties or self.names:
            if party in self._daemons and self.alive(party):
                continue
            if party in self._daemons:
                self._daemons.pop(party).close()
            self._daemons[party] = self._started(party)

    def _started(self, party: str) -> _Daemon:
        address = Path(self._sockets.name) / party
        address.unlink(missing_ok=True)
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notified.bind(str(address))
        notified.setblocking(False)
        kind = party.split("-")[0]
        with self._log(party).open("ab") as log:
            process = self._launch(
                [kind, "--config", str(self.config(party))],
                self._environment | {NOTIFY_VARIABLE: str(address), LIFELINE_VARIABLE: "1"},
                log,
            )
            return _Daemon(process, notified, log.tell(), self._stop_s(party) + _STOP_GRACE_S)

    def _stop_s(self, party: str) -> float:
        """Return how long a party gives its requests when it is stopped: what it started with counts."""
        usual = float(DaemonSettings.model_fields["stop_s"].default)
        with suppress(VeilmatchError, TypeError, ValueError):  # it will not start, and say why
            said = self._environment.get(_STOP_VARIABLE) or read_toml(self.config(party))[0].get("stop_s", usual)
            return max(0.0, float(said))
        return usual

    def config(self, party: str) -> Path:
        """Return the configuration file of a party."""
        return config_of(self._directory, party)

    def pid(self, party: str) -> int:
        """Return the process id of a running party."""
        return self._daemons[party].process.pid

    def alive(self, party: str) -> bool:
        """Return whether a party that was started runs."""
        return self._daemons[party].process.poll() is None

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when every started party serves, by its own word.

        Raises the error that a party ended with, naming it, or UnavailableError if one is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as words:
            for party, daemon in self._daemons.items():
                if not daemon.ready:
                    words.register(daemon.notified, selectors.EVENT_READ, party)
            while True:
                self._require_alive("did not start")
                if not words.get_map():
                    return
                if time.monotonic() > deadline:
                    party = next(iter(words.get_map().values())).data
                    raise UnavailableError(
                        f"{party} is not ready in time",
                        party=party,
                        needed="a serving daemon",
                        hint=self._see_log(party),
                    )
                for key, _ in words.select(_LOOK_S):
                    daemon = self._daemons[key.data]
                    if b"READY=1" in daemon.notified.recv(1 << 12).split(b"\n"):
                        daemon.ready = True
                        words.unregister(daemon.notified)

    def kill(self, party: str) -> None:
        """End a party as a power cut would: SIGKILL to it and its workers."""
        daemon = self._daemons.pop(party)
        os.killpg(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait()
        daemon.close()

    def stop(self, *parties: str) -> dict[str, int]:
        """Stop these parties (default: all) gracefully, as long as each says; return their exit statuses."""
        chosen = [party for party in (parties or self.names) if party in self._daemons]
        for party in chosen:
            self._daemons[party].process.send_signal(signal.SIGTERM)
        began, statuses = time.monotonic(), {}
        for party in chosen:
            daemon = self._daemons.pop(party)
            try:
                statuses[party] = daemon.process.wait(max(0.1, began + daemon.stop_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(daemon.process.pid, signal.SIGKILL)
                statuses[party] = daemon.process.wait()
            daemon.close()
        return statuses

    def wait(self) -> VeilmatchError:
        """Block until one of the parties ends by itself; return the error that says which, and why."""
        while True:
            try:
                self._require_alive("has ended")
            except VeilmatchError as error:
                return error
            time.sleep(_LOOK_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._sockets.cleanup()

    def _log(self, party: str) -> Path:
        return self._directory / folder_of(party) / "log.jsonl"

    def _see_log(self, party: str) -> str:
        return f"Look at its log, which says what it did last: {self._log(party)}."

    def _require_alive(self, what: str) -> None:
        for party, daemon in self._daemons.items():
            status = daemon.process.poll()
            if status is not None:
                raise self._end(party, daemon, what, status)

    def _end(self, party: str, daemon: _Daemon, what: str, status: int) -> VeilmatchError:
        """Return the error that a party's log ends with, as one about that party."""
        with self._log(party).open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(daemon.log_start, size - _TAIL_BYTES))
            lines = log.read().splitlines()
        for line in reversed(lines):
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(fields := entry.get("error"), dict):
                    fields |= {"message": f"{party} {what}: {fields.get('message')}"}
                    fields |= {"party": fields.get("party") or party}
                    if daemon.ready:  # what it did before it ended matters then
                        fields |= {"hint": self._see_log(party)}
                    return VeilmatchError.from_fields(fields)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return UnavailableError(
            f"{party} {what}",
            party=party,
            needed="a running daemon",
            available=how,
            hint=self._see_log(party),
        )


def load_daemon(config: Path) -> KeyHolderSettings | MatcherSettings:
    """Return the settings of a daemon's configuration file."""
    return (KeyHolderSettings if config.name == "keyholder.toml" else MatcherSettings).load(config)
