"""An installation that lives as long as a `with`: key ceremony, three organisations, six daemons, a device.

One process of its own makes and runs it (parties.py), so that a program which tests itself imports no server and has no
thread or signal handler of one. It ends with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from veilmatch.client import extras
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.operations.device import Capture
from veilmatch.crypto.errors import ClientUseError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Party

#: UNSAFE: a key of this size can be broken. Embeddings have 128 coordinates, as those of the installed face model.
TOY = "UNSAFE-d128-s126-c38-l46-n1024"
_STOP_S = 60.0
#: Of a call: machines that run tests may be busy with others.
_TIMEOUT_S = 60.0


class LocalInstallation:
    """A whole installation on this machine; a context manager, with `async with` too.

    parameters: name of a parameter set; the usual one is UNSAFE, and quick. directory: a new one to keep it in; else a
    temporary one, which is deleted. devices: how many. recipients: names of relying parties, see `recipient`. budgets:
    whether the usual ones count; a test would soon use them up. capture: what embeds photos, None for the installed
    face models."""

    def __init__(
        self,
        *,
        parameters: str = TOY,
        directory: str | Path | None = None,
        devices: int = 1,
        recipients: Sequence[str] = (),
        budgets: bool = False,
        capture: Capture | None = None,
    ) -> None:
        self._order = {
            "parameters": parameters, "devices": devices, "recipients": list(recipients), "budgets": budgets,
        }  # fmt: skip
        self._given = None if directory is None else Path(directory)
        self._capture = capture
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make it and wait until it serves: some seconds.

        Raises MissingExtraError without the extra `server`, ClientUseError if it is started already,
        ConfigurationError, ParameterError, UnavailableError.
        """
        extras.require("server")
        if self._process is not None:
            raise ClientUseError("the installation is started already", expected="one `with` at a time")
        if self._given is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="veilmatch-testing-")
            self._directory = Path(self._temporary.name) / "installation"
        else:
            self._directory = self._given
        self._process = subprocess.Popen(
            # -P: the current folder is not a place to import from.
            [sys.executable, "-P", "-m", "veilmatch.testing.parties"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for this process, which then ends it
        )
        try:
            self._tell(self._order | {"directory": str(self._directory.absolute())})
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all daemons and delete what is temporary. Stopping twice is fine."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()
            process.wait()
            process.stdout.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        self._temporary = self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- what tests ask it for ------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """The folder of the installation, as `veilmatch ceremony local` makes it. Raises ClientUseError if stopped."""
        if self._directory is None:
            raise ClientUseError("the installation is not started", expected="use within `with LocalInstallation()`")
        return self._directory

    def device_config(self, number: int = 1) -> Path:
        """Return the device.toml of a device, from 1."""
        return self.directory / f"device-{number}" / "device.toml"

    def settings(self, number: int = 1, **changes: Any) -> DeviceSettings:
        """Return the settings of a device, with these fields changed: `threshold=0.5`, `assurance="all-pairs"`.

        timeout_s is 60 unless changed.
        """
        settings = DeviceSettings.load(self.device_config(number))
        return DeviceSettings.model_validate(settings.model_dump() | {"timeout_s": _TIMEOUT_S} | changes)

    def client(self, number: int = 1, **changes: Any) -> Client:
        """Return a client of a device; close it before the installation. changes: see `settings`."""
        return Client(self.settings(number, **changes), capture=self._capture)

    def async_client(self, number: int = 1, **changes: Any) -> AsyncClient:
        """Return a client for asyncio. changes: see `settings`."""
        return AsyncClient(self.settings(number, **changes), capture=self._capture)

    def recipient(self, name: str) -> Path:
        """Return the folder of a relying party: recipient.key, recipient.cert and public.json (docs/recipients.md)."""
        return self.directory / "recipients" / name

    @contextmanager
    def without(self, party: Party) -> Iterator[None]:
        """Stop the daemons of one organisation and start them again at the end: what an outage looks like."""
        daemons = [f"matcher-{party}", f"keyholder-{party}"]
        self._tell({"stop": daemons})
        try:
            yield
        finally:
            self._tell({"start": daemons})

    def _tell(self, order: Mapping[str, Any]) -> None:
        """Have the process do something. Raises the error that it ends with."""
        if self._process is None:
            raise ClientUseError("the installation is not started", expected="use within `with LocalInstallation()`")
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        try:
            answer = json.loads(self._process.stdout.readline())
        except ValueError:
            raise UnavailableError(
                "the process of the installation has ended", needed="a running one", hint="Its standard error says why."
            ) from None
        if "error" in answer:
            raise VeilmatchError.from_fields(answer["error"])


def _environment() -> dict[str, str]:
    """Return the environment of the process: what configures a party of this machine is not meant for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILMATCH_")}
    if backend := os.environ.get("VEILMATCH_BACKEND"):
        kept["VEILMATCH_BACKEND"] = backend
    # OpenBLAS would start threads, and a process with threads is not to be forked.
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
