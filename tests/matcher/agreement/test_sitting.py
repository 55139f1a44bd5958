"""Three organisations change a gallery in pairs: they end up the same, whatever is lost and whoever fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.matcher.agreement.organisations import Line, Organisation, agreed, check, nth, sit, three
from tests.matcher.galleries import ORGANISATIONS, mutation, run, signed, signers
from veilmatch.crypto.errors import (
    GalleryMismatchError,
    IntegrityError,
    ProtocolError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.gallery_change import ACCEPTANCE
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement import handing_over, sitting
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Scope, Statement, Vote
from veilmatch.server.matcher.gallery.disk.store import Store

PAIRS = ("ab", "ac", "bc")


async def test_changes_by_every_pair_make_one_history(tmp_path: Path) -> None:
    all_three = await three(tmp_path)
    done = []
    for number, pair in enumerate(("ab", "ab", "bc", "ac", "ab", "bc", "bc"), start=1):
        first, second = (all_three[party] for party in pair)
        await agreed(first, second, nth(number))
        done.append(nth(number))
        for organisation in (first, second):
            check(organisation, *done)
    assert await agreed(all_three["a"], all_three["b"]) == await agreed(all_three["b"], all_three["c"])
    for organisation in all_three.values():
        check(organisation, *done)
        for sequence in range(1, len(done) + 1):
            certificate = organisation.store.certificate("staff", sequence)
            assert certificate is not None
            certificate.check(organisation.gallery.scope, signers)


async def test_a_pair_that_goes_on_writes_twice_for_a_change_and_swaps_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_three = await three(tmp_path)
    await agreed(all_three["a"], all_three["b"], nth(1))
    writes = count_writes(monkeypatch)
    line = Line()
    await sit(all_three["a"], all_three["b"], nth(2), line)
    assert sorted(writes) == ["accept", "accept", "commit", "commit"]
    assert sorted(line.sent) == ["accepted", "accepted", "begin", "begin", "proposed", "proposed"]
    writes.clear()
    line = Line()
    await sit(all_three["a"], all_three["b"], None, line)
    assert (writes, line.sent) == ([], ["begin", "begin"])


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for name in ("promise", "accept", "commit", "apply"):
        before = getattr(Store, name)

        def counted(*args: Any, name: str = name, before: Any = before) -> Any:
            found.append(name)
            return before(*args)

        monkeypatch.setattr(Store, name, counted)
    return found


# -- what is lost, and what fails --------------------------------------------------------------------


async def go_on(all_three: dict[str, Organisation], interrupted: list[object], first_to_go_on: str) -> None:
    """After change 2 was interrupted: any pair goes on with it or without it, and nothing acknowledged is lost."""
    order = [first_to_go_on, *(pair for pair in PAIRS if pair != first_to_go_on)]
    first, second = (all_three[party] for party in first_to_go_on)
    await agreed(first, second)
    acknowledged = any(isinstance(outcome, bytes) for outcome in interrupted)
    if acknowledged:
        assert await first.gallery.find_token(nth(2).token) is not None
    # The retry of the device, at this pair: done now, or found done.
    await agreed(first, second, nth(2))
    for pair in order:
        await agreed(*(all_three[party] for party in pair))
    for organisation in all_three.values():
        check(organisation, nth(1), nth(2))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("started_by", ["ab", "bc"])
async def test_any_message_may_be_lost_and_any_pair_goes_on(tmp_path: Path, pair: str, started_by: str) -> None:
    """Change 2, by ab, which has promised before, or by bc, of which one is behind and both have to promise."""
    lost = 0
    while True:
        all_three = await three(tmp_path / str(lost))
        await agreed(all_three["a"], all_three["b"], nth(1))
        line = Line(lost)
        outcomes = list(await sit(*(all_three[party] for party in started_by), nth(2), line))  # type: ignore[misc]
        await go_on(all_three, outcomes, pair)
        for organisation in all_three.values():
            organisation.store.close()
        if len(line.sent) < lost:
            break
        lost += 1
    assert lost > (9 if started_by == "bc" else 6)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("started_by", ["ab", "bc"])
@pytest.mark.parametrize("is_written", [False, True], ids=["not written", "written, not said"])
async def test_any_write_may_fail_and_any_pair_goes_on(
    tmp_path: Path, pair: str, started_by: str, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    """The disk fails before or after a write; the daemon goes on, or is restarted."""
    for restarts in (False, True):
        failing = 0
        while True:
            all_three = await three(tmp_path / f"{restarts} {failing}")
            await agreed(all_three["a"], all_three["b"], nth(1))
            with monkeypatch.context() as patch:
                left = fail_at(patch, failing, is_written=is_written)
                outcomes = list(await sit(*(all_three[party] for party in started_by), nth(2)))  # type: ignore[misc]
            if restarts:
                for organisation in all_three.values():
                    await organisation.restart()
            await go_on(all_three, outcomes, pair)
            for organisation in all_three.values():
                organisation.store.close()
            if left[0] >= 0:
                break
            failing += 1
        assert failing > (6 if started_by == "bc" else 3)


def fail_at(patch: pytest.MonkeyPatch, at: int, *, is_written: bool) -> list[int]:
    """Let write number `at` fail; what is left to count to is -1 when it has."""
    left = [at]
    for name in ("promise", "accept", "commit", "apply"):
        before = getattr(Store, name)

        def failing(*args: Any, before: Any = before) -> Any:
            left[0] -= 1
            if left[0] != -1:
                return before(*args)
            if is_written:
                before(*args)
            raise StorageError("the disk is full")

        patch.setattr(Store, name, failing)
    return left


# -- who is behind -----------------------------------------------------------------------------------


async def test_who_is_too_far_behind_is_named_and_the_others_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitting, "MEETING_CHANGES", 3)
    all_three = await three(tmp_path)
    for number in range(1, 5):
        await agreed(all_three["a"], all_three["b"], nth(number))
    for outcome in await sit(all_three["a"], all_three["c"]):
        assert isinstance(outcome, UnavailableError)
        assert (outcome.party, outcome.alternatives) == ("matcher-c", ("ab",)) and outcome.retry_after_s
    monkeypatch.setattr(sitting, "MEETING_CHANGES", 4)
    await agreed(all_three["a"], all_three["c"])
    check(all_three["c"], *map(nth, range(1, 5)))


async def test_what_is_too_large_to_be_handed_over_in_a_meeting_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitting, "MEETING_BYTES", 100)
    all_three = await three(tmp_path)
    await agreed(all_three["a"], all_three["b"], nth(1))
    one, _ = await sit(all_three["a"], all_three["c"])
    assert isinstance(one, UnavailableError) and one.party == "matcher-c"


async def test_changes_are_handed_over_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_over, "CHUNK_BYTES", 500)
    all_three = await three(tmp_path)
    for number in range(1, 6):
        await agreed(all_three["a"], all_three["b"], nth(number))
    line = Line()
    await sit(all_three["b"], all_three["c"], None, line)
    assert line.sent.count("changes") > 5
    check(all_three["c"], *map(nth, range(1, 6)))


def altered(chunk: pb.ChangesChunk, what: str) -> None:
    """Change one thing in what is handed over."""
    match what:
        case "body" if chunk.changes:
            chunk.changes[0].body = chunk.changes[0].body.replace(b"device-", b"Device-")
        case "signature" if chunk.changes:
            data = bytearray(chunk.changes[-1].certificate)
            data[-1] ^= 1
            chunk.changes[-1].certificate = bytes(data)
        case "order" if len(chunk.changes) > 1:
            chunk.changes[0].sequence, chunk.changes[1].sequence = 2, 1
        case "one less" if chunk.changes:
            del chunk.changes[-1]
        case "content" if chunk.contents:
            chunk.contents[0].data = bytes(len(chunk.contents[0].data))
        case "subject" if chunk.contents:
            chunk.contents[-1].subject = "mallory"
        case "no content" if chunk.contents:
            del chunk.contents[-1]


@pytest.mark.parametrize("what", ["body", "signature", "order", "one less", "content", "subject", "no content"])
async def test_what_is_handed_over_is_checked_before_anything_is_applied(tmp_path: Path, what: str) -> None:
    all_three = await three(tmp_path)
    await agreed(all_three["a"], all_three["b"], nth(1))
    await agreed(all_three["a"], all_three["b"], nth(2))

    def change(side: int, message: Any) -> Any:
        if message.WhichOneof("content") == "changes":
            altered(message.changes, what)
        return message

    _, outcome = await sit(all_three["b"], all_three["c"], None, Line(change=change))
    assert isinstance(outcome, IntegrityError)
    assert (outcome.party, outcome.alternatives) == ("matcher-b", ("ac",))
    check(all_three["c"])
    await agreed(all_three["a"], all_three["c"])
    check(all_three["c"], nth(1), nth(2))


# -- who lies ----------------------------------------------------------------------------------------


async def test_a_change_that_only_one_organisation_made_is_not_finished(tmp_path: Path) -> None:
    """b says that it has accepted something; nobody else has signed a proposal of it."""
    all_three = await three(tmp_path)
    b = all_three["b"]
    await agreed(all_three["a"], b, nth(1))
    state = b.gallery.state
    forged = mutation(7, removed=[(0, 0)])
    vote_chain = sitting.next_chain(state.chain, 2, forged.digest())
    vote = Vote(2, vote_chain, state.promised)
    own = vote.sign(PROPOSAL, b.gallery.scope, ORGANISATIONS["b"])
    await b.gallery.accept(forged, Certificate(vote, (own, own)), state.promised)
    for other in ("a", "c"):
        pair = [all_three[party] for party in sorted(("b", other))]
        outcomes = await sit(pair[0], pair[1])
        found = outcomes[0 if other == "a" else 1]
        assert isinstance(found, IntegrityError) and found.party == "matcher-b", other
    await agreed(all_three["a"], all_three["c"], nth(2))
    check(all_three["c"], nth(1), nth(2))


class TwoFaced:
    """b signs with its key whatever state it is told to."""

    def __init__(self, organisation: Organisation, state: GalleryState, **more: Any) -> None:
        self._organisation, self._state, self._more = organisation, state, more

    def __call__(self, side: int, message: Any) -> Any:
        if message.WhichOneof("content") == "begin":
            mine = Statement.decode(message.begin.statement)
            if mine.party == "b":
                lie = Statement("b", self._state).signed(self._organisation.gallery.scope, ORGANISATIONS["b"])
                message.begin.statement = lie.encode()
        return message


async def test_who_denies_what_it_accepted_is_proven_to_lie_and_the_honest_ones_go_on(tmp_path: Path) -> None:
    """b has signed change 2 with a, and then states, under a higher promise, that it never accepted it."""
    all_three = await three(tmp_path)
    a, b, c = all_three.values()
    await agreed(a, b, nth(1))
    before = b.gallery.state
    await agreed(a, b, nth(2))
    lie = GalleryState(before.sequence, before.chain, Ballot(9, "bc"))
    with_certificate = signed("staff", 1, before.chain, ACCEPTANCE, before.promised)
    deny = TwoFaced(b, lie)

    def change(side: int, message: Any) -> Any:
        message = deny(side, message)
        if side == 1 and message.WhichOneof("content") == "begin":
            message.begin.certificate = with_certificate.encode()
        return message

    outcome, _ = await sit(a, b, None, Line(change=change))
    assert isinstance(outcome, GalleryMismatchError)
    assert (outcome.party, outcome.alternatives) == ("matcher-b", ("ac",)) and "denial" in outcome.message
    (proof,) = a.store.proofs("staff")
    assert (proof.party, proof.what) == ("b", "denial")
    statement, certificate = Statement.decode(proof.first), Certificate.decode(proof.second)
    statement.check(a.gallery.scope, signers)
    certificate.check(a.gallery.scope, signers)
    await a.restart()
    assert a.store.proofs("staff") == [proof]
    await agreed(a, c, nth(3))
    check(c, nth(1), nth(2), nth(3))


async def test_two_changes_under_one_ballot_are_a_fork_that_is_proven(tmp_path: Path) -> None:
    all_three = await three(tmp_path)
    a, b, _ = all_three.values()
    await agreed(a, b, nth(1))
    before = b.gallery.state
    await agreed(a, b, nth(2))
    other = sitting.acceptor.Accepted(before.promised, b"x" * 32)
    forked = TwoFaced(b, GalleryState(1, before.chain, before.promised, other))
    head = signed("staff", 1, before.chain, ACCEPTANCE, before.promised)

    def change(side: int, message: Any) -> Any:
        message = forked(side, message)
        if side == 1 and message.WhichOneof("content") == "begin":
            message.begin.certificate = head.encode()
        return message

    outcome, _ = await sit(a, b, None, Line(change=change))
    assert isinstance(outcome, GalleryMismatchError) and "fork" in outcome.message
    (proof,) = a.store.proofs("staff")
    assert (proof.party, proof.what) == ("b", "fork")


async def test_a_statement_that_is_not_signed_or_not_certified_is_blamed_on_its_maker(tmp_path: Path) -> None:
    all_three = await three(tmp_path)
    a, b, _ = all_three.values()
    await agreed(a, b, nth(1))

    def unsigned(side: int, message: Any) -> Any:
        if side == 1:
            *start, last = message.begin.statement
            message.begin.statement = bytes([*start, last ^ 1])
        return message

    def uncertified(side: int, message: Any) -> Any:
        if side == 1:
            message.begin.certificate = b""
        return message

    for change in (unsigned, uncertified):
        outcome, _ = await sit(a, b, None, Line(change=change))
        assert isinstance(outcome, ProtocolError) and outcome.party == "matcher-b"
    await agreed(a, b)


async def test_galleries_that_have_parted_are_one_alert_for_the_same_two_states(tmp_path: Path) -> None:
    """Two certificates for change 1: some organisation is in both, and which one lied is not to be seen."""
    all_three = await three(tmp_path)
    a, b, c = all_three.values()
    await agreed(a, b, nth(1))
    c.store.promise("staff", Ballot(2, "bc"))
    run(c.store, "staff", mutation(8, added=[(0, 0, "another")]))
    await c.restart()
    with capture_logs() as logged:
        for _ in range(3):
            for outcome in await sit(a, c):
                assert isinstance(outcome, GalleryMismatchError) and outcome.party is None
                assert "sequence 1" in str(outcome.got) and "sequence 1" in str(outcome.expected)
        run(c.store, "staff", mutation(7, added=[(0, 1, "more")]))
        await c.restart()
        for outcome in await sit(a, c):
            assert isinstance(outcome, VeilmatchError)
    alerts = [entry for entry in logged if entry["event"] == "alert"]
    assert len(alerts) == 3, "at a, at c, and once more at c, where the states are others"
    await agreed(a, b, nth(2))


# -- an old copy -------------------------------------------------------------------------------------


async def test_an_old_copy_is_named_and_takes_part_again_when_it_has_met_everybody(tmp_path: Path) -> None:
    all_three = await three(tmp_path)
    a, b, c = all_three.values()
    await agreed(a, b, nth(1))
    b.store.close()
    shutil.copytree(b.folder, tmp_path / "copy")
    await b.start()
    await agreed(a, b, nth(2))
    await agreed(b, c, nth(3))
    b.store.close()
    shutil.rmtree(b.folder)
    shutil.copytree(tmp_path / "copy", b.folder)
    await b.start()
    _, outcome = await sit(b, c, nth(4))
    assert isinstance(outcome, GalleryMismatchError) and outcome.party == "matcher-b" and "old copy" in outcome.message
    b.store.mark_restored("staff", ("a", "c"))
    await b.restart()
    # What it states before it has caught up is not kept of it, so it meets the first one twice.
    for other in (c, c, a):
        first, second = sorted((b, other), key=lambda organisation: organisation.party)
        for outcome in await sit(first, second):
            assert isinstance(outcome, UnavailableError) and outcome.party == "matcher-b", outcome
    check(b, nth(1), nth(2), nth(3))
    assert b.store.unmet("staff") == set()
    await agreed(b, c, nth(4))
    await agreed(a, b, nth(5))
    for organisation in (a, b):
        check(organisation, *map(nth, range(1, 6)))


async def test_errors_of_a_pair_are_typed(tmp_path: Path) -> None:
    """Two that make different changes accept neither."""
    all_three = await three(tmp_path)
    a, b, _ = all_three.values()
    await agreed(a, b, nth(1))

    def other_proposal(side: int, message: Any) -> Any:
        if message.WhichOneof("content") == "proposed" and side == 1:
            vote = Vote.decode(message.proposed.vote)
            message.proposed.vote = Vote(vote.sequence, b"y" * 32, vote.ballot).encode()
        return message

    outcome, _ = await sit(a, b, nth(2), Line(change=other_proposal))
    assert isinstance(outcome, VeilmatchError) and "different changes" in outcome.message
    assert a.gallery.state.accepted is None
    await agreed(a, b, nth(2))
    assert Scope("staff", b"k") != a.gallery.scope
