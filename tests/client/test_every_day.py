"""Two photos compared here, subjects replaced and erased together, and what the log says of requests."""

from __future__ import annotations

import io
import itertools
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import veilmatch
from veilmatch import AsyncClient, Client, Comparison, DeviceSettings
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.operations import comparing
from veilmatch.client.results import Erasures
from veilmatch.crypto.errors import (
    InvalidInputError,
    NoFaceError,
    ParameterError,
    UnavailableError,
    UnfitModelError,
    UnknownSubjectError,
)
from veilmatch.protos.v1 import request_pb2

from .conftest import PARAMETERS, FakeCapture, face
from .fakes import FakeMatchers, body_of


class Vectors(FakeCapture):
    """Embeds a photo, which is a number, as that vector of a list."""

    def __init__(self, *vectors: np.ndarray) -> None:
        super().__init__(dimension=len(vectors[0]))
        self._vectors = vectors

    def embed_photo(self, source: Any) -> np.ndarray:
        return self._vectors[int(source)]


# -- compare ------------------------------------------------------------------------------------------


async def test_two_photos_are_compared_without_a_server(client: AsyncClient, fakes: FakeMatchers) -> None:
    same = await client.compare("ada.jpg", io.BytesIO(b"ada"), threshold=0.0001)
    assert isinstance(same, Comparison) and same.model == "names-2"
    assert await client.compare("ada.jpg", "ada.jpg")
    assert not await client.compare("ada.jpg", "bob.jpg", threshold=1.0)
    assert not fakes.a.requests and not fakes.a.asked


@pytest.mark.parametrize("off", [0, 1])
def test_it_decides_as_servers_do_to_the_last_unit(settings: DeviceSettings, fakes: FakeMatchers, off: int) -> None:
    a, b = face(1), face(1) + 0.7 * face(2)
    score = int(quantise(a, PARAMETERS) @ quantise(b, PARAMETERS))
    cosine = PARAMETERS.cosine(score + off)
    with Client(settings, matchers=fakes.all, capture=Vectors(a, b)) as client:
        assert client.compare("0", "1", threshold=cosine).decision is (off == 0)


def test_without_an_installation_it_takes_a_model_of_128_coordinates() -> None:
    rng = np.random.default_rng(3)
    ada, bob = rng.standard_normal((2, 128))
    capture = Vectors(ada, ada + 0.1 * bob, bob)
    assert veilmatch.compare("0", "1", capture=capture).decision
    assert not veilmatch.compare("0", "2", capture=capture).decision
    assert veilmatch.compare("0", "1", capture=capture).threshold == 0.40
    with pytest.raises(UnfitModelError):
        veilmatch.compare("0", "0", capture=Vectors(face(1)))
    with pytest.raises(ParameterError):
        veilmatch.compare("0", "1", threshold=1.5, capture=capture)


def test_the_command_tells_by_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = np.random.default_rng(3).standard_normal((2, 128))
    monkeypatch.setattr(comparing, "_installed", lambda: Vectors(ada, ada + 0.1 * bob, bob))
    app, runner = build_app("compare"), CliRunner()
    same = runner.invoke(app, ["compare", "0", "1"])
    assert same.exit_code == 0 and same.stdout.startswith("match: on this device")
    assert runner.invoke(app, ["compare", "0", "2"]).exit_code == 1
    document = json.loads(runner.invoke(app, ["compare", "0", "1", "--threshold", "0.9", "--json"]).stdout)
    assert document["match"] is True and document["threshold"] == 0.9 and document["model"] == "names-2"
    assert runner.invoke(app, ["compare", "0", "1", "--threshold", "2"]).exit_code == ParameterError.exit_status


async def test_an_error_says_which_of_the_two(client: AsyncClient) -> None:
    with pytest.raises(NoFaceError, match=r"photo 2 of 2 \(empty\.jpg\)"):
        await client.compare("ada.jpg", "empty.jpg")


# -- replacing ----------------------------------------------------------------------------------------


