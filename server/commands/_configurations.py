"""The daemons that a command is about: those of an installation, or of the folders that are named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from veilmatch.server.installation.certifying.registration import Configurations

Installation = Annotated[Path | None, typer.Option(help="Directory of an installation.", readable=False)]
DaemonFolders = Annotated[
    list[Path] | None, typer.Option("--folder", help="Folder of one daemon; may be repeated.", readable=False)
]


def configurations(installation: Path | None, folders: list[Path] | None) -> Configurations:
    """Return the configurations of the daemons that the two options name.

    Raises ConfigurationError unless it is one of the two, or if a file cannot be read.
    """
    from veilmatch.crypto.errors import ConfigurationError
    from veilmatch.server.installation.certifying.registration import Configurations

    if installation is not None and not folders:
        return Configurations.read(installation)
    if folders and installation is None:
        return Configurations.of_daemons(folders)
    raise ConfigurationError("which daemons?", expected="--installation or --folder")
