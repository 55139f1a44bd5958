"""Processes with devices in them, which ask what they are told to.

    with Generators(directory, devices=64, processes=2, gallery=...) as generators:
        asked, cpu_s = generators.closed([Loop(0, {"verify": 1.0})], seconds=10.0)
        asked, cpu_s = generators.open({"verify": 1.0}, rate=25.0, devices=16, seconds=10.0)

In a closed loop a device waits for its answer before it asks again: it shows what the servers can do, and hides what
waiting is like, because a slow server is asked less. In an open loop requests are due at random times, whatever became
of those before (a Poisson process), and times are counted from when each was due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from installation import Gallery, ask

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet

from .asked import Asked

#: From the order to all processes until the load begins.
LEAD_S = 0.3


@dataclass(frozen=True)
class Loop:
    """What one device does in a closed loop. weights: parts of the operations. at_once: its requests at one time."""

    device: int
    weights: Mapping[str, float]
    at_once: int = 1


class Generators:
    """The processes; a context manager. Device number i is in process i modulo their number.

    directory: of an installation with so many devices, whose gallery is filled with `identities` of a Gallery.
    """

    def __init__(self, directory: Path, devices: int, processes: int, parameters: str, identities: int) -> None:
        context = get_context("spawn")
        self._devices, self._number = devices, 0
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            mine = range(number, devices, processes)
            process = context.Process(
                target=_serve, args=(theirs, directory, list(mine), parameters, identities), daemon=True
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        for connection in self._connections:
            connection.recv()  # all are connected

    def closed(self, loops: Sequence[Loop], seconds: float) -> tuple[list[Asked], float]:
        """Return what became of the requests of these loops, and the CPU seconds of the devices."""
        several = len(self._connections)
        return self._run(
            [("closed", [loop for loop in loops if loop.device % several == n], seconds) for n in range(several)]
        )

    def open(
        self, weights: Mapping[str, float], rate: float, devices: int, seconds: float
    ) -> tuple[list[Asked], float]:
        """Return what became of requests that were due at random, `rate` a second, from so many devices."""
        several = len(self._connections)
        parts = [[d for d in range(devices) if d % several == n] for n in range(several)]
        return self._run([("open", part, dict(weights), rate * len(part) / devices, seconds) for part in parts])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()  # they end when nobody tells them anything more
        for process in self._processes:
            process.join(10.0)
            if process.is_alive():
                process.kill()

    def _run(self, orders: Sequence[tuple[Any, ...]]) -> tuple[list[Asked], float]:
        self._number += 1
        begins = time.perf_counter() + LEAD_S  # of a clock that all processes share
        for connection, order in zip(self._connections, orders, strict=True):
            connection.send((begins, self._number, *order))
        asked: list[Asked] = []
        cpu_s = 0.0
        for connection in self._connections:
            theirs, own_s = connection.recv()
            asked += theirs
            cpu_s += own_s
        return asked, cpu_s


# -- in such a process --------------------------------------------------------------------------------


def _serve(orders: Connection, directory: Path, devices: list[int], parameters: str, identities: int) -> None:
    asyncio.run(_obey(orders, directory, devices, Gallery(ParameterSet.from_name(parameters), identities)))


async def _obey(orders: Connection, directory: Path, devices: list[int], gallery: Gallery) -> None:
    async with AsyncExitStack() as stack:
        clients = {}
        for device in devices:
            settings = DeviceSettings.load(directory / f"device-{device + 1}" / "device.toml")
            clients[device] = await stack.enter_async_context(AsyncClient(settings))
            await ask(clients[device], "verify", gallery, device)  # connections and tables
        load = _Load(clients, gallery)
        orders.send("connected")
        while True:
            try:
                begins, number, kind, *order = await asyncio.to_thread(orders.recv)
            except EOFError:
                return
            load.begin(begins, number)
            await asyncio.sleep(begins - time.perf_counter())
            own_s = time.process_time()
            await (load.closed if kind == "closed" else load.open)(*order)
            orders.send((load.asked, time.process_time() - own_s))


class _Load:
    """The requests of the devices of one process."""

    def __init__(self, clients: Mapping[int, AsyncClient], gallery: Gallery) -> None:
        self._clients, self._gallery = clients, gallery
        self.asked: list[Asked] = []
        self._began = 0.0
        self._name, self._count = "", 0
        self._rng = np.random.default_rng()

    def begin(self, when: float, number: int) -> None:
        """Forget what was, and be ready for load number `number`."""
        self.asked, self._began, self._count = [], when, 0
        # Names of newcomers, of this load, process and request; other times and probes in every load.
        first = min(self._clients)
        self._name = f"e{number}-{first}"
        self._rng = np.random.default_rng((number, first))

    async def closed(self, loops: Sequence[Loop], seconds: float) -> None:
        """Each waits for its answer before it asks again, and asks no more after these seconds."""

        async def go_on(loop: Loop) -> None:
            while (now := time.perf_counter()) - self._began < seconds:
                await self._ask(loop.device, loop.weights, now)

        await asyncio.gather(*(go_on(loop) for loop in loops for _ in range(loop.at_once)))

    async def open(self, devices: Sequence[int], weights: Mapping[str, float], rate: float, seconds: float) -> None:
        """Requests that are due at random, from any of the devices, whatever becomes of those before."""
        tasks, due = [], self._began
        if rate > 0:
            while (due := due + float(self._rng.exponential(1 / rate))) < self._began + seconds:
                await asyncio.sleep(due - time.perf_counter())
                device = int(self._rng.choice(list(devices)))
                tasks.append(asyncio.create_task(self._ask(device, weights, due)))
        await asyncio.gather(*tasks)

    async def _ask(self, device: int, weights: Mapping[str, float], due: float) -> None:
        """One request. due: when it should have begun, of the clock."""
        self._count += 1
        operation = str(self._rng.choice(list(weights), p=list(weights.values())))
        number, who = int(self._rng.integers(1 << 30)), f"{self._name}-{self._count}"
        error, right = "", True
        try:
            right = await ask(self._clients[device], operation, self._gallery, number, who)
        except VeilmatchError as failed:
            error = failed.code
        now = time.perf_counter()
        self.asked.append(Asked(operation, device, due - self._began, now - self._began, error, not right))
