"""`veilmatch ceremony`: make the keys and files of an installation; `veilmatch device add`: one more device."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File with the passphrase; else VEILMATCH_PASSPHRASE, else a prompt.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ceremony)
    device = typer.Typer(help="Devices of an installation.", no_args_is_help=True)
    device.command("add")(device_add)
    app.add_typer(device, name="device")


def ceremony(
    directory: Annotated[Path, typer.Argument(help="New directory for the installation.")],
    parameters: Annotated[str, typer.Option(help="Parameter set.")] = "d128-s60-c23-n3072",
    devices: Annotated[int, typer.Option(min=1, max=1000, help="How many devices: device-1, device-2, ...")] = 1,
    host: Annotated[str, typer.Option(help="Address in all configuration files; edit them later.")] = "127.0.0.1",
    base_port: Annotated[int, typer.Option(min=1024, max=65500, help="Daemons listen a few ports above this.")] = 7400,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of each daemon; 0 is one per core.")] = 0,
    passphrase_file: PassphraseFile = None,
    allow_unsafe: Annotated[bool, typer.Option(help="Permit a modulus too small for real faces.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the keys of an installation and one folder per party, ready to copy to its machine.

    Whoever runs this sees the key once: run it on a machine that you trust and that keeps nothing.
    """
    from veilmatch.crypto.ceremony import run_ceremony
    from veilmatch.crypto.errors import ParameterError
    from veilmatch.crypto.parameters import SAFE_MODULUS_BITS, ParameterSet
    from veilmatch.server.installation.layout import Plan, write_installation
    from veilmatch.server.installation.passphrase import read_passphrase

    chosen = ParameterSet.from_name(parameters)
    if chosen.modulus_bits not in SAFE_MODULUS_BITS and not allow_unsafe:
        raise ParameterError("an UNSAFE parameter set needs --allow-unsafe", got=chosen.name)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    console, started = Console(stderr=True), time.perf_counter()
    with console.status("key ceremony") as status:
        made = run_ceremony(chosen, lambda step: status.update(f"key ceremony: {step}"))
        seconds = time.perf_counter() - started
        status.update("writing sealed keys, certificates and configurations")
        names = [f"device-{i + 1}" for i in range(devices)]
        write_installation(directory, made, passphrase, names, Plan(host, base_port, workers))
    result = {
        "directory": str(directory),
        "parameter_set": chosen.name,
        "key_id": made.public_key.key_id.hex(),
        "devices": names,
        "ceremony_s": round(seconds, 3),
    }
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    table = Table("", "", title="installation", show_header=False)
    for name, value in result.items():
        table.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    console.print(table)


def device_add(
    directory: Annotated[Path, typer.Argument(help="Installation with its authority.")],
    name: Annotated[str, typer.Argument(help="Name of the new device.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Add a device: its folder, and its public key in the daemons' configurations here. Restart them afterwards."""
    from veilmatch.server.installation.layout import add_device
    from veilmatch.server.installation.passphrase import read_passphrase

    add_device(directory, name, read_passphrase(passphrase_file))
    Console(stderr=True).print(f"added {name}: copy {directory / name} to it, and restart the daemons")
