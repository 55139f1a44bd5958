"""Ciphertexts of somebody else used as a probe: a stored record, a captured probe, a captured proof.

The attacker's device is enrolled and signs with its own key; what it lacks is what the ciphertexts hold. With the
check of the proof of knowledge taken out of the key holders it passes as the victim.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, claimed, device_key, encrypted, scheme, signed, started, stocked
from tests.simulator import SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import KnowledgeProofError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.requests import payload_digest, signed_bytes
from veilmatch.protos.v1.request_pb2 import OPERATION_ENROL, RequestBody, SignedRequest
from veilmatch.server.keyholder.session import serving

VICTIM, *OTHERS = unit_vectors(np.random.default_rng(71), 4, TOY)
TEMPLATES = np.array([VICTIM, *OTHERS])
#: So high that nobody but the victim has a score of it.
THRESHOLD = min(int(VICTIM @ VICTIM), TOY.threshold_max)
HONEST, MALLORY = "device-1", "device-2"
AS_MALLORY = {"device": MALLORY, "key": device_key(MALLORY)}


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with started(await stocked(tmp_path / "trio")) as made:
        for party in PARTIES:
            for name in (HONEST, MALLORY):
                made.certify(party, name, device_key(name))
        yield made


def take_check_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "check_knowledge", lambda *_: None)


async def passes_as_victim(trio: Trio, request: SignedRequest) -> bool:
    gallery = SimulatedGallery.of(scheme(), TEMPLATES)
    bits = await trio.decide(request, "ab", gallery, range(len(TEMPLATES)))
    assert bits[1:] == [0] * len(OTHERS)
    return bits[0] == 1


async def refused_by_both(trio: Trio, request: SignedRequest) -> None:
    """Each key holder refuses for itself, with one error, before it computes or uses anything up."""
    async with trio.both(request, "ab") as calls:
        outcomes = await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [KnowledgeProofError] * 2
    assert {str(outcome) for outcome in outcomes} == {str(KnowledgeProofError())}
    assert all(trio.running[party].pool.batches == 0 for party in PARTIES)
    assert all(stock.floors == (0, 0, 0) for party in PARTIES for stock in trio[party].stocks.by_pair.values())


def rerandomised(ciphertexts: Sequence[bytes]) -> KnownCiphertexts:
    """What looks fresh and holds the same; the attacker knows by what it multiplied, and claims that this is all."""
    zeros = scheme().known_zeros(len(ciphertexts))
    fresh = [
        scheme().serialise(scheme().multiply(from_bytes(c), zero.value))
        for c, zero in zip(ciphertexts, zeros, strict=True)
    ]
    return claimed(fresh, [zero.exponent for zero in zeros])


def signed_again(request: SignedRequest, **changes: Any) -> SignedRequest:
    """A captured request with other fields in its body, signed by the attacker."""
    body = RequestBody.FromString(request.body)
    for name, value in {"device": MALLORY, **changes}.items():
        setattr(body, name, value)
    data = body.SerializeToString(deterministic=True)
    signature = device_key(body.device).sign(signed_bytes(data))
    return SignedRequest(body=data, signature=signature, ciphertexts=request.ciphertexts)


def fresh_nonce() -> dict[str, Any]:
    return {"nonce": secrets.token_bytes(32)}


STOLEN: dict[str, Callable[[], SignedRequest]] = {
    "a stored record, re-randomised": lambda: signed(
        rerandomised(encrypted(VICTIM)), threshold=THRESHOLD, **AS_MALLORY
    ),
    "a stored record as it is": lambda: signed(encrypted(VICTIM), threshold=THRESHOLD, **AS_MALLORY),
    "a captured probe, re-randomised": lambda: signed(
        rerandomised(list(signed(VICTIM).ciphertexts)), threshold=THRESHOLD, **AS_MALLORY
    ),
    "a captured probe with its proof, another device": lambda: signed_again(signed(VICTIM, threshold=THRESHOLD)),
    "the same with another nonce": lambda: signed_again(signed(VICTIM, threshold=THRESHOLD), **fresh_nonce()),
    "the same device, another nonce": lambda: signed_again(
        signed(VICTIM, threshold=THRESHOLD), device=HONEST, **fresh_nonce()
    ),
    "the same device, another threshold": lambda: signed_again(signed(VICTIM), device=HONEST, threshold=THRESHOLD),
}


async def test_without_the_check_ciphertexts_of_somebody_else_pass_as_that_person(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_check_out(monkeypatch)
    assert [what for what, make in STOLEN.items() if await passes_as_victim(trio, make())] == list(STOLEN)


async def test_ciphertexts_of_somebody_else_are_refused(trio: Trio) -> None:
    for make in STOLEN.values():
        await refused_by_both(trio, make())


async def test_who_has_the_face_passes_on_any_device(trio: Trio) -> None:
    assert await passes_as_victim(trio, signed(VICTIM, threshold=THRESHOLD, **AS_MALLORY))


# -- a captured probe as a template ------------------------------------------------------------------------


def enrolled_by_mallory() -> SignedRequest:
    """Whoever controls a name in the gallery could put somebody else's face under it, and be let in as that name."""
    return signed(rerandomised(list(signed(VICTIM).ciphertexts)), operation=OPERATION_ENROL, **AS_MALLORY)


async def test_without_the_check_a_captured_probe_becomes_a_template(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_check_out(monkeypatch)
    async with trio.both(enrolled_by_mallory(), "ab") as calls:
        plus, minus = await asyncio.gather(*(call.template_shares(1, 1) for call in calls.values()))
    assert plus.valid != minus.valid
    assert (plus.values - minus.values).tolist() == [(VICTIM + TOY.offset).tolist()]


async def test_a_captured_probe_does_not_become_a_template(trio: Trio) -> None:
    async with trio.both(enrolled_by_mallory(), "ab") as calls:
        outcomes = await asyncio.gather(
            *(call.template_shares(1, 1) for call in calls.values()), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [KnowledgeProofError] * 2


# -- a captured proof, made to fit ---------------------------------------------------------------------------


def adapted() -> SignedRequest:
    """A captured request with re-randomised ciphertexts and the sum of e_i*s_i added to the captured w."""
    captured = signed(VICTIM, threshold=THRESHOLD)
    data, fresh = RequestBody.FromString(captured.body).knowledge, rerandomised(list(captured.ciphertexts))
    es = knowledge.challenges(data[:32], len(fresh.ciphertexts))
    w = from_bytes(data[32:]) + sum(e * s for e, s in zip(es, fresh._randomisers, strict=True))
    proof = data[:32] + to_bytes(w, len(data) - 32)
    del captured.ciphertexts[:]
    captured.ciphertexts.extend(fresh.ciphertexts)
    return signed_again(captured, knowledge=proof, payload_digest=payload_digest(fresh.ciphertexts), **fresh_nonce())


async def test_without_context_and_ciphertexts_in_the_hash_a_captured_proof_is_made_to_fit(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_commitment_alone(key: PublicKey, _context: bytes, commitment: Integer, _sent: Sequence[bytes]) -> bytes:
        return digest("knowledge seed", to_bytes(commitment, key.parameters.ciphertext_bytes))

    monkeypatch.setattr(knowledge, "_seed", of_commitment_alone)
    assert await passes_as_victim(trio, adapted())


async def test_a_captured_proof_cannot_be_made_to_fit(trio: Trio) -> None:
    await refused_by_both(trio, adapted())
