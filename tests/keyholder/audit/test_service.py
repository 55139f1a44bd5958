"""What key holders note about the requests they are brought, and that they serve nothing that they cannot note."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import Any

import numpy as np
import pytest

from tests.keyholder.test_service_refusals import nothing_was_computed, serve
from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import STATE, TOY, Trio, answers, ceremony, results_of, signed
from veilmatch.crypto.errors import AuditLogError, RequestExpiredError, VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.audit import log as audit_log
from veilmatch.server.keyholder.audit import record as audit_record
from veilmatch.server.keyholder.audit.chain import Entry
from veilmatch.server.keyholder.audit.check import check_log, compare, entries_of

PROBE = np.arange(TOY.dimension) % 7 - 3


def noted(trio: Trio, party: Party, event: str = "session") -> list[Entry]:
    path = trio.data_dir(party)
    assert check_log(path).broken is None
    return [entry for entry in entries_of(path) if entry.event == event]


async def test_both_holders_note_a_session_alike_and_its_dealer_nothing(trio: Trio) -> None:
    request = signed(PROBE, threshold=9)
    await trio.decide(request, "ab", gallery_of(vectors(1, 5)), range(5))
    (a,), (b,) = noted(trio, "a"), noted(trio, "b")
    assert not noted(trio, "c")
    body = request_pb2.RequestBody.FromString(request.body)
    assert dict(a.fields) | {"at": "", "session": "", "request": ""} == {
        "at": "", "caller": "matcher-a", "chain": STATE.chain.hex(), "device": "device-1", "event": "session",
        "gallery": "main", "model": body.model, "operation": "candidates", "output_bits": 4096, "pair": "ab",
        "request": "", "sequence": STATE.sequence, "session": "", "threshold": 9,
    }  # fmt: skip
    assert b.fields["caller"] == "matcher-b"
    assert (a.fields["session"], a.fields["request"]) == (b.fields["session"], b.fields["request"])
    _, _, found = compare(trio.data_dir("a"), trio.data_dir("b"))
    assert found.common == 1 and found.agree
    text = b"".join(path.read_bytes() for path in (trio.data_dir("a") / "audit").iterdir())
    assert body.subject_digest.hex().encode() not in text or not body.subject_digest


async def test_the_logs_of_all_pairs_agree_after_many_requests(trio: Trio) -> None:
    gallery = gallery_of(vectors(2, 4))
    pairs = ("ab", "ac", "bc", "ab", "ac", "bc")
    await asyncio.gather(*(trio.decide(signed(PROBE, pair), pair, gallery, range(4)) for pair in pairs))
    async with trio.both(signed(PROBE, "ab", operation=request_pb2.OPERATION_ENROL), "ab") as calls:
        await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
    for one, other, count in (("a", "b", 3), ("a", "c", 2), ("b", "c", 2)):
        _, _, found = compare(trio.data_dir(one), trio.data_dir(other))  # type: ignore[arg-type]
        assert found.common == count and found.agree
    (enrolment,) = (e for e in noted(trio, "a") if e.fields["operation"] == "enrol")
    assert enrolment.fields["output_bits"] == 0


async def test_a_refusal_is_noted_with_its_code_and_with_what_is_known(trio: Trio) -> None:
    await serve(trio, "matcher-a", "a", signed(PROBE, now=lambda: time.time() - 61))
    await serve(trio, "matcher-a", "a", signed(PROBE, "bc"))
    expired, dealt = noted(trio, "a", "refused")
    assert expired.fields["code"] == "request_expired" and "device" not in expired.fields
    assert (dealt.fields["code"], dealt.fields["device"], dealt.fields["caller"]) == (
        "party_refused", "device-1", "matcher-a",
    )  # fmt: skip
    assert "session" not in dealt.fields


async def test_a_flood_of_refusals_is_counted_and_not_listed(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_record, "REFUSALS_A_MINUTE", 3)
    now = [0.0]
    trio["a"]._auditor._monotonic = lambda: now[0]
    for _ in range(8):
        await serve(trio, "matcher-a", "a", signed(PROBE, "bc"))
    now[0] = 61.0
    await serve(trio, "matcher-a", "a", signed(PROBE, "bc"))
    entries = noted(trio, "a", "refused")
    assert [entry.fields.get("unlisted") for entry in entries] == [None, None, None, 5]


async def test_a_session_that_fails_is_noted_as_failed(trio: Trio) -> None:
    request = signed(PROBE)
    with pytest.raises(VeilmatchError):
        async with trio.both(request, "ab", output_bits=4) as calls:
            gallery = gallery_of(vectors(3, 5))
            await answers(calls, await results_of(calls, gallery, range(5), "ab"))
    await asyncio.sleep(0.5)
    for party in ("a", "b"):
        (session,), (failed,) = noted(trio, party), noted(trio, party, "failed")  # type: ignore[arg-type]
        assert session.fields["session"] == failed.fields["session"]
        assert failed.fields["code"] in ("protocol", "unavailable")


async def test_a_request_whose_peer_keeps_silent_is_noted_however_often(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minus holder has said hashes of what it converted by then, and there is no session yet."""
    monkeypatch.setattr(audit_record, "REFUSALS_A_MINUTE", 1)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            async with trio.call(signed(PROBE), "b", "ab"):
                await asyncio.sleep(0.5)
                raise ConnectionError
    await asyncio.sleep(0.5)
    assert [entry.fields["code"] for entry in noted(trio, "b", "refused")] == 3 * ["abandoned"]
    assert not noted(trio, "b")


