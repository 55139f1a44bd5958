"""`veilmatch keyholder`: run a key holder; `refresh`: have its daemon refresh the key shares; `moved`: a new stock;
`fresh`, `recover`: another machine, and new shares, for a lost key holder."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veilmatch.common.output import say, show_json
from veilmatch.server.commands._daemon import daemon
from veilmatch.server.commands._fresh import fresh
from veilmatch.server.commands._recovery import recover
from veilmatch.server.config import KeyHolderSettings

if TYPE_CHECKING:
    from veilmatch.server.keyholder.refresh.command import Status

#: What is said of a refresh that is not finished, by stage.
_UNFINISHED = {
    "preparing": "it takes part in a refresh that is under way",
    "ready": "shares of the next epoch wait for the decision of who leads the refresh; the old shares serve until then",
    "withdrawn": "shares of the next epoch are kept and not used, until the others are known not to use theirs either",
    "used": "the shares of the epoch before are still here: not all three are known to have the new ones yet",
}

Config = Annotated[Path, typer.Option(help="keyholder.toml of this key holder.", readable=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keyholder = typer.Typer(invoke_without_command=True)
    keyholder.callback()(run)
    keyholder.command()(refresh)
    keyholder.command()(moved)
    keyholder.command()(fresh)
    keyholder.command()(recover)
    app.add_typer(keyholder, name="keyholder")


def run(ctx: typer.Context, config: Config = Path("keyholder.toml")) -> None:
    """Run a key holder until SIGTERM. What it says is JSON, one line each, on standard error.

    The passphrase of its key files comes from the configured file, from VEILMATCH_PASSPHRASE or from a prompt.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = config
        return
    with daemon("keyholder") as named:
        from veilmatch.server.installation.organisation_file import unseal_organisation
        from veilmatch.server.installation.passphrase import read_passphrase
        from veilmatch.server.keyholder.daemon import run_keyholder
        from veilmatch.server.keyholder.refresh.opening import open_key_files

        settings = KeyHolderSettings.load(config)
        named(settings.party_name)
        passphrase = read_passphrase(settings.passphrase_file)
        files = open_key_files(settings, passphrase)
        own = unseal_organisation(settings.organisation_key, settings.party, files.public, passphrase)
        raise typer.Exit(run_keyholder(settings, files, own, partial(KeyHolderSettings.load, config)))


def refresh(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="keyholder.toml of this key holder.", readable=False)] = None,
    status: Annotated[bool, typer.Option("--status", help="Only say how far this key holder is.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Go back to the share of the epoch before, with a peer that does so too.")
    ] = False,
    without: Annotated[
        str, typer.Option(metavar="PARTY", help="With --recover: the peer whose word does not count, keyholder-a say.")
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="With --recover: do it unasked. --json without this only looks.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Give all three key holders fresh shares of the same key. Their daemons do it, and go on serving.

    All three have to be up. An interrupted refresh leaves the old shares in use, or is finished by the daemons. Where
    it cannot be, because one of the three deviates or a machine lost its data, the operators of two run it with
    --recover: docs/operations.md says when, and what it does.
    """
    from veilmatch.server.keyholder.refresh.command import ask_daemon, ask_to_recover

    settings = KeyHolderSettings.load(config or ctx.obj)
    if (status and recover) or ((without or yes) and not recover):
        raise typer.BadParameter("--without and --yes go with --recover, and --status with neither")
    if not recover:
        _show(asyncio.run(ask_daemon(settings, refresh=not status)), as_json)
        return
    looked = asyncio.run(ask_to_recover(settings, without, go=False))
    if not as_json:
        for party, (found, counts) in looked.found.items():
            say(f"{party}: {found}" + ("" if counts else " (does not count)"))
        say(f"{settings.party_name} {looked.will}" if looked.will else f"refused: {looked.refused}")
        if looked.will and not yes:
            typer.confirm("Go on?", abort=True, err=True)
    elif not yes:
        show_json(looked.document(), done="the key holders were asked")
        return
    # If it is refused, this raises what it is refused with.
    done = asyncio.run(ask_to_recover(settings, without, go=True))
    if as_json:
        show_json(done.document(), done=f"{settings.party_name} {looked.will}")
    else:
        _show(done.status, as_json)


def moved(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="keyholder.toml of this key holder.", readable=False)] = None,
) -> None:
    """Say that this data directory was moved here, from a machine or disk that is not used any more.

    The stock is given up and dealt anew at the next start, so it does no harm if it is not true. Audit log and budgets
    go on. Its daemon must not run.
    """
    from veilmatch.server.keyholder.stock.store import FILE_NAME
    from veilmatch.server.transport.daemon import sole_owner

    settings = KeyHolderSettings.load(config or ctx.obj)
    with sole_owner(settings.data_dir):
        gone = [settings.data_dir / f"{FILE_NAME}{end}" for end in ("", "-wal", "-shm")]
        there = [path for path in gone if path.exists()]
        for path in there:
            path.unlink()
    say(f"{settings.party_name} begins a new stock at its next start" if there else "there is no stock: nothing to do")


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        show_json(status.document(), done=f"{status.party} uses the shares of epoch {status.epoch}")
        return
    say(f"{status.party} uses the shares of epoch {status.epoch}")
    if text := _UNFINISHED.get(status.stage):
        say(text)
    if status.going_back:
        say("it was asked to go back to the epoch before, and waits for the others")
