"""Two holders of a pair that were not given the same: both stop before a masked value leaves either."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, answers, ceremony, encrypted, holders, results_of, signed
from tests.simulator import SimulatedGallery
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import GalleryMismatchError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, Pair, pairs_without
from veilmatch.crypto.pair.messages import Envelope, Openings, Results
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.session import turns
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.keyholder_call import AnswerShare

TEMPLATES = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, (TOY.slots + 3, TOY.dimension))
PROBE = TEMPLATES[0]


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Envelope]:
    """Every masked value that any of the key holders sends."""
    sent: list[Envelope] = []
    to_wire = turns.turn_to_wire

    def noted(turn: Sequence[Envelope]) -> pb.PairMessage:
        sent.extend(envelope for envelope in turn if isinstance(envelope.message, Openings))
        return to_wire(turn)

    monkeypatch.setattr(turns, "turn_to_wire", noted)
    return sent


def gallery() -> SimulatedGallery:
    return SimulatedGallery.of(Paillier(ceremony().public_key), TEMPLATES)


async def query(trio: Trio, pair: Pair = "ab") -> None:
    """A search; it has to be right."""
    bits = await trio.decide(signed(PROBE, pair, 5), pair, gallery(), range(len(TEMPLATES)))
    assert bits == (TEMPLATES @ PROBE >= 5).astype(int).tolist()


async def ends(*waiting: Any) -> list[VeilmatchError]:
    """Return the errors that both ends have to end with."""
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, VeilmatchError) for outcome in outcomes), outcomes
    return outcomes


@pytest.mark.parametrize("pair", PAIRS)
async def test_different_ciphertexts_end_the_session_at_both(trio: Trio, pair: Pair, openings: list[Envelope]) -> None:
    request = signed([], pair, operation=request_pb2.OPERATION_ERASE)
    one, other = encrypted(PROBE), encrypted(PROBE)  # the same template, encrypted anew
    first, second = holders(pair)
    async with trio.call(request, first, pair, record=one) as a, trio.call(request, second, pair, record=other) as b:
        errors = await ends(a.template_shares(1, told=1), b.template_shares(1, told=1))
    assert [type(error) for error in errors] == [ProtocolError] * 2
    assert all("different ciphertexts" in error.message for error in errors)
    assert not openings
    assert all(stock.floors == (0, 0, 0) for party in "abc" for stock in trio[party].stocks.by_pair.values())  # type: ignore[index]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("change", ["encrypted anew", "another order", "one less", "of a device"])
async def test_different_records_end_a_verification_at_both(
    trio: Trio, pair: Pair, change: str, openings: list[Envelope]
) -> None:
    request = signed(PROBE, pair, 5, request_pb2.OPERATION_VERIFY)
    first, second = holders(pair)
    templates = [encrypted(PROBE), encrypted(TEMPLATES[1])]
    others = {
        "encrypted anew": [templates[0], encrypted(TEMPLATES[1])], "another order": templates[::-1],
        "one less": templates[:1], "of a device": templates,
    }[change]  # fmt: skip
    given = (
        {"record": [c for record in records for c in record], "by_device": [said] * len(records)}
        for records, said in ((templates, False), (others, change == "of a device"))
    )
    async with (
        trio.call(request, first, pair, **next(given)) as a,
        trio.call(request, second, pair, **next(given)) as b,
    ):
        errors = await ends(a.decision_share(1, 6), b.decision_share(1, 6))
    assert [type(error) for error in errors] == [ProtocolError] * 2
    assert all(f"key holders {first} and {second} were given different" in error.message for error in errors)
    assert not openings
    await query(trio, pair)


@pytest.mark.parametrize("state", [GalleryState(8, bytes(32)), GalleryState(7, bytes([1]) * 32)])
async def test_different_galleries_end_the_session_at_both(
    trio: Trio, state: GalleryState, openings: list[Envelope]
) -> None:
    request = signed(PROBE)
    async with trio.call(request, "a", "ab") as a, trio.call(request, "b", "ab", state=state) as b:
        errors = await ends(a.probe_share(), b.probe_share())
    assert [type(error) for error in errors] == [GalleryMismatchError] * 2
    assert not openings


@pytest.mark.parametrize("pair", PAIRS)
async def test_different_requests_never_meet_and_each_side_names_the_other_holder(
    hasty: Trio, pair: Pair, openings: list[Envelope]
) -> None:
    """Even two signed requests for the same thing: each is a session of its own, and each waits in vain."""
    plus, minus = holders(pair)
    async with hasty.call(signed(PROBE, pair), plus, pair) as a, hasty.call(signed(PROBE, pair), minus, pair) as b:
        errors = await ends(a.probe_share(), b.probe_share())
    for error, missing in zip(errors, (minus, plus), strict=True):
        assert isinstance(error, UnavailableError)
        assert (error.party, error.alternatives) == (f"keyholder-{missing}", pairs_without(missing))
    assert not openings
    await query(hasty, pair)


def another_result(results: Results) -> Results:
    """The results with the last one encrypting something else."""
    scheme = Paillier(ceremony().public_key)
    return replace(results, ciphertexts=[*results.ciphertexts[:-1], scheme.encrypt(Integer(0))])


def rerandomised(results: Results) -> Results:
    """The same results under another randomiser."""
    scheme = Paillier(ceremony().public_key)
    changed = scheme.multiply(results.ciphertexts[0], scheme.encrypt(Integer(0)))
    return replace(results, ciphertexts=[changed, *results.ciphertexts[1:]])


def other_slots(results: Results) -> Results:
    """The same results, of which another slot is asked for."""
    wanted = results.wanted.copy()
    wanted[0, 0], wanted[-1, -1] = False, True
    return replace(results, wanted=wanted)


def fewer(results: Results) -> Results:
    return Results(results.ciphertexts[:-1], results.wanted[:-1])


@pytest.mark.parametrize("change", [another_result, rerandomised, other_slots, fewer])
@pytest.mark.parametrize("deviant", ["a", "b"])
async def test_different_results_end_the_session_at_both(
    trio: Trio, change: Any, deviant: Any, openings: list[Envelope]
) -> None:
    scheme = Paillier(ceremony().public_key)
    async with trio.both(signed(PROBE), "ab") as calls:
        results = await results_of(calls, gallery(), range(len(TEMPLATES)), "ab")
        converted = len(openings)

        async def bring(party: Any) -> AnswerShare:
            mine = change(results) if party == deviant else results
            await calls[party].send_results([scheme.serialise(c) for c in mine.ciphertexts], mine.wanted)
            return await calls[party].decision_share(int(mine.wanted.sum()), len(mine.ciphertexts))

        errors = await ends(bring("a"), bring("b"))
    assert [type(error) for error in errors] == [ProtocolError] * 2
    assert len(openings) == converted  # those of the probe, and none of the results
    await query(trio)


async def test_two_matchers_that_agree_are_answered(trio: Trio, openings: list[Envelope]) -> None:
    """The tests above can fail: the same steps without a difference end with an answer, and with openings."""
    async with trio.both(signed(PROBE, "ab", 5), "ab") as calls:
        results = await results_of(calls, gallery(), range(len(TEMPLATES)), "ab")
        converted = len(openings)
        assert await answers(calls, results) == (TEMPLATES @ PROBE >= 5).astype(int).tolist()
    assert converted >= 2 and len(openings) >= converted + 2
