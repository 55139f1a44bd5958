"""Low quality: enrolment refuses it and says why, queries warn, and a capture of the caller need not know of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from veilmatch import AsyncClient, ClientUseError, DeviceSettings, LowQualityError, VeilmatchError
from veilmatch.client.capture.pipeline import CapturedFace
from veilmatch.client.capture.quality.assessment import Quality, Reason
from veilmatch.common.hints import hint

from .conftest import FakeCapture
from .fakes import FakeMatchers

GOOD = Quality({"sharpness": 90}, {"sharpness": 0.5}, 1, (0, 0, 9, 9), ())
BAD = Quality({"sharpness": 3}, {"sharpness": 0.9}, 1, (0, 0, 9, 9), (Reason("sharpness", 3, 20),))


class Measuring(FakeCapture):
    """Finds photos called `blurred` to be so."""

    def capture(self, source: Any) -> CapturedFace:
        return CapturedFace(self.embed_photo(source), self.quality(source))

    def quality(self, source: Any) -> Quality:
        return BAD if "blurred" in str(source) else GOOD


@pytest.fixture
async def measuring(settings: DeviceSettings, fakes: FakeMatchers) -> Any:
    async with AsyncClient(settings, matchers=fakes.all, capture=Measuring()) as client:
        yield client


async def test_enrolment_refuses_and_says_what_to_do(measuring: AsyncClient, fakes: FakeMatchers) -> None:
    with pytest.raises(LowQualityError) as caught:
        await measuring.enrol("alice", "good.jpg", "blurred.jpg")
    error = caught.value
    assert error.message.startswith("alice, photo 2 of 2 (blurred.jpg): ") and error.got == "sharpness 3"
    assert error.reasons == (str(BAD.reasons[0]),)
    assert "Hold the camera still" in hint(error).replace("hold", "Hold") and "--accept-any" in hint(error)
    assert VeilmatchError.from_fields(error.fields()).fields() == error.fields()
    assert not fakes.templates, "nothing was sent"


async def test_what_is_accepted_all_the_same_is_enrolled(measuring: AsyncClient, fakes: FakeMatchers) -> None:
    assert (await measuring.enrol("alice", "blurred.jpg", accept_any=True)).templates == 1
    assert (await measuring.enrol_many({"bob": "blurred.jpg"}, accept_any=True)).templates == 1


async def test_of_many_the_bad_ones_are_skipped(measuring: AsyncClient, fakes: FakeMatchers) -> None:
    skipped: list[tuple[str, str]] = []
    photos = {"alice": "good.jpg", "bob": "blurred.jpg"}
    result = await measuring.enrol_many(photos, skipped=lambda who, why: skipped.append((who, why.code)))
    assert result.templates == 1 and skipped == [("bob", "low_quality")]


async def test_queries_warn_and_answer(
    measuring: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    await measuring.enrol("alice", "good.jpg")
    fakes.looks_like = {"alice"}
    with caplog.at_level(logging.WARNING, "veilmatch.client"):
        assert (await measuring.verify("alice", "good.jpg")).quality == GOOD
        assert not caplog.records
        results = [
            await measuring.verify("alice", "blurred.jpg"),
            await measuring.candidates("blurred.jpg"),
            await measuring.identify("blurred.jpg"),
        ]
    assert all(result and result.quality == BAD for result in results)
    assert [r.getMessage().count("the face is blurred") for r in caplog.records] == [1, 1, 1]


async def test_quality_asks_nobody(measuring: AsyncClient, fakes: FakeMatchers) -> None:
    assert await measuring.quality("blurred.jpg") == BAD and not await measuring.quality("blurred.jpg")
    assert not (fakes.a.requests or fakes.b.requests)


async def test_a_capture_without_quality_is_as_before(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.enrol("alice", "blurred.jpg")
    assert (await client.verify("alice", "blurred.jpg")).quality is None
    with pytest.raises(ClientUseError, match="measures no quality"):
        await client.quality("blurred.jpg")


def test_floors_are_read_from_the_configuration(settings: DeviceSettings, tmp_path: Path) -> None:
    assert settings.capture.face == "only" and settings.capture.floors.sharpness > 0
    text = (tmp_path / "device.toml").read_text() + '[capture]\nface = "largest"\nfloors = { sharpness = 0 }\n'
    (tmp_path / "device.toml").write_text(text)
    capture = DeviceSettings.load(tmp_path / "device.toml").capture
    assert (capture.face, capture.floors.sharpness) == ("largest", 0)
