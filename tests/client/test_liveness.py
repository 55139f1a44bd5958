"""The slot for liveness fails closed: nothing that is missing, broken or undecided ever counts as live."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from veilmatch import AsyncClient, DeviceSettings, LivenessError, PresentationAttackError, Shot
from veilmatch.client.capture.detector import Face
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.liveness.check import LivenessCheck
from veilmatch.client.liveness.scorers import Box, ModelScorer, scorer_of
from veilmatch.client.liveness.settings import LivenessModelSettings, LivenessSettings
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError
from veilmatch.crypto.liveness import function_id
from veilmatch.crypto.versions import UNSAID

from .conftest import FakeCapture, face
from .fakes import FakeMatchers, body_of

#: Lighter at the top: `Finds` tells by that which way is up.
PHOTO = np.repeat(np.linspace(250, 20, 200).astype(np.uint8)[:, None, None], 240, axis=1).repeat(3, axis=2)


class Finds:
    """A detector that finds these boxes, upright."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = boxes

    def detect(self, image: RgbArray) -> list[Face]:
        return [Face(box, 0.9, np.zeros((5, 2))) for box in self.boxes]

    def glance(self, view: RgbArray) -> float:
        down, right = (np.subtract(*np.array_split(view.sum(axis=(axis, 2), dtype=float), 2)).sum() for axis in (1, 0))
        return float(max(0.0, down / (np.hypot(down, right) + 1e-9)))


ONE = (100.0, 80.0, 130.0, 120.0)


def check(score: Any, images: tuple[str, ...] = ("colour",), boxes: tuple[Box, ...] = (ONE,)) -> LivenessCheck:
    settings = LivenessSettings.model_validate({"threshold": 0.7, "images": images, "function": "a.b:c"})
    scorer = score if callable(score) else lambda images, box: score
    return LivenessCheck(settings, detector=Finds(*boxes), scorer=scorer)


def test_at_or_above_the_threshold_is_live_and_below_an_attack() -> None:
    check(0.7).require_live(PHOTO)
    check(1).require_live(PHOTO)
    with pytest.raises(PresentationAttackError):
        check(0.69999).require_live(PHOTO)


def fails(images: Mapping[str, RgbArray], box: Box) -> float:
    raise RuntimeError("of a camera's library")


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1, 70, None, "live", fails])
def test_what_is_no_score_is_never_live(score: Any) -> None:
    with pytest.raises(LivenessError):
        check(score).require_live(PHOTO)


def test_images_that_are_asked_for_have_to_be_there_and_to_fit() -> None:
    grey = np.zeros((200, 240), np.uint8)
    seen: dict[str, Any] = {}

    def note(images: Mapping[str, RgbArray], box: Box) -> float:
        seen.update(images, box=box)
        return 1.0

    both = check(note, ("colour", "infrared", "depth"))
    both.require_live(Shot(PHOTO, grey, grey))
    assert list(seen) == ["colour", "infrared", "depth", "box"] and seen["box"] == ONE
    assert all(image.shape == PHOTO.shape for name, image in seen.items() if name != "box")
    for shot in (PHOTO, Shot(PHOTO, infrared=grey), Shot(PHOTO, depth=grey), Shot(PHOTO, grey, grey[:50])):
        with pytest.raises(LivenessError):
            check(note, ("colour", "infrared", "depth")).require_live(shot)


def test_without_one_face_nothing_is_live() -> None:
    with pytest.raises(NoFaceError):
        check(1.0, boxes=()).require_live(PHOTO)
    with pytest.raises(SeveralFacesError):
        check(1.0, boxes=(ONE, (150.0, 80.0, 170.0, 110.0))).require_live(PHOTO)


# -- models and functions --------------------------------------------------------------------------------


