"""Catching up: what a matcher takes from another one, in seconds and bytes, and what is served meanwhile.

    python benchmarks/catch_up.py                       1,000 changes, then a gallery of 100,000 templates
    python benchmarks/catch_up.py --changes 100 --templates 5000
    python benchmarks/catch_up.py --json PATH           writes the figures as well

Two matchers in this process, over gRPC without TLS, each with its database. Nobody enrols: the databases are filled
with changes that two organisations have signed and with random bytes of the size of ciphertexts, which are all that
catching up sees. Meanwhile a reader takes the lock of the gallery that is behind, as a query does, every 10 ms, and
asks for the record of a template where it is followed: how long the longest of them waited is the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Vote
from veilmatch.server.matcher.follow.catching_up import catch_up
from veilmatch.server.matcher.follow.followed import Followed, OnDisk
from veilmatch.server.matcher.follow.serving import FollowedServicer
from veilmatch.server.matcher.gallery.changes import Change, by_leaf, contents_of
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Kind, Mutation, Template
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES, options

NAME = "main"
KEY_ID = bytes(16)
KEYS: dict[Party, OrganisationKey] = {party: OrganisationKey.fresh(party) for party in PARTIES}
#: Packs of one bulk enrolment.
BULK_PACKS = 20
#: How often the lock is taken, and a record read.
EVERY_S = 0.01


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--changes", type=int, default=1000, help="enrolments that are missing (default: %(default)s)")
    parser.add_argument("--templates", type=int, default=100_000, help="of the snapshot (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the databases are put (default: that of temporary files)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options_ = parser.parse_args()
    figures = measure(options_)
    show(figures)
    if options_.json:
        options_.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both."""
    parameters = ParameterSet.from_name(chosen.parameters)
    found: dict[str, Any] = {"cpu": cpu(), "cores": os.cpu_count(), "parameters": parameters.name}
    cases = {
        f"{chosen.changes} changes": enrolments(chosen.changes, parameters),
        f"snapshot of {chosen.templates} templates": bulks(chosen.templates, parameters),
    }
    for name, mutations in cases.items():
        with tempfile.TemporaryDirectory(prefix="veilmatch-catch-up-", dir=chosen.folder) as scratch:
            found[name] = asyncio.run(one(Path(scratch), mutations, parameters))
    return found


def enrolments(count: int, parameters: ParameterSet) -> Iterator[Mutation]:
    """Yield enrolments of one template each, one slot after the other."""
    for number in range(count):
        pack, slot = divmod(number, parameters.slots)
        yield made("enrol", {pack: pack_of(parameters)}, [(pack, slot)], parameters)


def bulks(templates: int, parameters: ParameterSet) -> Iterator[Mutation]:
    """Yield bulk enrolments of so many templates together."""
    places = [divmod(place, parameters.slots) for place in range(templates)]
    step = BULK_PACKS * parameters.slots
    for start in range(0, templates, step):
        some = places[start : start + step]
        yield made("bulk", {pack: pack_of(parameters) for pack in {pack for pack, _ in some}}, some, parameters)


def pack_of(parameters: ParameterSet) -> bytes:
    """Return random bytes of the size of a pack."""
    return secrets.token_bytes(parameters.dimension * parameters.ciphertext_bytes)


def made(kind: Kind, packs: dict[int, bytes], places: Sequence[tuple[int, int]], parameters: ParameterSet) -> Mutation:
    """Return a change that fills these places."""
    size = parameters.lane_ciphertexts * parameters.ciphertext_bytes
    added = [
        Template(pack, slot, f"subject-{pack}-{slot}", secrets.token_bytes(size), by_device=kind == "bulk")
        for pack, slot in places
    ]
    return Mutation(
        kind=kind, token=secrets.token_bytes(16), request_digest=secrets.token_bytes(32), packs=packs, added=added,
        removed=(), result="{}", model="benchmark", device="device-1",
    )  # fmt: skip


def fill(store: Store, mutations: Iterator[Mutation]) -> None:
    """Commit these, each as one that others have committed and signed."""
    state = store.open_gallery(NAME)
    for mutation in mutations:
        chain = next_chain(state.chain, state.sequence + 1, mutation.digest())
        vote = Vote(state.sequence + 1, chain, Ballot(1, "ab"))
        certificate = Certificate.signed(vote, Scope(NAME, KEY_ID), KEYS["a"], KEYS["b"])
        change = Change(vote.sequence, mutation.body.encode(), certificate.encode())
        state = store.apply(NAME, [change], by_leaf(contents_of(mutation)))


async def one(scratch: Path, mutations: Iterator[Mutation], parameters: ParameterSet) -> dict[str, Any]:
    """Return what it costs to catch up with these."""
    with (
        closing(Store(scratch / "a", KEY_ID, parameters)) as ahead,
        closing(Store(scratch / "c", KEY_ID, parameters)) as behind,
    ):
        fill(ahead, mutations)
        galleries = []
        for store in (ahead, behind):
            gallery = Gallery(NAME, 0, store, OnDisk(), parameters.slots)
            await gallery.load()
            galleries.append(gallery)
        here, there = galleries[1], galleries[0]
        followed = Followed(there, ahead, scratch / "a", parameters, lambda party: KEYS[party].public_bytes, KEYS["a"])
        follows = Followed(here, behind, scratch / "c", parameters, lambda party: KEYS[party].public_bytes)
        server = grpc.aio.server(options=options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES))
        rpc.add_MatcherPeerServicer_to_server(FollowedServicer(Self("matcher-a"), lambda: [followed]), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES)
        )
        waits: dict[str, list[float]] = {"behind": [], "ahead": []}
        readers = [
            asyncio.ensure_future(read(here, waits["behind"])),
            asyncio.ensure_future(read(there, waits["ahead"], record=True)),
        ]
        started = time.perf_counter()
        try:
            taken = await catch_up(follows, rpc.MatcherPeerStub(channel), "matcher-a")
        finally:
            seconds = time.perf_counter() - started
            for reader in readers:
                reader.cancel()
            ends = await asyncio.gather(*readers, return_exceptions=True)
            await channel.close()
            await server.stop(0)
        if failed := [end for end in ends if not isinstance(end, asyncio.CancelledError)]:
            raise failed[0]  # type: ignore[misc]  # a reader ends by nothing else
        assert (here.state.sequence, here.state.chain) == (there.state.sequence, there.state.chain)
        return {
            "changes": taken.changes,
            "templates": len(here.index),
            "seconds": round(seconds, 2),
            "megabytes": round(taken.received_bytes / 1e6, 1),
            "locked_s": round(taken.locked_s, 2),
            "reads_where_behind": len(waits["behind"]),
            "longest_wait_where_behind_s": round(max(waits["behind"]), 3),
            "reads_where_followed": len(waits["ahead"]),
            "longest_wait_where_followed_s": round(max(waits["ahead"]), 3),
        }


async def read(gallery: Gallery, waits: list[float], *, record: bool = False) -> None:
    """Hold the gallery as a query does, again and again; note how long each took."""
    while True:
        started = time.perf_counter()
        async with gallery.lock.shared():
            if record:
                await gallery.records([(0, 0)])
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(EVERY_S)


def show(figures: dict[str, Any]) -> None:
    """Print them."""
    table = Table("", *(name for name, found in figures.items() if isinstance(found, dict)))
    cases = [found for found in figures.values() if isinstance(found, dict)]
    for row in cases[0]:
        table.add_row(row.replace("_", " "), *(str(found[row]) for found in cases))
    Console().print(f"{figures['cpu']}, {figures['cores']} cores, {figures['parameters']}", table)


if __name__ == "__main__":
    main()
