"""`veilmatch keyholder`: opens the sealed key, starts the workers, serves."""

from __future__ import annotations

import asyncio
import os

import grpc
import structlog

from veilmatch.crypto.keys import KeyHolderKey, pairs_of
from veilmatch.crypto.paillier import Paillier
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.service import KeyHolderPeerService, KeyHolderService
from veilmatch.server.keyholder.serving import KeyHolder
from veilmatch.server.keyholder.share_worker import ShareWorkers, make_handler
from veilmatch.server.transport.channels import server_credentials, server_options
from veilmatch.server.transport.daemon import configure_logging, run_daemon, sole_owner
from veilmatch.server.worker_threads import Pool, make_pool

_REFILL_EVERY_S = 0.5

_log = structlog.get_logger(__name__)


def run_keyholder(settings: KeyHolderSettings, public: PublicFile, key: KeyHolderKey) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts."""
    configure_logging(settings.party_name)
    count = settings.workers or os.cpu_count() or 1
    scheme = Paillier(public.public_key)
    threads = scheme.ring.releases_gil
    with sole_owner(settings.data_dir), make_pool(count, threads, make_handler, public.public_key) as pool:
        return asyncio.run(_serve(settings, public, scheme, key, pool))


async def _serve(
    settings: KeyHolderSettings, public: PublicFile, scheme: Paillier, key: KeyHolderKey, pool: Pool
) -> int:
    workers = ShareWorkers(pool, scheme)
    await workers.setup(key)
    holder = KeyHolder(settings, public, key, workers)
    server = grpc.aio.server(options=server_options(serves_devices=False))
    rpc.add_KeyHolderServicer_to_server(KeyHolderService(holder), server)
    rpc.add_KeyHolderPeerServicer_to_server(KeyHolderPeerService(holder, key), server)
    refills = [asyncio.create_task(holder.keep_stocked(pair, _REFILL_EVERY_S)) for pair in pairs_of(key.party)]
    try:
        return await run_daemon(server, server_credentials(settings.tls), settings.listen, pool.wait_failed)
    finally:
        for refill in refills:
            refill.cancel()
        await holder.close()