def mean_of_channels(channels: int) -> bytes:
    """A model whose outputs are the means of its channels."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def settings_of(**fields: Any) -> LivenessModelSettings:
    return LivenessModelSettings.model_validate({"sha256": "0" * 64, "size": 16, "around": 1} | fields)


def test_a_model_sees_the_surroundings_in_the_order_that_settings_say() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[10:50, 20:50] = (255, 51, 0)
    means = ModelScorer(mean_of_channels(3), settings_of(live=0, activation="none"))
    box = (20.0, 10.0, 50.0, 40.0)
    assert means({"colour": photo}, box) == pytest.approx(1)
    blue_first = ModelScorer(mean_of_channels(3), settings_of(channels="bgr", live=1, activation="none"))
    assert blue_first({"colour": photo}, box) == pytest.approx(0.2)
    wider = ModelScorer(mean_of_channels(3), settings_of(live=0, activation="none", around=2))
    assert 0.2 < wider({"colour": photo}, box) < 0.45, (
        "a quarter of the square is face, and black comes in from outside"
    )
    infrared = np.full((60, 80, 3), 102, np.uint8)
    four = ModelScorer(mean_of_channels(4), settings_of(live=3, activation="none"))
    assert four({"colour": photo, "infrared": infrared}, box) == pytest.approx(0.4)


def test_outputs_become_probabilities() -> None:
    white = {"colour": np.full((200, 240, 3), 255, np.uint8)}
    softmax = ModelScorer(mean_of_channels(3), settings_of(live=2))
    assert softmax(white, ONE) == pytest.approx(1 / 3, abs=0.2)
    sigmoid = ModelScorer(mean_of_channels(3), settings_of(live=2, activation="sigmoid"))
    assert 0.5 <= sigmoid(white, ONE) <= 1 / (1 + math.exp(-1)) + 1e-6


def test_a_model_that_is_missing_or_another_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pad.onnx"
    file.write_bytes(mean_of_channels(3))
    pinned = hashlib.sha256(file.read_bytes()).hexdigest()

    def of(**fields: Any) -> LivenessSettings:
        return LivenessSettings.model_validate({"threshold": 0.5, "model": {"size": 16, "live": 1} | fields})

    LivenessCheck(of(sha256=pinned, file=file, activation="sigmoid"), detector=Finds(ONE)).require_live(PHOTO)
    wrong = [
        {"sha256": "1" * 64, "file": file},
        {"sha256": pinned, "file": tmp_path / "none.onnx"},
        {"sha256": pinned, "file": file, "live": 3},
        {"sha256": pinned, "file": file, "size": 32},
    ]
    for fields in wrong:
        with pytest.raises(LivenessError):
            LivenessCheck(of(**fields), detector=Finds(ONE)).require_live(PHOTO)


def test_a_function_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_liveness.py").write_text("def check(images, box):\n    return 0.25\n\nnothing = None\n")
    monkeypatch.syspath_prepend(tmp_path)

    def of(name: str) -> Any:
        return scorer_of(LivenessSettings(threshold=0.5, function=name))

    assert of("my_liveness:check")({}, ONE) == 0.25
    for name in ("my_liveness:none", "my_liveness:nothing", "no_such_module:check"):
        with pytest.raises(LivenessError):
            of(name)


@pytest.mark.parametrize(
    "fields",
    [{}, {"function": "a:b", "model": {"sha256": "0" * 64, "size": 80}}, {"function": "a.b"},
     {"function": "a:b", "threshold": 0},
     {"function": "a:b", "images": ["infrared"]}, {"function": "a:b", "images": ["colour", "colour"]},
     {"function": "a:b", "operations": []}],
)  # fmt: skip
def test_settings_that_say_nothing_clear_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LivenessSettings.model_validate({"threshold": 0.5} | fields)


# -- the SDK ---------------------------------------------------------------------------------------------


@pytest.fixture
def client_with(settings: DeviceSettings, fakes: FakeMatchers) -> Callable[..., AsyncClient]:
    def make(**fields: Any) -> AsyncClient:
        asked = LivenessSettings.model_validate({"threshold": 0.5, "function": "no_such_module:check"} | fields)
        configured = settings.model_copy(update={"liveness": asked})
        return AsyncClient(configured, matchers=fakes.all, capture=FakeCapture())

    return make


@pytest.fixture(autouse=True)
def in_a_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d.jpg", "print.jpg", "live.jpg"):
        (tmp_path / name).write_text(name)


async def test_a_detector_that_is_missing_ends_every_query(
    client_with: Callable[..., AsyncClient], fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LivenessCheck, "_seen", lambda self, shot: ({"colour": PHOTO}, ONE))
    async with client_with() as client:
        fakes.looks_like = {"alice"}
        assert (await client.enrol("alice", "1.jpg")).templates == 1, "enrolment is not asked about by default"
        asked = len(fakes.a.requests)
        calls = [
            client.verify("alice", "d.jpg"),
            client.candidates("d.jpg"),
            client.identify("d.jpg"),
            client.known("d.jpg"),
        ]
        calls += [
            client.verify_embedding("alice", face(1), model="toy"),
            client.candidates_embedding(face(1), model="toy"),
        ]
        calls += [client.identify_embedding(face(1), model="toy"), client.known_embedding(face(1), model="toy")]
        for call in calls:
            with pytest.raises(LivenessError):
                await call
        assert len(fakes.a.requests) == asked, "nothing was asked"


async def test_enrolment_is_checked_if_settings_say_so(
    client_with: Callable[..., AsyncClient], monkeypatch: pytest.MonkeyPatch, fakes: FakeMatchers
) -> None:
    monkeypatch.setattr(LivenessCheck, "is_live", lambda self, shot: shot.colour == b"live.jpg")
    async with client_with(operations=["enrol"]) as client:
        with pytest.raises(PresentationAttackError, match="alice, photo 1 of 1"):
            await client.enrol("alice", "print.jpg")
        with pytest.raises(LivenessError):
            await client.enrol_embedding("alice", face(1), model="toy")
        with pytest.raises(LivenessError):
            await client.enrol_many_embeddings({"alice": face(1)}, model="toy")
        assert (await client.enrol("alice", Shot("live.jpg", infrared="i.png"))).templates == 1
        fakes.looks_like = {"alice"}
        assert await client.verify("alice", "print.jpg"), "queries are not asked about here"


async def test_what_is_found_live_is_what_is_embedded(
    client_with: Callable[..., AsyncClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photo, seen = tmp_path / "door.jpg", []

    def swapped(self: LivenessCheck, shot: Shot) -> bool:
        seen.append(shot.colour)
        photo.write_bytes(b"a print")
        return True

    def embed_photo(self: FakeCapture, source: Any) -> np.ndarray:
        seen.append(source)
        return face(1)

    monkeypatch.setattr(LivenessCheck, "is_live", swapped)
    monkeypatch.setattr(FakeCapture, "embed_photo", embed_photo)
    photo.write_bytes(b"live")
    async with client_with() as client:
        await client.candidates(str(photo))
    assert seen == [b"live", b"live"]


# -- the verdict in the request --------------------------------------------------------------------------


async def test_the_verdict_goes_into_each_query_once_all_matchers_know_it(
    client_with: Callable[..., AsyncClient], monkeypatch: pytest.MonkeyPatch, fakes: FakeMatchers
) -> None:
    monkeypatch.setattr(LivenessCheck, "is_live", lambda self, shot: True)
    began_ms = int(time.time() * 1000)
    async with client_with() as client:
        for ask in (client.candidates, client.identify, client.known, partial(client.verify, "alice")):
            await ask("d.jpg")
            said = body_of(fakes.a.requests[-1])
            assert said.liveness.detector == function_id("no_such_module:check")
            assert began_ms <= said.liveness.checked_at_ms <= said.issued_at_ms
        await client.enrol("alice", "1.jpg")
        assert not body_of(fakes.a.requests[-1]).HasField("liveness")
    for late in "abc":
        fakes.a.hello = fakes.b.hello = fakes.c.hello = our_hello()
        getattr(fakes, late).hello = UNSAID
        async with client_with() as client:
            await client.known("d.jpg")
            assert not body_of(fakes.a.requests[-1]).HasField("liveness"), late


async def test_without_a_check_nothing_is_said_of_liveness(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    async with AsyncClient(settings, matchers=fakes.all, capture=FakeCapture()) as client:
        await client.known("d.jpg")
    assert not body_of(fakes.a.requests[-1]).HasField("liveness")
