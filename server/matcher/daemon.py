"""`veilmatch matcher`: loads the galleries into the workers and serves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import grpc
import structlog

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import revocation_pb2_grpc as revocation_rpc
from veilmatch.server.admission.budgets import budgets_of
from veilmatch.server.admission.cards import Cards
from veilmatch.server.admission.devices import Devices
from veilmatch.server.admission.ledger import Ledger
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import RequestChecker
from veilmatch.server.admission.revoked import Revoked
from veilmatch.server.config import MatcherSettings
from veilmatch.server.ground.logs import configure_logging, in_worker, run_logged
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.ground.stalls import Stalls
from veilmatch.server.matcher.admission import Admission, pseudonym_key_of, request_bytes
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.certificates import Signers
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.bulk_room import BulkRoom
from veilmatch.server.matcher.change.retaining import Retaining
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
from veilmatch.server.matcher.query.preparing import Zeros
from veilmatch.server.matcher.retention.asked import AskedDays
from veilmatch.server.matcher.service import MatcherPeerService, MatcherService
from veilmatch.server.matcher.view import MatcherView
from veilmatch.server.monitoring.monitor import Monitor, monitored
from veilmatch.server.monitoring.neighbours import Neighbours
from veilmatch.server.revoking.lists import RevocationLists
from veilmatch.server.revoking.spreading import SERVICE as REVOCATIONS
from veilmatch.server.revoking.spreading import RevocationService, Spreading
from veilmatch.server.transport.channels import channel_to, server_options
from veilmatch.server.transport.connections import Connections, port_of
from veilmatch.server.transport.daemon import ignore_hangups, run_daemon, sole_owner, take_descriptors
from veilmatch.server.transport.door import Door, devices_gate, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.transport.hangup import Hangup
from veilmatch.server.transport.identity import Identity
from veilmatch.server.transport.sign_of_life import Signs, sign_over
from veilmatch.server.workers.memory import return_large_blocks, share_arenas
from veilmatch.server.workers.threads import Pool, make_pool

_log = structlog.get_logger(__name__)


def run_matcher(
    settings: MatcherSettings,
    public: PublicFile,
    organisation: OrganisationKey,
    load: Callable[[], MatcherSettings],
    new: tuple[PublicFile, OrganisationKey] | None = None,
) -> int:
    """Serve until told to stop; return the exit status. The workers are made before gRPC starts.

    load: reads the configuration again, for SIGHUP. new: public file and signing key of
    the installation that a rotation goes to, if one is configured.
    """
    public_key = public.public_key
    configure_logging(settings.party_name, settings.log_level)
    ignore_hangups()
    take_descriptors()
    share_arenas()
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
            succession = Succession(
                settings.rotation.galleries_in, new_scheme, new_workers, agreement, settings.galleries
            )
        actors = None
        if settings.cluster is not None:
            names = settings.galleries
            database = settings.data_dir / GALLERY_DB if settings.storage is None else None
            # After the pools, whose processes must not begin with threads of Ray.
            joined = connected(settings.cluster, settings.party, public_key, names, database)
            actors = stack.enter_context(joined)
        return run_logged(
            monitored(
                settings,
                lambda monitor: _serve(
                    settings, public, organisation, load, scheme, pools, monitor, succession, actors
                ),
            )
        )


async def _serve(
    settings: MatcherSettings,
    public: PublicFile,
    organisation: OrganisationKey,
    load: Callable[[], MatcherSettings],
    scheme: Paillier,
    pools: Sequence[Pool],
    monitor: Monitor,
    succession: Succession | None,
    actors: Actors | None = None,
) -> int:
    started = time.perf_counter()
    public_key = scheme.public_key
    identity = Identity(settings.tls, settings.party_name, settings.tls.crl)
    size = public_key.parameters.ciphertext_bytes
    local = PackWorkers(pools[0], scheme, Zeros(size, settings.prepared_searches, settings.prepared_bytes))
    store = Store(settings.galleries_in, public_key.key_id, public_key.parameters, party=settings.party_name)
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
        require_signed(gallery, public.signer)
        await _report_damage(gallery)
    asked = AskedDays({name: gallery.store for name, gallery in galleries.items()})
    if succession is not None:
        await succession.load(galleries, asked)
    peers = {party: channel_to(address, f"matcher-{party}", settings.tls) for party, address in settings.peers.items()}
    key_holder = channel_to(settings.key_holder, f"keyholder-{settings.party}", settings.tls)
    stalls = Stalls()
    on = Surroundings(
        party=settings.party,
        scheme=scheme,
        workers=workers,
        meetings=Meetings(
            settings.party,
            {party: rpc.MatcherPeerStub(channel) for party, channel in peers.items()},
            settings.peer_timeout_s,
            {party: Signs(sign_over(channel)) for party, channel in peers.items()},
            stalls.total_s,
            {party: channel.renewal for party, channel in peers.items()},
        ),
        key_holder=keyholder_rpc.KeyHolderStub(key_holder),
        key_holder_signs=Signs(sign_over(key_holder)),
        key_holder_renewed=key_holder.renewal,
        timeout_s=settings.peer_timeout_s,
        public=public,
        organisation=organisation,
        succession=succession,
    )
    lists = RevocationLists(settings.revoked_dir, public)
    devices = Devices(settings.devices_dir, public, lists=lists)
    checker = RequestChecker(
        public_key,
        devices,
        settings.max_clock_skew_s,
        settings.max_request_lifetime_s,
        settings.party_name,
        recipients=Recipients(public, Revoked(settings.revoked_dir, lists)),
    )
    expiry = Expiry(settings.tls, settings.devices_dir, public, crl=settings.tls.crl)
    gates = {
        "veilmatch.v1.Matcher": devices_gate(settings.party_name, checker.require_known, request_bytes(public_key)),
        "veilmatch.v1.MatcherPeer": peers_gate(settings.party_name, *on.meetings.peers),
        REVOCATIONS: peers_gate(settings.party_name, *on.meetings.peers),
    }
    connections = Connections(settings.connections, port_of(settings.listen), settings.party_name)
    door = Door(on.server, gates, identity, connections)
    server = grpc.aio.server(interceptors=[door], options=server_options(settings.connections, serves_devices=True))
    ledger = Ledger(
        settings.data_dir, budgets_of(settings.budgets.model_dump()), settings.party_name, on.server.without
    )
    admission = Admission(checker, ledger, galleries, on.meetings.pairs, pseudonym_key_of(organisation), Cards(public))
    entrance = Entrance(settings.admission, admission, on.meetings, settings.party_name, os.cpu_count() or 1)
    bulk_room = BulkRoom(settings.max_bulk_bytes, settings.all_bulk_bytes, settings.party_name)
    retaining = Retaining(settings.retention, asked)
    service = MatcherService(entrance, admission, on, bulk_room, settings.max_bulk_s, retaining, settings.card_days)
    rpc.add_MatcherServicer_to_server(service, server)
    followed = _followed(settings, public, organisation, galleries, succession)
    peer_service = MatcherPeerService(on, followed)
    rpc.add_MatcherPeerServicer_to_server(peer_service, server)
    stubs = {party: rpc.MatcherPeerStub(channel) for party, channel in peers.items()}
    following = Following(settings.party, stubs, lambda: followed, Readmission(on.meetings))
    channels: dict[str, grpc.aio.Channel] = {f"keyholder-{settings.party}": key_holder}
    channels |= {f"matcher-{party}": channel for party, channel in peers.items()}
    spreading = Spreading(
        on.server, lists, {name: revocation_rpc.RevocationsStub(channel) for name, channel in channels.items()}
    )
    revocation_rpc.add_RevocationsServicer_to_server(RevocationService(on.server, spreading), server)
    monitor.view = MatcherView(
        settings, public_key.parameters.name, pools[0].count, expiry, Neighbours(channels), galleries, entrance,
        following, connections, lists,
    )  # fmt: skip
    tasks = [asyncio.create_task(one) for one in (identity.follow(), connections.follow(), stalls.watch())]
    try:
        async with (
            monitor.running(),
            spread.following(galleries) if spread is not None else local.preparing(),
            following.running(),
            spreading.running(),
            asked.running(succession.note_days if succession is not None else None),
        ):
            return await run_daemon(
                server, identity.server_credentials(), settings.listen, lambda: _any_failed(pools), expiry.look,
                peer_service.stop, monitor.conditions, Hangup(identity, settings, load, [expiry.look, lists.look]),
                settings.stop_s,
            )  # fmt: skip
    finally:
        for task in tasks:
            task.cancel()
        on.meetings.close()
        on.key_holder_link.close()
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


def require_signed(gallery: Gallery, signers: Signers) -> None:
    """Raise IntegrityError unless two organisations have signed what was loaded.

    The signatures of the last change are enough: its chain value is that of the whole log, which names every pack.
    """
    if gallery.head is not None:
        gallery.head.check(gallery.scope, signers)


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
