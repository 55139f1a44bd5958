"""One matcher alone is believed about nothing but its share."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.fakes import xor_shares
from veilmatch.client.wire.agreement import (
    agreed_mutation,
    agreed_subjects,
    best_subject,
    matching_subjects,
    open_candidates,
    open_identification,
    open_verification,
    require_valid,
)
from veilmatch.client.wire.labels import Labels
from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, ServerDeviationError
from veilmatch.protos.v1 import matcher_pb2 as pb

#: One matcher's share of "valid"; that of the other is not this one.
VALID = secrets.choice([False, True])


def replies(bits: list[int], labels: list[str] | None = None) -> tuple[pb.MatchReply, pb.MatchReply]:
    a, b = (
        pb.MatchReply(
            sequence=7,
            chain=b"c" * 32,
            session_id=b"s" * 32,
            share=share,
            count=len(bits),
            labels=labels or [],
            valid_share=valid_share,
        )
        for share, valid_share in zip(xor_shares(bits), (VALID, not VALID), strict=True)
    )
    return a, b


@pytest.mark.parametrize("bit", [0, 1])
def test_decision_is_the_xor_of_the_shares(bit: int) -> None:
    for _ in range(8):
        assert open_verification(*replies([bit]), "ab").bits.tolist() == [bit]


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("bit", [0, 1])
def test_answer_about_a_probe_that_is_not_valid_is_one_refusal(bit: int, share: bool) -> None:
    a, b = replies([bit])
    a.valid_share = b.valid_share = share
    with pytest.raises(ServerDeviationError) as verified:
        require_valid(open_verification(a, b, "ab"), "0123")
    a, b = replies([bit, 0, 1], ["x", "y", "z"])
    a.valid_share = b.valid_share = share
    with pytest.raises(ServerDeviationError) as searched:
        require_valid(open_candidates(a, b, "ab", Labels()), "0123")
    assert verified.value.request_id == "0123" and verified.value.fields() == searched.value.fields()


def test_where_nothing_was_compared_no_probe_was_refused() -> None:
    a, b = replies([])
    a.valid_share = b.valid_share = False
    assert matching_subjects(open_candidates(a, b, "ab", Labels())) == ()


def test_padding_of_a_share_means_nothing() -> None:
    a, b = replies([0])
    b.share = bytes([b.share[0] ^ 0b11111110])
    assert open_verification(a, b, "ab").bits.tolist() == [0]


def test_candidates_are_the_subjects_of_set_bits() -> None:
    bits = [0, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    opened = open_candidates(*replies(bits, [f"s{i}" for i in range(10)]), "ab", Labels())
    assert matching_subjects(opened) == ("s1", "s8", "s9")


def test_templates_of_one_subject_are_one_candidate() -> None:
    opened = open_candidates(*replies([1, 1, 0, 1], ["bo", "al", "bo", "bo"]), "ab", Labels())
    assert matching_subjects(opened) == ("bo", "al")


def test_empty_gallery_has_no_candidates() -> None:
    assert matching_subjects(open_candidates(*replies([]), "ab", Labels())) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r.MergeFrom(pb.MatchReply(sequence=8)), GalleryMismatchError),
        (lambda r: r.MergeFrom(pb.MatchReply(chain=b"d" * 32)), GalleryMismatchError),
        (lambda r: r.MergeFrom(pb.MatchReply(session_id=b"t" * 32)), IntegrityError),
        (lambda r: r.MergeFrom(pb.MatchReply(count=2)), IntegrityError),
        (lambda r: r.MergeFrom(pb.MatchReply(share=b"12")), IntegrityError),
        (lambda r: r.ClearField("share"), IntegrityError),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_any_difference_ends_without_a_decision(
    place: int, change: Callable[[Any], None], expected: type[Exception]
) -> None:
    both = replies([1])
    change(both[place])
    with pytest.raises(expected):
        open_verification(*both, "ab")


def test_answer_without_a_session_is_no_answer() -> None:
    a, b = replies([1])
    a.session_id = b.session_id = b""
    with pytest.raises(IntegrityError):
        open_verification(a, b, "ab")


def test_verification_with_two_bits_is_no_verification() -> None:
    with pytest.raises(IntegrityError):
        open_verification(*replies([1, 0]), "ab")


@pytest.mark.parametrize(
    ("bits", "subject"), [([0, 0, 0], None), ([1, 0, 0], "al"), ([0, 1, 0], "bo"), ([1, 1, 0], "al"), ([1, 0, 1], "di")]
)
def test_identification_is_the_subject_of_the_number_that_comes_out(bits: list[int], subject: str | None) -> None:
    assert best_subject(open_identification(*replies(bits, ["al", "bo", "al", "cy", "di"]), "ab", Labels())) == subject


def test_number_beyond_the_last_template_is_no_answer() -> None:
    for bits in ([0, 1, 1], [1, 1, 1]):
        opened = open_identification(*replies(bits, ["al", "bo", "al", "cy", "di"]), "ab", Labels())
        with pytest.raises(IntegrityError):
            best_subject(opened)


def test_empty_gallery_has_nobody_to_identify() -> None:
    assert best_subject(open_identification(*replies([]), "ab", Labels())) is None


@pytest.mark.parametrize(("bits", "labels"), [([1], 2), ([1, 0], 1), ([1, 0], 4), ([1, 0, 0], 0), ([], 1)])
def test_identification_has_as_many_bits_as_the_number_of_its_subjects(bits: list[int], labels: int) -> None:
    with pytest.raises(IntegrityError):
        open_identification(*replies(bits, ["al"] * labels), "ab", Labels())


def test_identification_opens_with_remembered_labels_that_both_matchers_hold_to() -> None:
    known = open_identification(*replies([0, 1], ["al", "bo"]), "ab", Labels()).labels
    assert best_subject(open_identification(*replies([1, 0]), "ab", known)) == "al"
    a, b = replies([1, 0], ["al", "bo"])
    b.labels[1] = "cy"
    with pytest.raises(IntegrityError):
        open_identification(a, b, "ab", Labels())


# -- labels ----------------------------------------------------------------------------------------


def test_labels_are_remembered_for_their_gallery_state() -> None:
    known = open_candidates(*replies([1, 0], ["al", "bo"]), "ab", Labels()).labels
    again = open_candidates(*replies([0, 1]), "ab", known)
    assert matching_subjects(again) == ("bo",)
    assert again.labels == known


def test_labels_of_another_state_are_not_used() -> None:
    with pytest.raises(IntegrityError):
        open_candidates(*replies([1]), "ab", Labels(b"x" * 32, ("al",)))


def test_matchers_must_name_the_same_subjects() -> None:
    a, b = replies([1], ["al"])
    b.labels[0] = "bo"
    with pytest.raises(IntegrityError):
        open_candidates(a, b, "ab", Labels())


def test_matcher_cannot_rename_what_is_known() -> None:
    a, b = replies([1])
    a.labels.append("bo")
    with pytest.raises(IntegrityError):
        open_candidates(a, b, "ab", Labels(b"c" * 32, ("al",)))


def test_labels_do_not_fill_a_representation() -> None:
    assert "al" not in repr(Labels(b"c", ("al",)))


# -- changes and lists -------------------------------------------------------------------------------


def test_mutation_must_be_the_same_at_both() -> None:
    a = pb.MutateReply(sequence=3, chain=b"c", templates=1)
    assert agreed_mutation(a, a, "ab") is a
    with pytest.raises(GalleryMismatchError):
        agreed_mutation(a, pb.MutateReply(sequence=4, chain=b"c", templates=1), "ab")
    with pytest.raises(IntegrityError):
        agreed_mutation(a, pb.MutateReply(sequence=3, chain=b"c", templates=2), "ab")


def test_subject_lists_must_be_the_same_in_any_order() -> None:
    al, bo = pb.Subject(subject="al", templates=2), pb.Subject(subject="bo", templates=1)
    a, b = pb.SubjectsReply(subjects=[bo, al]), pb.SubjectsReply(subjects=[al, bo])
    assert agreed_subjects(a, b, "ab") == [("al", 2), ("bo", 1)]
    with pytest.raises(IntegrityError):
        agreed_subjects(a, pb.SubjectsReply(subjects=[al]), "ab")
