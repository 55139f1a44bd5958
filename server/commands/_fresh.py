"""`veilmatch keyholder fresh`: the folder of a machine that is to take the place of a lost key holder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.common.output import say, show_json


def fresh(
    folder: Annotated[Path, typer.Argument(help="Where the folder is to appear.", readable=False)],
    matcher: Annotated[
        Path, typer.Option(help="matcher.toml of the same organisation's matcher, with its files.", readable=False)
    ],
    installation: Annotated[
        Path, typer.Option(help="Directory with the organisation's TLS authority and public.json.", readable=False)
    ] = Path(),
    config: Annotated[
        Path | None, typer.Option(help="keyholder.toml of the lost machine, if there is a copy.", readable=False)
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the fresh machine; that of the lost one unless said.")
    ] = "",
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT", help="Both other key holders: keyholder-a=... Not needed with --config."
        ),
    ] = None,
    certifier_key: Annotated[
        Path | None, typer.Option(help="A copy of the lost machine's certifier.key, if there is one.", readable=False)
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase of the authority.", readable=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the folder of a fresh machine, before `recover`: all that a key holder has but its share.

    Done where the organisation has its TLS authority, with the folder of its matcher at hand. The TLS key is a new one.
    Sealed files keep the passphrase that they have at the matcher.
    """
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.recovery.fresh import Sources, make_fresh

    peers = _peers(peer or [])
    passphrase = read_passphrase(passphrase_file)
    made = make_fresh(folder, Sources(installation, matcher, config, listen, peers, certifier_key), passphrase)
    if as_json:
        document = {
            "party": made.party_name, "folder": str(made.folder), "fingerprint": made.fingerprint,
            "missing": list(made.missing),
        }  # fmt: skip
        show_json(document, done=f"the folder of {made.party_name} was made")
        return
    say(f"{made.folder} is the folder of {made.party_name}: move it to the fresh machine, with its modes")
    for what in made.missing:
        say(f"it has no {what}")
    say(f"there: veilmatch keyholder recover {made.party_name} --config keyholder.toml")
    say(f"the fingerprint of that machine, to be read out to both others: {made.fingerprint}")
    say(f"take back the certificates of the lost one: veilmatch authority revoke {made.party_name} --older")


def _peers(given: list[str]) -> dict[str, str]:
    """Return addresses by letter."""
    peers = {}
    for one in given:
        name, found, address = one.partition("=")
        kind, _, party = name.partition("-")
        if not found or kind != "keyholder" or not party or not address:
            raise typer.BadParameter("a peer is said as keyholder-a=HOST:PORT")
        peers[party] = address
    return peers
