"""Three organisations that are prepared for a ceremony, and hold it in this process over real gRPC and TLS."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.world import base_port
from tests.installation.making import PARAMETERS, PASSPHRASE
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony.introduction import Introduction, file_of
from veilmatch.server.ceremony.joining import Joined, join
from veilmatch.server.ceremony.preparing import CONFIG, prepare
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.installation.plan import Plan


@dataclass
class Heard:
    """What people were shown."""

    parts: list[str] = field(default_factory=list)
    rounds: int = 0
    waited: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def reached(self, part: str, rounds: int) -> None:
        self.parts.append(part)

    def sent(self, total_bytes: int) -> None:
        self.rounds += 1

    def waiting(self, peer: Party, why: str) -> None:
        self.waited.append(peer)

    def say(self, text: str) -> None:
        self.said.append(text)


def prepared(folder: Path, **more: Any) -> dict[Party, Path]:
    """Three folders, introductions exchanged and compared. Returns their configurations."""
    introductions: dict[Party, Introduction] = {}
    for party in PARTIES:
        plan = Plan("127.0.0.1", base_port(), 1)
        fields = {"allow_unsafe": True, "workers": 1, "wait_s": 60.0, **more}
        introductions[party] = prepare(folder / party, party, PARAMETERS, plan, PASSPHRASE, fields)
    return exchange(folder, introductions)


def exchange(folder: Path, introductions: Mapping[Party, Introduction]) -> dict[Party, Path]:
    """Bring everybody's introduction to everybody, and write down what was read out."""
    for party in PARTIES:
        config = folder / party / CONFIG
        lines = [config.read_text()]
        for other in PARTIES:
            if other != party:
                shutil.copy(file_of(folder / other, other), file_of(folder / party, other))
                lines.append(f'{other} = "{introductions[other].fingerprint}"')
        config.write_text("\n".join([*lines, ""]))
    return {party: folder / party / CONFIG for party in PARTIES}


def settings_of(configs: Mapping[Party, Path]) -> dict[Party, CeremonySettings]:
    return {party: CeremonySettings.load(config) for party, config in configs.items()}


async def all_join(
    settings: Mapping[Party, CeremonySettings], heard: Mapping[Party, Heard] | None = None
) -> dict[Party, Joined | BaseException]:
    """Hold a ceremony; return by party what came of it."""
    heard = heard or {party: Heard() for party in settings}
    outcomes = await asyncio.gather(
        *(join(one, PASSPHRASE, heard[party]) for party, one in settings.items()), return_exceptions=True
    )
    return dict(zip(settings, outcomes, strict=True))
