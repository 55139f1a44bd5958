"""`veilmatch ceremony`: make the keys and files of an installation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import messages, say, say_tables, show_json

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase; else VEILMATCH_PASSPHRASE, else a prompt.", readable=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ceremony)


def ceremony(
    directory: Annotated[Path, typer.Argument(help="New directory for the installation.", readable=False)],
    parameters: Annotated[str, typer.Option(help="Parameter set.")] = "d128-s126-c38-l46-n3072",
    devices: Annotated[int, typer.Option(min=1, max=1000, help="How many devices: device-1, device-2, ...")] = 1,
    host: Annotated[str, typer.Option(help="Address in all configuration files; edit them later.")] = "127.0.0.1",
    base_port: Annotated[int, typer.Option(min=1024, max=65500, help="Daemons listen a few ports above this.")] = 7400,
    lowest: Annotated[
        list[str] | None,
        typer.Option(
            help="Lowest threshold that devices may ask with, a cosine: 0.45, or verify=0.45; 0 allows every "
            "threshold; 0.40 unless said; may be repeated."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Threads of each daemon for the arithmetic (processes without the native kernel); 0 is one per core.",
        ),
    ] = 0,
    dealer_only: Annotated[
        Literal["c"] | None,
        typer.Option(help="Leave out the matcher of organisation c, which then only deals: pair ab serves alone."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    allow_unsafe: Annotated[bool, typer.Option(help="Permit a modulus too small for real faces.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the keys of an installation, and one folder for each organisation and device, ready to copy to theirs.

    Whoever runs this sees the key once: run it on a machine that you trust and that keeps nothing.
    """
    from veilmatch.crypto.errors import ParameterError
    from veilmatch.crypto.keys.ceremony import run_ceremony
    from veilmatch.crypto.parameters import SAFE_MODULUS_BITS, ParameterSet
    from veilmatch.server.installation.certifying.certifier import Grant
    from veilmatch.server.installation.layout import Plan, check_free, write_installation
    from veilmatch.server.installation.lowest import Lowest, described, document
    from veilmatch.server.installation.passphrase import read_passphrase

    chosen = ParameterSet.from_name(parameters)
    if chosen.modulus_bits not in SAFE_MODULUS_BITS and not allow_unsafe:
        raise ParameterError("an UNSAFE parameter set needs --allow-unsafe", got=chosen.name)
    plan, grant = Plan(host, base_port, workers, dealer_only), Grant(lowest=Lowest.parse(lowest or ()))
    bounds = grant.lowest.thresholds(sorted(grant.rights), chosen)
    check_free(directory)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    console, started = messages(), time.perf_counter()
    with console.status("key ceremony") as status:
        made = run_ceremony(chosen, lambda step: status.update(f"key ceremony: {step}"))
        seconds = time.perf_counter() - started
        status.update("writing sealed keys, certificates and configurations")
        names = [f"device-{i + 1}" for i in range(devices)]
        write_installation(directory, made, passphrase, names, plan, grant=grant)
    result: dict[str, object] = {
        "directory": str(directory),
        "parameter_set": chosen.name,
        "key_id": made.public_key.key_id.hex(),
        "devices": names,
        "lowest_thresholds": document(bounds, chosen),
        "ceremony_s": round(seconds, 3),
    }
    if as_json:
        show_json(result, done=f"the installation is in {directory}")
        return
    table = Table("", "", title="installation", show_header=False)
    for name, value in (result | {"lowest_thresholds": described(bounds, chosen)}).items():
        table.add_row(name.replace("_", " "), Text(_shown(value)))
    say_tables(table)
    say("Copy each daemon's folder to its machine. Keep authority/ offline: it makes parties.")


def _shown(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(value) if len(value) <= 4 else f"{value[0]} .. {value[-1]}"
