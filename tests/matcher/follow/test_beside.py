"""What is caught up is written beside what is served: queries wait for the switch alone, and see old or new."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.matcher.follow.matchers import NAME, History, Matcher, served, until
from tests.matcher.galleries import ORGANISATIONS, Model, accept, signers
from veilmatch.crypto.errors import IntegrityError, UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.follow.catching_up import catch_up
from veilmatch.server.matcher.gallery import gallery as gallery_module
from veilmatch.server.matcher.gallery import prepared
from veilmatch.server.matcher.gallery.disk.store import Store


class Slow:
    """Lets a store that applies changes wait when all is written, until `end` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written, self.end = threading.Event(), threading.Event()
        honest = Store.apply

        def apply(store: Store, *args: Any, **more: Any) -> Any:
            *others, before_commit = args

            def slow(pending: Any) -> None:
                self.written.set()
                self.end.wait(20)
                before_commit(pending)

            return honest(store, *others, slow, **more)

        monkeypatch.setattr(Store, "apply", apply)


async def two(tmp_path: Path) -> tuple[Matcher, Matcher, History]:
    a, c = Matcher("a", tmp_path / "a"), Matcher("c", tmp_path / "c")
    history = History(a.store).long(7)
    for change in history.model.committed[:4]:
        accept(c.store, NAME, change)
        certificate = a.store.certificate(NAME, c.store.state(NAME).sequence + 1)
        assert certificate is not None
        c.store.commit(NAME, certificate)
    return await a.load(), await c.load(), history


@pytest.mark.parametrize("few", [0, prepared.FEW])
async def test_queries_go_on_until_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(prepared, "FEW", few)  # with 0 a new index takes the place of the one that is there
    a, c, history = await two(tmp_path)
    before = Model(NAME)
    for change in history.model.committed[:4]:
        before.commit(change)
    c.check(before)
    slow = Slow(monkeypatch)
    async with served(a) as stub:
        catching = asyncio.ensure_future(catch_up(c.followed, stub, "matcher-a"))
        await until(slow.written.is_set)
        # Everything is as it was, in memory and on disk, for whoever reads; whoever changes waits.
        for _ in range(3):
            async with asyncio.timeout(20), c.gallery.lock.shared():
                c.check(before)
        assert c.gallery.lock.is_preparing and not c.gallery.is_stale
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), c.gallery.lock.exclusive():
                raise AssertionError("somebody prepares")
        # A reader holds the switch up; what comes after it sees the new state, never half of it.
        async with c.gallery.lock.shared():
            slow.end.set()
            await until(lambda: c.gallery.lock._switch is not None)
            c.check(before)
            reading = asyncio.ensure_future(read(c, lambda: c.check(history.model)))
        await reading
        taken = await catching
    assert taken.changes == len(history.model.committed) - 4
    assert taken.locked_s < 1
    c.check(history.model)


async def read(matcher: Matcher, check: Callable[[], None]) -> None:
    async with matcher.gallery.lock.shared():
        check()


async def test_who_gives_up_before_the_switch_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, c, history = await two(tmp_path)
    before = c.gallery.state
    slow = Slow(monkeypatch)
    async with served(a) as stub:
        catching = asyncio.ensure_future(catch_up(c.followed, stub, "matcher-a"))
        await until(slow.written.is_set)
        async with c.gallery.lock.shared():
            slow.end.set()
            await until(lambda: c.gallery.lock._switch is not None)
            catching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await catching
        assert c.gallery.state == c.store.state(NAME) == before
        assert not c.gallery.is_stale and not c.gallery.lock.is_preparing
        await catch_up(c.followed, stub, "matcher-a")
    c.check(history.model)


async def test_a_query_that_does_not_end_keeps_neither_the_database_nor_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device and its matcher may make one last; other galleries write to the same database meanwhile."""
    monkeypatch.setattr(gallery_module, "SWITCH_S", 0.2)
    a, c, history = await two(tmp_path)
    async with served(a) as stub:
        async with c.gallery.lock.shared():
            catching = asyncio.ensure_future(catch_up(c.followed, stub, "matcher-a"))
            await until(lambda: any(kind == "write" for kind, _ in c.gallery.lock._queue))
            c.store.open_gallery("another")
        assert (await catching).changes == len(history.model.committed) - 4
    c.check(history.model)


async def test_a_commit_that_fails_is_read_again_before_anything_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers fail in the middle of the switch: the store has it, and what is known here is read from it."""
    a, c, history = await two(tmp_path)
    honest = c.workers.load

    async def failing(*_: object) -> None:
        raise IntegrityError("not now")

    monkeypatch.setattr(c.workers, "load", failing)
    async with served(a) as stub:
        with pytest.raises(IntegrityError):
            await catch_up(c.followed, stub, "matcher-a")
        assert c.gallery.is_stale
        monkeypatch.setattr(c.workers, "load", honest)
        assert (await catch_up(c.followed, stub, "matcher-a")).changes == 0
    c.check(history.model)


async def test_a_pair_is_told_at_once_while_one_of_it_takes_changes_in(tmp_path: Path) -> None:
    """Otherwise the other one would wait with its gallery held, and nobody could use it."""
    c = await Matcher("c", tmp_path / "c").load()

    class Nobody:
        async def send(self, message: object) -> None:
            raise AssertionError("nothing is said")

        async def receive(self) -> object:
            raise AssertionError("nothing is waited for")

    meeting = Meeting(Nobody(), pb.MatcherMessage(), leads=False, party="matcher-c", peer="matcher-a", timeout_s=5.0)
    async with c.gallery.lock.preparing():
        with pytest.raises(UnavailableError) as raised:
            async with Agreement(ORGANISATIONS["c"], signers).changing(meeting, c.gallery):
                raise AssertionError("it is behind")
    assert raised.value.party == "matcher-c"
    assert raised.value.alternatives == ("ab",)
