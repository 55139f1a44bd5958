"""`veilmatch keyholder recover` as real processes, for a fresh machine in the place of c's or for all three."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from tests.e2e.world import ENVIRONMENT, World
from tests.nursery import Forked, nursery


@dataclass
class Recovering:
    """One of them."""

    process: Forked
    out: IO[bytes]
    shown: IO[bytes]

    @staticmethod
    def begun(world: World, party: str, *words: str, environment: Mapping[str, str] | None = None) -> Recovering:
        """Begin it at a key holder. words: who is lost, or `--renew`, and options. environment: more of it."""
        out, shown = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  # both outlive this
        words = ("keyholder", "recover", *words, "--config", str(world.parties.config(party)), "--json")
        process = nursery().fork(
            words, os.environ | ENVIRONMENT | (environment or {}), out, shown, stdin=subprocess.DEVNULL
        )
        return Recovering(process, out, shown)

    def said(self, field: str) -> list[str]:
        """What it has said so far of one kind."""
        self.shown.seek(0)
        lines = [json.loads(line) for line in self.shown.read().splitlines() if line.startswith(b"{")]
        return [line[field] for line in lines if field in line]

    def wait_for(self, field: str, text: str) -> str:
        """Wait until it says this, and return the whole of it."""
        while not (found := [one for one in self.said(field) if text in one]):
            assert self.process.poll() is None, self.ended()
            signal.sigtimedwait([], 0.05)
        return found[0]

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return its exit status and what it printed: nothing if it was killed."""
        status = self.process.wait(180)
        self.out.seek(0)
        printed = self.out.read()
        return status, json.loads(printed) if printed else {}


def all_begun(
    world: World,
    environments: Mapping[str, Mapping[str, str]] | None = None,
    *,
    lost: bool = True,
    wait_s: float = 150.0,
) -> dict[str, Recovering]:
    """Begin it at all three; with a lost c at its fresh machine first, whose fingerprint the others type.

    wait_s: how long each waits for the other two.
    """
    environments, waiting = environments or {}, ("--wait-s", str(wait_s))
    if not lost:
        return {
            party: Recovering.begun(world, party, "--renew", *waiting, environment=environments.get(party))
            for party in ("keyholder-a", "keyholder-b", "keyholder-c")
        }
    fresh = Recovering.begun(world, "keyholder-c", "keyholder-c", *waiting, environment=environments.get("keyholder-c"))
    spoken = fresh.wait_for("message", "fingerprint of this machine").rpartition(": ")[2]
    others = {
        party: Recovering.begun(
            world,
            party,
            "keyholder-c",
            "--fingerprint",
            spoken.upper(),
            *waiting,
            environment=environments.get(party),
        )
        for party in ("keyholder-a", "keyholder-b")
    }
    return others | {"keyholder-c": fresh}
