"""The test photos: the ORL set (40 people, 10 grey photos each) and colour photos of public figures.

ORL is credited to AT&T Laboratories Cambridge. None of them may be republished with Veilmatch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilmatch.client.models import cache
from veilmatch.client.models.catalogue import ORL, ORL_PHOTOS, ORL_SUBJECTS, PORTRAITS, SCENES, Bundle
from veilmatch.crypto.errors import InvalidInputError


@dataclass(frozen=True)
class FixturePhoto:
    """A colour photo. person: who it shows; whole_face: False if the photo's edge cuts the face."""

    path: Path
    person: str
    whole_face: bool
    licence: str


def orl_photo(subject: int, photo: int) -> Path:
    """Return an ORL photo (PGM, 92x112, grey). subject: 1..40; photo: 1..10.

    Raises InvalidInputError outside these ranges, ModelError if the photos are not installed or altered.
    """
    if not (1 <= subject <= ORL_SUBJECTS and 1 <= photo <= ORL_PHOTOS):
        raise InvalidInputError(
            "no such ORL photo",
            got=f"subject {subject}, photo {photo}",
            expected=f"subject 1..{ORL_SUBJECTS}, photo 1..{ORL_PHOTOS}",
        )
    return verified_path(ORL, f"s{subject}/{photo}.pgm")


def fixture_photos() -> tuple[FixturePhoto, ...]:
    """Return the colour photos; each shows exactly one face. Raises ModelError as `orl_photo`."""
    return tuple(
        FixturePhoto(verified_path(bundle, name), person, whole_face, bundle.licence)
        for bundle, name, person, whole_face in _FIXTURES
    )


def verified_path(bundle: Bundle, name: str) -> Path:
    """Return where a file of the bundle lies, verified. Raises ModelError if it is missing or altered."""
    cache.read_file(bundle, name)
    return cache.cache_dir() / bundle.directory / name


_FIXTURES = (
    (PORTRAITS, "impostor_1.jpg", "Barack Obama", True),
    (PORTRAITS, "impostor_2.jpg", "Rishi Sunak", True),
    (PORTRAITS, "person_a_1.jpg", "Emmanuel Macron", True),
    (PORTRAITS, "person_a_2.jpg", "Emmanuel Macron", True),
    (PORTRAITS, "person_b_1.jpg", "Jacinda Ardern", True),
    (PORTRAITS, "person_b_2.jpg", "Jacinda Ardern", True),
    (SCENES, "32bit.png", "Barack Obama", True),
    (SCENES, "biden.jpg", "Joe Biden", True),
    (SCENES, "obama.jpg", "Barack Obama", True),
    (SCENES, "obama2.jpg", "Barack Obama", True),
    (SCENES, "obama3.jpg", "Barack Obama", True),
    (SCENES, "obama_partial_face.jpg", "Barack Obama", False),
    (SCENES, "obama_partial_face2.jpg", "Barack Obama", False),
)
