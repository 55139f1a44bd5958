"""Three matchers, and where each two of them meet: about the requests of their pair, and about no other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.transport.parties import tls_of
from veilmatch.crypto.errors import PartyRefusedError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, dealer_of, pairs_of, pairs_without
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.matcher.agreement.meetings import Meetings, matcher_name
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.service import MatcherPeerService
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.status import from_rpc

TIMEOUT_S = 2.0


@asynccontextmanager
async def matchers(folder: Path, parties: str = "abc") -> AsyncIterator[dict[Party, Meetings]]:
    """Where these matchers meet, connected by mutual TLS."""
    present = [party for party in PARTIES if party in parties]
    servers, ports, channels = [], {}, []
    for party in present:
        server = grpc.aio.server(options=server_options(serves_devices=True))
        credentials = server_credentials(tls_of(folder, matcher_name(party)))
        ports[party] = server.add_secure_port("127.0.0.1:0", credentials)
        servers.append(server)
    found: dict[Party, Meetings] = {}
    for party, server in zip(present, servers, strict=True):
        stubs = {}
        for peer in present:
            if peer != party:
                tls = tls_of(folder, matcher_name(party))
                channels.append(channel_to(f"127.0.0.1:{ports[peer]}", matcher_name(peer), tls))
                stubs[peer] = rpc.MatcherPeerStub(channels[-1])
        found[party] = Meetings(party, stubs, TIMEOUT_S)  # type: ignore[arg-type]
        on = Surroundings(party, None, None, found[party], None, None, TIMEOUT_S, None, None)  # type: ignore[arg-type]
        rpc.add_MatcherPeerServicer_to_server(MatcherPeerService(on, {}), server)
        await server.start()
    try:
        yield found
    finally:
        for meetings in found.values():
            meetings.close()
        for channel in channels:
            await channel.close()
        for server in servers:
            await server.stop(None)


async def meet(meetings: Meetings, digest: bytes, pair: Pair, *, on_link: bool = False) -> tuple[bool, str, str]:
    async with meetings.met(digest, pair, on_link=on_link) as meeting:
        await meeting.begin()
        return meeting.leads, meeting.party, meeting.peer


#: Over a stream for each request, and over the link that verifications share.
WAYS = pytest.mark.parametrize("on_link", [False, True], ids=["stream", "link"])


@WAYS
async def test_each_two_meet_about_the_requests_of_their_pair(tmp_path: Path, on_link: bool) -> None:
    async with matchers(tmp_path) as found:
        digests = {pair: secrets.token_bytes(32) for pair in PAIRS}
        # All at once: the pairs do not get in each other's way.
        met = await asyncio.gather(
            *(meet(found[p], digests[pair], pair, on_link=on_link) for pair in PAIRS for p in PARTIES if p in pair)
        )
    names = [(matcher_name(pair[0]), matcher_name(pair[1])) for pair in PAIRS]  # type: ignore[arg-type]
    assert met == [one for plus, minus in names for one in ((True, plus, minus), (False, minus, plus))]


@WAYS
async def test_a_matcher_of_another_pair_cannot_take_the_place_of_the_one_that_is_due(
    tmp_path: Path, on_link: bool
) -> None:
    """Matcher a tells c the digest of a request of pair bc, say: what a brings there is not b's."""
    digest = secrets.token_bytes(32)
    async with matchers(tmp_path) as found:

        async def intrude() -> None:
            with pytest.raises(UnavailableError):
                async with found["a"].met(digest, "ac", on_link=on_link):
                    raise AssertionError("nobody meets it")

        intruding = asyncio.create_task(intrude())
        await asyncio.sleep(0.2)
        met = await asyncio.gather(*(meet(found[p], digest, "bc", on_link=on_link) for p in PARTIES[1:]))
        await intruding
    assert met == [(True, "matcher-b", "matcher-c"), (False, "matcher-c", "matcher-b")]


@pytest.mark.parametrize("caller", PARTIES)
async def test_who_follows_in_a_pair_calls_nobody(tmp_path: Path, caller: Party) -> None:
    async with matchers(tmp_path) as found:
        for called in PARTIES:
            if called < caller:
                call = found[caller]._stubs[called].Exchange(timeout=5.0)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.write(pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=bytes(32))))
                    await call.read()
                assert isinstance(from_rpc(caught.value, matcher_name(called)), PartyRefusedError)


@WAYS
@pytest.mark.parametrize("pair", PAIRS)
async def test_a_matcher_that_is_missing_is_named_with_the_pair_that_can_do_without(
    tmp_path: Path, pair: Pair, on_link: bool
) -> None:
    async with matchers(tmp_path) as found:
        for at in PARTIES:
            if at in pair:
                with pytest.raises(UnavailableError) as caught:
                    await meet(found[at], secrets.token_bytes(32), pair, on_link=on_link)
                (missing,) = (party for party in PARTIES if party in pair and party != at)
                assert (caught.value.party, caught.value.alternatives) == (
                    matcher_name(missing), pairs_without(missing),
                )  # fmt: skip


async def test_without_a_third_matcher_nobody_is_told_of_pairs_that_there_are_not(tmp_path: Path) -> None:
    async with matchers(tmp_path, "ab") as found:
        assert found["a"].pairs == found["b"].pairs == ("ab",)
        with pytest.raises(UnavailableError) as caught:
            await meet(found["a"], secrets.token_bytes(32), "ab")
        assert (caught.value.party, caught.value.alternatives) == ("matcher-b", ())
        # A key holder does not know what matchers there are.
        with pytest.raises(VeilmatchError) as passed_on, own_failures(found["a"].server):
            raise UnavailableError("keyholder-b is down", party="keyholder-b", alternatives=("ac",))
        assert passed_on.value.alternatives == ()


@pytest.mark.parametrize("party", PARTIES)
def test_what_a_matcher_fails_in_offers_the_pair_without_it(party: Party) -> None:
    meetings = Meetings(party, {peer: None for peer in PARTIES if peer != party}, TIMEOUT_S)  # type: ignore[misc]
    assert set(meetings.pairs) == set(pairs_of(party))
    assert meetings.server == Self(f"matcher-{party}", pairs_without(party), PAIRS)
    assert all(dealer_of(pair) == party for pair in meetings.server.without)  # type: ignore[arg-type]
    with pytest.raises(VeilmatchError) as caught, own_failures(meetings.server):
        raise RuntimeError
    assert (caught.value.party, caught.value.alternatives) == (f"matcher-{party}", pairs_without(party))
