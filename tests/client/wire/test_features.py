"""A format is used for changes once every matcher that answers knows it; one that does not answer is not waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.client.conftest import face
from tests.client.fakes import FakeMatchers, body_of
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire import features
from veilmatch.client.wire.features import Features
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import VersionError
from veilmatch.crypto.versions import UNSAID, Feature

DATED = Feature.DATED_CHANGES


@pytest.mark.parametrize("late", ["a", "b", "c"])
async def test_one_matcher_of_before_keeps_all_changes_as_they_were(
    settings: DeviceSettings, fakes: FakeMatchers, late: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The third one as well: what two agree on comes into its log. One that only says so is named in the log here."""
    getattr(fakes, late).hello = UNSAID
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await client.enrol_embedding("alice", face(1), model="toy")
        assert not body_of(fakes.a.requests[-1]).dated
        (warned,) = [one.getMessage() for one in caplog.records if "dated changes" in one.getMessage()]
        assert warned.startswith(f"matcher-{late} says") and "never erased for its age" in warned
        under = Consent("form-7", "2", int((datetime.now(UTC) + timedelta(days=1)).timestamp()))
        sent = len(fakes.a.requests)
        with pytest.raises(VersionError, match=f"matcher-{late} has to be updated") as caught:
            await client.enrol_embedding("alice", face(1), model="toy", consent=under)
        assert caught.value.party == f"matcher-{late}" and len(fakes.a.requests) == sent


async def test_changes_are_dated_once_all_know_it(
    settings: DeviceSettings, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await client.enrol_embedding("alice", face(1), model="toy")
    assert body_of(fakes.a.requests[-1]).dated
    assert "dated changes" not in caplog.text


async def test_who_does_not_answer_stands_in_nobodys_way(fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(timeout_s: float) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(fakes.c, "speaks", silent)
    assert await asyncio.wait_for(Features().lacking(fakes.all.values(), DATED), 10) is None
    fakes.b.hello = UNSAID
    assert await asyncio.wait_for(Features().lacking(fakes.all.values(), DATED), 10) == "matcher-b"


async def test_all_are_asked_once_and_one_that_lacks_it_again(
    fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(features.time, "monotonic", lambda: now[0])
    known = Features()
    fakes.c.hello = UNSAID
    assert await known.lacking(fakes.all.values(), DATED) == "matcher-c"
    fakes.c.hello = our_hello()
    assert await known.lacking(fakes.all.values(), DATED) == "matcher-c", "not asked again so soon"
    now[0] += features.AGAIN_S
    assert await known.lacking(fakes.all.values(), DATED) is None
    fakes.c.hello = UNSAID
    now[0] += 1000 * features.AGAIN_S
    assert await known.lacking(fakes.all.values(), DATED) is None


@pytest.mark.parametrize("late", ["a", "b", "c"])
async def test_views_and_enrolling_unless_known_take_all_matchers(
    settings: DeviceSettings, fakes: FakeMatchers, late: str
) -> None:
    """There is no other way to ask the same, so nothing is sent; one view goes on as ever."""
    hello = our_hello()
    getattr(fakes, late).hello = replace(hello, features=hello.features - {Feature.VIEWS, Feature.UNLESS_KNOWN})
    async with AsyncClient(settings, matchers=fakes.all) as client:
        for asked in (
            client.known_embedding(face(1), model="toy", views=[face(2)]),
            client.verify_embedding("alice", face(1), model="toy", views=[face(2)]),
            client.enrol_embedding("alice", face(1), model="toy", unless_known=True),
        ):
            with pytest.raises(VersionError, match=f"matcher-{late} has to be updated") as caught:
                await asked
            assert caught.value.party == f"matcher-{late}"
        assert not fakes.a.requests and not fakes.b.requests
        await client.known_embedding(face(1), model="toy")
        said = body_of(fakes.a.requests[-1])
        assert not said.views and not said.unless_known
