"""What the demonstration does: enrol real people, verify them rightly and wrongly, search for them.

Every encrypted decision is compared with the decision that plain integers give: the quantised
vectors' inner product against the threshold. The photos are the AT&T/ORL set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.config import DeviceSettings
from veilmatch.client.demo.witness import Witness
from veilmatch.client.models import orl_photo
from veilmatch.client.results import Candidates, Timings, Verification
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

ENROLLED_PHOTO, VERIFIED_PHOTO, SEARCHED_PHOTO = 1, 5, 9

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Verified:
    """One verification: who was claimed, by which photo, what came out and what plain integers say."""

    subject: str
    photo: str
    genuine: bool
    expected: bool
    result: Verification


@dataclass(frozen=True)
class Searched:
    """One search: whose photo it was, who came out and who plain integers say."""

    subject: str
    photo: str
    expected: tuple[str, ...]
    result: Candidates


@dataclass
class Story:
    """All that happened."""

    threshold: int
    subjects: list[str]
    model: str
    embed_s: list[float] = field(default_factory=list)
    enrol_s: list[float] = field(default_factory=list)
    verifications: list[Verified] = field(default_factory=list)
    searches: list[Searched] = field(default_factory=list)
    witness: Witness | None = None

    @property
    def exact(self) -> bool:
        """Whether every encrypted decision equals the plaintext one, and there were some of each kind."""
        verified = all(v.result.decision == v.expected for v in self.verifications)
        searched = all(s.result.subjects == s.expected for s in self.searches)
        return verified and searched and bool(self.verifications) and bool(self.searches)


async def live_through(config: Path, people: int, parameters: ParameterSet, progress: Progress) -> Story:
    """Run the demonstration against the parties of a device's configuration. people: 2..40."""
    settings = DeviceSettings.load(config)
    subjects = [f"person-{number:02d}" for number in range(1, people + 1)]
    pipeline = CapturePipeline.default()
    story = Story(parameters.threshold(settings.threshold), subjects, pipeline.model_id)
    photos = _embed_all(people, pipeline, story, progress)
    vectors = {key: quantise(embedding, parameters) for key, embedding in photos.items()}
    story.witness = Witness(settings)
    async with AsyncClient(settings, matchers=story.witness.matchers) as client:
        for done, subject in enumerate(subjects):
            progress("enrol", done, people)
            started = time.perf_counter()
            await client.enrol_embedding(subject, photos[done + 1, ENROLLED_PHOTO], model=story.model)
            story.enrol_s.append(time.perf_counter() - started)
        for done in range(people):
            progress("verify", done, people)
            for claimed in (done, (done + 1) % people):
                story.verifications.append(await _verify(client, story, photos, vectors, done + 1, claimed + 1))
        for done in range(people):
            progress("search", done, people)
            story.searches.append(await _search(client, story, photos, vectors, done + 1))
    return story


def _embed_all(
    people: int, pipeline: CapturePipeline, story: Story, progress: Progress
) -> dict[tuple[int, int], Embedding]:
    wanted = [(p, n) for p in range(1, people + 1) for n in (ENROLLED_PHOTO, VERIFIED_PHOTO, SEARCHED_PHOTO)]
    photos = {}
    for done, (person, number) in enumerate(wanted):
        progress("embed", done, len(wanted))
        started = time.perf_counter()
        photos[person, number] = pipeline.embed_photo(orl_photo(person, number))
        story.embed_s.append(time.perf_counter() - started)
    return photos


async def _verify(
    client: AsyncClient,
    story: Story,
    photos: Mapping[tuple[int, int], Embedding],
    vectors: Mapping[tuple[int, int], Array],
    person: int,
    claimed: int,
) -> Verified:
    claim, photo = story.subjects[claimed - 1], photos[person, VERIFIED_PHOTO]
    result = await client.verify_embedding(claim, photo, model=story.model)
    expected = _score(vectors[person, VERIFIED_PHOTO], vectors[claimed, ENROLLED_PHOTO]) >= story.threshold
    return Verified(result.subject, _photo_name(person, VERIFIED_PHOTO), person == claimed, expected, result)


async def _search(
    client: AsyncClient,
    story: Story,
    photos: Mapping[tuple[int, int], Embedding],
    vectors: Mapping[tuple[int, int], Array],
    person: int,
) -> Searched:
    result = await client.candidates_embedding(photos[person, SEARCHED_PHOTO], model=story.model)
    probe = vectors[person, SEARCHED_PHOTO]
    expected = tuple(
        subject
        for number, subject in enumerate(story.subjects, 1)
        if _score(probe, vectors[number, ENROLLED_PHOTO]) >= story.threshold
    )
    return Searched(story.subjects[person - 1], _photo_name(person, SEARCHED_PHOTO), expected, result)


def _score(probe: Array, template: Array) -> int:
    return int(probe @ template)


def _photo_name(person: int, number: int) -> str:
    return f"s{person}/{number}.pgm"


def as_json(story: Story, parameter_set: str, ceremony_s: float) -> dict[str, Any]:
    """Return the figures of a story as JSON types."""
    return {
        "parameter_set": parameter_set,
        "subjects": story.subjects,
        "verifications": [
            {
                "subject": v.subject,
                "photo": v.photo,
                "genuine": v.genuine,
                "decision": v.result.decision,
                "expected": v.expected,
                "total_s": v.result.timings.total_s,
            }
            for v in story.verifications
        ],
        "candidates": [
            {
                "subject": s.subject,
                "photo": s.photo,
                "candidates": list(s.result.subjects),
                "expected": list(s.expected),
                "total_s": s.result.timings.total_s,
            }
            for s in story.searches
        ],
        "exact": story.exact,
        "probe_bytes": max(v.result.probe_bytes for v in story.verifications),
        "timings_s": {
            "ceremony": ceremony_s,
            "embed_median": median(story.embed_s),
            "enrol_median": median(story.enrol_s),
            "verify_median": medians([v.result.timings for v in story.verifications]),
            "candidates_median": medians([s.result.timings for s in story.searches]),
        },
    }


STEPS = ("device", "convert", "match", "decide", "total")


def medians(timings: list[Timings]) -> dict[str, float]:
    """Return the median of every step, in seconds."""
    return {step: median([getattr(t, f"{step}_s") for t in timings]) for step in STEPS}


def median(values: list[float]) -> float:
    """Return the upper median of a non-empty list."""
    return sorted(values)[len(values) // 2]
