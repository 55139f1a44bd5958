"""Three key holders in one process, over mutual TLS on loopback, and the matchers and devices that ask them.

Everything but the processes is real: services, sessions, stocks on disk, certificates. The arithmetic
runs in this process, with a toy key.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from contextvars import Context
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import certificate, organisation_keys, organisations, signers
from tests.simulator import SimulatedGallery
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ServerDeviationError, VeilmatchError
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import ProbeShare, Results
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.config import DaemonTls, KeyHolderBudgets, KeyHolderSettings
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.keyholder.service import KeyHolderPeerService, KeyHolderService
from veilmatch.server.keyholder.session.serving import KeyHolder
from veilmatch.server.keyholder.session.share_worker import ShareWorkers, make_handler
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.keyholder_call import AnswerShare, KeyHolderCall, ServeCalling, calling, opened
from veilmatch.server.matcher.query.records import Records
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.renewed import RenewedChannel
from veilmatch.server.transport.sign_of_life import Signs, sign_over
from veilmatch.server.transport.status import from_rpc
from veilmatch.server.workers.pool import Exchange

TOY = ParameterSet(dimension=12, scale=8, clip=3, modulus_bits=512)
#: Everybody with a certificate of the installation. The mallory of these tests has one too, of no known role.
NAMES = (
    "keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b", "matcher-c", "device-1",
    "mallory",
)  # fmt: skip
STATE = GalleryState(7, bytes(32))


@cache
def ceremony() -> Ceremony:
    """One toy key for all tests."""
    return run_ceremony(TOY)


@cache
def public_file() -> PublicFile:
    """The installation, and the organisations that certify its devices."""
    return PublicFile.fresh(ceremony().public_key, organisations(), signers())


@cache
def certificates() -> tuple[bytes, dict[str, tuple[bytes, bytes]]]:
    """The authority's certificate, and everybody's certificate and key."""
    authority = Authority.fresh()
    return authority.certificate_pem(), {name: authority.issue(name) for name in NAMES}


@cache
def device_key(name: str) -> Ed25519PrivateKey:
    """A device's signing key."""
    return Ed25519PrivateKey.generate()


def tls_of(name: str, folder: Path) -> DaemonTls:
    """Write a party's TLS files and return where they are."""
    authority, issued = certificates()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{part}.pem" for part in ("authority", "certificate", "key")]
    for path, content in zip(paths, (authority, *issued[name]), strict=True):
        write_file(path, content, secret=True)
    return DaemonTls(authority=paths[0], certificate=paths[1], key=paths[2])


class LocalPool:
    """The worker pool in this process. `before`: awaited before every batch of ciphertexts."""

    count = 1

    def __init__(self) -> None:
        self._handle = make_handler(ceremony().public_key)
        self.batches = 0
        self.before: Any = None
        self._lent: set[asyncio.Task[None]] = set()

    def lend(self, _worker: int, work: Callable[[Exchange], None]) -> None:
        lent = asyncio.create_task(self._lend(work), context=Context())
        self._lent.add(lent)
        lent.add_done_callback(self._lent.discard)

    async def _lend(self, work: Callable[[Exchange], None]) -> None:
        self.batches += 1
        try:
            if self.before is not None:
                await self.before()
        except Exception as error:
            work(partial(_failing, error))
        else:
            work(self._handle)

    async def map(self, requests: Sequence[bytes]) -> list[bytes]:
        return [self._handle(request) for request in requests]


def _failing(error: Exception, _request: bytes) -> bytes:
    raise error


@dataclass
class Running:
    """One key holder that serves."""

    holder: KeyHolder
    pool: LocalPool
    server: grpc.aio.Server
    service: KeyHolderService

    async def stop(self) -> None:
        """End as a killed process would, except that the port is free at once."""
        await self.server.stop(0)
        self.service.close()
        await self.holder.close()


