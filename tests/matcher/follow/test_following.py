"""A matcher that follows: it hears within a moment, takes what it lacks from whoever is there, and says so once."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from tests.matcher.follow.matchers import NAME, History, Matcher, following, served, until
from tests.matcher.galleries import ORGANISATIONS, signed, signers
from veilmatch.crypto.errors import IntegrityError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.acceptor import Accepted
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Statement
from veilmatch.server.matcher.follow import following as module
from veilmatch.server.matcher.follow.following import read_statement, watch


async def matchers(tmp_path: Path) -> list[Matcher]:
    return [await Matcher(party, tmp_path / party).load() for party in ("a", "b", "c")]


async def show(matcher: Matcher) -> None:
    """Let a matcher know what its store holds, as a pair does when it has committed."""
    async with matcher.gallery.lock.exclusive():
        await matcher.gallery.load()


async def test_a_change_is_there_within_a_second(tmp_path: Path) -> None:
    a, _, c = await matchers(tmp_path)
    history, took = History(a.store), []
    async with served(a) as stub, following(c, {"a": stub}):
        for number in range(5):
            history.add((0, number, f"subject {number}"))
            await show(a)
            started = time.monotonic()
            await until(lambda: c.gallery.state.sequence == a.gallery.state.sequence)
            took.append(time.monotonic() - started)
        c.check(history.model)
    # Of most of them: a machine that does something else may keep one waiting.
    assert sorted(took)[3] < 1


async def test_what_was_missed_comes_from_whoever_is_there(tmp_path: Path) -> None:
    """Nobody, then one that is behind itself, and at last one that has it."""
    a, b, c = await matchers(tmp_path)
    history = History(a.store)
    history.add((0, 0, "ada"))
    await show(a)
    async with AsyncExitStack() as stack:
        stubs = {"b": await stack.enter_async_context(served(b))}
        gone = served(a)
        stubs["a"] = await gone.__aenter__()
        await gone.__aexit__(None, None, None)
        async with following(c, stubs):  # type: ignore[arg-type]
            await asyncio.sleep(0.5)
            assert c.gallery.state.sequence == 0
            async with served(a) as stub, following(b, {"a": stub}):
                await until(lambda: c.gallery.state.sequence == 1)
    c.check(history.model)


async def test_one_that_sends_nonsense_is_named_and_the_other_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = await matchers(tmp_path)
    history = History(a.store)
    history.add((0, 0, "ada"))
    await show(a)
    async with served(a) as stub, following(b, {"a": stub}):
        await until(lambda: b.gallery.state.sequence == 1)
    asked = []
    honest = module.catch_up

    async def catch_up(followed: object, stub: object, peer: str, _others_wait: object) -> object:
        asked.append(peer)
        if peer == "matcher-a":
            raise IntegrityError("a content is not what it should be", party=peer)
        return await honest(followed, stub, peer)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "catch_up", catch_up)
    with structlog.testing.capture_logs() as logs:
        async with served(a) as one, served(b) as other, following(c, {"a": one, "b": other}):
            await until(lambda: c.gallery.state.sequence == 1)
    assert asked[-1] == "matcher-b"
    if "matcher-a" in asked:
        assert [entry["failed"] for entry in logs if entry["event"] == "alert"] == ["matcher-a"]
    c.check(history.model)


async def test_a_lag_is_logged_once_and_its_end_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAG_S", 0.3)
    a, _, c = await matchers(tmp_path)
    History(a.store).long(2)
    await show(a)
    with structlog.testing.capture_logs() as logs:
        async with served(a) as stub, following(c, {"a": stub}) as follows:
            (lag,) = follows._lags.values()
            await until(lambda: c.gallery.state.sequence == 5 and lag.since_s is None)
            logs.clear()
            history = History(a.store)
            history._number = 100
            async with c.gallery.lock.exclusive():
                pass
            honest = module.catch_up

            async def failing(*_: object) -> None:
                raise IntegrityError("not now", party="matcher-a")

            monkeypatch.setattr(module, "catch_up", failing)
            history.add((0, 5, "new"))
            await show(a)
            await until(lambda: any(entry["event"] == "gallery behind" for entry in logs))
            await asyncio.sleep(1)
            monkeypatch.setattr(module, "catch_up", honest)
            await until(lambda: any(entry["event"] == "gallery level again" for entry in logs))
            assert follows is not None
    said = [entry["event"] for entry in logs if entry["event"].startswith("gallery")]
    # The end of the first lag, before it had caught up with anything, may be said after it has.
    assert said[said.index("gallery behind") :] == ["gallery behind", "gallery level again"]
    behind = next(entry for entry in logs if entry["event"] == "gallery behind")
    assert behind["changes"] == 1
    assert behind["reason"] == "matcher-a says that it is ahead by 1 changes"  # no certificate shows it


async def test_other_galleries_are_served_and_this_one_until_it_is_applied(tmp_path: Path) -> None:
    """The lock is free while changes are received; queries that hold it let them be applied afterwards."""
    a, _, c = await matchers(tmp_path)
    history = History(a.store).long(3)
    await show(a)
    read = 0
    async with served(a) as stub, c.gallery.lock.shared(), following(c, {"a": stub}):
        await until(lambda: (c.data_dir / "catching-up").exists() and c.gallery.lock._switch is not None)
        for _ in range(20):
            await asyncio.sleep(0.01)
            read += c.gallery.state.sequence == 0
        assert read == 20
    # The body has ended, and with it the query; what waited for the lock was given up with the following.
    async with served(a) as stub, following(c, {"a": stub}):
        await until(lambda: c.gallery.state.sequence == a.gallery.state.sequence)
    c.check(history.model)


async def test_statements_of_others_are_not_taken(tmp_path: Path) -> None:
    a, _, c = await matchers(tmp_path)
    async with served(a) as stub:
        async for news in watch(stub, "matcher-a", [c.followed.to_wire()]):  # noqa: B007
            break
    assert read_statement(c.followed.scope, signers, "a", news).state == a.gallery.state
    with pytest.raises(IntegrityError):
        read_statement(c.followed.scope, signers, "b", news)
    news.statement = news.statement[:-1] + bytes([news.statement[-1] ^ 1])
    with pytest.raises(IntegrityError):
        read_statement(c.followed.scope, signers, "a", news)


async def test_a_fork_is_found_and_kept(tmp_path: Path) -> None:
    """b has committed one change in a ballot, and states that it accepted another one in the same ballot."""
    a, b, c = await matchers(tmp_path)
    History(a.store).add((0, 0, "ada"))
    await show(a)
    async with served(a) as stub, following(c, {"a": stub}) as follows:
        await until(lambda: c.gallery.state.sequence == 1)
        other = replace(b.gallery.state, promised=Ballot(1, "ab"), accepted=Accepted(Ballot(1, "ab"), bytes(32)))
        statement = Statement("b", other).signed(c.followed.scope, ORGANISATIONS["b"])
        with structlog.testing.capture_logs() as logs:
            await follows._hear("b", pb.GalleryNews(gallery=c.followed.to_wire(), statement=statement.encode()))
    assert [(proof.party, proof.what) for proof in c.store.proofs(NAME)] == [("b", "fork")]
    assert [entry["failed"] for entry in logs if entry["event"] == "alert"] == ["matcher-b"]
    async with served(c) as stub:
        async for news in watch(stub, "matcher-c", [a.followed.to_wire()]):
            assert list(news.accused) == ["b"]
            break
    assert c.store.certificate(NAME, 1) == signed(NAME, 1, a.gallery.state.chain)


async def test_watching_ends_when_the_server_stops(tmp_path: Path) -> None:
    a, _, c = await matchers(tmp_path)
    heard = []
    async with served(a) as stub:

        async def listen() -> None:
            async for news in watch(stub, "matcher-a", [c.followed.to_wire()]):
                heard.append(news)

        listening = asyncio.ensure_future(listen())
        await until(lambda: bool(heard))
    async with asyncio.timeout(2):
        await asyncio.gather(listening, return_exceptions=True)
