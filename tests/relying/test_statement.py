"""A recipient learns the answer, and relies on nothing that two organisations did not state about this question."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relying.stating import (
    CHALLENGE,
    KEY,
    LABELS,
    NOW_S,
    ORGANISATIONS,
    SALT,
    TRUST,
    context,
    pair_states,
    recipient,
    search,
    stated,
    verification,
)
from veilmatch.crypto.answer_share import JWS_TYPE, labels_digest
from veilmatch.crypto.errors import (
    DisagreementError,
    ParameterError,
    RecipientCertificateError,
    StatementError,
    StatementMismatchError,
    StatementReplayedError,
    StatementTimeError,
    VeilmatchError,
)
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying import MemorySeen, Statement


def opened(answer: SealedAnswer | bytes | str, **changes: Any) -> Statement:
    given: dict[str, Any] = {"seen": MemorySeen(), "expect_subject": "alice", "now": NOW_S + 10.0} | changes
    return Statement.open(answer, given.pop("trust", TRUST), given.pop("key", KEY), **given)


# -- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_verification_says_all_that_was_stated(pair: Pair, decision: bool) -> None:
    found = opened(verification(decision, pair), expect_challenge=CHALLENGE, expect_gallery="main")
    assert bool(found) is found.decision is decision
    assert (found.operation, found.subject, found.subjects) == ("verify", "alice", ())
    assert (found.threshold, found.cosine, found.gallery, found.sequence) == (6351, 0.4, "main", 7)
    assert (found.pairs, found.device, found.valid) == ((pair,), "door-2", True)
    assert (found.requests, found.issued_at_s, found.expires_at_s) == ((pair.encode() * 16,), NOW_S, NOW_S + 600)


def test_a_document_comes_back_as_it_was() -> None:
    answer = verification()
    assert SealedAnswer.decode(answer.encode()) == answer
    assert opened(answer.encode()) and opened(answer.encode().decode())


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=20), st.data())
@settings(max_examples=40, deadline=None)
def test_a_search_names_whom_the_answer_names(labels: list[str], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(labels)))
    found = opened(search("identify", number, labels), expect_subject=None)
    assert found.subject == (labels[number - 1] if number else None) and bool(found) is (number > 0)
    bits = data.draw(st.integers(0, 2 ** len(labels) - 1))
    found = opened(search("candidates", bits, labels), expect_subject=None)
    assert set(found.subjects) == {label for i, label in enumerate(labels) if bits >> i & 1}
    assert len(set(found.subjects)) == len(found.subjects) and bool(found) is (bits > 0)


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("valid", [True, False])
def test_known_is_one_bit_and_names_nobody(answer: int, valid: bool) -> None:
    about = {"operation": "known", "subject": b"", "labels": b"", "count": 1}
    found = opened(SealedAnswer(pair_states("ab", answer, valid=valid, **about), b""), expect_subject=None)
    assert (found.operation, found.decision, found.valid) == ("known", bool(answer and valid), valid)
    assert found.subject is None and found.subjects == ()


@pytest.mark.parametrize("labels", range(1, 70))
def test_the_size_of_an_answer_is_that_of_the_gates(labels: int) -> None:
    names = [f"s{i}" for i in range(labels)]
    for operation in ("identify", "candidates"):
        found = search(operation, 0, names)
        claims = json.loads(base64.urlsafe_b64decode(found.statements[0].split(".")[1] + "=="))
        assert claims["count"] == answer_bits(operation, labels)
        assert not opened(found, expect_subject=None)


def test_an_invalid_probe_is_no_match_whatever_the_bits_say() -> None:
    found = opened(verification(True, valid=False))
    assert not found and not found.valid


def test_all_three_pairs_are_one_assured_answer() -> None:
    every = SealedAnswer(tuple(one for pair in PAIRS for one in pair_states(pair, 1)), SALT)
    found = opened(every, assured=True)
    assert found and found.pairs == PAIRS and len(found.requests) == 3


# -- what it refuses ------------------------------------------------------------------------------


def refusal(answer: SealedAnswer | bytes | str, kind: type[VeilmatchError], words: str, **changes: Any) -> None:
    with pytest.raises(VeilmatchError) as caught:
        opened(answer, **changes)
    assert type(caught.value) is kind and words in str(caught.value), caught.value


def test_another_question_is_refused() -> None:
    mismatch = StatementMismatchError
    refusal(verification(), mismatch, "another subject", expect_subject="bob")
    refusal(replace(verification(), salt=b"t" * 16), mismatch, "another subject")
    refusal(verification(), mismatch, "another challenge", expect_challenge=b"another")
    refusal(verification(challenge=b""), mismatch, "another challenge", expect_challenge=CHALLENGE)
    refusal(verification(), mismatch, "another gallery", expect_gallery="staff")
    refusal(verification(), mismatch, "another request", expect_request=b"x" * 32)
    refusal(verification(), mismatch, "another operation", expect_operation="identify", expect_subject="alice")
    refusal(verification(), mismatch, "lower threshold", lowest_threshold=0.41)
    assert opened(verification(), lowest_threshold=0.4, expect_request=b"ab" * 16)
    assert opened(verification(), expect_request={b"ab" * 16, b"ac" * 16})


def test_a_verification_counts_for_an_expected_subject_only() -> None:
    refusal(verification(), StatementMismatchError, "none expected", expect_subject=None)
    refusal(search("identify", 1), StatementMismatchError, "another operation")


def test_an_answer_about_a_card_counts_where_one_is_expected_only() -> None:
    about = verification(operation="present")
    found = opened(about, expect_operation="present")
    assert (found.decision, found.operation, found.subject) == (True, "present", "alice")
    refusal(about, StatementMismatchError, "where one is expected")
    refusal(about, StatementMismatchError, "another operation", expect_operation="verify")
    refusal(about, StatementMismatchError, "none expected", expect_operation="present", expect_subject=None)
    refusal(about, StatementMismatchError, "another subject", expect_operation="present", expect_subject="bob")
    refusal(verification(), StatementMismatchError, "another operation", expect_operation="present")


@pytest.mark.parametrize("operation", ["verify", "present"])
def test_an_answer_about_several_views_counts_where_they_are_allowed(operation: Any) -> None:
    """Each is one more chance of a false match, and the device chooses how many there are, as it does the threshold."""
    about, expected = verification(operation=operation, views=3), {"expect_operation": operation}
    for most in ({}, {"max_views": 2}):
        refusal(about, StatementMismatchError, "more views", **expected, **most)
    assert opened(about, max_views=3, **expected).views == 3
    assert opened(verification(operation=operation), max_views=3, **expected).views == 1


def test_a_threshold_that_cannot_be_is_an_error_of_the_caller() -> None:
    with pytest.raises(ParameterError):
        opened(verification(), lowest_threshold=7.0)


def test_one_organisation_twice_and_pairs_mixed_are_refused() -> None:
    first, second = verification().statements
    other = pair_states("ac", 1)
    for tokens, words in (
        ((first, first), "stated both shares"),
        ((first, first, second), "stated both shares"),
        ((first,), "missing"),
        ((first, other[1]), "missing"),
        ((first, second, other[0]), "missing"),
    ):
        refusal(SealedAnswer(tokens, SALT), StatementError, words)
    # Another statement of the same organisation, for the share that is missing.
    forged = stated(context("a", "ab"), b"\0", False)
    refusal(SealedAnswer((first, forged), SALT), StatementError, "stated both shares")


@pytest.mark.parametrize(
    "changes",
    [
        {"request": b"x" * 32}, {"session": b"x" * 32}, {"sequence": 8}, {"chain": b"x" * 32}, {"threshold": 6352},
        {"gallery": "staff"}, {"device": "door-3"}, {"challenge": b""}, {"recipient": b"x" * 32},
        {"subject": b"x" * 32}, {"views": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_two_statements_about_different_things_are_refused(changes: dict[str, Any]) -> None:
    refusal(verification(at=changes), StatementMismatchError, next(iter(changes)))


def test_pairs_that_do_not_agree_are_refused() -> None:
    both = SealedAnswer((*pair_states("ab", 1), *pair_states("ac", 0)), SALT)
    refusal(both, DisagreementError, "different answers")
    about = SealedAnswer((*pair_states("ab", 1), *pair_states("ac", 1, threshold=6352)), SALT)
    refusal(about, StatementMismatchError, "threshold")
    same = SealedAnswer((*pair_states("ab", 1), *pair_states("ac", 1, request=b"ab" * 16)), SALT)
    refusal(same, StatementError, "same request")


def test_an_assured_answer_needs_all_three_pairs() -> None:
    two = SealedAnswer((*pair_states("ab", 1), *pair_states("bc", 1)), SALT)
    assert opened(two)
    refusal(two, StatementError, "not all pairs", assured=True)
    refusal(verification(), StatementError, "not all pairs", assured=True)


def test_time() -> None:
    for now, kind, words in (
        (NOW_S - 31, StatementTimeError, "ahead"),
        (NOW_S + 630, StatementTimeError, "expired"),
    ):
        refusal(verification(), kind, words, now=now)
    for now in (NOW_S - 30, NOW_S + 629):
        assert opened(verification(), now=now)
    refusal(verification(), StatementTimeError, "expired", now=NOW_S + 600, max_clock_skew_s=0)
    # One of the two is enough.
    late = {"issued_at_s": NOW_S - 700, "expires_at_s": NOW_S - 100}
    refusal(verification(at=late), StatementTimeError, "expired")


def test_an_answer_counts_once_and_one_that_is_refused_is_not_used_up() -> None:
    seen, answer = MemorySeen(), verification()
    refusal(answer, StatementMismatchError, "another subject", seen=seen, expect_subject="bob")
    assert opened(answer, seen=seen)
    refusal(answer, StatementReplayedError, "before", seen=seen)
    # As a part of more, and as the last second of its life.
    more = SealedAnswer((*answer.statements, *pair_states("ac", 1)), SALT)
    refusal(more, StatementReplayedError, "before", seen=seen)
    refusal(answer, StatementReplayedError, "before", seen=seen, now=NOW_S + 629.5)
    assert opened(SealedAnswer(pair_states("ac", 1), SALT), seen=seen)


def test_another_recipient_cannot_open_it() -> None:
    refusal(verification(), StatementMismatchError, "another recipient", key=recipient())
    # Named, and sealed to somebody else.
    about = context("b", "ab")
    tokens = (verification().statements[0], stated(about, b"\0", True, key=recipient()))
    refusal(SealedAnswer(tokens, SALT), StatementError, "does not open")


def test_a_share_opens_only_as_what_it_was_sealed_for() -> None:
    about = context("b", "ab")
    for other in (replace(about, threshold=6352), replace(about, party="a"), replace(about, challenge=b"")):
        tokens = (verification().statements[0], stated(about, b"\0", True, info=other.info()))
        refusal(SealedAnswer(tokens, SALT), StatementError, "does not open")


def test_a_share_of_another_size_is_refused() -> None:
    for share in (b"", b"\0\0"):
        tokens = (verification().statements[0], stated(context("b", "ab"), share, True))
        refusal(SealedAnswer(tokens, SALT), StatementError, "not a share")


def test_another_signer_is_refused() -> None:
    tokens = (verification().statements[0], stated(context("b", "ab"), b"\0", True, signer="c"))
    refusal(SealedAnswer(tokens, SALT), StatementError, "not signed by the organisation")


def test_another_installation_and_another_key_are_refused() -> None:
    for changes, words in (({"installation": bytes(16)}, "installation"), ({"key_id": bytes(16)}, "key")):
        refusal(verification(**changes), StatementMismatchError, f"of another {words}")
    elsewhere = replace(TRUST, installation=bytes(16))
    refusal(verification(), RecipientCertificateError, "another installation", trust=elsewhere)
    strangers = replace(TRUST, signers=(TRUST.signers[0], *reversed(TRUST.signers[1:])))
    refusal(verification(), RecipientCertificateError, "altered", trust=strangers)


def test_a_key_without_two_signatures_is_refused() -> None:
    refusal(verification(), RecipientCertificateError, "too few", key=recipient("a"))


def test_labels_that_were_not_stated_are_refused() -> None:
    answer = search("identify", 2)
    for labels in ((), LABELS[:-1], (*LABELS, "x"), tuple(reversed(LABELS)), ("al", "icebob", *LABELS[2:])):
        refusal(replace(answer, labels=labels), StatementError, "list of subjects", expect_subject=None)


def test_an_answer_that_names_no_template_is_refused() -> None:
    refusal(search("identify", 6), StatementError, "names no template", expect_subject=None)
    three = {"count": 3, "labels": labels_digest(LABELS[:2])}
    wrong = SealedAnswer(pair_states("ab", 0, operation="candidates", subject=b"", **three), b"", LABELS[:2])
    refusal(wrong, StatementError, "does not fit", expect_subject=None)


# -- altered --------------------------------------------------------------------------------------

ANSWER = verification(False)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_altered_statement_opens(data: st.DataObject) -> None:
    token = data.draw(st.sampled_from(ANSWER.statements))
    at = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABCdefXYZ0189-_.= \n"))
    altered = token[:at] + character + token[at + 1 :]
    if altered == token:
        return
    tokens = tuple(altered if one == token else one for one in ANSWER.statements)
    with pytest.raises(StatementError):
        opened(SealedAnswer(tokens, SALT))


def test_every_text_of_a_signature_but_one_is_refused() -> None:
    # The last character of 64 bytes in base64url has four bits to spare.
    token = ANSWER.statements[0]
    body, last = token[:-1], token[-1]
    for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if character != last:
            refusal(SealedAnswer((body + character, ANSWER.statements[1]), SALT), StatementError, "statement")
    for padded in (token + "=", token + "==", token + "\n", " " + token, token + "."):
        refusal(SealedAnswer((padded, ANSWER.statements[1]), SALT), StatementError, "statement")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": JWS_TYPE}, {"alg": "HS256", "typ": JWS_TYPE}, {"alg": "EdDSA", "typ": "JWT"},
        {"alg": "EdDSA"}, {"alg": "EdDSA", "typ": JWS_TYPE, "kid": "a"}, {"typ": JWS_TYPE, "alg": "EdDSA"},
        {"alg": "EdDSA", "typ": JWS_TYPE, "crit": ["b64"], "b64": False},
    ],
    ids=str,
)  # fmt: skip
def test_there_is_one_header(header: dict[str, Any]) -> None:
    _, payload, _ = ANSWER.statements[0].split(".")
    text = base64.urlsafe_b64encode(json.dumps(header, separators=(",", ":")).encode()).rstrip(b"=").decode()
    signature = ORGANISATIONS["a"]._key.sign(f"{text}.{payload}".encode())
    token = f"{text}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    refusal(SealedAnswer((token, ANSWER.statements[1]), SALT), StatementError, "not a statement")


def test_other_signatures_of_the_organisation_are_no_statements_and_statements_are_none_of_those() -> None:
    header, payload, _ = ANSWER.statements[0].split(".")
    signature = ORGANISATIONS["a"].sign("answer share v1", f"{header}.{payload}".encode())
    token = f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    refusal(SealedAnswer((token, ANSWER.statements[1]), SALT), StatementError, "not signed")


def test_any_library_reads_a_statement() -> None:
    public = TRUST.signer("b")
    now = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(ANSWER.statements[1], public, algorithms=["EdDSA"], options=now)
    assert claims["organisation"] == "b" and claims["operation"] == "verify" and claims["exp"] == NOW_S + 600


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_nonsense_is_refused(document: bytes | str) -> None:
    with pytest.raises(StatementError):
        opened(document)


def test_a_document_that_is_not_one_is_refused() -> None:
    good = json.loads(ANSWER.encode())
    for change in (
        {"format": "veilmatch sealed answer 2"}, {"salt": "00"}, {"salt": None}, {"statements": []}, {"labels": [1]},
        {"labels": ["\ud800"]},
        {"statements": "abc"}, {"statements": [*ANSWER.statements] * 4}, {"more": 1},
    ):  # fmt: skip
        refusal(json.dumps(good | change), StatementError, "not a sealed answer")
