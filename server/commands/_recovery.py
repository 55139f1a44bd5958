"""`veilmatch keyholder recover`: new shares of the key, with the other two key holders."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from veilmatch.common.output import say, show_json
from veilmatch.server.config import KeyHolderSettings

if TYPE_CHECKING:
    from veilmatch.crypto.keys.parties import Party

#: In words, by standing.
_STANDINGS = {
    "NOTHING": "no recovery of this share is unfinished",
    "PENDING": "a new share is here, and not all three are known to have theirs: the share of before is in use",
    "KEPT": "the new share is in use, and not all three are known to use theirs: the share of before is kept",
    "SETTLED": "the new share is in use, and all three use theirs",
}


def recover(
    ctx: typer.Context,
    lost: Annotated[
        Literal["keyholder-a", "keyholder-b", "keyholder-c"] | None,
        typer.Argument(help="Whose share is lost: a fresh machine takes its place. The same at all three."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="keyholder.toml of this key holder.", readable=False)] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Nobody has lost anything: all three get new shares of the first length.")
    ] = False,
    fingerprint: Annotated[
        str, typer.Option(help="Of the fresh machine, as its people read it out; asked for if it is not given.")
    ] = "",
    status: Annotated[bool, typer.Option("--status", help="Only say how far this key holder is.")] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Use the share of before again, while it is here: see docs/recovery.md.")
    ] = False,
    wait_s: Annotated[float, typer.Option(min=1, max=7 * 86400, help="How long to wait for the other two.")] = 3600.0,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase; the configured one unless said.", readable=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make new shares of the key together with the other two key holders, who run this at the same time.

    A machine that is lost, or not trusted any more, is replaced by a fresh one: the share that it had fits nothing
    then. Stop the daemons of all three key holders before. When it was interrupted, run it again at all three.
    """
    from veilmatch.crypto.keys.parties import PARTIES
    from veilmatch.server.ceremony.progress import shown
    from veilmatch.server.ground.logs import configure_logging
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.recovery.recovering import own_fingerprint
    from veilmatch.server.recovery.recovering import recover as take_part

    settings = KeyHolderSettings.load(config or ctx.obj)
    if sum((status, back, renew, lost is not None)) != 1:
        raise typer.BadParameter("say which key holder is lost, or one of --renew, --status and --back")
    if status or back:
        _look(settings, back=back, as_json=as_json)
        return
    party: Party | None = next((one for one in PARTIES if f"keyholder-{one}" == lost), None)
    configure_logging(settings.party_name, "error")
    passphrase = read_passphrase(passphrase_file or settings.passphrase_file)
    if party and party != settings.party and not fingerprint:
        if as_json:
            raise typer.BadParameter("--fingerprint is needed with --json")
        fingerprint = typer.prompt(f"Fingerprint of the new machine of {lost}, as its people read it out", err=True)
    with shown(as_json=as_json) as progress:
        if party == settings.party:
            progress.say(f"the fingerprint of this machine, to be read out to both others: {own_fingerprint(settings)}")
        done = asyncio.run(take_part(settings, passphrase, party, fingerprint, progress, wait_s))
    unconfirmed = [f"keyholder-{peer}" for peer in done.unconfirmed]
    result = {
        "party": settings.party_name,
        "epoch": done.epoch,
        "lost": lost,
        "transcript": done.record.transcript.hex(),
        "unconfirmed": unconfirmed,
        "sent_bytes": done.sent_bytes,
    }
    if as_json:
        show_json(result, done=f"{settings.party_name} uses its new share")
        return
    say(f"{settings.party_name} uses the shares of epoch {done.epoch}. Start its daemon.")
    text = done.record.transcript.hex()[:32]
    say(f"Compare with the other two: {' '.join(text[i : i + 4] for i in range(0, len(text), 4))}")
    if unconfirmed:
        say(f"unconfirmed: {', '.join(unconfirmed)}")
        say("Ask those who are unconfirmed: if it has not ended like this there, run it again at all three.")


def _look(settings: KeyHolderSettings, *, back: bool, as_json: bool) -> None:
    """Say how far a recovery is here, or go back from it."""
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.recovery.recovering import keeper_of
    from veilmatch.server.transport.daemon import sole_owner

    keeper = keeper_of(settings, read_public_file(settings.public_key))
    if back:
        with sole_owner(settings.data_dir):
            keeper.go_back()
    record, epoch = keeper.record, keeper.epoch
    standing = keeper.seen.name
    result = {
        "party": settings.party_name,
        "epoch": epoch,
        "standing": standing.lower(),
        "new_epoch": record.epoch if record else None,
        "lost": f"keyholder-{record.lost}" if record and record.lost else None,
    }
    if as_json:
        show_json(result, done="the files were looked at")
        return
    say(f"{settings.party_name} uses the shares of epoch {epoch}" if epoch else f"{settings.party_name} has no share")
    say(_STANDINGS[standing])
