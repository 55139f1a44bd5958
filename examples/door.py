"""A door: the staff are enrolled from a folder, and it opens for those whom it knows.

python examples/door.py people/ visitor.jpg another.jpg      # people/NAME/*.jpg

All organisations are made on this machine for as long as this runs, with a key that protects nobody. In earnest the
door has a `device.toml`: `Client.from_config("device.toml")`, and all else stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from veilmatch import Client, InvalidInputError, UnavailableError
from veilmatch.testing import LocalInstallation


def enrol_staff(client: Client, people: Path) -> None:
    """Enrol everybody of whom there is a folder of photos. Running it again adds nothing twice."""
    for folder in sorted(path for path in people.iterdir() if path.is_dir()):
        client.enrol(folder.name, *sorted(folder.iterdir()), once=True)


def at_the_door(client: Client, photo: Path) -> str:
    """Return what the door says to whoever is in the photo. It opens for "welcome" alone: an error is no welcome."""
    try:
        found = client.identify(photo)
    except InvalidInputError as error:  # no face, two faces, too small
        return f"once more, please: {error.message}"
    except UnavailableError:
        return "the door cannot ask just now: please ring"
    return f"welcome, {found.subject}" if found else "nobody we know"


def main(installation: LocalInstallation, people: Path, *visitors: Path) -> None:
    """Enrol, and say what the door says to each visitor."""
    with installation.client() as client:
        enrol_staff(client, people)
        print("enrolled:", ", ".join(entry.subject for entry in client.subjects()))
        for photo in visitors:
            print(f"{photo.name}: {at_the_door(client, photo)}")


if __name__ == "__main__":
    with LocalInstallation() as made:
        main(made, *map(Path, sys.argv[1:]))
