"""`veilmatch keyholder`: opens the sealed key, starts the workers, serves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import grpc
import structlog

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import revocation_pb2_grpc as revocation_rpc
from veilmatch.server.ceremony.meeting import Standing
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
from veilmatch.server.keyholder.view import KeyHolderView
from veilmatch.server.monitoring.monitor import Monitor, monitored
from veilmatch.server.monitoring.neighbours import Neighbours
from veilmatch.server.recovery.keeping import Keeper
from veilmatch.server.revoking.spreading import SERVICE as REVOCATIONS
from veilmatch.server.revoking.spreading import RevocationService, Spreading
from veilmatch.server.transport.channels import server_options
from veilmatch.server.transport.connections import Connections, port_of
from veilmatch.server.transport.daemon import ignore_hangups, run_daemon, sole_owner, take_descriptors
from veilmatch.server.transport.door import Door, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.transport.hangup import Hangup
from veilmatch.server.transport.identity import Identity
from veilmatch.server.workers.memory import share_arenas
from veilmatch.server.workers.threads import Pool, make_pool

_REFILL_EVERY_S = 0.5

_log = structlog.get_logger(__name__)


def run_keyholder(
    settings: KeyHolderSettings,
    files: KeyFiles,
    organisation: OrganisationKey,
    load: Callable[[], KeyHolderSettings],
) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts.

    load: reads the configuration again, for SIGHUP.
    """
    configure_logging(settings.party_name, settings.log_level)
    ignore_hangups()
    take_descriptors()
    share_arenas()
    count = settings.workers or os.cpu_count() or 1
    scheme = Paillier(files.public_key)
    threads = scheme.ring.releases_gil
    logged = in_worker, settings.party_name, settings.log_level
    with sole_owner(settings.data_dir), make_pool(count, threads, *logged, make_handler, files.public_key) as pool:
        _look_at_recovery(settings, files)
        return run_logged(
            monitored(settings, lambda monitor: _serve(settings, scheme, files, organisation, pool, monitor, load))
        )


def _look_at_recovery(settings: KeyHolderSettings, files: KeyFiles) -> None:
    """Finish what a recovery has left, as far as that needs nobody else; say so if it needs the others."""
    keeper = Keeper(settings.key_file, settings.data_dir, settings.party, files.public)
    try:
        standing, _ = keeper.standing()
    except VeilmatchError as error:
        # The share in use was opened; what is beside it is for `veilmatch check`.
        _log.error("files of a recovery cannot be used", code=error.code, reason=str(error))
        return
    if standing in (Standing.PENDING, Standing.KEPT):
        _log.warning("recovery not finished", standing=standing.name.lower(), epoch=files.current.epoch)


async def _serve(
    settings: KeyHolderSettings,
    scheme: Paillier,
    files: KeyFiles,
    organisation: OrganisationKey,
    pool: Pool,
    monitor: Monitor,
    load: Callable[[], KeyHolderSettings],
) -> int:
    key = files.current
    identity = Identity(settings.tls, settings.party_name, settings.tls.crl)
    workers = ShareWorkers(pool, scheme)
    await workers.setup(key)
    holder = KeyHolder(settings, files.public, key, workers, organisation)
    record = Record(settings.data_dir, key.party)
    pace = Pace(settings.data_dir, key.party, settings.refresh_interval_s)
    refresher = Refresher(holder, Hand(holder, files, record, pace), settings.peer_timeout_s)
    expiry = Expiry(settings.tls, settings.devices_dir, files.public, crl=settings.tls.crl)
    neighbours = Neighbours(holder.peers.channels())
    holders = [party_name(party) for party in PARTIES]
    peers = [name for name in holders if name != settings.party_name]
    gates = {
        "veilmatch.v1.KeyHolder": peers_gate(settings.party_name, f"matcher-{key.party}"),
        "veilmatch.v1.KeyHolderPeer": peers_gate(settings.party_name, *peers),
        REVOCATIONS: peers_gate(settings.party_name, *peers, f"matcher-{key.party}"),
        # Its own certificate is what the operator's command shows.
        "veilmatch.v1.KeyHolderRefresh": peers_gate(settings.party_name, *holders),
    }
    connections = Connections(settings.connections, port_of(settings.listen), settings.party_name)
    monitor.view = KeyHolderView(settings, scheme.parameters.name, pool.count, expiry, neighbours, holder, connections)
    door = Door(holder.server, gates, identity, connections)
    server = grpc.aio.server(interceptors=[door], options=server_options(settings.connections, serves_devices=False))
    service = KeyHolderService(holder)
    rpc.add_KeyHolderServicer_to_server(service, server)
    rpc.add_KeyHolderPeerServicer_to_server(KeyHolderPeerService(holder), server)
    rpc.add_KeyHolderRefreshServicer_to_server(KeyHolderRefreshService(refresher, key.key_id), server)
    stubs = {name: revocation_rpc.RevocationsStub(channel) for name, channel in holder.peers.channels().items()}
    spreading = Spreading(holder.server, holder.revocation_lists, stubs)
    revocation_rpc.add_RevocationsServicer_to_server(RevocationService(holder.server, spreading), server)

    def stopping() -> None:
        service.stop()
        holder.links.stop()

    tasks = [asyncio.create_task(holder.stocks.keep_stocked(pair, _REFILL_EVERY_S)) for pair in settings.pairs]
    tasks += [asyncio.create_task(refresher.settle_for_ever()), asyncio.create_task(identity.follow())]
    tasks.append(asyncio.create_task(connections.follow()))
    try:
        async with monitor.running(), spreading.running():
            return await run_daemon(
                server, identity.server_credentials(), settings.listen, pool.wait_failed, expiry.look,
                stopping, monitor.conditions,
                Hangup(identity, settings, load, [expiry.look, holder.auditor.put_back, holder.revocation_lists.look]),
                settings.stop_s,
            )  # fmt: skip
    finally:
        for task in tasks:
            task.cancel()
        service.close()
        await holder.close()
        record.close()
        pace.close()
