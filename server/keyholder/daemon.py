"""`veilmatch keyholder`: opens the sealed key, starts the workers, serves."""

from __future__ import annotations

import asyncio
import os

import grpc
import structlog

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.ground.logs import configure_logging, in_worker, run_logged
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.hand import Hand
from veilmatch.server.keyholder.refresh.key_files import KeyFiles
from veilmatch.server.keyholder.refresh.pace import Pace
from veilmatch.server.keyholder.refresh.record import Record
from veilmatch.server.keyholder.refresh.refresh import Refresher
from veilmatch.server.keyholder.refresh.service import KeyHolderRefreshService
from veilmatch.server.keyholder.service import KeyHolderPeerService, KeyHolderService
from veilmatch.server.keyholder.session.serving import KeyHolder
from veilmatch.server.keyholder.session.share_worker import ShareWorkers, make_handler
from veilmatch.server.transport.channels import server_credentials, server_options
from veilmatch.server.transport.daemon import ignore_hangups, run_daemon, sole_owner, take_descriptors
from veilmatch.server.transport.door import Door, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.workers.threads import Pool, make_pool

_REFILL_EVERY_S = 0.5

_log = structlog.get_logger(__name__)


def run_keyholder(settings: KeyHolderSettings, files: KeyFiles, organisation: OrganisationKey) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts."""
    configure_logging(settings.party_name, settings.log_level)
    ignore_hangups()
    take_descriptors()
    count = settings.workers or os.cpu_count() or 1
    scheme = Paillier(files.public_key)
    threads = scheme.ring.releases_gil
    logged = in_worker, settings.party_name, settings.log_level
    with sole_owner(settings.data_dir), make_pool(count, threads, *logged, make_handler, files.public_key) as pool:
        return run_logged(_serve(settings, scheme, files, organisation, pool))


async def _serve(
    settings: KeyHolderSettings, scheme: Paillier, files: KeyFiles, organisation: OrganisationKey, pool: Pool
) -> int:
    key = files.current
    workers = ShareWorkers(pool, scheme)
    await workers.setup(key)
    holder = KeyHolder(settings, files.public, key, workers, organisation)
    record = Record(settings.data_dir, key.party)
    pace = Pace(settings.data_dir, key.party, settings.refresh_interval_s)
    refresher = Refresher(holder, Hand(holder, files, record, pace), settings.peer_timeout_s)
    expiry = Expiry(settings.tls, settings.devices_dir, files.public)
    holders = [party_name(party) for party in PARTIES]
    peers = [name for name in holders if name != settings.party_name]
    gates = {
        "veilmatch.v1.KeyHolder": peers_gate(settings.party_name, f"matcher-{key.party}"),
        "veilmatch.v1.KeyHolderPeer": peers_gate(settings.party_name, *peers),
        # Its own certificate is what the operator's command shows.
        "veilmatch.v1.KeyHolderRefresh": peers_gate(settings.party_name, *holders),
    }
    server = grpc.aio.server(interceptors=[Door(holder.server, gates)], options=server_options(serves_devices=False))
    rpc.add_KeyHolderServicer_to_server(KeyHolderService(holder), server)
    rpc.add_KeyHolderPeerServicer_to_server(KeyHolderPeerService(holder), server)
    rpc.add_KeyHolderRefreshServicer_to_server(KeyHolderRefreshService(refresher, key.key_id), server)
    tasks = [asyncio.create_task(holder.stocks.keep_stocked(pair, _REFILL_EVERY_S)) for pair in settings.pairs]
    tasks.append(asyncio.create_task(refresher.settle_for_ever()))
    try:
        credentials = server_credentials(settings.tls, settings.party_name)
        return await run_daemon(server, credentials, settings.listen, pool.wait_failed, expiry.look, holder.links.stop)
    finally:
        for task in tasks:
            task.cancel()
        await holder.close()
        record.close()
        pace.close()
