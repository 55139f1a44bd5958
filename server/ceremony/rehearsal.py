"""A ceremony of three organisations on one machine: as on the day, over the same calls, and in one process.

For rehearsals, demonstrations and development: whoever has this machine can read all three. What comes of it is one
installation, as the ceremony with a dealer makes it, but with an authority of each organisation.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.device_certificate import check_device_name
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.ceremony.introduction import Introduction, file_of
from veilmatch.server.ceremony.joining import join
from veilmatch.server.ceremony.preparing import CONFIG, prepare
from veilmatch.server.ceremony.progress import Progress
from veilmatch.server.ceremony.record import FILE
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.installation.certifying.certifier import Grant
from veilmatch.server.installation.certifying.devices import issue_device
from veilmatch.server.installation.files import FOLDER_MODE, appearing
from veilmatch.server.installation.layout import check_free
from veilmatch.server.installation.plan import AUTHORITY, Plan


class Silent:
    """Shows nothing: two of the three say what the third says."""

    def reached(self, part: str, rounds: int) -> None:
        """See Progress."""

    def sent(self, total_bytes: int) -> None:
        """See Progress."""

    def waiting(self, peer: Party, why: str) -> None:
        """See Progress."""

    def say(self, text: str) -> None:
        """See Progress."""


def rehearse(
    directory: Path,
    parameters: ParameterSet,
    passphrase: str,
    devices: Sequence[str],
    plan: Plan,
    grant: Grant,
    progress: Progress,
) -> PublicFile:
    """Hold a ceremony of all three here; the installation appears complete or not at all.

    Authorities of the organisations are in authority-a and so on; `authority` is that of a, which devices get their
    certificates of. Raises what `join` and `issue_device` raise, ConfigurationError if the directory is not free.
    """
    check_free(directory)
    for name in devices:
        check_device_name(name)
    with appearing(directory) as partial:
        with tempfile.TemporaryDirectory(prefix=".ceremony.", dir=partial.parent) as scratch:
            homes = asyncio.run(_hold(Path(scratch), parameters, passphrase, plan, progress))
            put_together(homes, partial)
        for name in devices:
            issue_device(partial, name, passphrase, grant)
    return read_public_file(directory / "public.json")


def put_together(homes: Mapping[Party, Path], directory: Path) -> None:
    """Move what each organisation has after a ceremony into one installation, in a directory that is not there yet.

    Authorities as `rehearse` says. Raises OSError.
    """
    directory.mkdir(mode=FOLDER_MODE)
    for party, home in homes.items():
        (home / f"organisation-{party}").rename(directory / f"organisation-{party}")
        (home / AUTHORITY).rename(directory / f"{AUTHORITY}-{party}")
    for name in ("public.json", FILE):
        shutil.copy(homes["a"] / name, directory / name)
    (directory / f"{AUTHORITY}-a").rename(directory / AUTHORITY)


async def _hold(
    scratch: Path, parameters: ParameterSet, passphrase: str, plan: Plan, progress: Progress
) -> dict[Party, Path]:
    """Prepare all three, introduce them to each other, hold it. Returns their installations."""
    more: dict[str, Any] = {"allow_unsafe": True, "workers": plan.workers}
    more |= {"dealer_only": plan.dealer_only} if plan.dealer_only else {}
    introductions: dict[Party, Introduction] = {}
    for party in PARTIES:
        introductions[party] = prepare(scratch / party, party, parameters, plan, passphrase, more)
    settings = []
    for party in PARTIES:
        for other in PARTIES:
            if other != party:
                shutil.copy(file_of(scratch / other, other), file_of(scratch / party, other))
        own = CeremonySettings.load(scratch / party / CONFIG)
        read_out = {other: introductions[other].fingerprint for other in own.peers}
        settings.append(own.model_copy(update={"fingerprints": read_out}))
    shown = [progress, Silent(), Silent()]
    tasks = [asyncio.ensure_future(join(one, passphrase, heard)) for one, heard in zip(settings, shown, strict=True)]
    try:
        joined = await asyncio.gather(*tasks)
    except BaseException:
        # The others hear of it, and say how they end.
        await asyncio.wait(tasks, timeout=5.0)
        for task in tasks:
            task.cancel()
        raise
    return {party: one.installation for party, one in zip(PARTIES, joined, strict=True)}
