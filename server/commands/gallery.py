"""`veilmatch gallery status`, `verify`, `fetch`, `mend` and `retention`: three copies of a gallery, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import error_document, say, show, show_json, show_tables
from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.config import MatcherSettings

if TYPE_CHECKING:
    from veilmatch.server.matcher.follow.standing import Standing

Config = Annotated[Path, typer.Option(help="matcher.toml of this matcher.", readable=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_CONFIG = Path("matcher.toml")
_DONE, _NOT_REACHED, _BROKEN = 0, 6, 7
_CHAIN_SHOWN = 16


def register(app: typer.Typer) -> None:
    """Add the commands."""
    gallery = typer.Typer(help="The copies of the galleries at the matchers.", no_args_is_help=True)
    gallery.command()(status)
    gallery.command()(verify)
    gallery.command()(fetch)
    gallery.command()(mend)
    gallery.command()(retention)
    app.add_typer(gallery, name="gallery")


def status(config: Config = _CONFIG, as_json: AsJson = False) -> None:
    """Ask all matchers which change of each gallery they hold: who is behind, who has parted, who has lied.

    The daemon here may run or not. Exit status: 0 all are level; 5 two hold different changes under one number; 6 one
    was not reached, is behind or was restored; 7 a proof is kept here that an organisation has lied. The highest of 7,
    5, 6. What another matcher says that it keeps a proof of is shown as its word, and is no exit status.
    """
    from veilmatch.server.matcher.follow.standing import stand, worst

    standings = asyncio.run(stand(MatcherSettings.load(config)))
    found = worst(standings)
    if as_json:
        document = {"status": found, "galleries": [standing.document() for standing in standings]}
        show_json(document, done="the matchers were asked")
    else:
        show_tables(*(_table(standing) for standing in standings), done="the matchers were asked")
    raise typer.Exit(found)


def verify(config: Config = _CONFIG, as_json: AsJson = False) -> None:
    """Walk the log of every gallery here from its first change, and compare packs and templates with it.

    Chain, both signatures of every certificate, and every content. The daemon may run; nothing is written. Exit status:
    0 all is right; 3 no database here; 7 something is not, and the first such change is named, or a proof is kept that
    an organisation has lied.
    """
    from veilmatch.server.check.history import verify_history
    from veilmatch.server.matcher.follow.standing import places_of

    settings = MatcherSettings.load(config)
    found = []
    for place in places_of(settings):
        found += verify_history(place.galleries, place.public.public_key, place.public.signer)
    broken = any(history.broken is not None or history.accused for history in found)
    done = "the history was verified"
    if as_json:
        galleries = [history.document() for history in found]
        show_json({"status": _BROKEN if broken else _DONE, "galleries": galleries}, done=done)
    else:
        for history in found:
            at = f"gallery {history.gallery}, key {history.key_id.hex()[:8]}"
            if history.broken is not None:
                show(f"{at}: BROKEN at change {history.broken_at}: {history.broken}", done=done)
            else:
                show(
                    f"{at}: {history.sequence} changes, {history.packs} packs, {history.templates} templates, chain "
                    f"{history.chain.hex()[:_CHAIN_SHOWN]}: all as two organisations have signed it",
                    done=done,
                )
            for party in history.accused:
                show(f"{at}: a proof is kept that organisation {party} has LIED", done=done)
    raise typer.Exit(_BROKEN if broken else _DONE)


def fetch(
    config: Config = _CONFIG,
    restored: Annotated[
        bool,
        typer.Option("--restored", help="The database here is an old copy, or the one before it was lost."),
    ] = False,
    without: Annotated[
        str | None,
        typer.Option(help="a, b or c: an organisation that has lied. Nothing is taken from it, nor is it waited for."),
    ] = None,
    proofs_from: Annotated[
        Path | None,
        typer.Option(help="Folder of the gallery.db before this one: its proofs of lies are kept.", readable=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take what is missing in the galleries here from the other matchers, with the daemon here stopped.

    Everything is checked as in the background. After a database was lost or an old copy put back, --restored has to be
    given: this organisation has then signed more than it knows, and takes part again when its daemon has met every
    other one, which it does by itself while they are up. A database that does not exist is taken to be lost.
    --without and --proofs-from are for when an organisation has forked the gallery (docs/operations.md). Exit
    status: 0 there is no more at any other matcher; 6 one was not reached; 7 what one sent is not what two
    organisations have signed.
    """
    from veilmatch.crypto.errors import InvalidInputError
    from veilmatch.crypto.keys.parties import PARTIES
    from veilmatch.server.matcher.follow.fetching import fetch as fetch_all

    liar = next((party for party in PARTIES if party == without), None)
    if liar != without:
        raise InvalidInputError("an unknown organisation", got=without, expected=", ".join(PARTIES))
    settings = MatcherSettings.load(config)
    found = asyncio.run(fetch_all(settings, restored=restored, told=say, without=liar, proofs_from=proofs_from))
    failed = [error for one in found for error in one.failed.values()]
    statuses = {error.exit_status for error in failed}
    result = next((status for status in (_BROKEN, 5) if status in statuses), max(statuses, default=_DONE))
    done = "the galleries were fetched"
    if as_json:
        galleries = [
            {
                "gallery": one.gallery,
                "key_id": one.key_id.hex(),
                "before": one.before,
                "sequence": one.sequence,
                "received_bytes": one.received_bytes,
                "restored": one.restored,
                "failed": {party: error_document(error) for party, error in one.failed.items()},
            }
            for one in found
        ]
        show_json({"status": result, "galleries": galleries}, done=done)
    else:
        for one in found:
            again = (
                "; the daemon takes part once it has met all others, which it does by itself" if one.restored else ""
            )
            show(f"gallery {one.gallery}: from change {one.before} to {one.sequence}{again}", done=done)
            for party, error in one.failed.items():
                show(f"matcher-{party}: {error.claim}", done=done)
    raise typer.Exit(result)


