"""Classes in place of people: what is a photo like, said by a classifier that neither servers nor this device see.

veilmatch heads train photos/ --name look -o look.head     # photos/CLASS/PERSON/*.jpg
python examples/classes.py look.head photo.jpg ...

Who owns the classifier enrols it, once; who asks has its name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from veilmatch import ClassCapture, Client, Head, InvalidInputError
from veilmatch.testing import LocalInstallation


def main(installation: LocalInstallation, file: Path, *photos: Path) -> dict[str, str | None]:
    """Enrol the head and say the class of each photo; None for one that cannot be used."""
    head, said = Head.load(file), dict[str, str | None]()
    with installation.client() as owner:
        head.enrol(owner)
    settings = installation.settings()
    with Client(settings, capture=ClassCapture.of_device(settings, head.name, head.threshold)) as client:
        for photo in photos:
            try:
                said[photo.stem] = client.identify(photo, threshold=head.threshold).subject
            except InvalidInputError as error:
                print(f"{photo.name}: {error.message}")
                said[photo.stem] = None
            else:
                print(f"{photo.name}: {said[photo.stem]}")
    return said


if __name__ == "__main__":
    with LocalInstallation() as installation:
        main(installation, *map(Path, sys.argv[1:]))
