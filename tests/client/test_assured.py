"""Assured answers: three pairs say the same or there is no answer, whoever lies, and however."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from veilmatch import AsyncClient, Client, DeviceSettings
from veilmatch.client.wire.connection import request_id
from veilmatch.crypto.errors import (
    ConfigurationError,
    DisagreementError,
    GalleryMismatchError,
    OverloadedError,
    ServerDeviationError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.crypto.requests import request_digest

from .conftest import face
from .fakes import FakeMatchers, body_of

LOGGER = "veilmatch.client.wire.pairs.assurance"
PARTIES = ("a", "b", "c")
ASKING: dict[str, Callable[[AsyncClient], Any]] = {
    "verify": lambda client: client.verify_embedding("zoe", face(1), model="toy", assured=True),
    "candidates": lambda client: client.candidates_embedding(face(1), model="toy", assured=True),
    "identify": lambda client: client.identify_embedding(face(1), model="toy", assured=True),
    "known": lambda client: client.known_embedding(face(1), model="toy", assured=True),
}


def said(result: Any) -> Any:
    return getattr(result, "subjects", None) if hasattr(result, "subjects") else result.decision


def flipped(reply: Any) -> Any:
    """The last answer bit is another one."""
    share = bytearray(reply.share)
    share[(reply.count - 1) // 8] ^= 1 << (reply.count - 1) % 8
    reply.share = bytes(share)
    return reply


@pytest.fixture
async def client(settings: DeviceSettings, fakes: FakeMatchers) -> AsyncIterator[AsyncClient]:
    fakes.templates, fakes.looks_like, fakes.sequence = ["zoe", "bob", "eve"], {"zoe", "eve"}, 3
    async with AsyncClient(settings, matchers=fakes.all) as made:
        yield made


def requests(fakes: FakeMatchers) -> dict[bytes, str]:
    """The pair of each request, by its body."""
    return {r.body: body_of(r).pair for m in (fakes.a, fakes.b, fakes.c) for r in m.requests}


# -- all agree ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer"), [("verify", True), ("candidates", ("zoe", "eve")), ("identify", True), ("known", True)]
)
async def test_three_pairs_are_asked_at_once_each_with_a_nonce_of_its_own(
    client: AsyncClient, fakes: FakeMatchers, name: str, answer: Any
) -> None:
    together = asyncio.Barrier(6)
    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.before = lambda kind, request: together.wait()
    result = await asyncio.wait_for(ASKING[name](client), 5)
    assert said(result) == answer and result.assured
    sent = requests(fakes)
    assert sorted(sent.values()) == ["ab", "ac", "bc"]
    assert len({body_of(r).nonce for r in fakes.a.requests}) == 2
    by_pair = {pair: request_digest(body).hex()[:16] for body, pair in sent.items()}
    assert result.request_ids == (by_pair["ab"], by_pair["ac"], by_pair["bc"])


async def test_an_answer_of_one_pair_says_that_it_is_not_assured(client: AsyncClient) -> None:
    result = await client.verify_embedding("zoe", face(1), model="toy")
    assert not result.assured and result.request_ids == ()


@pytest.mark.parametrize("assured", [None, False, True])
async def test_the_settings_can_ask_for_it_and_a_call_can_do_without(
    settings: DeviceSettings, fakes: FakeMatchers, assured: bool | None
) -> None:
    fakes.templates = ["zoe"]
    for assurance in ("one-pair", "all-pairs"):
        async with AsyncClient(settings.model_copy(update={"assurance": assurance}), matchers=fakes.all) as client:
            result = await client.verify_embedding("zoe", face(1), model="toy", assured=assured)
        assert result.assured == (assurance == "all-pairs" if assured is None else assured)


async def test_the_preferred_pairs_of_the_settings_are_not_all_that_is_asked(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    async with AsyncClient(settings.model_copy(update={"pairs": ["bc"]}), matchers=fakes.all) as client:
        assert (await client.verify_embedding("zoe", face(1), model="toy", assured=True)).assured


def test_the_synchronous_client_asks_all_as_well(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    fakes.templates = fakes.looks_like = ["zoe"]  # type: ignore[assignment]
    with Client(settings, matchers=fakes.all) as client:
        assert client.verify_embedding("zoe", face(1), model="toy", assured=True).assured
        assert client.candidates_embedding(face(1), model="toy", assured=True).assured
        assert client.identify_embedding(face(1), model="toy", assured=True).assured


# -- somebody lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("liar", PARTIES)
async def test_an_answer_that_one_organisation_flips_is_no_answer(
    client: AsyncClient, fakes: FakeMatchers, liar: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(fakes, liar).change = flipped
    with caplog.at_level(logging.WARNING, LOGGER), pytest.raises(DisagreementError) as caught:
        await ASKING[name](client)
    error = caught.value
    (right,) = [pair for pair in ("ab", "ac", "bc") if liar not in pair]
    truth = {"verify": True, "candidates": ["eve", "zoe"], "identify": "zoe", "known": True}[name]
    assert error.said[right] == truth != error.said[next(pair for pair in error.said if pair != right)]
    assert error.exit_status == 13
    # The log names the requests, and who differs from whom; nobody learns from it what was said.
    (record,) = caplog.records
    digests = {pair: request_digest(body).hex() for body, pair in requests(fakes).items()}
    assert all(f"{pair} {digest}" in record.getMessage() for pair, digest in digests.items())
    assert error.request_ids == {pair: digest[:16] for pair, digest in digests.items()}
    for text in (record.getMessage(), str(error), repr(error), str(error.fields())):
        assert not any(word in text for word in ("zoe", "eve", "True", "False"))


@pytest.mark.parametrize("liar", PARTIES)
async def test_two_pairs_that_agree_are_no_majority(client: AsyncClient, fakes: FakeMatchers, liar: str) -> None:
    getattr(fakes, liar).change = flipped
    with pytest.raises(DisagreementError) as caught:
        await ASKING["verify"](client)
    assert sorted(map(str, caught.value.said.values())) == ["False", "False", "True"]


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    liar=st.sampled_from(PARTIES),
    name=st.sampled_from(sorted(ASKING)),
    known=st.lists(st.sampled_from(["zoe", "bob", "cy", "dee"]), min_size=1, max_size=6),
    alike=st.sets(st.sampled_from(["zoe", "bob", "cy", "dee"])),
    lie=st.binary(min_size=1, max_size=8),
    valid=st.booleans(),
)
def test_whatever_one_organisation_answers_no_wrong_answer_is_returned(
    liar: str, name: str, known: list[str], alike: set[str], lie: bytes, valid: bool
) -> None:
    def garble(reply: Any) -> Any:
        reply.share = bytes(x ^ y for x, y in zip(reply.share, lie * 8, strict=False))
        reply.valid_share = reply.valid_share ^ (not valid)
        return reply

    async def ask() -> None:
        fakes = FakeMatchers()
        fakes.templates, fakes.looks_like = known, alike
        async with AsyncClient(_SETTINGS[0], matchers=fakes.all) as client:
            truth = said(await ASKING[name](client))
            getattr(fakes, liar).change = garble
            try:
                answer = await ASKING[name](client)
            except (DisagreementError, ServerDeviationError, VeilmatchError):
                return
            assert said(answer) == truth

    asyncio.run(ask())


_SETTINGS: list[DeviceSettings] = []


@pytest.fixture(autouse=True)
def _settings_for_examples(settings: DeviceSettings) -> None:
    _SETTINGS[:] = [settings]


# -- a change in between -----------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [["ab"], ["bc"], ["ab", "ac"]])
async def test_pairs_that_were_behind_a_change_are_asked_again(
    client: AsyncClient, fakes: FakeMatchers, behind: list[str]
) -> None:
    fakes.earlier = {pair: ["zoe", "bob"] for pair in behind}
    result = await client.candidates_embedding(face(1), model="toy", assured=True)
    assert result.subjects == ("zoe", "eve") and result.sequence == 3
    assert sorted(requests(fakes).values()) == sorted(["ab", "ac", "bc", *behind])


@pytest.mark.parametrize("name", ASKING)
async def test_pairs_behind_are_asked_again_even_if_they_say_the_same(
    client: AsyncClient, fakes: FakeMatchers, name: str
) -> None:
    fakes.earlier = {"ab": ["zoe", "eve"]}
    assert (await ASKING[name](client)).sequence == 3
    assert sorted(requests(fakes).values()) == ["ab", "ab", "ac", "bc"]


async def test_a_gallery_that_is_never_still_gives_no_assured_answer(client: AsyncClient, fakes: FakeMatchers) -> None:
    plain = fakes.match

    def match(place: int, signed: Any, known: bytes) -> Any:
        reply = plain(place, signed, known)
        number = list(requests(fakes)).index(signed.body)
        reply.sequence, reply.chain = number, bytes([number]) * 32
        return reply

    fakes.match = match  # type: ignore[method-assign]
    with pytest.raises(GalleryMismatchError, match="changed while"):
        await ASKING["verify"](client)
    assert len(requests(fakes)) <= 3 + 2 * 2


@pytest.mark.parametrize("liar", PARTIES)
async def test_a_liar_does_not_hide_behind_a_change(client: AsyncClient, fakes: FakeMatchers, liar: str) -> None:
    fakes.earlier = {"ab": ["zoe", "bob"]}
    getattr(fakes, liar).change = flipped
    with pytest.raises(VeilmatchError):
        await client.candidates_embedding(face(1), model="toy", assured=True)


async def test_one_number_of_two_galleries_is_a_disagreement(client: AsyncClient, fakes: FakeMatchers) -> None:
    """Both answers are the same, and one organisation vouches for two galleries."""

    def of_another(reply: Any) -> Any:
        reply.chain = b"x" * 32
        return reply

    plain = fakes.match

    def match(place: int, signed: Any, known: bytes) -> Any:
        reply = plain(place, signed, known)
        return of_another(reply) if body_of(signed).pair == "bc" else reply

    fakes.match = match  # type: ignore[method-assign]
    with pytest.raises(DisagreementError, match="galleries"):
        await ASKING["verify"](client)


# -- somebody is missing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", PARTIES)
async def test_where_one_organisation_is_missing_there_is_no_assured_answer(
    client: AsyncClient, fakes: FakeMatchers, missing: str
) -> None:
    def gone(kind: str, request: Any) -> None:
        raise UnavailableError("cannot be reached", party=f"matcher-{missing}", needed=f"matcher-{missing}")

    getattr(fakes, missing).before = gone
    with pytest.raises(UnavailableError, match="no assured answer, for pair") as caught:
        await ASKING["verify"](client)
    assert (caught.value.party, caught.value.alternatives) == (f"matcher-{missing}", ())
    assert (await client.verify_embedding("zoe", face(1), model="toy")).decision


async def test_a_deviation_is_named_before_anything_else(client: AsyncClient, fakes: FakeMatchers) -> None:
    def gone(kind: str, request: Any) -> None:
        raise UnavailableError("no", party="keyholder-a", alternatives=("bc",))

    def accuse(kind: str, request: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0.1)
            raise ServerDeviationError("matcher-b lies")

        return later() if body_of(request).pair == "bc" else None

    fakes.a.before, fakes.c.before = gone, accuse
    with pytest.raises(ServerDeviationError):
        await ASKING["verify"](client)


async def test_what_is_wrong_with_the_question_is_said_as_ever(client: AsyncClient, fakes: FakeMatchers) -> None:
    def unknown(kind: str, request: Any) -> None:
        raise UnknownSubjectError("no such subject")

    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.before = unknown
    with pytest.raises(UnknownSubjectError, match=r"^zoe: no such subject$") as caught:
        await ASKING["verify"](client)
    assert caught.value.request_id in {request_id(r) for r in fakes.a.requests + fakes.b.requests}


async def test_a_busy_server_is_asked_once_more(client: AsyncClient, fakes: FakeMatchers) -> None:
    seen: list[bytes] = []

    def busy(kind: str, request: Any) -> None:
        seen.append(request.body)
        if len(seen) == 1:
            raise OverloadedError("busy", retry_after_s=0.05)

    fakes.c.before = busy
    assert (await ASKING["verify"](client)).assured
    assert len(seen) == 3


async def test_nothing_goes_on_after_an_assured_answer_has_failed(client: AsyncClient, fakes: FakeMatchers) -> None:
    def gone(kind: str, request: Any) -> Any:
        if body_of(request).pair == "ab":
            raise UnavailableError("no", party="keyholder-a", alternatives=("bc",))
        return asyncio.sleep(60)

    fakes.a.before = fakes.b.before = fakes.c.before = gone
    with pytest.raises(UnavailableError):
        await ASKING["verify"](client)
    assert sum(m.cancelled for m in (fakes.a, fakes.b, fakes.c)) == 4


@pytest.mark.parametrize("parties", ["ab", "ac", "bc"])
async def test_two_matchers_are_too_few(settings: DeviceSettings, fakes: FakeMatchers, parties: str) -> None:
    two = {party: matcher for party, matcher in fakes.all.items() if party in parties}
    async with AsyncClient(settings, matchers=two) as client:
        for ask in ASKING.values():
            with pytest.raises(ConfigurationError, match="three matchers") as caught:
                await ask(client)
            assert f"{parties[0]} and {parties[1]}" in str(caught.value.got)
        assert (await client.verify_embedding("zoe", face(1), model="toy")).pair == parties
    assert len(requests(fakes)) == 1
