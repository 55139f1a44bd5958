"""Organisation c had two histories certified, one with each honest one: how these come together again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.matcher.follow.connected import Network
from tests.matcher.follow.matchers import NAME, History, Matcher, until
from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, mutation, signers
from veilmatch.crypto.errors import ConfigurationError, GalleryMismatchError, VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.follow import fetching
from veilmatch.server.matcher.follow.standing import LIED, Standing, _own

ADA, BELA, CORA = (mutation(n, added=[(0, n, name)]) for n, name in enumerate(("ada", "bela", "cora"), start=1))


@pytest.fixture
async def parted(tmp_path: Path) -> tuple[Network, Matcher, Matcher, Matcher]:
    """a holds bela as change 2 and b holds cora, each with c, which keeps a database for either; c's is that with b."""
    a, b, with_a, with_b = (
        Matcher(party, tmp_path / folder)
        for party, folder in zip("abcc", ("a", "b", "c", "d"), strict=True)  # type: ignore[arg-type]
    )
    for matcher in (a, b, with_a, with_b):
        History(matcher.store)._commit(added=[(0, 1, "ada")])
        await matcher.load()
    network = Network(tmp_path, follows=False)
    for honest, lying, change in ((a, with_a, BELA), (b, with_b, CORA)):
        async with network.up(honest), network.up(lying):
            for outcome in await network.change(honest, lying, change):
                assert isinstance(outcome, bytes), outcome
    return network, a, b, with_b


def lied(matcher: Matcher) -> list[Party]:
    """Whom `gallery status` says to have lied, by a proof that is kept here."""
    own = _own(matcher.data_dir, NAME, KEY_ID)
    assert not isinstance(own, VeilmatchError)
    standing = Standing(NAME, KEY_ID, {matcher.party: own})
    assert (standing.status == LIED) == bool(own.proven)
    return list(own.proven)


def settings_of(network: Network, matcher: Matcher, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MatcherSettings:
    key = SimpleNamespace(key_id=KEY_ID, parameters=PARAMETERS)
    public = SimpleNamespace(public_key=key, signer=signers)

    def places_of(_: MatcherSettings) -> Iterator[Any]:
        yield public, data_dir, data_dir, False

    monkeypatch.setattr(fetching, "places_of", places_of)
    peers = {party: f"127.0.0.1:{port}" for party, port in network.ports.items() if party != matcher.party}
    return MatcherSettings.model_construct(
        party=matcher.party, peers=peers, tls=network.tls[matcher.party], galleries=[NAME]
    )


async def test_one_gives_up_its_history_and_both_serve_again(
    parted: tuple[Network, Matcher, Matcher, Matcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, a, b, c = parted
    async with network.up(a), network.up(b):
        for outcome in await network.change(a, b, mutation(9, added=[(0, 9, "new")])):
            assert isinstance(outcome, GalleryMismatchError), outcome
    # One of them alone can prove it, and it is the one whose history is given up.
    assert (lied(a), lied(b)) == ([], ["c"])
    b.store.close()
    b.data_dir.rename(tmp_path / "data-parted")
    settings = settings_of(network, b, tmp_path / "b", monkeypatch)
    async with network.up(a), network.up(c):  # c is there, and ready to give its own
        said: list[str] = []
        (fetched,) = await fetching.fetch(
            settings, restored=True, told=said.append, without="c", proofs_from=tmp_path / "data-parted"
        )
    assert (fetched.sequence, fetched.failed) == (2, {})
    assert any("organisation c has lied" in line for line in said)
    b = Matcher("b", tmp_path / "b")
    assert lied(b) == ["c"]
    await b.load()
    assert b.gallery.unmet == {"a"}
    expected = Model(NAME)
    for change in (ADA, BELA):
        expected.commit(change)
    expected.check(b.store)
    network = Network(tmp_path)
    await a.load()
    async with network.up(a), network.up(b), network.up(c):  # c is still up, with its other history
        await until(lambda: not b.gallery.unmet, 10.0)
        change = mutation(9, added=[(0, 9, "new")])
        for outcome in await network.change(a, b, change):
            assert isinstance(outcome, bytes), outcome
    expected.commit(change)
    for matcher in (a, b):
        expected.check(matcher.store)
    assert lied(b) == ["c"]


async def test_only_who_gives_up_its_history_does_without_one(
    parted: tuple[Network, Matcher, Matcher, Matcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _, b, _ = parted
    b.store.close()
    settings = settings_of(network, b, b.data_dir, monkeypatch)
    without: Party
    for restored, without in ((False, "c"), (True, "b")):
        with pytest.raises(ConfigurationError):
            await fetching.fetch(settings, restored=restored, told=print, without=without)
    with pytest.raises(ConfigurationError, match="no database whose proofs"):
        await fetching.fetch(settings, restored=True, told=print, without="c", proofs_from=tmp_path / "nowhere")
