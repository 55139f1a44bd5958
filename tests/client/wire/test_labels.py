"""Whom a search was about, by differences: the same list as if all of it had been sent, and from both matchers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.client.wire.labels import Labels, agreed_labels
from veilmatch.crypto.errors import IntegrityError
from veilmatch.protos.v1 import matcher_pb2 as pb

NAMES = st.one_of(st.just(""), st.text(min_size=1, max_size=12))
OLD, NEW = b"o" * 32, b"n" * 32


def whole(slots: list[str]) -> pb.MatchReply:
    return pb.MatchReply(sequence=2, chain=NEW, labels=slots)


def difference(changed: dict[int, str], chain: bytes = NEW) -> pb.MatchReply:
    reply = pb.MatchReply(sequence=2, chain=chain)
    reply.difference.SetInParent()
    for slot, subject in sorted(changed.items()):
        reply.difference.slots.append(slot)
        reply.difference.subjects.append(subject)
    return reply


@st.composite
def changed_lists(draw: st.DrawFn) -> tuple[list[str], list[str], dict[int, str]]:
    """A list, another one, and a difference that leads from the one to the other and may name more than it has to."""
    before = draw(st.lists(NAMES, max_size=12))
    size = draw(st.integers(len(before), len(before) + 6))
    after = [*before, *[""] * (size - len(before))]
    told = draw(st.sets(st.integers(0, size - 1))) if size else set()
    for slot in told:
        after[slot] = draw(NAMES)
    return before, after, {slot: after[slot] for slot in told}


@given(changed_lists())
def test_a_difference_leads_to_the_whole_list(lists: tuple[list[str], list[str], dict[int, str]]) -> None:
    before, after, told = lists
    known = Labels(OLD, before, 1)
    expected = [subject for subject in after if subject]
    for a, b in (
        (difference(told), difference(told)), (difference(told), whole(after)), (whole(after), difference(told)),
        (whole(after), whole([*after, ""])),
    ):  # fmt: skip
        found = agreed_labels(a, b, "ab", known)
        assert found.subjects.tolist() == expected
        assert (found.chain, found.sequence) == (NEW, 2)
    assert known.slots.tolist() == Labels(OLD, before).slots.tolist()


@given(changed_lists(), st.data())
def test_a_matcher_that_tells_anything_else_is_found_out(
    lists: tuple[list[str], list[str], dict[int, str]], data: st.DataObject
) -> None:
    before, after, told = lists
    slot = data.draw(st.integers(0, len(after)))
    wrong = data.draw(NAMES.filter(lambda name: name != (after[slot] if slot < len(after) else "")))
    lie = [*after, *[""] * (slot + 1 - len(after))]
    lie[slot] = wrong
    known, honest = Labels(OLD, before, 1), (difference(told), whole(after))
    for lying in (whole(lie), difference(told | {slot: wrong})):
        for other in honest:
            for pair in ((lying, other), (other, lying)):
                with pytest.raises(IntegrityError):
                    agreed_labels(*pair, "ab", known)


def test_nothing_has_changed_and_nothing_is_copied() -> None:
    known = Labels(NEW, ["ada", "", "bo"], 2)
    same = pb.MatchReply(sequence=2, chain=NEW)
    for reply in (same, difference({})):
        assert agreed_labels(reply, reply, "ab", known) is known
    assert agreed_labels(same, whole(["ada", "", "bo"]), "ab", known).subjects.tolist() == ["ada", "bo"]


def test_places_count_and_not_only_the_order_of_names() -> None:
    with pytest.raises(IntegrityError):
        agreed_labels(whole(["ada", "", "bo"]), whole(["ada", "bo"]), "ab", Labels())


def test_a_gallery_that_was_emptied_has_an_empty_list() -> None:
    known = Labels(OLD, ["ada"], 1)
    for a, b in ((whole([]), difference({0: ""})), (whole([""]), whole([]))):
        assert agreed_labels(a, b, "ab", known).subjects.tolist() == []


def torn(**fields: Any) -> pb.MatchReply:
    return pb.MatchReply(chain=NEW, difference=pb.LabelDifference(**fields))


@pytest.mark.parametrize(
    "reply",
    [
        torn(slots=[0]),
        torn(subjects=["eve"]),
        torn(slots=[1, 0], subjects=["eve", "eve"]),
        torn(slots=[0, 0], subjects=["eve", "bo"]),
        torn(slots=[1 << 63], subjects=["eve"]),
        torn(slots=[1 << 20], subjects=["eve"]),
        pb.MatchReply(chain=NEW, labels=["eve"], difference=pb.LabelDifference()),
    ],
)
def test_a_difference_that_cannot_be_is_refused(reply: pb.MatchReply) -> None:
    with pytest.raises(IntegrityError):
        agreed_labels(reply, reply, "ab", Labels(OLD, ["ada"], 1))


def test_a_difference_to_nothing_is_refused() -> None:
    with pytest.raises(IntegrityError):
        agreed_labels(difference({0: "eve"}), difference({0: "eve"}), "ab", Labels())


def test_what_is_known_cannot_be_written_to() -> None:
    known = Labels(OLD, ["ada", "bo"], 1)
    with pytest.raises(ValueError, match="read-only"):
        known.slots[0] = "eve"
    assert "ada" not in repr(known)