def mend(config: Config = _CONFIG, as_json: AsJson = False) -> None:
    """Replace damaged packs and records here by those of another matcher, with the daemon here stopped.

    What each has to be is in the log here, which is checked first, so nobody is believed. This matcher forgets nothing,
    and takes part as before. Exit status: 0 all is right now; 6 a matcher that might have it was not reached; 7
    something is still damaged: take a copy (docs/backup.md).
    """
    from veilmatch.server.matcher.follow.mending import mend as mend_all

    found = asyncio.run(mend_all(MatcherSettings.load(config), say))
    broken = any(not one.is_whole for one in found)
    not_reached = any(isinstance(error, UnavailableError) for one in found for error in one.failed.values())
    result = (_NOT_REACHED if not_reached else _BROKEN) if broken else _DONE
    done = "the galleries were mended"
    if as_json:
        galleries = [
            {
                "gallery": one.gallery,
                "key_id": one.key_id.hex(),
                "packs": one.packs,
                "templates": one.templates,
                "left": one.left,
                "broken": one.broken,
                "failed": {party: error_document(error) for party, error in one.failed.items()},
            }
            for one in found
        ]
        show_json({"status": result, "galleries": galleries}, done=done)
    else:
        for one in found:
            left = f"; {one.left} are still damaged" if one.left else ""
            show(f"gallery {one.gallery}: {one.packs} packs and {one.templates} templates replaced{left}", done=done)
            if one.broken is not None:
                show(f"gallery {one.gallery}: BROKEN, and no content mends it: {one.broken}", done=done)
            for party, error in one.failed.items():
                show(f"matcher-{party}: {error.claim}", done=done)
    raise typer.Exit(result)


def _matchers(parties: Sequence[str]) -> str:
    return " and ".join(f"matcher-{party}" for party in parties) or "the others"


def _table(standing: Standing) -> Table:
    from veilmatch.server.matcher.follow.standing import Stated

    table = Table("matcher", "change", "chain", "behind", "remarks",
                  title=f"gallery {standing.gallery}, key {standing.key_id.hex()[:8]}: {standing.verdict}")  # fmt: skip
    for party, one in sorted(standing.stated.items()):
        if not isinstance(one, Stated):
            table.add_row(party, "?", "", "", Text(one.claim))
            continue
        remarks = [f"a proof is kept here that organisation {liar} has LIED" for liar in one.proven]
        remarks += [f"matcher-{party} says that organisation {liar} has lied" for liar in one.says_lied]
        remarks += [f"restored: stays out until it has met {_matchers(one.unmet)}"] if one.restored else []
        remarks += ["a change is open"] if one.state.accepted is not None else []
        behind = standing.behind(party)
        chain = one.state.chain.hex()[:_CHAIN_SHOWN]
        table.add_row(party, str(one.state.sequence), chain, str(behind or "-"), Text("; ".join(remarks)))
    return table


def retention(
    names: Annotated[bool, typer.Option("--names", help="Name the subjects of what is due.")] = False,
    config: Config = _CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show what is due in the galleries here by this configuration and this clock; nothing is changed.

    What two organisations both say is due is erased by `veilmatch retain`. The daemon may run: days on which subjects
    were asked for are written every hour, so what was idle until a moment ago may be shown.
    """
    from veilmatch.server.matcher.retention.dry_run import due_here

    found = due_here(MatcherSettings.load(config))
    done = "what is due was looked up"
    if as_json:
        show_json({"galleries": [one.document(names=names) for one in found]}, done=done)
        return
    for one in found:
        if not one.has_rules:
            show(f"gallery {one.gallery}: keeps everything ({one.templates} templates)", done=done)
            continue
        due = ", ".join(f"{reason} {count}" for reason, count in one.due.counts().items())
        show(f"gallery {one.gallery}: due of {one.templates} templates: {due}; undated {one.due.undated}", done=done)
        for subject in one.subjects if names else ():
            show(f"  {subject}", done=done)
