"""A card at two real key holders: each finds out for itself what it is worth, whatever its matcher says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.installation.making import organisation_keys
from tests.keyholder.trio import TOY, Trio, ceremony, device_key, encrypted, known, opened_bits, public_file
from tests.simulator import unit_vectors
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.crypto.card import CONTEXT, CardStatement, SignedCard
from veilmatch.crypto.errors import InvalidInputError, ProtocolError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.requests import subject_digest
from veilmatch.protos.v1 import request_pb2

PERSON, OTHER = unit_vectors(np.random.default_rng(7), 2, TOY)
SALT, NOW_S = bytes(16), int(time.time())


def card(vector: Array = PERSON, signers: str = "", **changes: Any) -> SignedCard:
    """A card with these changes, signed for what it says: by its pair unless said."""
    said = {
        "installation": public_file().installation, "key_id": ceremony().public_key.key_id, "parameters": TOY,
        "gallery": "main", "model": "toy", "pair": "bc", "serial": bytes(16),
        "subject_digest": subject_digest(SALT, "ada"), "issued_s": NOW_S - 100, "expires_s": NOW_S + 86400,
        "record": b"".join(encrypted(vector)),
    }  # fmt: skip
    statement = CardStatement(**said | changes)
    first, second = (
        organisation_keys()[party].sign(CONTEXT, statement.digest())  # type: ignore[index]
        for party in signers or statement.pair
    )
    return SignedCard(statement, (first, second))


def presenting(given: SignedCard, probe: Array, pair: Pair, threshold: int) -> request_pb2.SignedRequest:
    """A request of device-1, as a key holder gets it: without the name."""
    draft = Draft(
        request_pb2.OPERATION_PRESENT, known(probe), threshold, "ada", model="toy", card=given.encode(), salt=SALT
    )
    key = DeviceKey(device_key("device-1"))
    request = RequestSigner(key, "device-1", "main", ceremony().public_key, 60.0).sign(draft, pair)
    request.subject, request.subject_salt = "", b""
    return request


@pytest.fixture(autouse=True)
def may_present(trio: Trio) -> None:
    for party in PARTIES:
        trio.certify(party, "device-1", rights=("present",))


async def decided(trio: Trio, given: SignedCard, probe: Array, pair: Pair, threshold: int, **changes: Any) -> bool:
    """Play both matchers, which give their key holders nothing but the request."""
    request = presenting(given, probe, pair, threshold)
    async with trio.both(request, pair, **changes) as calls:
        shares = await asyncio.gather(*(call.decision_share(1, 2) for call in calls.values()), return_exceptions=True)
    for share in shares:
        if isinstance(share, BaseException):
            raise share
    return opened_bits(*shares, 1) == [1]  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", PAIRS)
async def test_the_answer_is_that_of_plain_integers(trio: Trio, pair: Pair) -> None:
    for probe in (PERSON, OTHER):
        score = int(PERSON @ probe)
        for threshold in {max(score, 1), max(score, 0) + 1}:
            assert await decided(trio, card(), probe, pair, threshold) == (score >= threshold)


async def test_matchers_add_no_records_to_a_card(trio: Trio) -> None:
    with pytest.raises(ProtocolError, match="number of records"):
        await decided(trio, card(), PERSON, "ab", 1, record=encrypted(PERSON), by_device=[False])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (card(signers="bb"), "organisation c has not signed"),
        (card(signers="ab"), "organisation b has not signed"),
        (replace(card(), statement=card(OTHER).statement), "organisation b has not signed"),
        (card(gallery="staff"), "another gallery"),
        (card(expires_s=NOW_S - 1), "has expired"),
        (card(record=bytes(TOY.lane_ciphertexts * TOY.ciphertext_bytes)), "ciphertext"),
    ],
    ids=["one organisation twice", "another pair", "another record", "another gallery", "expired", "no ciphertexts"],
)
async def test_a_matcher_that_lets_everything_through_gets_nothing(trio: Trio, given: SignedCard, words: str) -> None:
    # By its words: these matchers say no hello, and are told the class above that of cards.
    with pytest.raises(InvalidInputError, match=words):
        await decided(trio, given, PERSON, "ab", 1)
