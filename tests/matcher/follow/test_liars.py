"""Organisation b lies to a follower: of what it has, and with what it signs. c is honest, and has what a lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.matcher.follow.matchers import NAME, History, Matcher, following, served, until
from tests.matcher.galleries import KEY_ID, ORGANISATIONS
from veilmatch.crypto.errors import UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Scope, Statement
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.follow import catching_up
from veilmatch.server.matcher.gallery.disk.evidence import PROOFS_EACH
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES, options

SCOPE = Scope(NAME, KEY_ID)


def news(state: GalleryState) -> pb.GalleryNews:
    statement = Statement("b", state).signed(SCOPE, ORGANISATIONS["b"]).encode()
    return pb.GalleryNews(gallery=pb.WatchedGallery(gallery=NAME, key_id=KEY_ID), statement=statement)


class Liar(rpc.MatcherPeerServicer):
    """States that it is far ahead, and answers with one part without end. flood: instead, so many lies are signed."""

    def __init__(self, part: pb.ChangePart | None = None, flood: int = 0) -> None:
        self.part = part
        self.flood = flood
        self.asked = 0

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[pb.GalleryNews]:
        if self.flood:
            for number in range(self.flood):
                accepted = Accepted(Ballot(7, "bc"), number.to_bytes(32, "big"))
                yield news(GalleryState(0, bytes(32), Ballot(7, "bc"), accepted))
        else:
            yield news(GalleryState(10**6, bytes(32), Ballot(7, "bc")))
        while True:
            await asyncio.sleep(1)

    async def Changes(self, request: Any, context: Any) -> AsyncIterator[pb.ChangePart]:
        self.asked += 1
        while True:  # again and again: faster than SILENCE_S
            if self.part is not None:
                yield self.part
            await asyncio.sleep(0.1)


@asynccontextmanager
async def lying(liar: Liar) -> AsyncIterator[rpc.MatcherPeerAsyncStub]:
    server = grpc.aio.server(options=options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES))
    rpc.add_MatcherPeerServicer_to_server(liar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield rpc.MatcherPeerStub(channel)
    finally:
        await channel.close()
        await server.stop(0)


async def show(matcher: Matcher) -> None:
    """Let a matcher know what its store holds, as a pair does when it has committed."""
    async with matcher.gallery.lock.exclusive():
        await matcher.gallery.load()


@pytest.mark.parametrize(
    "part",
    [
        pb.ChangePart(),
        pb.ChangePart(log=[pb.LogPart(sequence=1)]),
        pb.ChangePart(log=[pb.LogPart(sequence=1, body=b"x")]),
        None,
    ],
    ids=["nothing", "no body", "body without end", "silence"],
)
async def test_who_trickles_does_not_keep_a_follower_from_the_honest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: pb.ChangePart | None
) -> None:
    """b is asked first, as it says that it has most, and for a bounded time; from then on c is asked before it."""
    monkeypatch.setattr(catching_up, "_BASE_S", 1.0)
    a = await Matcher("a", tmp_path / "a").load()
    c = Matcher("c", tmp_path / "c")
    history = History(c.store).long(70)
    await c.load()
    liar = Liar(part)
    async with lying(liar) as from_b, served(c) as from_c, following(a, {"b": from_b, "c": from_c}):
        await until(lambda: a.gallery.state.sequence == c.gallery.state.sequence, 6.0)
        for number in range(3):
            history.add((number, 5, f"later {number}"))
            await show(c)
            # b still says that it is ahead, and is asked again when nobody else is: it holds up no longer than that.
            await until(lambda: a.gallery.state.sequence == c.gallery.state.sequence, 3.0)
    assert liar.asked
    a.check(history.model)


async def test_who_gives_a_little_and_says_that_it_has_more_is_asked_last(tmp_path: Path) -> None:
    """b gives what it has, which is not what it states."""
    a = await Matcher("a", tmp_path / "a").load()
    c = Matcher("c", tmp_path / "c")
    history = History(c.store)
    history.add((0, 0, "ada"))
    await c.load()
    async with served(c) as from_c, following(a, {"b": from_c}) as follows:
        far = GalleryState(10**6, bytes(32), Ballot(7, "bc"))
        await follows._hear("b", news(far))
        await until(lambda: a.gallery.state.sequence == 1)
        (lag,) = follows._lags.values()
        await until(lambda: "b" in lag.failed)
        lag.heard |= {"b": far, "c": GalleryState(2, bytes(32))}
        assert follows._ahead(a.followed, lag) == ["c", "b"]


def test_patience_grows_with_what_is_of_use() -> None:
    patience = catching_up.Patience("matcher-b")
    before = patience._left_s
    patience.add(10 * catching_up._SLOW_BYTES_S)
    assert patience._left_s == before + 10


async def test_proofs_of_lies_do_not_fill_the_disk(tmp_path: Path) -> None:
    """b signs another change in one ballot again and again: each is a proof of its own, and a few are enough."""
    a = await Matcher("a", tmp_path / "a").load()
    liar = Liar(flood=200)
    # What was heard of b in a meeting once, and is kept:
    first = Statement("b", GalleryState(0, bytes(32), Ballot(7, "bc"), Accepted(Ballot(7, "bc"), b"x" * 32)))
    await a.gallery.hear_again(first.signed(SCOPE, ORGANISATIONS["b"]))
    async with lying(liar) as from_b, following(a, {"b": from_b}) as follows:
        (lag,) = follows._lags.values()

        def is_over() -> bool:
            accepted = lag.heard["b"].accepted if "b" in lag.heard else None
            return accepted is not None and accepted.chain == (liar.flood - 1).to_bytes(32, "big")

        await until(is_over, 30.0)
    kept = a.store.proofs(NAME)
    assert {(proof.party, proof.what) for proof in kept} == {("b", "fork")}
    assert len(kept) == PROOFS_EACH
    # It does not keep those about somebody else, or of another kind, from being kept.
    for other in (Proof("b", "denial", b"1", b"2"), Proof("c", "fork", b"1", b"2")):
        a.store.keep_proof(NAME, other)
        assert other in a.store.proofs(NAME)


async def test_a_stubborn_liar_delays_honest_news_by_little(tmp_path: Path) -> None:
    """b says that it is far ahead, and sends nothing: neither at first nor later is c's news late by its whole time."""
    a = await Matcher("a", tmp_path / "a").load()
    c = Matcher("c", tmp_path / "c")
    history = History(c.store)
    await c.load()
    liar, loop = Liar(None), asyncio.get_running_loop()
    async with lying(liar) as from_b, served(c) as from_c, following(a, {"b": from_b, "c": from_c}):
        await until(lambda: bool(liar.asked))  # b is being waited for, and nobody else is there
        for number in range(3):
            started = loop.time()
            history.add((0, number, f"subject {number}"))
            await show(c)
            await until(lambda: a.gallery.state.sequence == c.gallery.state.sequence, 3 * catching_up._OTHERS_S)
            assert loop.time() - started < 3 * catching_up._OTHERS_S
            await asyncio.sleep(0.7)  # b is asked again
    a.check(history.model)


async def test_one_that_sends_is_not_left_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends is worth the time that it takes."""
    monkeypatch.setattr(catching_up, "_OTHERS_S", 0.3)
    patience = catching_up.Patience("matcher-b", lambda: True)

    class Slow:
        async def read(self) -> int:
            await asyncio.sleep(0.2)
            return 1

    for _ in range(4):
        assert await patience.read(Slow()) == 1
        patience.add(round(0.2 * catching_up._SLOW_BYTES_S))
    with pytest.raises(UnavailableError):
        for _ in range(3):
            await patience.read(Slow())
