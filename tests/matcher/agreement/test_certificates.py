"""What is signed about changes: one encoding each, bound to gallery, key, number, chain, ballot and purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.matcher.galleries import KEY_ID, ORGANISATIONS, signed, signers
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.crypto.gallery_change import ACCEPTANCE
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.ballots import NO_BALLOT, Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Scope, Statement, Vote
from veilmatch.server.matcher.agreement.lies import proofs_in, says_less

SCOPE = Scope("staff", KEY_ID)
CHAIN, OTHER = b"c" * 32, b"d" * 32

ballots = st.builds(Ballot, st.integers(1, 2**63), st.sampled_from(PAIRS))
chains = st.binary(min_size=32, max_size=32)
states = st.builds(
    GalleryState,
    st.integers(0, 2**63),
    chains,
    ballots | st.just(NO_BALLOT),
    st.none() | st.builds(Accepted, ballots, chains),
)


@given(ballots, ballots)
def test_ballots_are_ordered_and_have_one_encoding(one: Ballot, other: Ballot) -> None:
    assert Ballot.decode(one.encode()) == one and Ballot.decode(b"") == NO_BALLOT < one
    assert (one < other) + (one == other) + (one > other) == 1
    for wrong in (one.encode() + b"a", one.encode()[:-1], one.encode()[:-2] + b"ba", b"x"):
        with pytest.raises(ProtocolError):
            Ballot.decode(wrong)


@given(states, st.sampled_from(PARTIES))
def test_a_statement_is_what_it_was_before_it_was_sent(state: GalleryState, party: str) -> None:
    statement = Statement(party, state).signed(SCOPE, ORGANISATIONS[party])  # type: ignore[arg-type, index]
    statement.check(SCOPE, signers)
    assert Statement.decode(statement.encode()) == statement
    for wrong in (statement.encode() + b"x", statement.encode()[:-1], b"", b"d" + statement.encode()[1:]):
        with pytest.raises(ProtocolError):
            Statement.decode(wrong).check(SCOPE, signers)
    with pytest.raises(ProtocolError, match="not signed"):
        statement.check(Scope("guests", KEY_ID), signers)
    with pytest.raises(ProtocolError, match="not signed"):
        replace(statement, state=replace(state, sequence=state.sequence + 1)).check(SCOPE, signers)


def test_a_certificate_is_of_two_organisations_and_of_nothing_else() -> None:
    certificate = signed("staff", 7, CHAIN)
    certificate.check(SCOPE, signers)
    assert Certificate.decode(certificate.encode()) == certificate
    vote, (first, second) = certificate.vote, certificate.signatures
    wrong = [
        replace(certificate, vote=replace(vote, sequence=8)),
        replace(certificate, vote=replace(vote, chain=OTHER)),
        replace(certificate, vote=replace(vote, ballot=Ballot(2, "ab"))),
        replace(certificate, vote=replace(vote, ballot=Ballot(1, "ac"))),
        replace(certificate, signatures=(second, first)),
        replace(certificate, signatures=(first, first)),
        signed("staff", 7, CHAIN, PROPOSAL),
        signed("guests", 7, CHAIN),
        signed("staff", 7, CHAIN, key_id=b"another key     "),
    ]
    for one in wrong:
        with pytest.raises(IntegrityError, match="no signature of organisation"):
            one.check(SCOPE, signers)
    signed("staff", 7, CHAIN, PROPOSAL).check(SCOPE, signers, PROPOSAL)
    for data in (certificate.encode()[:-1], certificate.encode() + b"x", b""):
        with pytest.raises(ProtocolError):
            Certificate.decode(data)


# -- lies ------------------------------------------------------------------------------------------


def stated(state: GalleryState) -> Statement:
    return Statement("b", state).signed(SCOPE, ORGANISATIONS["b"])


def of_b(*statements: Statement, certificates: tuple[Certificate, ...] = ()) -> list[str]:
    return [proof.what for proof in proofs_in(statements, certificates) if proof.party == "b"]


LOW, MIDDLE, HIGH = Ballot(1, "ab"), Ballot(2, "bc"), Ballot(3, "ab")


def test_what_an_honest_organisation_comes_to_sign_proves_nothing() -> None:
    """All that b states while it accepts change 7 twice, commits it, and accepts change 8."""
    certificates = (
        Certificate.signed(Vote(7, CHAIN, MIDDLE), SCOPE, ORGANISATIONS["b"], ORGANISATIONS["c"], context=ACCEPTANCE),
    )
    life = [
        GalleryState(6, b"6" * 32),
        GalleryState(6, b"6" * 32, LOW),
        GalleryState(6, b"6" * 32, LOW, Accepted(LOW, OTHER)),
        GalleryState(6, b"6" * 32, MIDDLE, Accepted(LOW, OTHER)),
        GalleryState(6, b"6" * 32, MIDDLE, Accepted(MIDDLE, CHAIN)),
        GalleryState(7, CHAIN, MIDDLE),
        GalleryState(7, CHAIN, HIGH),
        GalleryState(7, CHAIN, HIGH, Accepted(HIGH, OTHER)),
    ]
    statements = [stated(state) for state in life]
    assert of_b(*statements, certificates=certificates) == []
    for at, state in enumerate(life):
        for earlier in statements[: at + 1]:
            assert not says_less(state, earlier, certificates[0] if at > 4 else None)
        for later in statements[at + 1 :]:
            assert says_less(state, later, None), (at, later.state)


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (GalleryState(6, OTHER, HIGH), ["denial"]),
        (GalleryState(6, OTHER, HIGH, Accepted(LOW, OTHER)), ["denial"]),
        (GalleryState(3, OTHER, HIGH), ["denial"]),
        (GalleryState(6, OTHER, MIDDLE, Accepted(MIDDLE, OTHER)), ["fork"]),
        (GalleryState(6, OTHER, HIGH, Accepted(HIGH, OTHER)), []),
        (GalleryState(6, OTHER, MIDDLE), []),
        (GalleryState(6, OTHER, LOW), []),
    ],
)
def test_what_nobody_honest_signs_beside_its_vote_is_a_proof(state: GalleryState, what: list[str]) -> None:
    ours = [ORGANISATIONS["b"], ORGANISATIONS["c"]]
    certificate = Certificate.signed(Vote(7, CHAIN, MIDDLE), SCOPE, *ours)
    assert of_b(stated(state), certificates=(certificate,)) == what


def test_two_changes_that_were_accepted_under_one_ballot_are_a_fork_also_between_statements() -> None:
    one, other = (stated(GalleryState(6, OTHER, LOW, Accepted(LOW, chain))) for chain in (CHAIN, OTHER))
    assert of_b(one, other) == ["fork"]
    assert of_b(one, one) == []


def test_what_is_stated_of_a_state_is_signed_once() -> None:
    signed: list[bytes] = []

    class Counting:
        party: Party = "a"

        def sign(self, context: str, message: bytes) -> bytes:
            signed.append(message)
            return ORGANISATIONS["a"].sign(context, message)

    agreement = Agreement(Counting(), signers)
    for state in (GalleryState(1, bytes(32)), GalleryState(2, bytes(32)), GalleryState(1, bytes(32))):
        statement = Statement.decode(agreement.statement(SCOPE, state))
        statement.check(SCOPE, signers)
        assert (statement.party, statement.state) == ("a", state)
    assert len(signed) == 2
    agreement.statement(Scope("another gallery", SCOPE.key_id), GalleryState(1, bytes(32)))
    assert len(signed) == 3
