"""Veilmatch as real processes: a device in this process, two matchers and three key holders beside it, on one core.

CPU time is that of the device and of the daemons that serve, as the operating system counts it, and what it costs to
deal the randomness of one query and to check it, measured apart, because key holders do that ahead and in large blocks.
A query is the second one after its gallery is there, so that tables and connections exist, as they do for the peers.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.daemons import cpu_seconds, wait_until_idle
from benchmarks.dealt import Dealt, of_units, unit_costs, units_of_query
from benchmarks.peers.backend import backends, using
from benchmarks.peers.rows import Cost, Peer, Row, Sizes, on_line
from benchmarks.peers.work import PARAMETERS, gallery, probe
from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

OPERATIONS = ("candidates", "identify")
_THRESHOLD = 0.4
#: What the embeddings are said to be from.
_MODEL = "random"
_REPEATS = 3
#: Pair ab serves.
_SERVING = [f"{kind}-{party}" for kind in ("keyholder", "matcher") for party in "ab"]


def peer(operation: str, backend: str) -> Peer:
    """One operation on one backend."""
    answer = {"candidates": "a bit for each identity", "identify": "best label at or above the threshold"}[operation]
    return Peer(f"Veilmatch {operation}, {backend}", answer, "encrypted", "encrypted", "nobody", 128)


def rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure both operations on every backend, with one gallery that grows."""
    parameters, passphrase = PARAMETERS[dimension], fresh_passphrase()
    measured: dict[tuple[str, str], list[tuple[int, Cost]]] = {
        (operation, backend): [] for backend in backends() for operation in OPERATIONS
    }
    device_bytes = template_bytes = 0.0
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, parameters.name, passphrase)
        dealt = unit_costs(PublicFile.decode((directory / "public.json").read_bytes()).public_key.modulus)
        enrolled = 0
        for n in (size for size in sizes.identities if size <= sizes.largest):
            for backend in backends():
                with using(backend), Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
                    parties.start()
                    parties.wait_ready()
                    with Client.from_config(directory / "device-1" / "device.toml") as client:
                        _enrol(client, gallery(dimension, n)[enrolled:], enrolled)
                        enrolled = n
                        for operation in OPERATIONS:
                            cost, sent = _query(client, parties, operation, dimension)
                            dealt_s = _dealt_s(operation, n, parameters, dealt)
                            measured[operation, backend].append((n, Cost(cost.cpu_s + dealt_s, cost.wall_s)))
                            device_bytes = 2 * sent
            template_bytes = _stored(parameters, n)
    for (operation, backend), costs in measured.items():
        known, name = dict(costs), peer(operation, backend).name
        for size in sizes.identities:
            how = None if size in known else "x, from " + " and ".join(f"{n:,}" for n, _ in costs[-2:])
            cost = known.get(size) or on_line(costs, size)
            yield Row(name, dimension, size, cost.cpu_s, cost.wall_s, how, device_bytes, template_bytes)


def _enrol(client: Client, vectors: Any, first: int) -> None:
    """Nothing to enrol for the second backend: it finds the gallery of the first."""
    if len(vectors):
        client.enrol_many_embeddings(
            [(f"p{first + i}", v) for i, v in enumerate(vectors)], model=_MODEL, timeout_s=1_200.0
        )


def _query(client: Client, parties: Supervisor, operation: str, dimension: int) -> tuple[Cost, int]:
    """Median cost of a query, and bytes of its request to one matcher."""
    ask: Callable[..., Any] = getattr(client, f"{operation}_embedding")
    vector, costs = probe(dimension), []
    for turn in range(_REPEATS + 1):
        wait_until_idle(parties)
        own, servers, wall = time.process_time(), _cpu_s(parties), time.perf_counter()
        result = ask(vector, model=_MODEL, threshold=_THRESHOLD, timeout_s=600.0)
        wall = time.perf_counter() - wall
        cost = Cost(time.process_time() - own + _cpu_s(parties) - servers, wall)
        if turn:
            costs.append(cost)
    found = result.subjects if operation == "candidates" else (result.subject,)
    assert "p0" in found
    return Cost(*(statistics.median(getattr(c, x) for c in costs) for x in ("cpu_s", "wall_s"))), result.probe_bytes


def _cpu_s(parties: Supervisor) -> float:
    """CPU time of the serving daemons so far, worker processes included."""
    seconds = cpu_seconds(parties)
    return sum(seconds[party] for party in _SERVING)


def _dealt_s(operation: str, identities: int, parameters: ParameterSet, units: dict[Kind, Dealt]) -> float:
    """CPU time of dealing what one query uses, and of checking it at both holders."""
    packs = -(-identities // parameters.slots)
    dealt = of_units(units_of_query(operation, identities, packs, parameters), units)
    return dealt.dealing_s + 2 * dealt.checking_s


def _stored(parameters: ParameterSet, identities: int) -> float:
    """Bytes for an identity at both matchers together: its part of a pack, and its record."""
    packs = -(-identities // parameters.slots)
    pack_bytes = packs * parameters.dimension * parameters.ciphertext_bytes / identities
    return 2 * (pack_bytes + parameters.lane_ciphertexts * parameters.ciphertext_bytes)
