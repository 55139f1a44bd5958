"""What `device revoke` and `recipient revoke` have in common: an organisation signs a list, for all servers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from veilmatch.common.output import say, show_json, show_tables

if TYPE_CHECKING:
    from veilmatch.server.config import KeyHolderSettings

Config = Annotated[
    Path | None,
    typer.Option(help="keyholder.toml of the organisation: it signs the revocation for all servers.", readable=False),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="With --config: file with the passphrase; else as the daemon reads it.", readable=False),
]


def signed(
    certificates: Collection[bytes], settings: KeyHolderSettings, passphrase_file: Path | None
) -> dict[str, Any]:
    """Sign a list with these certificates, and return what `--json` says of it."""
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.installation.certifying.revocation_lists import held_lists, sign_revocation
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.revoking.lists import revoked_by_two

    made = sign_revocation(certificates, settings, read_passphrase(passphrase_file or settings.passphrase_file))
    revoked = revoked_by_two([made, *held_lists(settings.revoked_dir, read_public_file(settings.public_key))])
    return {
        "certificates": [one.hex() for one in certificates],
        "organisation": settings.party,
        "number": made.statement.number,
        "signed_by": list(made.organisations),
        "everywhere": all(one in revoked for one in certificates),
    }


def tell(names: Collection[str], done: dict[str, Any]) -> None:
    """Say what was signed, and whether another organisation has to."""
    what, party = ", ".join(names), done["organisation"]
    say(f"organisation {party} has revoked {what}, in its list {done['number']}")
    if done["everywhere"]:
        say("two organisations have: every server refuses it, a few seconds after it can be reached")
    else:
        say("it is refused once a second organisation has revoked it as well: the same command there")


def apart() -> Exception:
    """Return the error of a revocation that is to be for all servers and for some."""
    from veilmatch.crypto.errors import ConfigurationError

    return ConfigurationError("for all servers, or for some?", expected="--config alone, or --folder or --installation")


def show_revoked(
    config: Annotated[Path, typer.Option(help="keyholder.toml or matcher.toml of a daemon.", readable=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List what organisations have revoked for all servers, of devices and recipients, as far as it is known here."""
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.installation.certifying.revocation_lists import held_lists
    from veilmatch.server.revoking.lists import revoked_by_two
    from veilmatch.server.supervisor import load_daemon

    settings = load_daemon(config)
    lists = held_lists(settings.revoked_dir, read_public_file(settings.public_key))
    revoked, by = revoked_by_two(lists), dict[bytes, set[str]]()
    for one in lists:
        for id_ in one.statement.certificates:
            by.setdefault(id_, set()).update(one.organisations)
    found = [
        {"id": id_.hex(), "revoked_by": sorted(by[id_]), "everywhere": id_ in revoked} for id_ in sorted(by)
    ]  # fmt: skip
    if as_json:
        numbers = [{"number": x.statement.number, "signed_by": list(x.organisations)} for x in lists]
        show_json({"certificates": found, "lists": numbers}, done="the lists were read")
        return
    table = Table("id", "revoked by", "state", title="revoked certificates")
    for id_ in sorted(by):
        table.add_row(
            id_.hex(), ", ".join(sorted(by[id_])), "refused everywhere" if id_ in revoked else "not refused yet"
        )
    show_tables(table, done="the lists were read")