@dataclass
class Trio:
    """The three key holders, and channels to them in anybody's name."""

    folder: Path
    ports: dict[Party, int] = field(default_factory=dict)
    running: dict[Party, Running] = field(default_factory=dict)
    channels: dict[tuple[str, Party], RenewedChannel] = field(default_factory=dict)
    #: Links of the matchers to their key holders, which verifications go over.
    links: dict[Party, ServeCalling] = field(default_factory=dict)
    #: Changes to the settings of every key holder that is started from now on.
    changes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, party: Party) -> KeyHolder:
        return self.running[party].holder

    async def start(self, *parties: Party) -> None:
        """Start these key holders, at the addresses that they had before."""
        servers = {party: grpc.aio.server(options=server_options(serves_devices=False)) for party in parties}
        for party, server in servers.items():
            credentials = server_credentials(tls_of(f"keyholder-{party}", self.folder))
            self.ports[party] = server.add_secure_port(f"127.0.0.1:{self.ports.get(party, 0)}", credentials)
        for party, server in servers.items():
            key, pool = self.key(party), LocalPool()
            workers = ShareWorkers(pool, Paillier(ceremony().public_key))  # type: ignore[arg-type]
            await workers.setup(key)
            holder = KeyHolder(self.settings(party), public_file(), key, workers, organisation_keys()[party])
            service = KeyHolderService(holder)
            rpc.add_KeyHolderServicer_to_server(service, server)
            rpc.add_KeyHolderPeerServicer_to_server(KeyHolderPeerService(holder), server)
            self.running[party] = Running(holder, pool, server, service)
            self.add_services(party, server)
            await server.start()

    def key(self, party: Party) -> KeyHolderKey:
        """The key that a key holder starts with."""
        return ceremony().keys[PARTIES.index(party)]

    def add_services(self, party: Party, server: grpc.aio.Server) -> None:
        """For what else a key holder serves."""

    async def stop(self, *parties: Party) -> None:
        for party in parties:
            await self.running.pop(party).stop()

    def settings(self, party: Party) -> KeyHolderSettings:
        if not self.devices_dir(party).exists():
            self.devices_dir(party).mkdir(parents=True)
            self.certify(party, "device-1")
        fields: dict[str, Any] = {
            "listen": f"127.0.0.1:{self.ports[party]}",
            "data_dir": self.data_dir(party),
            "public_key": self.folder / "public.json",
            "tls": tls_of(f"keyholder-{party}", self.folder),
            "devices_dir": self.devices_dir(party),
            "revoked_dir": self.revoked_dir(party),
            "party": party,
            "key_file": self.folder / "share.key",
            "peers": {other: f"127.0.0.1:{self.ports[other]}" for other in PARTIES if other != party},
            "peer_timeout_s": 20.0,
            "stock_triples": 256,
            "stock_bytes": 1 << 17,
            # Tests that are not about budgets ask as often as they like.
            "budgets": {name: {} for name in KeyHolderBudgets.model_fields},
            "stock_products": 1 << 14,
        }
        return KeyHolderSettings(**(fields | self.changes))

    def data_dir(self, party: Party) -> Path:
        return self.folder / f"data-{party}"

    def devices_dir(self, party: Party) -> Path:
        return self.folder / f"devices-{party}"

    def revoked_dir(self, party: Party) -> Path:
        return self.folder / f"revoked-{party}"

    def certify(self, party: Party, device: str, key: Ed25519PrivateKey | None = None, **said: Any) -> None:
        """Give a key holder a certificate of a device. said: signers and grant, see `making.certificate`."""
        made = certificate(device, key or device_key(device), public=public_file(), **said)
        (self.devices_dir(party) / f"{device}.cert").write_bytes(made.encode())

    def channel(self, name: str, party: Party) -> RenewedChannel:
        """Return a channel to a key holder that shows the certificate of `name`."""
        if (name, party) not in self.channels:
            tls = tls_of(name, self.folder)
            self.channels[name, party] = channel_to(f"127.0.0.1:{self.ports[party]}", f"keyholder-{party}", tls)
        return self.channels[name, party]

    def link(self, party: Party) -> ServeCalling:
        """Return the calling end of the link of a matcher to its key holder."""
        if party not in self.links:
            channel = self.channel(f"matcher-{party}", party)
            self.links[party] = calling(party, rpc.KeyHolderStub(channel), channel.renewal)
        return self.links[party]

    @asynccontextmanager
    async def call(
        self, request: request_pb2.SignedRequest, party: Party, pair: Pair, **changes: Any
    ) -> AsyncIterator[KeyHolderCall]:
        """Open the session of a request as the matcher of an organisation does.

        changes: state, record, by_device, output_bits, timeout_s, labels_digest.
        """
        channel = self.channel(f"matcher-{party}", party)
        stub = rpc.KeyHolderStub(channel)
        record = changes.get("record", ())
        operation = request_pb2.RequestBody.FromString(request.body).operation
        on_link = operation in (request_pb2.OPERATION_VERIFY, request_pb2.OPERATION_PRESENT)
        link = self.link(party) if on_link else None
        by_device = changes.get("by_device", [True] * (len(record) // TOY.lane_ciphertexts))
        records = Records(record, np.array(by_device, dtype=np.bool_))
        async with opened(
            stub, party, pair, request, changes.get("state", STATE), records, TOY, Signs(sign_over(channel)),
            is_plus=party == pair[0], timeout_s=changes.get("timeout_s", 60.0),
            output_bits=changes.get("output_bits", 4096), labels_digest=changes.get("labels_digest", b""),
            calling=link,
        ) as call:  # fmt: skip
            yield call

    @asynccontextmanager
    async def both(
        self, request: request_pb2.SignedRequest, pair: Pair, **changes: Any
    ) -> AsyncIterator[dict[Party, KeyHolderCall]]:
        """Open the session at both key holders of the pair."""
        async with AsyncExitStack() as stack:
            yield {p: await stack.enter_async_context(self.call(request, p, pair, **changes)) for p in holders(pair)}

    async def decide(
        self, request: request_pb2.SignedRequest, pair: Pair, gallery: SimulatedGallery, wanted: Sequence[int]
    ) -> list[int]:
        """Play both matchers to the end of a query; the opened answer bits."""
        async with self.both(request, pair) as calls:
            results = await results_of(calls, gallery, wanted, pair)
            return await answers(calls, results)

    async def verify(
        self, probe: Array, pair: Pair, threshold: int, templates: Sequence[Array], by_device: Sequence[bool] = ()
    ) -> bool:
        """Play both matchers in a verification against these templates; the opened answer.

        by_device: of each record; none given: the matchers made all of them.
        """
        record = [c for template in templates for c in encrypted(template)]
        told = list(by_device) or [False] * len(templates)
        request = signed(probe, pair, threshold, request_pb2.OPERATION_VERIFY)
        async with self.both(request, pair, record=record, by_device=told) as calls:
            shares = await asyncio.gather(*(call.decision_share(1, len(record)) for call in calls.values()))
        return opened_bits(*shares, 1) == [1]

    async def close(self) -> None:
        for link in self.links.values():
            link.close()
        for channel in self.channels.values():
            await channel.close()
        await self.stop(*self.running)


@asynccontextmanager
async def started(folder: Path, **changes: Any) -> AsyncIterator[Trio]:
    """Three key holders with empty stocks. changes: to their settings."""
    trio = Trio(folder, changes=changes)
    await trio.start(*PARTIES)
    try:
        yield trio
    finally:
        await trio.close()


#: What `stocked` has made, by key holder.
_DEALT: dict[Party, bytes] = {}


async def stocked(folder: Path) -> Path:
    """Give the key holders that will start in a folder stock for every pair, and return the folder.

    It is dealt and checked once in each process: their keys are the same wherever they start. So what a test waits for
    is its session, and no time-out of a test about sessions has to allow for a check.
    """
    if not _DEALT:
        with tempfile.TemporaryDirectory() as elsewhere:
            async with started(Path(elsewhere), peer_timeout_s=120.0) as trio:
                for pair in PAIRS:
                    await (await trio[pair[0]].stocks.of(pair)).refill()
            for party in PARTIES:
                path = trio.data_dir(party) / "stock.db"
                with closing(sqlite3.connect(path)) as connection:
                    # These copies are meant: none says that it was made elsewhere.
                    connection.execute("DELETE FROM place")
                    connection.commit()
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                _DEALT[party] = path.read_bytes()
    trio = Trio(folder)
    for party, stock in _DEALT.items():
        trio.data_dir(party).mkdir(parents=True)
        write_file(trio.data_dir(party) / "stock.db", stock, secret=True)
    return folder


def holders(pair: Pair) -> tuple[Party, ...]:
    """Return the organisations of a pair, plus holder first."""
    return tuple(party for party in PARTIES if party in pair)


async def refused(call: Any, party: Party) -> VeilmatchError:
    """Run a call of any shape to the error that it has to end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return from_rpc(caught.value, f"keyholder-{party}")


# -- what a device says ------------------------------------------------------------------------


@cache
def scheme() -> Paillier:
    """The scheme as a device has it."""
    return Paillier(ceremony().public_key)


def known(vector: Array) -> KnownCiphertexts:
    """The lane ciphertexts of a vector, or of several views of one, as whoever encrypted them has them."""
    return KnownCiphertexts.encrypt(scheme(), [m for view in np.atleast_2d(vector) for m in lanes.pack(view, TOY)])


def encrypted(vector: Array) -> list[bytes]:
    """A vector's lane ciphertexts."""
    return list(known(vector).ciphertexts)


def claimed(ciphertexts: Sequence[bytes], randomisers: Sequence[Integer] = ()) -> KnownCiphertexts:
    """Ciphertexts of somebody else, as if these were their randomisers; none given: all zero."""
    return KnownCiphertexts(tuple(ciphertexts), tuple(randomisers) or (Integer(0),) * len(ciphertexts), scheme())


def signed(
    vector: Array | Sequence[bytes] | KnownCiphertexts,
    pair: Pair = "ab",
    threshold: int = 1,
    operation: request_pb2.Operation.ValueType = request_pb2.OPERATION_CANDIDATES,
    **changes: Any,
) -> request_pb2.SignedRequest:
    """A request of device-1. vector: the probe or template, views of one, or its ciphertexts. changes: device, key,
    now, views, unless_known.

    Bare ciphertexts are sent with a proof that is none.
    """
    if isinstance(vector, list | tuple):
        sent = claimed(vector) if vector else None
    else:
        sent = vector if isinstance(vector, KnownCiphertexts) else known(vector)
    search = operation in (
        request_pb2.OPERATION_CANDIDATES, request_pb2.OPERATION_IDENTIFY, request_pb2.OPERATION_KNOWN,
    )  # fmt: skip
    unless_known = changes.get("unless_known", False)
    probe = search or operation == request_pb2.OPERATION_VERIFY
    subject = "" if search else "ada"
    token = b"" if probe else secrets.token_bytes(16)
    model = "" if sent is None else "toy"
    draft = Draft(
        operation, sent, threshold if probe or unless_known else 0, subject, token, model=model,
        views=changes.get("views", 1), unless_known=unless_known,
    )  # fmt: skip
    signer = RequestSigner(
        DeviceKey(changes.get("key", device_key("device-1"))), changes.get("device", "device-1"), "main",
        ceremony().public_key, 60.0, changes.get("now", time.time),
    )  # fmt: skip
    request = signer.sign(draft, pair)
    request.subject, request.subject_salt = "", b""
    return request


# -- what the two matchers do ------------------------------------------------------------------


async def results_of(
    calls: dict[Party, KeyHolderCall], gallery: SimulatedGallery, wanted: Sequence[int], pair: Pair, views: int = 1
) -> Results:
    """Wait for both shares of the probe and compute V of every pack with a wanted template, by view."""
    shares = await asyncio.gather(*(call.probe_share(views) for call in calls.values()))
    assert shares[0].session_id == shares[1].session_id
    made = {
        party == pair[0]: ProbeShare(share.session_id, share.values, party == pair[0])
        for party, share in zip(calls, shares, strict=True)
    }
    return gallery.results(made, [gallery.places[i] for i in wanted], views)


async def answers(calls: dict[Party, KeyHolderCall], results: Results, count: int | None = None) -> list[int]:
    """Hand V to both key holders and open the answer bits as the device would."""
    expected = int(results.wanted.sum()) if count is None else count
    data = [Paillier(ceremony().public_key).serialise(c) for c in results.ciphertexts]

    async def one(call: KeyHolderCall) -> AnswerShare:
        await call.send_results(data, results.wanted)
        return await call.decision_share(expected, len(data))

    return opened_bits(*await asyncio.gather(*(one(call) for call in calls.values())), expected)


def opened_bits(plus: AnswerShare, minus: AnswerShare, count: int) -> list[int]:
    """Open an answer as the device would."""
    assert plus.session_id == minus.session_id
    if plus.valid == minus.valid:
        raise ServerDeviationError("an invalid vector")
    return [(plus.bits[i // 8] ^ minus.bits[i // 8]) >> (i % 8) & 1 for i in range(count)]
