"""One organisation is down: the others serve, one call pays for it, and everybody notices when it is back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from veilmatch import AsyncClient, ClientUseError, ConfigurationError, DeviceSettings
from veilmatch.client.wire.pairs import lookout
from veilmatch.crypto.errors import (
    DealtStockError,
    IntegrityError,
    OverloadedError,
    PartyRefusedError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)

from .conftest import face
from .fakes import FakeMatchers, body_of

PARTIES = ("a", "b", "c")
WITHOUT = {"a": "bc", "b": "ac", "c": "ab"}
CHANGES: dict[str, Callable[[AsyncClient], Any]] = {
    "enrol": lambda client: client.enrol_embedding("zoe", face(1), model="toy"),
    "erase": lambda client: client.erase("ada"),
    "bulk": lambda client: client.enrol_many_embeddings({"zoe": face(1)}, model="toy"),
}


@pytest.fixture
async def client(settings: DeviceSettings, fakes: FakeMatchers) -> AsyncIterator[AsyncClient]:
    fakes.templates, fakes.looks_like = ["ada"], {"ada"}
    async with AsyncClient(settings.model_copy(update={"timeout_s": 10.0}), matchers=fakes.all) as made:
        yield made


async def pair_of(client: AsyncClient) -> tuple[str, float]:
    """Return the pair that served a verification, and how long it took."""
    started = time.monotonic()
    return (await client.verify_embedding("ada", face(1), model="toy")).pair, time.monotonic() - started


def hang(matcher: Any) -> None:
    """As a process that was stopped: it takes what comes and says nothing."""
    matcher.lives, matcher.before = False, lambda kind, request: asyncio.sleep(60)


def die(matcher: Any) -> None:
    def refused(kind: str, request: Any) -> None:
        raise UnavailableError("cannot be reached", party=matcher.party, needed=matcher.party)

    matcher.state, matcher.comes_back, matcher.before = "down", False, refused


def revive(matcher: Any) -> None:
    matcher.lives = matcher.comes_back = True
    matcher.before = lambda kind, request: None


async def first_pair(client: AsyncClient, pair: str, limit_s: float = 4.0) -> None:
    """Wait until calls begin with this pair."""
    started = time.monotonic()
    while (await pair_of(client))[0] != pair:
        assert time.monotonic() - started < limit_s, "nobody has noticed that it is back"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("down", "limit_s"), [(hang, 2.5), (die, lookout.SILENT_S)])
@pytest.mark.parametrize("party", ["a", "b"])
async def test_one_call_pays_and_later_ones_do_not(
    client: AsyncClient, fakes: FakeMatchers, party: str, down: Callable[[Any], None], limit_s: float
) -> None:
    await pair_of(client)
    down(getattr(fakes, party))
    pair, took_s = await pair_of(client)
    assert pair == WITHOUT[party] and took_s < limit_s
    sent = len(getattr(fakes, party).requests)
    later = [await pair_of(client) for _ in range(10)]
    assert {pair for pair, _ in later} == {WITHOUT[party]} and max(took_s for _, took_s in later) < lookout.SILENT_S
    assert len(getattr(fakes, party).requests) == sent
    revive(getattr(fakes, party))
    await first_pair(client, "ab")


@pytest.mark.parametrize("down", [hang, die])
async def test_calls_at_the_same_time_wait_as_long_as_one(
    client: AsyncClient, fakes: FakeMatchers, down: Callable[[Any], None]
) -> None:
    await pair_of(client)
    down(fakes.a)
    results = await asyncio.gather(*(pair_of(client) for _ in range(10)))
    assert all(pair == "bc" and took_s < 3.0 for pair, took_s in results)


@pytest.mark.parametrize("down", [hang, die])
@pytest.mark.parametrize("call", CHANGES)
@pytest.mark.parametrize("party", ["a", "b"])
async def test_a_change_goes_through_another_pair_under_the_same_token(
    client: AsyncClient,
    fakes: FakeMatchers,
    party: str,
    call: str,
    down: Callable[[Any], None],
) -> None:
    await pair_of(client)
    down(getattr(fakes, party))
    await CHANGES[call](client)
    assert fakes.templates == ([] if call == "erase" else ["ada", "zoe"])
    bodies = {r.body: body_of(r) for m in (fakes.a, fakes.b, fakes.c) for r in m.requests if body_of(r).token}
    assert sorted(body.pair for body in bodies.values()) == sorted({"ab", WITHOUT[party]})
    assert len({body.token for body in bodies.values()}) == 1
    assert len({body.nonce for body in bodies.values()}) == 2


async def test_what_is_sent_for_long_is_waited_for_longer_and_no_longer_than_a_call_lasts(
    client: AsyncClient, fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [lookout.silent_while_sent_s(size) for size in (0, 1000, 10**5, 10**6, 10**7, 10**9)]
    assert times == sorted(times) and times[0] == lookout.SILENT_S and times[1] < 2.0 and times[-1] == 15.0
    monkeypatch.setattr(lookout, "NARROW_BYTES_PER_S", 500)  # some kB take seconds
    await pair_of(client)
    hang(fakes.a)
    started = asyncio.get_running_loop().time()
    await CHANGES["bulk"](client)
    assert asyncio.get_running_loop().time() - started > lookout.SILENT_S + 1.0


async def test_a_change_that_was_done_before_the_answer_was_lost_is_done_once(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    async def done_and_stopped(kind: str, request: Any) -> None:
        fakes.mutate(0, request)
        fakes.a.lives = False
        await asyncio.sleep(60)

    fakes.a.before = done_and_stopped
    result = await client.enrol_embedding("zoe", face(1), model="toy")
    assert fakes.templates == ["ada", "zoe"] and (result.templates, result.repeated) == (1, 1)


async def test_slow_is_not_dead(client: AsyncClient, fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.a.before = lambda kind, request: asyncio.sleep(lookout.SILENT_S + 1.0)
    pair, took_s = await pair_of(client)
    assert pair == "ab" and took_s > lookout.SILENT_S
    assert len(fakes.a.requests) == 1 and fakes.a.asked > 0


async def test_where_no_pair_does_without_it_a_silent_matcher_is_waited_for(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    fakes.a.lives, fakes.a.before = False, lambda kind, request: asyncio.sleep(lookout.SILENT_S + 0.7)
    async with AsyncClient(settings.model_copy(update={"pairs": ["ab", "ac"]}), matchers=fakes.all) as client:
        assert (await pair_of(client))[0] == "ab"


async def test_a_call_shorter_than_the_silence_is_remembered_as_well(client: AsyncClient, fakes: FakeMatchers) -> None:
    await pair_of(client)
    hang(fakes.b)
    with pytest.raises(UnavailableError, match="in time"):
        await client.verify_embedding("ada", face(1), model="toy", timeout_s=0.4)
    pair, took_s = await pair_of(client)
    assert pair == "ac" and took_s < lookout.SILENT_S


@pytest.mark.parametrize("kind", [UnavailableError, StorageError, DealtStockError])
@pytest.mark.parametrize("party", PARTIES)
async def test_who_fails_by_the_word_of_a_matcher_is_gone_round(
    client: AsyncClient, fakes: FakeMatchers, party: str, kind: type[VeilmatchError]
) -> None:
    def failing(kind_of_call: str, request: Any) -> None:
        if party in body_of(request).pair:
            raise kind("its own fault", party=f"keyholder-{party}", alternatives=(WITHOUT[party],), said_by=("x",))

    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.before = failing
    assert [(await pair_of(client))[0] for _ in range(3)] == [WITHOUT[party]] * 3


@pytest.mark.parametrize("name", ["matcher-b", "keyholder-b"])
async def test_an_absence_that_names_somebody_and_no_pairs_leads_round_it(
    client: AsyncClient, fakes: FakeMatchers, name: str
) -> None:
    def missing(kind: str, request: Any) -> None:
        if "b" in body_of(request).pair:
            raise UnavailableError("is missing", party=name, said_by=("matcher-a",))

    fakes.a.before = missing
    assert (await pair_of(client))[0] == "ac"


@pytest.mark.parametrize("error", [IntegrityError, PartyRefusedError])
async def test_what_a_matcher_ends_with_of_itself_leads_round_it(
    client: AsyncClient, fakes: FakeMatchers, error: type[VeilmatchError]
) -> None:
    def fail(kind: str, request: Any) -> None:
        raise error("matcher-a failed on this request", party="matcher-a")

    fakes.a.before = fail
    assert [(await pair_of(client))[0] for _ in range(3)] == ["bc"] * 3
    assert len(fakes.a.requests) == 1


@pytest.mark.parametrize("said_by", [(), ("matcher-a",)])
async def test_overload_never_leads_to_another_pair(
    client: AsyncClient, fakes: FakeMatchers, said_by: tuple[str, ...]
) -> None:
    def busy(kind: str, request: Any) -> None:
        raise OverloadedError("busy", party="matcher-a", alternatives=("bc",), said_by=said_by)

    fakes.a.before = busy
    with pytest.raises(OverloadedError):
        await pair_of(client)
    assert fakes.c.requests == []


async def test_two_that_are_down_are_an_error_that_names_one(client: AsyncClient, fakes: FakeMatchers) -> None:
    await pair_of(client)
    die(fakes.a)
    die(fakes.b)
    with pytest.raises(UnavailableError) as caught:
        await client.verify_embedding("ada", face(1), model="toy", timeout_s=1.0)
    assert caught.value.party in ("matcher-a", "matcher-b")
    revive(fakes.a)
    assert (await pair_of(client))[0] == "ac"


async def test_looking_for_the_lost_ends_with_the_client(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await pair_of(client)
        die(fakes.a)
        await pair_of(client)
        assert len(asyncio.all_tasks()) > 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("parties", ["ab", "ac", "bc"])
async def test_two_matchers_are_one_pair(settings: DeviceSettings, fakes: FakeMatchers, parties: str) -> None:
    two = {party: matcher for party, matcher in fakes.all.items() if party in parties}
    async with AsyncClient(settings, matchers=two) as client:
        assert (await pair_of(client))[0] == parties


def test_one_matcher_is_no_pair_and_a_list_is_no_mapping(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    with pytest.raises(ConfigurationError, match="no pair"):
        AsyncClient(settings, matchers={"a": fakes.a})
    with pytest.raises(ClientUseError, match="by organisation"):
        AsyncClient(settings, matchers=(fakes.a, fakes.b))  # type: ignore[arg-type]


async def test_who_is_lost_and_found_is_logged_once_and_is_no_warning(
    client: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "veilmatch.client"):
        await pair_of(client)
        die(fakes.a)
        await asyncio.gather(*(pair_of(client) for _ in range(5)))
        revive(fakes.a)
        await first_pair(client, "ab")
    lookout = [r for r in caplog.records if r.name.endswith("lookout")]  # requests have lines of their own
    assert [(r.levelname, r.getMessage().split(":")[0]) for r in lookout] == [
        ("INFO", "matcher-a is lost"),
        ("INFO", "matcher-a gives a sign of life"),
    ]


_SETTINGS: list[DeviceSettings] = []


@pytest.fixture(autouse=True)
def _settings_for_examples(settings: DeviceSettings) -> None:
    _SETTINGS[:] = [settings]


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(PARTIES), st.booleans()), max_size=6),
    pairs=st.permutations(["ab", "ac", "bc"]),
)
def test_whoever_dies_and_comes_back_any_two_that_are_there_serve(
    events: list[tuple[str, bool]], pairs: list[str]
) -> None:
    async def live_through() -> None:
        fakes = FakeMatchers()
        fakes.templates, there = ["ada"], set(PARTIES)
        async with AsyncClient(_SETTINGS[0].model_copy(update={"pairs": pairs}), matchers=fakes.all) as client:
            for party, dies in events:
                matcher = getattr(fakes, party)
                if dies and len(there - {party}) >= 2:
                    die(matcher)
                    there -= {party}
                elif not dies:
                    revive(matcher)
                    matcher.state = "up"
                    there |= {party}
                pair, took_s = await pair_of(client)
                assert set(pair) <= there and took_s < 1.0

    asyncio.run(live_through())
