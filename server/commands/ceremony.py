"""`veilmatch ceremony`: make the keys and files of an installation.

prepare, join, show     three organisations, each on its own machine: no machine ever has the key
local                   all of it on one machine, which sees the key: for development
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import messages, say, say_tables, show_json, show_tables

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase; else VEILMATCH_PASSPHRASE, else a prompt.", readable=False),
]
Parameters = Annotated[str, typer.Option(help="Parameter set.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Threads of each daemon for the arithmetic (processes without the native kernel); 0 is one per core.",
    ),
]
DealerOnly = Annotated[
    Literal["c"] | None,
    typer.Option(help="Leave out the matcher of organisation c, which then only deals: pair ab serves alone."),
]
AllowUnsafe = Annotated[bool, typer.Option(help="Permit a modulus too small for real faces.")]
BasePort = Annotated[int, typer.Option(min=1024, max=65500, help="Daemons listen a few ports above this.")]
Config = Annotated[Path, typer.Argument(help="ceremony.toml, which `prepare` has made.", readable=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_USUAL = "d128-s126-c38-l46-n3072"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    ceremony = typer.Typer(help="Make the keys and files of an installation.", no_args_is_help=True)
    for name, command in (("prepare", prepare), ("show", show), ("join", join), ("local", local)):
        ceremony.command(name)(command)
    app.add_typer(ceremony, name="ceremony")


# -- three organisations ------------------------------------------------------------------------


def prepare(
    party: Annotated[Literal["a", "b", "c"], typer.Argument(help="Which organisation this is.")],
    folder: Annotated[Path, typer.Argument(help="New folder for what this organisation has.", readable=False)],
    host: Annotated[str, typer.Option(help="Where the others reach the daemons of this organisation.")],
    base_port: BasePort = 7400,
    parameters: Parameters = _USUAL,
    workers: Workers = 0,
    dealer_only: DealerOnly = None,
    passphrase_file: PassphraseFile = None,
    allow_unsafe: AllowUnsafe = False,
    as_json: AsJson = False,
) -> None:
    """Make an organisation's own TLS authority and signing keys, and the introduction that the other two get.

    Give organisation-X.json to both, put theirs into the same folder, and write the fingerprints that their people
    read out into ceremony.toml. Then `join`.
    """
    from veilmatch.server.ceremony.introduction import file_of
    from veilmatch.server.ceremony.preparing import CONFIG
    from veilmatch.server.ceremony.preparing import prepare as made_for
    from veilmatch.server.ceremony.settings import safe_parameters
    from veilmatch.server.installation.layout import Plan, check_free
    from veilmatch.server.installation.passphrase import read_passphrase

    chosen = safe_parameters(parameters, allow_unsafe=allow_unsafe)
    plan = Plan(host, base_port, workers, dealer_only)
    check_free(folder)
    more: dict[str, Any] = {"workers": workers} if workers else {}
    more |= {"dealer_only": dealer_only} if dealer_only else {}
    more |= {"allow_unsafe": True} if allow_unsafe else {}
    made = made_for(folder, party, chosen, plan, read_passphrase(passphrase_file, confirm=True), more)
    file = file_of(folder, party)
    if as_json:
        document = {"introduction": str(file), "fingerprint": made.fingerprint, "config": str(folder / CONFIG)}
        show_json(document, done=f"{folder} was made")
        return
    others = " and ".join(other for other in ("a", "b", "c") if other != party)
    say(f"organisations {others} get {file}; put theirs beside it")
    say(f"the fingerprint of organisation {party}, to be read out to them: {made.fingerprint}")
    say(f"what they read out goes into [fingerprints] of {folder / CONFIG}")


def show(config: Config, as_json: AsJson = False) -> None:
    """Say what this organisation is ready for: its own fingerprint, which introductions it has, what is on its disk."""
    from veilmatch.crypto.errors import VeilmatchError
    from veilmatch.server.ceremony.introduction import read_introduction, read_introductions
    from veilmatch.server.ceremony.keeping import STANDINGS, Keeper
    from veilmatch.server.ceremony.settings import CeremonySettings

    settings = CeremonySettings.load(config)
    own = read_introduction(settings.introductions, settings.party)
    try:
        read_introductions(settings.introductions, settings.party, settings.fingerprints)
        others = "both here, and as read out"
    except VeilmatchError as error:
        others = error.message
    found = Keeper(settings.installation, settings.pending).greeting(b"")
    result = {
        "organisation": settings.party,
        "parameter_set": settings.parameter_set.name,
        "dealer_only": settings.dealer_only,
        "fingerprint": own.fingerprint,
        "introductions": others,
        "on_disk": STANDINGS[found.standing],
    }
    if as_json:
        show_json(result, done="the configuration was read")
        return
    table = Table("", "", title="key ceremony", show_header=False)
    for name, value in result.items():
        table.add_row(name.replace("_", " "), Text(str(value or "none")))
    show_tables(table, done="the configuration was read")


def join(
    config: Config,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key together with the other two organisations, who run this at the same time; no machine ever has it.

    When it was interrupted, run it again at all three: they find out whether there is a key, and finish or begin again.
    """
    from veilmatch.server.ceremony.joining import join as take_part
    from veilmatch.server.ceremony.progress import shown
    from veilmatch.server.ceremony.settings import CeremonySettings
    from veilmatch.server.ground.logs import configure_logging
    from veilmatch.server.installation.passphrase import read_passphrase

    settings = CeremonySettings.load(config)
    configure_logging(settings.name, "error")
    passphrase, started = read_passphrase(passphrase_file), time.perf_counter()
    with shown(as_json=as_json) as progress:
        joined = asyncio.run(take_part(settings, passphrase, progress))
    key_id = joined.public.public_key.key_id.hex()
    result = {
        "installation": str(joined.installation),
        "parameter_set": joined.public.public_key.parameters.name,
        "key_id": key_id,
        "transcript": joined.record.transcript.hex(),
        "unconfirmed": [f"keyholder-{peer}" for peer in joined.unconfirmed],
        "sent_bytes": joined.sent_bytes,
        "ceremony_s": round(time.perf_counter() - started, 3),
    }
    if as_json:
        show_json(result, done=f"the installation is in {joined.installation}")
        return
    table = Table("", "", title=f"organisation {settings.party}", show_header=False)
    for name, value in result.items():
        table.add_row(name.replace("_", " "), Text(_shown(value)))
    say_tables(table)
    say(f"Read out the key to the other two: {' '.join(key_id[i : i + 4] for i in range(0, len(key_id), 4))}")
    if joined.unconfirmed:
        say("Ask those who are unconfirmed: if their installation is not there, run this again at all three.")


