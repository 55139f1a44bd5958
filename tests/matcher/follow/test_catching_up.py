"""Catching up: log and snapshot, after every interruption, and nothing of what an altered answer says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.matcher.follow.matchers import NAME, History, Matcher, served
from tests.matcher.galleries import accept, mutation, signed
from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, UnavailableError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.follow import catching_up, serving
from veilmatch.server.matcher.follow.catching_up import catch_up
from veilmatch.server.matcher.follow.staging_file import FOLDER

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few hundred bytes, and calls for a few of them."""
    monkeypatch.setattr(serving, "CHUNK_BYTES", 1200)
    monkeypatch.setattr(catching_up, "_CALL_BYTES", 2000)


async def matchers(tmp_path: Path) -> tuple[Matcher, Matcher]:
    return await Matcher("a", tmp_path / "a").load(), await Matcher("c", tmp_path / "c").load()


@pytest.mark.parametrize("changes", [0, 1, 7])
async def test_from_nothing(tmp_path: Path, changes: int) -> None:
    a, c = await matchers(tmp_path)
    history = History(a.store).long(changes)
    await a.gallery.load()
    async with served(a) as stub:
        taken = await catch_up(c.followed, stub, "matcher-a")
    assert taken.changes == 3 + changes
    c.check(history.model)
    assert list((c.data_dir / FOLDER).iterdir()) == []
    # Everybody may follow whoever followed.
    again = await Matcher("b", tmp_path / "b").load()
    async with served(c) as stub:
        await catch_up(again.followed, stub, "matcher-c")
    again.check(history.model)


async def test_from_where_it_is(tmp_path: Path) -> None:
    a, c = await matchers(tmp_path)
    history = History(a.store).long(4)
    await a.gallery.load()
    async with served(a) as stub:
        await catch_up(c.followed, stub, "matcher-a")
        history.erase((0, 1))
        history.add((3, 0, "new"), (0, 1, "in its place"))
        await a.gallery.load()
        taken = await catch_up(c.followed, stub, "matcher-a")
        assert taken.changes == 2
        c.check(history.model)
        assert (await catch_up(c.followed, stub, "matcher-a")).changes == 0


async def test_all_is_erased(tmp_path: Path) -> None:
    a, c = await matchers(tmp_path)
    history = History(a.store)
    history.add((0, 0, "ada"))
    history.erase((0, 0))
    await a.gallery.load()
    async with served(a) as stub:
        await catch_up(c.followed, stub, "matcher-a")
    c.check(history.model)
    assert c.gallery.model is None


@pytest.mark.parametrize("is_it", [True, False])
async def test_what_is_accepted_here_is_committed_or_gives_way(tmp_path: Path, is_it: bool) -> None:
    a, c = await matchers(tmp_path)
    history = History(a.store)
    accept(c.store, NAME, mutation(1 if is_it else 99, added=[(0, 0, "ada")]))
    await c.gallery.load()
    history.add((0, 0, "ada"))
    history.add((0, 1, "bela"))
    await a.gallery.load()
    async with served(a) as stub:
        await catch_up(c.followed, stub, "matcher-a")
    c.check(history.model)
    assert c.gallery.state.accepted is None


async def test_the_gallery_goes_on_at_both_ends(tmp_path: Path) -> None:
    """Contents are overwritten and erased between the log and them: later calls go on with both."""
    a, c = await matchers(tmp_path)
    history = History(a.store).long(5)
    await a.gallery.load()
    before = c.gallery.state
    calls = 0

    def meanwhile(part: pb.ChangePart) -> list[pb.ChangePart]:
        nonlocal calls
        if part.HasField("head") and calls < 5:
            calls += 1
            history.erase((0, 0)) if calls == 1 else history.add((0, 2 + calls, f"meanwhile {calls}"))
            a.gallery.state = a.store.state(NAME)
        return [part]

    async with served(a, meanwhile) as stub:
        await catch_up(c.followed, stub, "matcher-a")
    assert calls == 5
    c.check(history.model)
    assert before.sequence == 0


async def test_a_pair_brings_it_further_meanwhile(tmp_path: Path) -> None:
    """What is staged goes on from there; what the pair has committed is not applied again."""
    a, c = await matchers(tmp_path)
    history = History(a.store)
    history.add((0, 0, "ada"))
    history.add((0, 1, "bela"))
    await a.gallery.load()
    held = asyncio.Event()

    async def hold() -> None:
        async with c.gallery.lock.exclusive():
            held.set()
            await asyncio.sleep(0.3)
            changes = a.store.changes_after(NAME, 0)[:1]
            contents = {one.leaf: one for one in a.store.contents_after(NAME, 0)}
            accept(c.store, NAME, mutation(1, added=[(0, 0, "ada")]))
            c.store.apply(NAME, changes, contents)
            await c.gallery.load()

    async with served(a) as stub:
        holding = asyncio.ensure_future(hold())
        await held.wait()
        taken = await catch_up(c.followed, stub, "matcher-a")
        await holding
    assert taken.changes == 1
    c.check(history.model)


# -- interruptions ----------------------------------------------------------------------------


