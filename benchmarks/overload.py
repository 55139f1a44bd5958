"""What is left of what the servers can do when they are asked several times as much: requests that were signed before.

    python benchmarks/overload.py                    1.75, 3.5 and 7 times what a closed loop was answered (two minutes)
    python benchmarks/overload.py --parts 2 4 --seconds 20

On a machine that devices share with the servers, a load of devices takes from the servers what it asks of them: load.py
shows what users get there. Here verifications are signed before they are due, by eight devices with toy keys, and sent
to both matchers without the SDK, which would ask again. Each is due at a fixed rate, whatever becomes of those before.

"of what they can do": answers a second against those of the closed loop of the same run. "CPU": of all daemons for an
answer, refusals included; if it grows, refusing is what they do. Whether an answer is right is not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from daemons import cpu_seconds
from installation import installed
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.supervisor import Supervisor
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

TOY = ParameterSet(modulus_bits=1024)
DEVICES, AT_ONCE, PAIR = 8, 16, "ab"
#: A device gives up after this.
TIMEOUT_S = 15.0
#: That of a new device: its certificate allows no lower one.
THRESHOLD = 0.40
FACE = np.random.default_rng(1).standard_normal(TOY.dimension)


@dataclass
class End:
    """How one request ended: "ok" or the code of its error, when it was due, and how long it took, in seconds."""

    code: str
    due_s: float
    took_s: float


class Devices:
    """Devices that sign before they send. Use `opened`."""

    def __init__(self, signing: Sequence[Any], stubs: Sequence[Sequence[Any]]) -> None:
        self._signing, self._stubs = signing, stubs

    async def signed(self, count: int) -> list[pb.MatchRequest]:
        """Return so many verifications, of each device in turn."""
        made = []
        for number in range(count):
            device = self._signing[number % DEVICES]
            lanes, t = await device.lanes(FACE), int(TOY.threshold(THRESHOLD))
            draft = Draft(request_pb2.OPERATION_VERIFY, lanes, model="random", subject="ada", threshold=t)
            made.append(pb.MatchRequest(request=device.sign(draft, PAIR)))
        return made

    async def ask(self, number: int, request: pb.MatchRequest) -> str:
        """Send one to both matchers; return "ok" or the code of the first error."""
        calls = [matcher.Match(request, timeout=TIMEOUT_S) for matcher in self._stubs[number % DEVICES]]
        answers = [asyncio.ensure_future(_read(call)) for call in calls]
        await asyncio.wait(answers, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for one in answers if one.done() and (error := one.exception()) is not None]
        for call in calls:
            call.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        if not errors:
            return "ok"
        return from_rpc(errors[0], "matcher").code if isinstance(errors[0], grpc.aio.AioRpcError) else "internal"


async def _read(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def opened(directory: Path, stack: AsyncExitStack) -> Devices:
    """Return the devices of an installation, connected, one face enrolled."""
    signing, stubs = [], []
    for number in range(DEVICES):
        settings = DeviceSettings.load(directory / f"device-{number + 1}" / "device.toml")
        settings = settings.model_copy(update={"request_lifetime_s": 115.0})
        client = await stack.enter_async_context(AsyncClient(settings))
        if not number:
            await client.enrol_embedding("ada", FACE, model="random")
        signing.append(client._device)
        channels = [channel_to(settings.matchers[party], f"matcher-{party}", settings.tls) for party in ("a", "b")]
        stubs.append([rpc.MatcherStub(await stack.enter_async_context(channel)) for channel in channels])
    return Devices(signing, stubs)


async def closed(devices: Devices, seconds: float) -> float:
    """Return answers a second to sixteen that each wait for the one before."""
    left = iter(enumerate(await devices.signed(int(40 * seconds))))
    began, ends = time.monotonic(), Counter[str]()

    async def go_on() -> None:
        for number, request in left:
            if time.monotonic() - began > seconds:
                return
            ends[await devices.ask(number, request)] += 1

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    if not ends["ok"]:
        raise SystemExit(f"nothing is answered: {dict(ends)}")
    return ends["ok"] / (time.monotonic() - began)


async def opening(devices: Devices, rate: float, seconds: float) -> list[End]:
    """Return how requests ended that were due at this rate."""
    requests, ends = await devices.signed(int(rate * seconds)), list[End]()
    began = time.monotonic()

    async def one(number: int, request: pb.MatchRequest, due_s: float) -> None:
        code = await devices.ask(number, request)
        ends.append(End(code, due_s, time.monotonic() - began - due_s))

    tasks = []
    for number, request in enumerate(requests):
        due_s = number / rate
        await asyncio.sleep(max(0.0, began + due_s - time.monotonic()))
        tasks.append(asyncio.create_task(one(number, request, due_s)))
    await asyncio.gather(*tasks)
    return ends


async def measure(directory: Path, parties: Supervisor, parts: Sequence[float], seconds: float) -> None:
    """Measure and print."""
    table = Table("offered", "answered", "of what they can do", "refused", "other errors", "half refused in", "CPU")
    async with AsyncExitStack() as stack:
        devices = await opened(directory, stack)
        await closed(devices, 2.0)  # connections, and the first of everything
        can = await closed(devices, seconds)
        for part in parts:
            before = sum(cpu_seconds(parties).values())
            ends = await opening(devices, part * can, seconds)
            cpu_s = sum(cpu_seconds(parties).values()) - before
            table.add_row(*row(ends, part, can, cpu_s))
            await asyncio.sleep(3.0)
    table.title = f"closed loop: {can:.1f} answers a second"
    Console(width=120).print(table)


def row(ends: Sequence[End], part: float, can: float, cpu_s: float) -> list[str]:
    """Return the figures of one load."""
    lasted_s = max(end.due_s + end.took_s for end in ends)
    codes = Counter(end.code for end in ends)
    refused = sorted(end.took_s for end in ends if end.code == "overloaded")
    other = codes.total() - codes["ok"] - codes["overloaded"]
    half = f"{1e3 * refused[len(refused) // 2]:.0f} ms" if refused else ""
    answered = codes["ok"] / lasted_s
    return [
        f"{part * can:.1f} / s", f"{answered:.1f} / s", f"{answered / can:.2f}", str(len(refused)), str(other), half,
        f"{1e3 * cpu_s / max(1, codes['ok']):.0f} ms",
    ]  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Make an installation and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=float, nargs="+", default=[1.75, 3.5, 7.0], help="of what a closed loop gets")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each load (default: %(default)s)")
    options = parser.parse_args(arguments)
    with installed(TOY.name, DEVICES) as (directory, environment), Supervisor(directory, environment) as parties:
        parties.start()
        parties.wait_ready()
        asyncio.run(measure(directory, parties, options.parts, options.seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