# -- one machine ----------------------------------------------------------------------------------


def local(
    directory: Annotated[Path, typer.Argument(help="New directory for the installation.", readable=False)],
    parameters: Parameters = _USUAL,
    devices: Annotated[int, typer.Option(min=1, max=1000, help="How many devices: device-1, device-2, ...")] = 1,
    host: Annotated[str, typer.Option(help="Address in all configuration files; edit them later.")] = "127.0.0.1",
    base_port: BasePort = 7400,
    lowest: Annotated[
        list[str] | None,
        typer.Option(
            help="Lowest threshold that devices may ask with, a cosine: 0.45, or verify=0.45; 0 allows every "
            "threshold; 0.40 unless said; may be repeated."
        ),
    ] = None,
    workers: Workers = 0,
    dealer_only: DealerOnly = None,
    jointly: Annotated[
        bool, typer.Option(help="As three organisations make it, with an authority of each; slower. A rehearsal.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    allow_unsafe: AllowUnsafe = False,
    as_json: AsJson = False,
) -> None:
    """Make all keys of an installation on this machine, and one folder for each organisation and device: development.

    Whoever runs this sees the key once. Where three organisations do not trust one machine: `prepare` and `join`.
    """
    from veilmatch.crypto.keys.ceremony import run_ceremony
    from veilmatch.server.ceremony.settings import safe_parameters
    from veilmatch.server.installation.certifying.certifier import Grant
    from veilmatch.server.installation.layout import Plan, check_free, write_installation
    from veilmatch.server.installation.lowest import Lowest, described, document
    from veilmatch.server.installation.passphrase import read_passphrase

    chosen = safe_parameters(parameters, allow_unsafe=allow_unsafe)
    plan, grant = Plan(host, base_port, workers, dealer_only), Grant(lowest=Lowest.parse(lowest or ()))
    bounds = grant.lowest.thresholds(sorted(grant.rights), chosen)
    check_free(directory)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    console, started = messages(), time.perf_counter()
    names = [f"device-{i + 1}" for i in range(devices)]
    if jointly:
        # With what daemons need.
        from veilmatch.server.ceremony.progress import shown
        from veilmatch.server.ceremony.rehearsal import rehearse
        from veilmatch.server.ground.logs import configure_logging

        configure_logging("ceremony", "error")
        with shown(as_json=as_json) as progress:
            public_key = rehearse(directory, chosen, passphrase, names, plan, grant, progress).public_key
        seconds = time.perf_counter() - started
    else:
        with console.status("key ceremony") as status:
            made = run_ceremony(chosen, lambda step: status.update(f"key ceremony: {step}"))
            seconds, public_key = time.perf_counter() - started, made.public_key
            status.update("writing sealed keys, certificates and configurations")
            write_installation(directory, made, passphrase, names, plan, grant=grant)
    result: dict[str, object] = {
        "directory": str(directory),
        "parameter_set": chosen.name,
        "key_id": public_key.key_id.hex(),
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
    say(
        "This machine has seen the key: for development. Copy each daemon's folder to its machine. Keep authority/"
        " offline: it makes parties."
    )


def _shown(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(value) if len(value) <= 4 else f"{value[0]} .. {value[-1]}"
