"""`veilmatch matcher`: loads the galleries into the workers and serves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext

import grpc
import structlog

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.admission.budgets import budgets_of
from veilmatch.server.admission.devices import Devices
from veilmatch.server.admission.ledger import Ledger
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import RequestChecker
from veilmatch.server.admission.revoked import Revoked
from veilmatch.server.config import MatcherSettings
from veilmatch.server.ground.logs import configure_logging, in_worker, run_logged
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.matcher.admission import Admission, request_bytes
from veilmatch.server.matcher.agreement.meeting import Meetings
from veilmatch.server.matcher.agreement.sitting import Agreement
from veilmatch.server.matcher.bulk_room import BulkRoom
from veilmatch.server.matcher.change.succession import Succession, require_rotatable
from veilmatch.server.matcher.cluster.guard import require_private
from veilmatch.server.matcher.cluster.nodes import connected, require_ray
from veilmatch.server.matcher.cluster.packs import Actors, ClusterPacks
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.follow.followed import Followed
from veilmatch.server.matcher.follow.following import Following
from veilmatch.server.matcher.follow.readmission import Readmission
from veilmatch.server.matcher.gallery.disk.checks import REMEDY
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME as GALLERY_DB
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.matcher.service import MatcherPeerService, MatcherService
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.daemon import ignore_hangups, run_daemon, sole_owner, take_descriptors
from veilmatch.server.transport.door import Door, devices_gate, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.transport.sign_of_life import sign_over
from veilmatch.server.workers.memory import return_large_blocks
from veilmatch.server.workers.threads import Pool, make_pool

_log = structlog.get_logger(__name__)


def run_matcher(
    settings: MatcherSettings,
    public: PublicFile,
    organisation: OrganisationKey,
    new: tuple[PublicFile, OrganisationKey] | None = None,
) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts.

    new: public file and signing key of the installation that a rotation goes to, if one is configured.
    """
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
        if settings.cluster is not None:
            # Before anything takes long; looked at again when it is joined.
            require_ray()
            require_private(settings.cluster)
        pools = [stack.enter_context(make_pool(count, threads, *logged, make_handler, public_key))]
        succession = None
        if settings.rotation is not None and new is not None:
            new_key = new[0].public_key
            require_rotatable(public_key, new_key)
            stack.enter_context(sole_owner(settings.rotation.data_dir))
            # Queries go first: the rotation gets half as many workers.
            pools.append(stack.enter_context(make_pool(-(-count // 2), threads, *logged, make_handler, new_key)))
            new_scheme = Paillier(new_key)
            agreement = Agreement(new[1], new[0].signer)
            new_workers = PackWorkers(pools[1], new_scheme)
            succession = Succession(settings.rotation.data_dir, new_scheme, new_workers, agreement, settings.galleries)
        actors = None
        if settings.cluster is not None:
            names, database = settings.galleries, settings.data_dir / GALLERY_DB
            # After the pools, whose processes must not begin with threads of Ray.
            joined = connected(settings.cluster, settings.party, public_key, names, database)
            actors = stack.enter_context(joined)
        return run_logged(_serve(settings, public, organisation, scheme, pools, succession, actors))


async def _serve(
    settings: MatcherSettings,
    public: PublicFile,
    organisation: OrganisationKey,
    scheme: Paillier,
    pools: Sequence[Pool],
    succession: Succession | None,
    actors: Actors | None = None,
) -> int:
    started = time.perf_counter()
    public_key = scheme.public_key
    local = PackWorkers(pools[0], scheme)
    store = Store(settings.data_dir, public_key.key_id, public_key.parameters, party=settings.party_name)
    spread = _spread(settings, local, actors, store, public_key.parameters)
    workers = spread or local
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
    peers = {party: channel_to(address, f"matcher-{party}", settings.tls) for party, address in settings.peers.items()}
    key_holder = channel_to(settings.key_holder, f"keyholder-{settings.party}", settings.tls)
    on = Surroundings(
        party=settings.party,
        scheme=scheme,
        workers=workers,
        meetings=Meetings(
            settings.party,
            {party: rpc.MatcherPeerStub(channel) for party, channel in peers.items()},
            settings.peer_timeout_s,
            {party: sign_over(channel) for party, channel in peers.items()},
        ),
        key_holder=keyholder_rpc.KeyHolderStub(key_holder),
        key_holder_sign=sign_over(key_holder),
        timeout_s=settings.peer_timeout_s,
        public=public,
        organisation=organisation,
        succession=succession,
    )
    devices = Devices(settings.devices_dir, public)
    checker = RequestChecker(
        public_key,
        devices,
        settings.max_clock_skew_s,
        settings.max_request_lifetime_s,
        settings.party_name,
        recipients=Recipients(public, Revoked(settings.revoked_dir)),
    )
    expiry = Expiry(settings.tls, settings.devices_dir, public)
    gates = {
        "veilmatch.v1.Matcher": devices_gate(settings.party_name, checker.require_known, request_bytes(public_key)),
        "veilmatch.v1.MatcherPeer": peers_gate(settings.party_name, *on.meetings.peers),
    }
    server = grpc.aio.server(interceptors=[Door(on.server, gates)], options=server_options(serves_devices=True))
    ledger = Ledger(
        settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name, on.server.without
    )
    admission = Admission(checker, ledger, galleries, on.meetings.pairs)
    entrance = Entrance(settings.admission, admission, on.meetings, settings.party_name, os.cpu_count() or 1)
    bulk_room = BulkRoom(settings.max_bulk_bytes, settings.all_bulk_bytes, settings.party_name)
    service = MatcherService(entrance, admission, on, bulk_room, settings.max_bulk_s)
    rpc.add_MatcherServicer_to_server(service, server)
    followed = _followed(settings, public, organisation, galleries, succession)
    peer_service = MatcherPeerService(on, followed)
    rpc.add_MatcherPeerServicer_to_server(peer_service, server)
    stubs = {party: rpc.MatcherPeerStub(channel) for party, channel in peers.items()}
    try:
        credentials = server_credentials(settings.tls, settings.party_name)
        async with (
            spread.following(galleries) if spread is not None else nullcontext(),
            Following(settings.party, stubs, lambda: followed, Readmission(on.meetings)).running(),
        ):
            return await run_daemon(
                server, credentials, settings.listen, lambda: _any_failed(pools), expiry.look, peer_service.stop
            )
    finally:
        for channel in (key_holder, *peers.values()):
            await channel.close()
        ledger.close()
        store.close()
        if succession is not None:
            succession.close()


def _spread(
    settings: MatcherSettings, local: PackWorkers, actors: Actors | None, store: Store, parameters: ParameterSet
) -> ClusterPacks | None:
    """Return the packs on the cluster, if there is one."""
    if settings.cluster is None or actors is None:
        return None
    names, wait_s = settings.galleries, settings.cluster.wait_s
    return ClusterPacks(settings.party, local, actors, store, names, parameters, wait_s)


def _followed(
    settings: MatcherSettings,
    public: PublicFile,
    organisation: OrganisationKey,
    galleries: Mapping[str, Gallery],
    succession: Succession | None,
) -> list[Followed]:
    """Return all galleries that are here, those that a rotation is filling included."""
    parameters = public.public_key.parameters
    found = [
        Followed(one, one.store, settings.data_dir, parameters, public.signer, organisation)
        for one in galleries.values()
    ]
    if succession is not None and settings.rotation is not None:
        parameters, data_dir, by = succession.scheme.parameters, settings.rotation.data_dir, succession.agreement
        for new in succession.galleries():
            # The last step of a rotation may come from others.
            found.append(Followed(new, new.store, data_dir, parameters, by.signers, by.signer, succession.finish))
    return found


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
