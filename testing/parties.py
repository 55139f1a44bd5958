"""The process that makes a LocalInstallation and runs its daemons: `python -m veilmatch.testing.parties`.

Orders come on standard input, a line of JSON each: the first says what to make, later ones which daemons to stop or to
start. Each is answered on standard output. At the end of the input all are stopped.

The daemons are forked from here, so that the six of them need not import everything again, which takes longer than all
else. Nothing is forked after gRPC was used: this process serves nobody.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from veilmatch.client.demo.parties import free_base_port
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.relying.folder import CERTIFICATE, request_certificate
from veilmatch.server.ceremony.settings import safe_parameters
from veilmatch.server.config import KeyHolderBudgets, KeyHolderSettings, MatcherBudgets
from veilmatch.server.installation.certifying.certifier import Grant
from veilmatch.server.installation.certifying.recipients import certify
from veilmatch.server.installation.layout import Plan, check_free, write_installation
from veilmatch.server.installation.lowest import Lowest
from veilmatch.server.installation.organisation_file import unseal_organisation
from veilmatch.server.installation.plan import config_of
from veilmatch.server.supervisor import Process, Supervisor, daemons_of

#: What the daemons are made of.
_IMPORTED = (
    "veilmatch.client.commands.base.application",
    "veilmatch.server.keyholder.daemon",
    "veilmatch.server.matcher.daemon",
    "veilmatch.server.commands.keyholder",
    "veilmatch.server.commands.matcher",
)
#: A full stock would be checked for longer than a test takes; what is used is made again. Refreshes may follow at once.
_STOCK = {
    "VEILMATCH_STOCK_TRIPLES": "1024",
    "VEILMATCH_STOCK_BYTES": str(2 << 17),
    "VEILMATCH_STOCK_PRODUCTS": str(2 << 14),
}
_RECIPIENT_DAYS = 30
#: Machines that run tests may be busy with others.
_START_S = 300.0


def main() -> None:
    """Make the installation that the first line asks for, and run it until there are no more lines."""
    first = sys.stdin.readline()
    if not first:  # whoever started this has ended
        return
    order, passphrase = json.loads(first), secrets.token_urlsafe(24)
    directory = Path(order["directory"])
    try:
        _make(directory, order, passphrase)
        for module in _IMPORTED:
            importlib.import_module(module)
        with Supervisor(directory, _STOCK | {"VEILMATCH_PASSPHRASE": passphrase}, launch=_Forked) as parties:
            parties.start()
            parties.wait_ready(_START_S)
            _answer({"ready": True})
            for line in sys.stdin:
                _obey(parties, json.loads(line))
    except VeilmatchError as error:
        _answer({"error": error.fields()})


def _obey(parties: Supervisor, order: Mapping[str, list[str]]) -> None:
    if stopping := order.get("stop"):
        parties.stop(*stopping)
    if starting := order.get("start"):
        parties.start(*starting)
        parties.wait_ready(_START_S)
    _answer({"done": True})


def _answer(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _make(directory: Path, order: Mapping[str, Any], passphrase: str) -> None:
    """Hold the ceremony and write all folders."""
    parameters = safe_parameters(order["parameters"], allow_unsafe=True)
    check_free(directory)
    devices = [f"device-{number + 1}" for number in range(order["devices"])]
    plan, grant = Plan(base_port=free_base_port(), workers=1), Grant(lowest=Lowest.parse(["0"]))
    write_installation(directory, run_ceremony(parameters), passphrase, devices, plan, grant=grant)
    if not order["budgets"]:
        for party in daemons_of(directory):
            _without_budgets(config_of(directory, party))
    for name in order["recipients"]:
        _certify_recipient(directory, name, passphrase)


def _without_budgets(config: Path) -> None:
    model = KeyHolderBudgets if config.name == "keyholder.toml" else MatcherBudgets
    lines = ["", "[budgets]", *(f"{name} = {{}}" for name in model.model_fields), ""]
    with config.open("a") as file:
        file.write("\n".join(lines))


def _certify_recipient(directory: Path, name: str, passphrase: str) -> None:
    """Make the folder of a relying party, with a certificate that organisations a and b have signed."""
    folder = directory / "recipients" / name
    request_certificate(folder, name, directory / "public.json", _RECIPIENT_DAYS, time.time())
    for party in ("a", "b"):
        settings = KeyHolderSettings.load(config_of(directory, f"keyholder-{party}"))
        public = read_public_file(settings.public_key)
        key = unseal_organisation(settings.organisation_key, settings.party, public, passphrase)
        certify(folder / CERTIFICATE, settings, key)


class _Forked(Process):
    """A daemon that was forked from this process."""

    #: The other ends of all daemons' standard inputs. Each daemon ends with its own, so no other may hold it.
    _lifelines: set[int] = set()  # noqa: RUF012 - of the class on purpose

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> None:
        reading, writing = os.pipe()
        self._lifelines.add(writing)
        inherited = tuple(self._lifelines)
        self._process = multiprocessing.get_context("fork").Process(
            target=_become, args=(tuple(arguments), dict(environment), reading, log.fileno(), inherited)
        )
        self._process.start()
        os.close(reading)
        self.pid = self._process.pid or 0
        self.stdin = os.fdopen(writing, "wb", buffering=0)

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        if not self.stdin.closed:
            self._lifelines.discard(self.stdin.fileno())
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


def _become(
    arguments: Sequence[str], environment: Mapping[str, str], reading: int, log: int, inherited: Sequence[int]
) -> None:
    """Be `veilmatch ARGUMENTS`, in the process that was forked for it."""
    os.setsid()
    for number in inherited:
        os.close(number)
    for standard, number in enumerate((reading, log, log)):
        os.dup2(number, standard)
    os.close(reading)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["veilmatch", *arguments]
    sys.orig_argv[:] = [sys.executable, "-m", *sys.argv]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from veilmatch.client.commands import main as veilmatch

    veilmatch()


if __name__ == "__main__":
    main()
