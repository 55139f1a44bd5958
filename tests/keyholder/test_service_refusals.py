"""Who and what a key holder refuses, with which error, and that nothing is computed for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest

from tests.keyholder.trio import NAMES, TOY, Trio, ceremony, device_key, encrypted, refused, signed
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import (
    CiphertextError,
    IntegrityError,
    InvalidInputError,
    KnowledgeProofError,
    OverloadedError,
    PartyRefusedError,
    ProtocolError,
    RequestExpiredError,
    RequestReplayedError,
    RequestSignatureError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, dealer_of, pairs_of
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.session import serving

PROBE = np.arange(TOY.dimension) % 7 - 3


def opening(request: request_pb2.SignedRequest) -> Any:
    """The stream of a matcher that opens a session and says nothing more."""

    async def messages() -> Any:
        yield pb.MatcherToKeyHolder(open=pb.OpenSession(request=request, sequence=7, chain=bytes(32)))

    return messages()


async def serve(trio: Trio, caller: str, party: Party, request: request_pb2.SignedRequest) -> VeilmatchError:
    """Open a session at a key holder that is going to refuse it."""
    stub = rpc.KeyHolderStub(trio.channel(caller, party))
    return await refused(stub.Serve(opening(request), timeout=20.0), party)


def nothing_was_computed(trio: Trio) -> bool:
    idle = all(trio.running[party].pool.batches == 0 for party in PARTIES)
    return idle and all(not trio[party].links.rendezvous._links for party in PARTIES)


def nothing_was_used(trio: Trio) -> bool:
    return all(stock.floors == (0, 0, 0) for party in PARTIES for stock in trio[party].stocks.by_pair.values())


# -- who asks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("party", PARTIES)
@pytest.mark.parametrize("caller", NAMES)
async def test_only_the_matcher_of_its_organisation_opens_a_session(trio: Trio, party: Party, caller: str) -> None:
    if caller == f"matcher-{party}":
        return
    for pair in PAIRS:
        error = await serve(trio, caller, party, signed(PROBE, pair))
        if type(error) is IntegrityError:  # gRPC forgets the reason of a call that ends in the middle of a write
            error = await serve(trio, caller, party, signed(PROBE, pair))
        assert isinstance(error, PartyRefusedError)
        assert (error.got, error.expected) == (caller, f"matcher-{party}")
    assert nothing_was_computed(trio)


@pytest.mark.parametrize("pair", PAIRS)
async def test_the_dealer_of_a_pair_takes_no_part_in_it(trio: Trio, pair: Pair) -> None:
    dealer = dealer_of(pair)
    error = await serve(trio, f"matcher-{dealer}", dealer, signed(PROBE, pair))
    assert isinstance(error, PartyRefusedError)
    assert (error.got, error.expected) == (pair, " or ".join(pairs_of(dealer)))
    assert (error.party, error.alternatives) == (f"keyholder-{dealer}", ())
    assert nothing_was_computed(trio)


async def test_a_caller_of_another_installation_is_not_heard(trio: Trio) -> None:
    address = f"127.0.0.1:{trio.ports['a']}"
    own = grpc.ssl_channel_credentials(root_certificates=(trio.folder / "keyholder-a.authority.pem").read_bytes())
    names = [("grpc.ssl_target_name_override", "keyholder-a")]
    for channel in (grpc.aio.insecure_channel(address), grpc.aio.secure_channel(address, own, options=names)):
        async with channel:
            error = await refused(rpc.KeyHolderStub(channel).Serve(opening(signed(PROBE)), timeout=20.0), "a")
            assert isinstance(error, UnavailableError)
    assert nothing_was_computed(trio)


# -- what is asked -----------------------------------------------------------------------------


def altered(request: request_pb2.SignedRequest, change: Callable[[request_pb2.SignedRequest], None]) -> Any:
    change(request)
    return request


def swap_ciphertexts(request: request_pb2.SignedRequest) -> None:
    request.ciphertexts[0] = request.ciphertexts[1]


def add_ciphertext(request: request_pb2.SignedRequest) -> None:
    request.ciphertexts.append(request.ciphertexts[0])


def change_body(request: request_pb2.SignedRequest) -> None:
    request.body += b"\x50\x01"


def drop_signature(request: request_pb2.SignedRequest) -> None:
    request.ClearField("signature")


REQUESTS: dict[str, tuple[Callable[[], request_pb2.SignedRequest], type[VeilmatchError]]] = {
    "a device that nobody knows": (lambda: signed(PROBE, device="device-2"), RequestSignatureError),
    "another device's key": (lambda: signed(PROBE, key=device_key("device-2")), RequestSignatureError),
    "no signature": (lambda: altered(signed(PROBE), drop_signature), RequestSignatureError),
    "a changed body": (lambda: altered(signed(PROBE), change_body), RequestSignatureError),
    "no body": (lambda: request_pb2.SignedRequest(), RequestSignatureError),
    "a body that is none": (lambda: request_pb2.SignedRequest(body=b"\xff\xff"), InvalidInputError),
    "another ciphertext": (lambda: altered(signed(PROBE), swap_ciphertexts), RequestSignatureError),
    "a ciphertext more": (lambda: altered(signed(PROBE), add_ciphertext), RequestSignatureError),
    "expired": (lambda: signed(PROBE, now=lambda: time.time() - 61), RequestExpiredError),
    "dated ahead": (lambda: signed(PROBE, now=lambda: time.time() + 300), WrongClockError),
    "an operation without a session": (lambda: signed([], operation=request_pb2.OPERATION_SUBJECTS), InvalidInputError),
    "no threshold": (lambda: signed(PROBE, threshold=0), InvalidInputError),
    "a threshold above all scores": (lambda: signed(PROBE, threshold=TOY.threshold_max + 1), InvalidInputError),
    "a ciphertext of zero": (lambda: signed([bytes(TOY.ciphertext_bytes)] * 2), CiphertextError),
    "a ciphertext not below N^2": (lambda: signed([b"\xff" * TOY.ciphertext_bytes] * 2), CiphertextError),
    "a short ciphertext": (lambda: signed([c[1:] for c in encrypted(PROBE)]), CiphertextError),
}  # fmt: skip


async def test_one_request_too_many_is_refused_before_its_signature_is_looked_at_or_anything_noted(trio: Trio) -> None:
    bound, log = trio["a"].under_way, trio["a"].auditor.log
    entries = log.head[0]
    with ExitStack() as held:
        for number in range(bound.limit):
            held.enter_context(bound.one(f"device-{number + 2}"))
        error = await serve(trio, "matcher-a", "a", altered(signed(PROBE), drop_signature))
    assert type(error) is OverloadedError
    assert error.party == "keyholder-a" and error.retry_after_s and error.alternatives == ()
    assert nothing_was_computed(trio) and nothing_was_used(trio) and log.head[0] == entries


@pytest.mark.parametrize("what", REQUESTS)
async def test_a_bad_request_is_refused_before_anything_is_computed(trio: Trio, what: str) -> None:
    make, kind = REQUESTS[what]
    error = await serve(trio, "matcher-a", "a", make())
    assert type(error) is kind
    assert nothing_was_computed(trio) and nothing_was_used(trio)


@pytest.mark.parametrize("ciphertexts", [0, 1, 3])
async def test_a_number_of_ciphertexts_that_is_no_vector_is_refused(trio: Trio, ciphertexts: int) -> None:
    request = signed((encrypted(PROBE) * 2)[:ciphertexts])
    assert type(await serve(trio, "matcher-a", "a", request)) is KnowledgeProofError
    assert nothing_was_computed(trio) and nothing_was_used(trio)


async def test_a_request_is_served_once_and_a_replay_is_refused_after_a_restart_as_well(trio: Trio) -> None:
    request = signed(PROBE, operation=request_pb2.OPERATION_ENROL)
    async with trio.both(request, "ab") as calls:
        for call in calls.values():
            await call.template_shares(1, told=1)
    batches = trio.running["a"].pool.batches
    assert isinstance(await serve(trio, "matcher-a", "a", request), RequestReplayedError)
    assert trio.running["a"].pool.batches == batches
    await trio.stop("a")
    await trio.start("a")
    assert isinstance(await serve(trio, "matcher-a", "a", request), RequestReplayedError)
    assert nothing_was_computed_by(trio, "a")


def nothing_was_computed_by(trio: Trio, party: Party) -> bool:
    return trio.running[party].pool.batches == 0 and not trio[party].links.rendezvous._links


async def test_a_replay_does_not_even_reach_the_peer(trio: Trio) -> None:
    request = signed(PROBE, operation=request_pb2.OPERATION_ENROL)
    async with trio.both(request, "ab") as calls:
        for call in calls.values():
            await call.template_shares(1, told=1)
    await trio.stop("a", "b")
    await trio.start("a")
    assert isinstance(await serve(trio, "matcher-a", "a", request), RequestReplayedError)


async def test_a_ciphertext_outside_the_subgroup_costs_no_randomness(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "check_knowledge", lambda *_: None)  # nobody can prove one to be known
    N = ceremony().public_key.modulus
    good = Integer(int.from_bytes(encrypted(PROBE)[0], "big"))
    bad = int(good * pow(7, int(N), int(N * N)) % (N * N)).to_bytes(TOY.ciphertext_bytes, "big")
    request = signed([bad, encrypted(PROBE)[1]], operation=request_pb2.OPERATION_ENROL)
    with pytest.raises(CiphertextError, match="well-formed"):
        async with trio.both(request, "ab") as calls:
            await calls["a"].template_shares(1, told=1)
    assert nothing_was_used(trio)


# -- the stream of a matcher -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (None, UnavailableError),
        (pb.MatcherToKeyHolder(), ProtocolError),
        (pb.MatcherToKeyHolder(results=pb.ResultsChunk(last=True)), ProtocolError),
    ],
)
async def test_a_session_begins_with_its_request_and_a_matcher_that_leaves_before_is_missing(
    trio: Trio, first: Any, kind: type[VeilmatchError]
) -> None:
    async def messages() -> Any:
        if first is not None:
            yield first

    stub = rpc.KeyHolderStub(trio.channel("matcher-a", "a"))
    assert isinstance(await refused(stub.Serve(messages(), timeout=20.0), "a"), kind)