async def test_what_is_replaced_is_erased_before_the_first_new_template(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    await client.enrol("ada", "1.jpg", "2.jpg")
    await client.enrol("bob", "3.jpg")
    assert (await client.enrol("ada", "4.jpg", replace=True)).templates == 1
    assert fakes.templates == ["bob", "ada"]


async def test_a_photo_without_a_face_replaces_nothing(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.enrol("ada", "1.jpg")
    sent = len(fakes.a.requests)
    with pytest.raises(NoFaceError):
        await client.enrol("ada", "4.jpg", "empty.jpg", replace=True)
    assert fakes.templates == ["ada"] and len(fakes.a.requests) == sent


@pytest.fixture
def strict(fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch) -> FakeMatchers:
    """Matchers that refuse to erase who is not there, as real ones do."""
    mutate = fakes.mutate

    def refusing(place: int, signed: Any) -> Any:
        body = body_of(signed)
        is_new = body.operation == request_pb2.OPERATION_ERASE and body.token not in fakes._done
        if is_new and signed.subject not in fakes.templates:
            raise UnknownSubjectError("no such subject in the gallery")
        return mutate(place, signed)

    monkeypatch.setattr(fakes, "mutate", refusing)
    return fakes


def failing_at(number: int) -> Callable[[str, Any], None]:
    """What a matcher does before it answers: fails the request of this number, from 0."""
    calls = itertools.count()

    def before(kind: str, signed: Any) -> None:
        if next(calls) == number:
            raise UnavailableError("out of stock", party="keyholder-a")

    return before


@pytest.mark.parametrize(("fails_at", "had"), [(0, 3), (1, 0), (1, 3), (2, 0), (2, 3)])
async def test_the_same_call_completes_what_was_half_done(
    client: AsyncClient, strict: FakeMatchers, fails_at: int, had: int
) -> None:
    if had:
        await client.enrol("ada", *(f"old-{n}.jpg" for n in range(had)))
    token = bytes(range(16))
    strict.a.before = failing_at(fails_at)
    with pytest.raises(UnavailableError) as raised:
        await client.enrol("ada", "1.jpg", "2.jpg", replace=True, token=token)
    assert ("ada was erased" in raised.value.message) is (fails_at > 0)
    for _ in range(3):
        assert (await client.enrol("ada", "1.jpg", "2.jpg", replace=True, token=token)).templates == 2
        assert strict.templates == ["ada", "ada"]


async def test_once_and_replace_exclude_each_other(client: AsyncClient) -> None:
    with pytest.raises(InvalidInputError, match="once"):
        await client.enrol("ada", "1.jpg", once=True, replace=True)


# -- erasing many -------------------------------------------------------------------------------------


async def test_many_are_erased_one_after_the_other(client: AsyncClient, strict: FakeMatchers) -> None:
    for name in ("ada", "ada", "bob", "eve"):
        await client.enrol(name, f"{name}.jpg")
    told: list[tuple[str, int, int]] = []
    done = await client.erase_many(["eve", "ada", "eve"], progress=lambda *words: told.append(words))
    assert done == Erasures(("eve", "ada"), (), 3) and len(set(done.request_ids)) == 2
    assert told == [("erase", 0, 2), ("erase", 1, 2), ("erase", 2, 2)]
    assert strict.templates == ["bob"]


async def test_who_is_not_enrolled_ends_it_or_is_passed_over(client: AsyncClient, strict: FakeMatchers) -> None:
    for name in ("ada", "bob"):
        await client.enrol(name, f"{name}.jpg")
    with pytest.raises(UnknownSubjectError, match=r"^1 of 3 subjects are erased: zoe: "):
        await client.erase_many(["ada", "zoe", "bob"])
    assert strict.templates == ["bob"]
    assert await client.erase_many(["ada", "zoe", "bob"], missing_ok=True) == Erasures(("bob",), ("ada", "zoe"), 1)
    assert await client.erase_many([]) == Erasures((), (), 0)


async def test_the_same_token_goes_on_where_an_error_stopped_it(client: AsyncClient, strict: FakeMatchers) -> None:
    for name in ("ada", "bob", "eve"):
        await client.enrol(name, f"{name}.jpg")
    strict.a.before = failing_at(1)
    token = bytes(16)
    with pytest.raises(UnavailableError, match="1 of 3 subjects are erased"):
        await client.erase_many(["ada", "bob", "eve"], token=token)
    assert (await client.erase_many(["ada", "bob", "eve"], token=token)).erased == ("ada", "bob", "eve")
    assert not strict.templates


@pytest.mark.parametrize("subjects", ["ada", b"ada", 7, None, [7], [""]])
def test_what_is_no_list_of_subjects_is_refused(settings: DeviceSettings, fakes: FakeMatchers, subjects: Any) -> None:
    with Client(settings, matchers=fakes.all) as client, pytest.raises(InvalidInputError):
        client.erase_many(subjects)
    assert not fakes.a.requests


# -- the log ------------------------------------------------------------------------------------------


async def test_each_request_has_a_line_with_its_id_and_nothing_of_its_subject(
    client: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="veilmatch")
    fakes.looks_like = {"ada"}
    result = await client.verify("ada", "door.jpg")
    line = caplog.records[-1]
    assert line.name.startswith("veilmatch.") and line.levelno == logging.INFO
    assert vars(line)["request_id"] == result.request_id and result.request_id in line.getMessage()
    assert line.getMessage().startswith("verify: pair ab answered in ")
    fakes.a.before = failing_at(0)
    with pytest.raises(UnavailableError) as raised:
        await client.verify("ada", "door.jpg")
    assert vars(caplog.records[-1])["request_id"] == raised.value.request_id
    assert "unavailable" in caplog.records[-1].getMessage()
    assert "ada" not in caplog.text and "door" not in caplog.text and "stock" not in caplog.text


def test_how_much_is_logged_is_left_to_the_program() -> None:
    logger = logging.getLogger("veilmatch")
    assert logger.level == logging.NOTSET and not logger.handlers and logger.propagate