async def test_cut_after_every_part(tmp_path: Path) -> None:
    """Each attempt gets one part further, from the two others in turn, and nothing is sent twice."""
    a, c = await matchers(tmp_path)
    b = await Matcher("b", tmp_path / "b").load()
    history = History(a.store).long(9)
    await a.gallery.load()
    async with served(a) as stub:
        await catch_up(b.followed, stub, "matcher-a")
    contents: list[object] = []

    def cutting() -> Callable[[pb.ChangePart], list[pb.ChangePart]]:
        sent = 0

        def cut(part: pb.ChangePart) -> list[pb.ChangePart]:
            nonlocal sent
            if not part.HasField("head"):
                sent += 1
                if sent > 1:
                    raise RuntimeError("cut")
            contents.extend(one.pack for one in part.packs)
            contents.extend((one.place.pack, one.place.slot) for one in part.templates)
            return [part]

        return cut

    for attempt in range(100):
        async with served((a, b)[attempt % 2], cutting()) as stub:
            try:
                await catch_up(c.followed, stub, "matcher-a")
            except VeilmatchError:
                assert c.gallery.state.sequence == 0
                # As after a restart: nothing but the file is left.
                c = await Matcher("c", tmp_path / "c").load()
                continue
        break
    assert attempt > 5
    c.check(history.model)
    assert len(contents) == len(set(contents)) == len(history.model.packs) + len(history.model.templates)


# -- alterations ------------------------------------------------------------------------------


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def body(part: pb.ChangePart) -> list[pb.ChangePart]:
    for piece in part.log[:1]:
        piece.body = flip(piece.body)
    return [part]


def certificate(part: pb.ChangePart) -> list[pb.ChangePart]:
    for piece in part.log:
        piece.certificate = flip(piece.certificate) if piece.certificate else b""
    return [part]


def certificate_of_another(part: pb.ChangePart) -> list[pb.ChangePart]:
    for piece in part.log:
        if piece.certificate:
            piece.certificate = signed(NAME, piece.sequence, bytes(32)).encode()
    return [part]


def pack(part: pb.ChangePart) -> list[pb.ChangePart]:
    for one in part.packs[:1]:
        one.data = flip(one.data)
    return [part]


def record(part: pb.ChangePart) -> list[pb.ChangePart]:
    for one in part.templates[:1]:
        one.data = flip(one.data)
    return [part]


def subject(part: pb.ChangePart) -> list[pb.ChangePart]:
    for one in part.templates[:1]:
        one.subject = "eve"
    return [part]


def exchanged_places(part: pb.ChangePart) -> list[pb.ChangePart]:
    if len(part.packs) > 1:
        part.packs[0].data, part.packs[1].data = part.packs[1].data, part.packs[0].data
    return [part]


def backwards(part: pb.ChangePart) -> list[pb.ChangePart]:
    for items in (part.packs, part.templates, part.log):
        turned = list(items)[::-1]
        del items[:]
        items.extend(turned)
    return [part]


def without_log(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [] if part.log else [part]


def without_packs(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [] if part.packs else [part]


def without_templates(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [] if part.templates else [part]


def without_end(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [] if part.HasField("head") else [part]


def doubled(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [part, part]


def shorter_head(part: pb.ChangePart) -> list[pb.ChangePart]:
    if part.HasField("head"):
        part.head.sequence -= 1
    return [part]


def head_first(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [pb.ChangePart(head=pb.GalleryHead(sequence=0)), part]


ALTERATIONS = [
    body, certificate, certificate_of_another, pack, record, subject, exchanged_places, backwards, without_log,
    without_packs, without_templates, without_end, doubled, shorter_head, head_first,
]  # fmt: skip


@pytest.mark.parametrize("altered", ALTERATIONS, ids=lambda altered: altered.__name__)
async def test_altered_answers(
    tmp_path: Path, altered: Callable[[pb.ChangePart], list[pb.ChangePart]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "_CALL_BYTES", 1 << 14)
    monkeypatch.setattr(serving, "CHUNK_BYTES", 1 << 12)
    a, c = await matchers(tmp_path)
    history = History(a.store).long(4)
    await a.gallery.load()
    before = c.gallery.state
    async with served(a, altered) as stub:
        with pytest.raises(IntegrityError) as raised:
            await catch_up(c.followed, stub, "matcher-a")
    assert raised.value.party == "matcher-a"
    assert c.store.state(NAME) == c.gallery.state == before
    # What was kept of it is right: an honest one completes it.
    async with served(a) as stub:
        await catch_up(c.followed, stub, "matcher-a")
    c.check(history.model)


async def test_another_history_is_refused(tmp_path: Path) -> None:
    a, c = await matchers(tmp_path)
    History(a.store).long(2)
    History(c.store).add((0, 0, "somebody else"))
    await a.gallery.load()
    await c.gallery.load()
    async with served(a) as stub:
        with pytest.raises(GalleryMismatchError):
            await catch_up(c.followed, stub, "matcher-a")


async def test_whoever_is_behind_is_told_apart(tmp_path: Path) -> None:
    a, c = await matchers(tmp_path)
    History(c.store).add((0, 0, "ada"))
    await c.gallery.load()
    async with served(a) as stub:
        with pytest.raises(UnavailableError) as raised:
            await catch_up(c.followed, stub, "matcher-a")
    assert raised.value.party == "matcher-a"


async def test_a_promise_stays(tmp_path: Path) -> None:
    a, c = await matchers(tmp_path)
    c.store.promise(NAME, Ballot(7, "bc"))
    await c.gallery.load()
    History(a.store).add((0, 0, "ada"))
    await a.gallery.load()
    async with served(a) as stub:
        await catch_up(c.followed, stub, "matcher-a")
    assert c.store.state(NAME).promised == Ballot(7, "bc")
