"""What a device is told of a gallery: by differences it comes to the list that the gallery has, whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.matcher.galleries import KEY_ID, PARAMETERS, change_gallery, mutation
from veilmatch.client.wire.labels import Labels, agreed_labels
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.follow.followed import OnDisk
from veilmatch.server.matcher.gallery import labels
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.labels import Known
from veilmatch.server.matcher.query import matching
from veilmatch.server.matcher.query.matching import Matched, in_parts, tell

SUBJECTS = st.sampled_from(["ada", "bela", "cid", "d" * 64, "\U0001f600" * 16])


class Changing:
    """A gallery in service that is changed at random, and the state that each change led to."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder, KEY_ID, PARAMETERS)
        self.gallery = Gallery("main", 0, self.store, OnDisk(), PARAMETERS.slots)
        self.changes = 0

    async def open(self) -> Changing:
        await self.gallery.load()
        return self

    async def enrol(self, *subjects: str) -> None:
        places = self.gallery.index.allocate(len(subjects))
        added = [(*place, subject) for place, subject in zip(places, subjects, strict=True)]
        await self.change(added, [])

    async def erase(self, subject: str) -> None:
        if places := self.gallery.index.slots_of(subject):
            await self.change([], places)

    async def change(self, added: list[tuple[int, int, str]], removed: list[tuple[int, int]]) -> None:
        self.changes += 1
        await change_gallery(self.gallery, mutation(self.changes, added, removed))

    async def told(self, known: Labels) -> pb.MatchReply:
        """Return what a device that knows this is told, all messages of it together."""
        reply = pb.MatchReply(sequence=self.gallery.state.sequence, chain=self.gallery.state.chain)
        listed = await self.gallery.listed(Known(known.sequence, known.chain))
        tell(reply, listed)
        first, *more = [part async for part in in_parts(Matched(reply, listed.whole))]
        for part in more:
            assert [field.name for field, _ in part.ListFields()] == ["labels"]
            first.labels.extend(part.labels)
        return first

    async def device(self, known: Labels) -> Labels:
        reply = await self.told(known)
        return agreed_labels(reply, reply, "ab", known)

    @property
    def expected(self) -> list[str]:
        return list(self.gallery.index.labels())


STEPS = st.one_of(
    st.tuples(st.just("enrol"), st.lists(SUBJECTS, min_size=1, max_size=4)),
    st.tuples(st.just("erase"), st.lists(SUBJECTS, min_size=1, max_size=1)),
    st.tuples(st.just("search"), st.just([])),
    st.tuples(st.just("restart"), st.just([])),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=14), st.integers(1, 7), st.integers(0, 6))
def test_a_device_that_follows_by_differences_knows_the_whole_list(
    steps: list[tuple[str, list[str]]], at_once: int, far: int
) -> None:
    asyncio.run(_follow(steps, at_once, far))


async def _follow(steps: list[tuple[str, list[str]]], at_once: int, far: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching, "PART_PLACES", at_once)
        patched.setattr(labels, "CHANGES_MOST", far)
        changing = await Changing(Path(folder)).open()
        known = Labels()
        for kind, subjects in steps:
            match kind:
                case "enrol":
                    await changing.enrol(*subjects)
                case "erase":
                    await changing.erase(subjects[0])
                case "search":
                    known = await changing.device(known)
                    assert known.subjects.tolist() == changing.expected
                case _:
                    await changing.gallery.load()
            # Another one that searches for the first time, and one that knows this.
            assert (await changing.device(Labels())).subjects.tolist() == changing.expected
            assert (await changing.device(known)).subjects.tolist() == changing.expected
        changing.store.close()


@pytest.fixture
async def changing(tmp_path: Path) -> Changing:
    made = await Changing(tmp_path).open()
    for subject in ("ada", "bela", "cid"):
        await made.enrol(subject)
    return made


async def test_a_device_is_told_what_has_changed_and_no_more(changing: Changing) -> None:
    known = await changing.device(Labels())
    await changing.enrol("dora")
    await changing.erase("ada")
    reply = await changing.told(known)
    assert not reply.labels
    assert (list(reply.difference.slots), list(reply.difference.subjects)) == ([0, 3], ["", "dora"])
    reply = await changing.told(await changing.device(known))
    assert reply.HasField("difference") and not reply.difference.slots and not reply.labels


async def test_a_device_that_says_it_knows_what_never_was_is_told_everything(changing: Changing) -> None:
    state = changing.gallery.state
    for sequence, chain in (
        (state.sequence, bytes(32)), (state.sequence - 1, state.chain), (state.sequence + 1, state.chain), (0, b"x"),
        (1 << 63, state.chain), (2, changing.gallery.initial_chain), (state.sequence, b""),
    ):  # fmt: skip
        reply = await changing.told(Labels(chain, ["eve"], sequence))
        assert not reply.HasField("difference")
        assert [label for label in reply.labels if label] == ["ada", "bela", "cid"]


async def test_what_lies_far_back_or_is_large_is_told_as_a_whole(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await changing.device(Labels())
    await changing.enrol("dora", "ada")
    for limit in ("CHANGES_MOST", "BYTES_MOST", "PLACES_MOST"):
        assert (await changing.told(known)).HasField("difference")
        with monkeypatch.context() as patched:
            patched.setattr(labels, limit, 0)
            assert len((await changing.told(known)).labels) == changing.gallery.index.pack_count * PARAMETERS.slots


async def test_a_list_that_is_being_sent_stays_what_it_was_and_is_there_once(changing: Changing) -> None:
    first, second = await changing.gallery.places(), await changing.gallery.places()
    assert first is second
    await changing.enrol("dora")
    assert [label for label in first.tolist() if label] == ["ada", "bela", "cid"]
    assert [label for label in (await changing.gallery.places()).tolist() if label] == ["ada", "bela", "cid", "dora"]


async def test_a_change_that_is_not_committed_is_told_to_nobody(changing: Changing) -> None:
    known = await changing.device(Labels())
    assert changing.store.log_bytes_after("main", known.sequence) == 0
    assert changing.store.chain_at("main", known.sequence) == changing.gallery.state.chain
    assert changing.store.chain_at("main", known.sequence + 1) is None
    assert changing.store.chain_at("main", 0) == changing.gallery.initial_chain
