"""`veilmatch budgets`: what is left of the budgets of this device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.common.output import error_document, messages, say, show, show_json, show_tables

if TYPE_CHECKING:
    from veilmatch.client.results import Budget, Budgets

_DONE = "the servers were asked"
_WINDOWS = {"month": "30 days"}


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("budgets")(budgets)


def budgets(config: Config = DEFAULT_CONFIG, timeout: Timeout = None, as_json: Json = False) -> None:
    """Show what is left of this device's budgets: requests, searches and answer bits, by pair of organisations.

    Of this device alone; a subject or the gallery may be used up beside them. Asking uses up nothing. A pair has what
    the one of its two organisations has left that has less. Exit status 0 if any organisation says so.
    """
    with open_client(config) as client, messages().status("Asking"):
        found = client.budgets(timeout_s=timeout)
    if as_json:
        show_json(_document(found), done=_DONE)
        return
    _print(found)
    for party, error in found.missing.items():
        say(f"organisation {party}: {error}")


def _print(found: Budgets) -> None:
    by_place: dict[tuple[str, str], dict[str, Budget]] = {}
    for pair, budgets in found.pairs.items():
        for one in budgets:
            by_place.setdefault((one.measure, one.window), {})[pair] = one
    if not found.pairs:
        show("no pair of organisations has said what is left", done=_DONE)
    elif not by_place:
        show("this device has no budgets: nothing is limited", done=_DONE)
    else:
        table = Table("budget", "of", *(f"left with {pair}" for pair in found.pairs), "some is free again in")
        for (measure, window), of_pair in by_place.items():
            least = min(of_pair.values(), key=lambda one: one.left)
            cells = [f"{of_pair[pair].left:,}" if pair in of_pair else "no limit" for pair in found.pairs]
            named = f"{measure} in {_span(window)}"
            table.add_row(named, f"{least.limit:,}", *cells, _wait(of_pair.values()))
        show_tables(table, done=_DONE)


def _span(window: str) -> str:
    return _WINDOWS.get(window, f"{'an' if window == 'hour' else 'a'} {window}")


def _wait(budgets: Iterable[Budget]) -> str:
    seconds = max(one.eases_s for one in budgets)
    if seconds <= 0:
        return "-"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _document(found: Budgets) -> dict[str, Any]:
    return {
        "pairs": {pair: [asdict(one) for one in budgets] for pair, budgets in found.pairs.items()},
        "organisations": {party: [asdict(one) for one in budgets] for party, budgets in found.organisations.items()},
        "missing": {party: error_document(error) for party, error in found.missing.items()},
    }
