"""`veilmatch status`: how far the installation can serve, as seen from here, and what is wrong."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from veilmatch.client.commands.base.options import Json
from veilmatch.common.known_fields import FIELDS, kind_of
from veilmatch.common.output import show, show_json, show_tables
from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.health import Asked, Level, Said, Trouble, endings, outlook, troubles
from veilmatch.crypto.versions import remark

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="VEILMATCH_CONFIG",
        help="device.toml, matcher.toml or keyholder.toml; default: the one in this folder.", readable=False,
    ),
]  # fmt: skip
_DEVICE = "device.toml"
#: What the server's side asks, found by entry points: neither side imports the other.
_SERVERS = "veilmatch.status"
_WORDS = {
    Level.ALL: "every pair of organisations can serve",
    Level.REDUCED: "two pairs of organisations can serve: if one more fails, one is left at most",
    Level.CRITICAL: "one pair is left, or stock that is not filled up any more: one more failure ends the service",
    Level.NONE: "no pair of organisations can serve",
}
_ALL_SERVE, _NOT_ALL = 0, 6
_DONE = "the servers were asked"


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("status")(status)


def status(config: Config = None, as_json: Json = False) -> None:
    """Ask the servers how they are: how many pairs of organisations can serve, what is wrong, and what to do.

    For any party: a device asks its matchers, a matcher all matchers, a key holder all key holders. Counts in no
    budget. Certificates of this party that end within 60 days are named as well. Levels: all, reduced (two
    pairs), critical (one pair, or what is left of the stock), none. Exit status: 0 all; 6 anything less.
    """
    path = _found() if config is None else config
    asked = _asked(path)
    found = outlook(asked.said, asked.served)
    wrong = [*troubles(asked.kind, asked.said, asked.served), *endings(asked.certificates, time.time())]
    if as_json:
        show_json(_document(asked, found.level, found.available, found.refilled, wrong), done=_DONE)
    else:
        show(f"{found.level}: {_WORDS[found.level]}", done=_DONE)
        table = Table("pair", "can be served", "gets more stock")
        for pair in asked.served:
            table.add_row(pair, *("yes" if pair in which else "NO" for which in (found.available, found.refilled)))
        show_tables(table, done=_DONE)
        speaking = Table("server", "release", "speaks version")
        for party, said in asked.said.items():
            speaks = None if said is None else said.speaks
            release = "does not answer" if speaks is None else speaks.release or "not said"
            spoken = "" if speaks is None else ", ".join(map(str, range(speaks.oldest, speaks.newest + 1)))
            speaking.add_row(f"{asked.kind}-{party}", release, spoken)
        show_tables(speaking, done=_DONE)
        show(_remark(asked), done=_DONE)
        for trouble in wrong:
            show(f"{trouble.party}: {trouble.what}", done=_DONE)
            show(f"  what to do: {trouble.remedy}", done=_DONE)
    raise typer.Exit(_ALL_SERVE if found.level is Level.ALL else _NOT_ALL)


def _found() -> Path:
    """Return the one configuration in this folder. Raises ConfigurationError if there is none, or several."""
    here = [Path(name) for name in FIELDS if Path(name).is_file()]
    if len(here) != 1:
        raise ConfigurationError(
            "which configuration?", got=" and ".join(map(str, here)) or "none in this folder",
            expected=f"one of {', '.join(FIELDS)}, or --config",
        )  # fmt: skip
    return here[0]


def _asked(path: Path) -> Asked:
    if path.name == _DEVICE or (path.name not in FIELDS and kind_of(read_toml(path)[0]) == _DEVICE):
        from veilmatch.client.config import DeviceSettings
        from veilmatch.client.wire.condition import asked

        return asyncio.run(asked(DeviceSettings.load(path)))
    for point in entry_points(group=_SERVERS):
        return point.load()(path)  # type: ignore[no-any-return]
    raise ConfigurationError("this is no configuration of a device", got=str(path), expected="a device.toml")


def _remark(asked: Asked) -> str:
    said = asked.said.items()
    return remark(asked.kind, {f"{asked.kind}-{party}": one.speaks for party, one in said if one is not None})


def _server(said: Said) -> dict[str, Any]:
    speaks = said.speaks
    return {
        "ready": said.has("ready"), "holds": sorted(said.holds), "release": speaks.release or None,
        "speaks": {"newest": speaks.newest, "oldest": speaks.oldest, "features": sorted(speaks.features)},
    }  # fmt: skip


def _document(asked: Asked, level: Level, available: Any, refilled: Any, wrong: list[Trouble]) -> dict[str, Any]:
    return {
        "level": level,
        "pairs": {
            pair: {"available": pair in available, "refilled": pair in refilled} for pair in asked.served
        },
        "servers": {
            f"{asked.kind}-{party}": None if said is None else _server(said) for party, said in asked.said.items()
        },
        "certificates": [
            {"of": one.of, "file": one.file, "not_after": int(one.end_s)} for one in asked.certificates
        ],
        "versions": _remark(asked),
        "troubles": [trouble._asdict() for trouble in wrong],
    }  # fmt: skip
