"""Options that several commands have, and the client that they make of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from veilmatch.client.client import Client
from veilmatch.client.results import Candidates, IdentifyResult, Verification

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar="VEILMATCH_CONFIG", help="Configuration of this device.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Cosine from which two faces match, above 0 up to 1; default: the configuration."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Seconds to wait for the servers; default: the configuration."),
]

DEFAULT_CONFIG = Path("device.toml")


def open_client(config: Path) -> Client:
    """Return the client of a configuration; the commands' one way to the servers."""
    return Client.from_config(config)


def match_document(result: Verification | Candidates | IdentifyResult) -> dict[str, Any]:
    """Return what every query says in JSON; shares in hex, sizes in bytes, times in seconds."""
    return {
        "sequence": result.sequence,
        "pair": result.pair,
        "shares": [share.hex() for share in result.shares],
        "probe_bytes": result.probe_bytes,
        "request_id": result.request_id,
        "timings": {name: round(value, 6) for name, value in asdict(result.timings).items()},
    }
