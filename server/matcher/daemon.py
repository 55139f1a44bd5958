"""`veilmatch matcher`: loads the galleries into the workers and serves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack

import grpc
import structlog

from veilmatch.common.public_file import read_public_key
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.admission import Admission, request_bytes
from veilmatch.server.matcher.agreement.meeting import Meetings
from veilmatch.server.matcher.bulk_room import BulkRoom
from veilmatch.server.matcher.change.succession import Succession, require_rotatable
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.gallery.checks import REMEDY
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.store import Store
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.matcher.service import MatcherPeerService, MatcherService
from veilmatch.server.transport.budgets import Budgets, budgets_of
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.daemon import ignore_hangups, run_daemon, sole_owner, take_descriptors
from veilmatch.server.transport.devices import Devices
from veilmatch.server.transport.door import Door, devices_gate, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.transport.logs import configure_logging, in_worker, run_logged
from veilmatch.server.transport.replay import ReplayLog
from veilmatch.server.transport.requests import RequestChecker
from veilmatch.server.workers.memory import return_large_blocks
from veilmatch.server.workers.threads import Pool, make_pool

_log = structlog.get_logger(__name__)


def run_matcher(settings: MatcherSettings, public: PublicFile) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts."""
    public_key = public.public_key
    configure_logging(settings.party_name, settings.log_level)
    ignore_hangups()
    take_descriptors()
    return_large_blocks()
    count = settings.workers or os.cpu_count() or 1
    scheme = Paillier(public_key)
    threads = scheme.ring.releases_gil
    logged = in_worker, settings.party_name, settings.log_level
    with ExitStack() as stack:
        stack.enter_context(sole_owner(settings.data_dir))
        pools = [stack.enter_context(make_pool(count, threads, *logged, make_handler, public_key))]
        succession = None
        if settings.rotation is not None:
            new_key = read_public_key(settings.rotation.public_key)
            require_rotatable(public_key, new_key)
            stack.enter_context(sole_owner(settings.rotation.data_dir))
            # Queries go first: the rotation gets half as many workers.
            pools.append(stack.enter_context(make_pool(-(-count // 2), threads, *logged, make_handler, new_key)))
            new_scheme = Paillier(new_key)
            succession = Succession(
                settings.rotation.data_dir, new_scheme, PackWorkers(pools[1], new_scheme), settings.galleries
            )
        return run_logged(_serve(settings, public, scheme, pools, succession))


async def _serve(
    settings: MatcherSettings,
    public: PublicFile,
    scheme: Paillier,
    pools: Sequence[Pool],
    succession: Succession | None,
) -> int:
    started = time.perf_counter()
    public_key = scheme.public_key
    workers = PackWorkers(pools[0], scheme)
    store = Store(settings.data_dir, public_key.key_id, public_key.parameters, party=settings.party_name)
    replays = ReplayLog(settings.data_dir)
    galleries = {
        name: Gallery(name, number, store, workers, public_key.parameters.slots)
        for number, name in enumerate(settings.galleries)
    }
    for gallery in galleries.values():
        await gallery.load()
        _log.info(
            "gallery loaded", gallery=gallery.name, templates=len(gallery.index), packs=gallery.index.pack_count,
            sequence=gallery.state.sequence, seconds=round(time.perf_counter() - started, 3),
        )  # fmt: skip
        await _report_damage(gallery)
    if succession is not None:
        await succession.load(galleries)
    peer = channel_to(settings.peer, f"matcher-{'b' if settings.seat == 'a' else 'a'}", settings.tls)
    key_holders = {
        party: channel_to(address, f"keyholder-{party}", settings.tls)
        for party, address in settings.key_holders.items()
    }
    on = Surroundings(
        seat=settings.seat,
        scheme=scheme,
        workers=workers,
        meetings=Meetings(settings.seat, rpc.MatcherPeerStub(peer), settings.peer_timeout_s),
        key_holders={p: keyholder_rpc.KeyHolderStub(channel) for p, channel in key_holders.items()},
        timeout_s=settings.peer_timeout_s,
        succession=succession,
    )
    devices = Devices(settings.devices_dir, public)
    checker = RequestChecker(
        public_key, devices, settings.max_clock_skew_s, settings.max_request_lifetime_s, settings.party_name
    )
    expiry = Expiry(settings.tls, settings.devices_dir, public)
    gates = {
        "veilmatch.v1.Matcher": devices_gate(settings.party_name, checker.require_known, request_bytes(public_key)),
        "veilmatch.v1.MatcherPeer": peers_gate(settings.party_name, on.meetings.peer),
    }
    server = grpc.aio.server(interceptors=[Door(on.server, gates)], options=server_options(serves_devices=True))
    budgets = Budgets(settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name)
    admission = Admission(checker, replays, budgets, galleries)
    entrance = Entrance(settings.admission, admission, on.meetings, settings.party_name, os.cpu_count() or 1)
    bulk_room = BulkRoom(settings.max_bulk_bytes, settings.all_bulk_bytes, settings.party_name)
    service = MatcherService(entrance, admission, on, bulk_room, settings.max_bulk_s)
    rpc.add_MatcherServicer_to_server(service, server)
    rpc.add_MatcherPeerServicer_to_server(MatcherPeerService(on, galleries), server)
    try:
        credentials = server_credentials(settings.tls, settings.party_name)
        return await run_daemon(server, credentials, settings.listen, lambda: _any_failed(pools), expiry.look)
    finally:
        for channel in (peer, *key_holders.values()):
            await channel.close()
        budgets.close()
        replays.close()
        store.close()
        if succession is not None:
            succession.close()


async def _report_damage(gallery: Gallery) -> None:
    """Say which records are damaged. Only erasing or rotating these templates needs them, so the rest is served."""
    for found in await gallery.damaged_records():
        _log.error(
            "alert", what="a record in gallery.db is damaged", gallery=gallery.name, pack=found.pack, slot=found.slot,
            row=found.row, remedy=REMEDY,
        )  # fmt: skip


async def _any_failed(pools: Sequence[Pool]) -> None:
    """Return when a worker of any of the pools has died."""
    waiting = [asyncio.ensure_future(pool.wait_failed()) for pool in pools]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
