"""The timeline of a request: which ends belong together, and what the answer waited for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.timeline.chart import draw
from benchmarks.timeline.events import BACKGROUND, Happened, Message, Work, chain, joined, printed, read, trips
from benchmarks.timeline.inside import Notes
from tests.hooks import NOT_OF_A_REQUEST
from veilmatch.client.evaluation.figures.curves import svg
from veilmatch.protos.v1 import keyholder_pb2 as pb


def end(party: str, direction: str, when: float, digest: str, other: str = "", kind: str = "PairMessage") -> Any:
    return party, [direction, when, kind, f"about {digest}", 10, digest, other]


def test_both_ends_of_a_message_find_each_other_whatever_their_order() -> None:
    ends = [end("matcher-b", "taken", 2.0, "x"), end("matcher-a", "sent", 1.0, "x", "matcher-b")]
    assert joined(ends, {}) == (Message("about x", "matcher-a", "matcher-b", 1.0, 2.0, 10),)


def test_equal_messages_of_two_senders_go_where_each_sent_them() -> None:
    ends = [
        end("matcher-a", "sent", 1.0, "x", "keyholder-a"), end("matcher-b", "sent", 1.1, "x", "keyholder-b"),
        end("keyholder-b", "taken", 1.2, "x"), end("keyholder-a", "taken", 1.3, "x"),
    ]  # fmt: skip
    assert [(m.sender, m.receiver) for m in joined(ends, {})] == [
        ("matcher-b", "keyholder-b"), ("matcher-a", "keyholder-a"),
    ]  # fmt: skip


def test_an_answer_comes_from_whom_the_caller_has_called() -> None:
    ends = [
        end("matcher-a", "sent", 1.0, "x"), end("matcher-b", "sent", 1.1, "x"),
        end("device", "taken", 1.3, "x", "matcher-b"), end("device", "taken", 1.4, "x", "matcher-a"),
    ]  # fmt: skip
    assert [m.sender for m in joined(ends, {})] == ["matcher-b", "matcher-a"]


def test_what_was_not_sent_to_anybody_is_no_message() -> None:
    assert joined([end("matcher-a", "sent", 1.0, "x"), end("matcher-a", "taken", 2.0, "x")], {}) == ()
    assert joined([end("matcher-a", "taken", 1.0, "x"), end("matcher-b", "sent", 2.0, "x")], {}) == ()


def test_background_is_left_out_and_is_what_the_hooks_of_tests_leave_out() -> None:
    ends = [end(p, d, t, "x", kind="GalleryNews") for p, d, t in (("matcher-a", "sent", 1), ("matcher-b", "taken", 2))]
    assert joined(ends, {}) == ()
    assert BACKGROUND >= NOT_OF_A_REQUEST


def test_a_message_lay_if_its_receiver_had_not_waited_for_it() -> None:
    ends = [end("keyholder-a", "sent", 1.0, "x", "keyholder-b"), end("keyholder-b", "taken", 1.02, "x")]
    (message,) = joined(ends, {("keyholder-b", "x"): (1.05, 1.05001)})
    assert message.lay and message.taken_s == 1.05001
    (message,) = joined(ends, {("keyholder-b", "x"): (0.9, 1.021)})
    assert not message.lay


def test_a_slow_message_lay_if_its_receiver_took_others_meanwhile() -> None:
    slow = [end("matcher-b", "sent", 1.0, "x", "keyholder-b"), end("keyholder-b", "taken", 1.1, "x")]
    other = [end("keyholder-a", "sent", 1.04, "y", "keyholder-b"), end("keyholder-b", "taken", 1.05, "y")]
    assert [m.lay for m in joined(slow, {})] == [False]
    assert {m.name: m.lay for m in joined(slow + other, {})} == {"about x": True, "about y": False}


def message(sender: str, receiver: str, sent_s: float, taken_s: float, *, lay: bool = False) -> Message:
    return Message("word", sender, receiver, sent_s, taken_s, 10, lay)


#: Matcher a asks matcher b and its key holder, and answers when the later one has answered; a message lies there.
ASKED = message("device", "matcher-a", 10.0, 10.1)
THERE, BACK = message("matcher-a", "matcher-b", 10.2, 10.5), message("matcher-b", "matcher-a", 10.6, 10.9)
QUICK = message("matcher-a", "keyholder-a", 10.2, 10.3), message("keyholder-a", "matcher-a", 10.4, 10.45)
LAY = message("matcher-c", "matcher-a", 10.2, 10.95, lay=True)
ANSWERED = message("matcher-a", "device", 11.0, 11.1)
MESSAGES = tuple(sorted((ASKED, THERE, BACK, *QUICK, LAY, ANSWERED), key=lambda m: m.taken_s))
WORKS = (
    Work("matcher-a", "thread", "products of packs", 10.11, 10.2),
    Work("matcher-a", "thread", "commit: ledger", 10.15, 10.19),
    Work("matcher-b", "loop", "Python", 10.5, 10.55),
)
HAPPENED = Happened(9.9, 11.2, MESSAGES, WORKS)


def test_the_chain_goes_back_over_what_was_waited_for() -> None:
    assert chain(HAPPENED) == [ASKED, THERE, BACK, ANSWERED]
    assert trips(chain(HAPPENED)) == 2


def test_a_message_that_lay_would_change_the_chain_if_it_had_been_waited_for() -> None:
    waited = tuple(message(m.sender, m.receiver, m.sent_s, m.taken_s) for m in MESSAGES)
    assert chain(Happened(9.9, 11.2, waited, ()))[0].sender == "matcher-c"


def test_what_is_printed_adds_up_to_the_whole_time() -> None:
    lines = printed(HAPPENED, chain(HAPPENED)).splitlines()[1:]
    numbers = [[float(word) for word in text.split()[:3] if word.replace(".", "").isdigit()] for text in lines]
    assert sum(sum(row[1:]) for row in numbers) == 1300.0 == numbers[-1][0]


def test_picture_names_parties_work_and_messages_of_the_chain() -> None:
    assert HAPPENED.parties == ["device", "matcher-a", "matcher-b", "matcher-c", "keyholder-a"]
    text = svg(draw(HAPPENED, chain(HAPPENED), "verify, far apart"))
    for words in (*HAPPENED.parties, "products of packs", "commit: ledger", "verify, far apart", "word"):
        assert words in text


def test_notes_of_another_time_and_of_who_took_no_part_are_left_out(tmp_path: Path) -> None:
    def write(party: str, *notes: list[Any]) -> None:
        (tmp_path / f"{party}.notes").write_text("".join(json.dumps(note) + "\n" for note in notes))

    sent = end("device", "sent", 1.0, "x", "matcher-a")[1]
    write("device", sent, end("device", "sent", 0.1, "y", "matcher-a")[1], ["thread", 0.2, 0.3, "before"])
    write("matcher-a", end("matcher-a", "taken", 1.1, "x")[1], ["thread", 1.2, 9.0, "long"], ["loop", 3.1, 3.2, "late"])
    write("keyholder-c", ["thread", 1.3, 1.4, "of somebody else"])
    happened = read(tmp_path, 0.9, 3.0)
    assert [(m.sender, m.receiver) for m in happened.messages] == [("device", "matcher-a")]
    assert happened.works == (Work("matcher-a", "thread", "long", 1.2, 3.0),)


def test_notes_of_a_message_hold_nothing_of_it_and_tell_equal_ones_by_the_key_alone(tmp_path: Path) -> None:
    message, secret = pb.PairMessage(session_id=b"s" * 32, openings=b"what was opened"), "what was opened"
    lines = {}
    for party, key in (("a", b"one"), ("b", b"one"), ("c", b"another")):
        Notes(tmp_path, party, key).message("sent", message, message.SerializeToString(), "keyholder-b")
        text = (tmp_path / f"{party}.notes").read_text()
        assert secret not in text and secret.encode().hex() not in text
        lines[party] = json.loads(text)
    direction, _, kind, name, size, _, other = lines["a"]
    assert (direction, kind, name, other) == ("sent", "PairMessage", "openings", "keyholder-b")
    assert size == message.ByteSize()
    assert lines["a"][5] == lines["b"][5] != lines["c"][5]
