"""`veilmatch up`: all parties of an installation on this machine, for development."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from veilmatch.common.output import messages, say_tables, show_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(
        directory: Annotated[Path, typer.Argument(help="Installation made by `veilmatch ceremony`.", readable=False)],
        passphrase_file: Annotated[
            Path | None, typer.Option(help="File with the passphrase of their keys.", readable=False)
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line when all are ready.")] = False,
    ) -> None:
        """Start all daemons of an installation as processes of this machine; Ctrl-C stops them.

        In production every organisation runs its own. The logs are in log.jsonl of each daemon's folder.
        """
        from veilmatch.server.installation.passphrase import read_passphrase
        from veilmatch.server.installation.plan import folder_of
        from veilmatch.server.preflight import check_keys, check_places
        from veilmatch.server.supervisor import Supervisor

        with messages().status("looking at the installation"):
            settings = check_places(directory)
        passphrase = read_passphrase(passphrase_file)
        listening = {party: one.listen for party, one in settings.items()}
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            with messages().status(f"starting {len(settings)} daemons"):
                check_keys(settings, passphrase)
                parties.start()
                parties.wait_ready()
            if as_json:
                show_json({"ready": True, "parties": listening}, done="the daemons were started, and are stopped")
            else:
                table = Table("party", "listens on", "log", title="serving: Ctrl-C stops all")
                for party, address in listening.items():
                    table.add_row(party, address, str(directory / folder_of(party) / "log.jsonl"))
                say_tables(table)
            try:
                ended = parties.wait()
            except KeyboardInterrupt:
                return
            raise ended
