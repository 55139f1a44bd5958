"""What one organisation only says of another: `gallery status` shows it as its word, and its exit status does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.matcher.follow.matchers import NAME
from tests.matcher.galleries import KEY_ID, ORGANISATIONS, PARAMETERS, signers
from veilmatch.crypto.errors import UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.commands.gallery import _table
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Scope, Statement
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.follow import standing as module
from veilmatch.server.matcher.follow.standing import LEVEL, LIED, Standing, Stated
from veilmatch.server.matcher.gallery.disk.store import Store

STATE = GalleryState(0, bytes(32))


def shown(standing: Standing) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(_table(standing))
    return captured.get()


def test_what_another_one_says_is_its_word() -> None:
    stated: Any = {"a": Stated(STATE), "b": Stated(STATE, ["c"]), "c": Stated(STATE)}
    standing = Standing(NAME, KEY_ID, stated)
    assert standing.status == LEVEL
    assert "matcher-b says that organisation c has lied" in shown(standing)
    assert "LIED" not in shown(standing)
    matchers = standing.document()["matchers"]
    assert (matchers["b"]["accused"], matchers["b"]["says_lied"]) == ([], ["c"])


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_proof_in_the_database_here_counts(tmp_path: Path, is_kept: bool) -> None:
    store = Store(tmp_path, KEY_ID, PARAMETERS, party="a")
    store.open_gallery(NAME)
    if is_kept:
        store.keep_proof(NAME, Proof("c", "fork", b"one", b"other"))
    store.close()
    own = module._own(tmp_path, NAME, KEY_ID)
    standing = Standing(NAME, KEY_ID, {"a": own})
    assert standing.status == (LIED if is_kept else LEVEL)
    assert ("a proof is kept here that organisation c has LIED" in shown(standing)) == is_kept
    assert standing.document()["matchers"]["a"]["accused"] == (["c"] if is_kept else [])


AHEAD = GalleryState(1, bytes([1]) + bytes(31))
FORKED = GalleryState(1, bytes([2]) + bytes(31))


@pytest.mark.parametrize(
    ("stated", "verdict"),
    [
        ({"a": Stated(STATE), "b": Stated(STATE), "c": Stated(STATE)}, "all are level"),
        ({"a": Stated(AHEAD), "b": Stated(AHEAD), "c": Stated(STATE)}, "matcher-c behind"),
        (
            {"a": Stated(AHEAD), "b": Stated(AHEAD, restored=True, unmet="c"), "c": UnavailableError("down")},
            "matcher-c not reached; matcher-b restored, and not back yet",
        ),
        ({"a": Stated(AHEAD), "b": Stated(FORKED), "c": Stated(STATE)}, "PARTED: two changes under one number"),
        (
            {"a": Stated(AHEAD, proven=["b", "c"]), "b": Stated(FORKED)},
            "a proof is kept here that organisation b and c has LIED",
        ),
    ],
)
def test_the_title_says_what_matters_first(stated: Any, verdict: str) -> None:
    standing = Standing(NAME, KEY_ID, stated)
    assert standing.verdict == standing.document()["verdict"] == verdict
    assert verdict in " ".join(shown(standing).split())


async def test_only_names_of_organisations_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """b may send any text, and any number of them; it goes to an operator's terminal."""
    statement = Statement("b", STATE).signed(Scope(NAME, KEY_ID), ORGANISATIONS["b"]).encode()
    gallery = pb.WatchedGallery(gallery=NAME, key_id=KEY_ID)

    async def watch(*_: object) -> AsyncIterator[pb.GalleryNews]:
        yield pb.GalleryNews(gallery=gallery, statement=statement, accused=["\x1b[31mall is lost", "c", "c", "", "ab"])

    class Channel:
        async def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(module, "watch", watch)
    monkeypatch.setattr(module, "channel_to", lambda *_: Channel())
    monkeypatch.setattr(module.rpc, "MatcherPeerStub", lambda _: None)
    settings: Any = type("Settings", (), {"tls": None, "peer_timeout_s": 1.0})
    found = await module._ask("b", "nowhere", settings, {KEY_ID: signers}, [(NAME, KEY_ID)])
    stated: Any = found[NAME, KEY_ID]  # type: ignore[index]
    assert list(stated.says_lied) == ["c"]
    assert list(stated.proven) == []
