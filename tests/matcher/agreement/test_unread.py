"""Organisation b keeps the gallery of c locked by reading nothing of what c sends it, over the real network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.matcher.follow.connected import Network
from tests.matcher.follow.matchers import Matcher
from tests.matcher.galleries import KEY_ID, ORGANISATIONS, mutation, run, signers
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.parameters import DEFAULT
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Scope, Statement
from veilmatch.server.transport.channels import channel_to

SUBJECT = b"a request of a device of b's own".ljust(32, b".")
#: 30 MB, which are more than gRPC takes of what nobody reads.
PACKS = 300


async def reads_nothing(call: Any, initial: bytes) -> None:
    """Say that b lacks every change; read until c has said what it has, and no more."""
    statement = Statement("b", GalleryState(0, initial)).signed(Scope("staff", KEY_ID), ORGANISATIONS["b"])
    await call.write(pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=SUBJECT)))
    await call.read()
    await call.write(pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=SUBJECT)))
    begin = pb.GalleryMeeting(gallery="staff", key_id=KEY_ID, statement=statement.encode())
    await call.write(pb.MatcherMessage(begin=begin))
    await call.read()
    await asyncio.Event().wait()


async def test_who_reads_nothing_does_not_keep_a_gallery_locked(tmp_path: Path) -> None:
    network = Network(tmp_path, follows=False)
    c = Matcher("c", tmp_path / "c", DEFAULT)
    # A change of a and c: of one of its own b would be known to have it.
    change = mutation(1, added=[(pack, 0, f"subject {pack}") for pack in range(PACKS)], parameters=DEFAULT)
    c.store.promise("staff", Ballot(2, "ac"))
    run(c.store, "staff", change)
    await c.load()
    async with (
        network.up(c),
        channel_to(f"127.0.0.1:{network.ports['c']}", "matcher-c", network.tls["b"]) as channel,
    ):
        # It sets no deadline.
        call = rpc.MatcherPeerStub(channel).Exchange()
        lying = asyncio.ensure_future(reads_nothing(call, c.store.initial_chain("staff")))
        agreement = Agreement(ORGANISATIONS["c"], signers)

        async def honest() -> VeilmatchError | None:
            try:
                async with (
                    network.meetings["c"].about(SUBJECT, "bc") as meeting,
                    agreement.changing(meeting, c.gallery),
                ):
                    return None
            except VeilmatchError as error:
                return error

        serving = asyncio.ensure_future(honest())
        # The time of one message is 4 s, and 30 MB may take 30 s; b reads none of them.
        ended, _ = await asyncio.wait({serving}, timeout=40)
        call.cancel()
        lying.cancel()
        outcome = (await asyncio.gather(serving, lying, return_exceptions=True))[0]
        assert ended
        assert isinstance(outcome, UnavailableError) and outcome.party == "matcher-b"
        async with asyncio.timeout(20), c.gallery.lock.exclusive():
            """It is there for others."""
