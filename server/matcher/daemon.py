"""`veilmatch matcher`: loads the galleries into the workers and serves."""

from __future__ import annotations

import asyncio
import os
import time

import grpc
import structlog

from veilmatch.crypto.paillier import Paillier
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.gallery import Gallery
from veilmatch.server.matcher.matching import Surroundings
from veilmatch.server.matcher.meeting import Meetings
from veilmatch.server.matcher.pack_worker import PackWorkers, make_handler
from veilmatch.server.matcher.service import Admission, MatcherPeerService, MatcherService
from veilmatch.server.matcher.store import Store
from veilmatch.server.transport.budgets import Budgets, budgets_of
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.daemon import configure_logging, run_daemon, sole_owner
from veilmatch.server.transport.devices import Devices
from veilmatch.server.transport.replay import ReplayLog
from veilmatch.server.transport.requests import RequestChecker
from veilmatch.server.worker_threads import Pool, make_pool

_log = structlog.get_logger(__name__)


def run_matcher(settings: MatcherSettings, public: PublicFile) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts."""
    public_key = public.public_key
    configure_logging(settings.party_name)
    count = settings.workers or os.cpu_count() or 1
    scheme = Paillier(public_key)
    threads = scheme.ring.releases_gil
    with sole_owner(settings.data_dir), make_pool(count, threads, make_handler, public_key) as pool:
        return asyncio.run(_serve(settings, public, scheme, pool))


async def _serve(settings: MatcherSettings, public: PublicFile, scheme: Paillier, pool: Pool) -> int:
    started = time.perf_counter()
    public_key = scheme.public_key
    workers = PackWorkers(pool, scheme)
    store = Store(settings.data_dir, public_key.key_id, public_key.parameters)
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
    )
    devices = Devices(settings.devices_dir, public)
    checker = RequestChecker(public_key, devices, settings.max_clock_skew_s, settings.max_request_lifetime_s)
    server = grpc.aio.server(options=server_options(serves_devices=True))
    admission = Admission(checker, replays, galleries)
    budgets = Budgets(settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name)
    rpc.add_MatcherServicer_to_server(MatcherService(admission, budgets, on, settings.max_bulk_bytes), server)
    rpc.add_MatcherPeerServicer_to_server(MatcherPeerService(on, galleries), server)
    try:
        return await run_daemon(server, server_credentials(settings.tls), settings.listen, pool.wait_failed)
    finally:
        for channel in (peer, *key_holders.values()):
            await channel.close()
        budgets.close()
        replays.close()
        store.close()