@pytest.mark.parametrize("both", [True, False])
async def test_a_session_that_is_given_up_is_noted_at_both_holders(trio: Trio, both: bool) -> None:
    request = signed(PROBE)
    with pytest.raises(ConnectionError):
        async with trio.call(request, "a", "ab") as call:
            async with trio.call(request, "b", "ab") as other:
                await asyncio.gather(call.probe_share(), other.probe_share())
                if both:
                    raise ConnectionError
            await asyncio.sleep(0.1)
            raise ConnectionError
    await asyncio.sleep(0.5)
    for party in ("a", "b"):
        (session,), (failed,) = noted(trio, party), noted(trio, party, "failed")  # type: ignore[arg-type]
        assert session.fields["session"] == failed.fields["session"]
    assert noted(trio, "a", "failed")[0].fields["code"] in ("abandoned", "unavailable")


async def test_what_is_given_up_before_its_session_or_after_its_answer_is_not_noted(trio: Trio) -> None:
    with pytest.raises(ConnectionError):
        async with trio.call(signed(PROBE), "a", "ab"):
            raise ConnectionError
    request = signed(PROBE, operation=request_pb2.OPERATION_ENROL)
    with pytest.raises(ConnectionError):
        async with trio.both(request, "ab") as calls:
            await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
            raise ConnectionError
    await asyncio.sleep(0.5)
    assert [len(noted(trio, party)) for party in ("a", "b")] == [1, 1]
    assert not noted(trio, "a", "failed") and not noted(trio, "b", "failed")


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("party", ["a", "b"])
async def test_what_cannot_be_noted_is_not_served_and_another_pair_can_serve(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, party: Party
) -> None:
    gallery = gallery_of(vectors(4, 3))
    log = trio[party]._auditor._log
    with monkeypatch.context() as broken:
        broken.setattr(log, "_write", full)
        with pytest.raises(VeilmatchError):
            await trio.decide(signed(PROBE), "ab", gallery, range(3))
        error = await serve_both(trio, party)
    assert isinstance(error, AuditLogError)
    assert (error.party, error.alternatives) == (f"keyholder-{party}", ("bc",) if party == "a" else ("ac",))
    # The plus holder has reserved its stock when the minus holder learns the session.
    unused = (trio["a"], trio["b"]) if party == "a" else (trio["b"],)
    assert not any(any(stock.floors) for holder in unused for stock in holder.stocks.by_pair.values())
    assert await trio.decide(signed(PROBE), "ab", gallery, range(3)) == [int(s >= 1) for s in vectors(4, 3) @ PROBE]


async def serve_both(trio: Trio, party: Party) -> VeilmatchError:
    """Open a session at a and b and return the error of one of them."""
    request = signed(PROBE)
    async with trio.both(request, "ab") as calls:
        outcomes = await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)
    error = outcomes["ab".index(party)]
    assert isinstance(error, VeilmatchError)
    return error


async def test_a_refusal_that_cannot_be_noted_is_still_that_refusal(trio: Trio, monkeypatch: Any) -> None:
    monkeypatch.setattr(trio["a"]._auditor._log, "_write", full)
    error = await serve(trio, "matcher-a", "a", signed(PROBE, now=lambda: time.time() - 61))
    assert isinstance(error, RequestExpiredError) and nothing_was_computed(trio)


async def test_the_log_goes_on_after_a_restart(trio: Trio) -> None:
    gallery = gallery_of(vectors(5, 3))
    await trio.decide(signed(PROBE), "ab", gallery, range(3))
    await trio.stop("a")
    await trio.start("a")
    await trio.decide(signed(PROBE), "ab", gallery, range(3))
    assert len(noted(trio, "a")) == 2 and len(noted(trio, "a", "open")) == 2
    assert noted(trio, "a", "open")[0].fields["key_id"] == ceremony().public_key.key_id.hex()


def test_the_module_that_writes_knows_no_answer() -> None:
    assert not {"DecisionShare", "ProbeShare", "Results"} & set(vars(audit_log) | vars(audit_record))
