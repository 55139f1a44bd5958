"""Organisation b leaves a follower with the beginning of a history that is not that of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from tests.matcher.follow.matchers import NAME, History, Matcher, following, served, until
from tests.matcher.follow.test_liars import lying, news
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.follow.serving import LOOK_S


def without_contents(part: pb.ChangePart) -> list[pb.ChangePart]:
    return [part] if part.log or part.HasField("head") else []


async def test_a_log_without_contents_does_not_keep_a_follower_from_the_honest_one(tmp_path: Path) -> None:
    """Two have signed it, as happens when one of the three forks; b gives the log, and never what it names."""
    a, b, c = Matcher("a", tmp_path / "a"), Matcher("b", tmp_path / "b"), Matcher("c", tmp_path / "c")
    forked = History(b.store)
    forked._number = 10
    for slot in range(3):
        forked.add((0, slot, f"other {slot}"))
    honest = History(c.store)
    for slot in range(2):
        honest.add((0, slot, f"subject {slot}"))
    for matcher in (a, b, c):
        await matcher.load()
    async with served(b, without_contents) as from_b, served(c) as from_c:
        async with following(a, {"b": from_b}) as follows:
            (lag,) = follows._lags.values()
            await follows._hear("b", news(b.gallery.state))
            await until(lambda: bool(lag.failed))
        assert a.gallery.state.sequence == 0
        async with following(a, {"b": from_b, "c": from_c}) as follows:
            await follows._hear("b", news(b.gallery.state))
            await until(lambda: a.gallery.state.sequence == 2, 10.0)
    a.check(honest.model)


class Talker(rpc.MatcherPeerServicer):
    """States another state in every moment, as fast as it is heard."""

    def __init__(self) -> None:
        self.said = 0

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[pb.GalleryNews]:
        while True:
            self.said += 1
            yield news(GalleryState(1, self.said.to_bytes(32, "big"), Ballot(7, "bc")))


async def test_one_that_talks_without_end_fills_neither_log_nor_loop(tmp_path: Path) -> None:
    a = Matcher("a", tmp_path / "a")
    History(a.store).add((0, 0, "ada"))
    await a.load()
    talker = Talker()
    with structlog.testing.capture_logs() as logs:
        async with lying(talker) as from_b, following(a, {"b": from_b}) as follows:
            (lag,) = follows._lags.values()
            await until(lambda: "b" in lag.heard)
            begun = talker.said
            await asyncio.sleep(2.0)
    # What gRPC takes of a peer in advance is heard later, not faster.
    alerts = [entry for entry in logs if entry["event"] == "alert"]
    assert [entry["code"] for entry in alerts] == ["gallery_mismatch"]
    heard = int.from_bytes(lag.heard["b"].chain, "big")
    # In three seconds, at twice the rate of an honest one.
    assert heard < 3.0 / (LOOK_S / 2), (begun, talker.said)
    assert NAME
