"""Records one request of an installation whose organisations are apart, and draws it."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemons import wait_until_idle
from installation import Gallery, ask
from relay import Relays

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.evaluation.figures.curves import png, svg
from veilmatch.server.supervisor import Supervisor

from .chart import draw
from .events import chain, printed, read, trips
from .inside import Notes, environment

#: Asked before, so that connections and tables are there.
BEFORE = 3
#: Of so many the fastest is shown: whatever else the machine does makes others longer.
SHOWN_OF = 5


def record(
    directory: Path,
    variables: Mapping[str, str],
    relays: Relays,
    gallery: Gallery,
    operation: str,
    delay_ms: float,
    target: Path,
) -> dict[str, Any]:
    """Run the daemons with notes, ask, write the picture to `target`, and return the chain.

    directory: of an installation whose gallery is filled; nothing of it runs. variables: the environment of daemons.
    From now on this process notes what it does as a device.
    """
    with tempfile.TemporaryDirectory(prefix="veilmatch-timeline-") as scratch:
        folder, key = Path(scratch) / "notes", secrets.token_bytes(32)
        with Supervisor(directory, {**variables, **environment(folder, key)}) as parties:
            parties.start()
            parties.wait_ready()
            notes = Notes(folder, "device", key)
            notes.messages()
            notes.loop()
            notes.threads()
            began_s, ended_s = asyncio.run(_asked(directory, parties, relays, gallery, operation, delay_ms))
        happened = read(folder, began_s, ended_s)
    waited = chain(happened)
    title = (
        f"{operation}, {delay_ms:g} ms between organisations: {1e3 * (ended_s - began_s):.0f} ms, "
        f"{trips(waited)} trips between organisations in a row"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = draw(happened, waited, title)
    target.write_bytes(png(picture) if target.suffix == ".png" else svg(picture).encode())
    messages = [
        {
            "name": m.name,
            "from": m.sender,
            "to": m.receiver,
            "sent_s": m.sent_s - began_s,
            "taken_s": m.taken_s - began_s,
        }
        for m in waited
    ]
    return {
        "operation": operation, "delay_ms": delay_ms, "took_s": ended_s - began_s, "trips": trips(waited),
        "chain": messages, "printed": f"{title}\n{printed(happened, waited)}",
    }  # fmt: skip


async def _asked(
    directory: Path, parties: Supervisor, relays: Relays, gallery: Gallery, operation: str, delay_ms: float
) -> tuple[float, float]:
    """Ask a few times; return when the fastest call began and ended."""
    calls = []
    async with AsyncClient(DeviceSettings.load(directory / "device-1" / "device.toml")) as client:
        await asyncio.to_thread(wait_until_idle, parties)
        relays.delay_s = delay_ms / 1e3
        for number in range(BEFORE + SHOWN_OF):
            who = f"timeline {number}"
            if operation == "erase":
                await ask(client, "enrol", gallery, 0, who)
            await asyncio.to_thread(wait_until_idle, parties)
            began_s = time.perf_counter()
            if not await ask(client, operation, gallery, 2 * number, who):
                raise AssertionError(f"{operation}: a wrong answer")
            calls.append((began_s, time.perf_counter()))
        relays.delay_s = 0.0
    return min(calls[BEFORE:], key=lambda call: call[1] - call[0])
