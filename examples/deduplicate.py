"""De-duplication: who is registered already, perhaps under another name, is not registered again.

python examples/deduplicate.py photos/      # photos/APPLICATION.jpg, one for each application

Each application is enrolled unless it is known: one change that searches and stores, so that of two offices which
register the same person at the same moment one finds the other. A search of a gallery of n people errs n times as often
as a comparison, so its threshold is higher: `veilmatch eval` says which. Applications that match go to a person, who is
shown whom they look like, and decides. The offices ask with the mirror image as well, which finds a photo that was
turned over.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from veilmatch import Client, InvalidInputError
from veilmatch.testing import LocalInstallation

THRESHOLD = 0.50


@dataclass
class Outcome:
    """What became of the applications. to_look_at: with those in the gallery whom they look like. unusable: why."""

    registered: list[str] = field(default_factory=list)
    to_look_at: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def register(client: Client, applications: Iterable[Path]) -> Outcome:
    """Register each application that looks like nobody in the gallery, those before it included."""
    outcome = Outcome()
    for photo in applications:
        try:
            if client.known(photo, mirror=True, threshold=THRESHOLD):
                known = True
            else:
                known = client.enrol(photo.stem, photo, unless_known=True, threshold=THRESHOLD).known
        except InvalidInputError as error:
            outcome.unusable[photo.stem] = error.message
            continue
        if known:
            alike = client.candidates(photo, mirror=True, threshold=THRESHOLD)
            outcome.to_look_at[photo.stem] = alike.subjects
        else:
            outcome.registered.append(photo.stem)
    return outcome


def main(installation: LocalInstallation, folder: Path) -> Outcome:
    """Register all photos of a folder, in order of names."""
    with installation.client() as client:
        outcome = register(client, sorted(path for path in folder.iterdir() if path.is_file()))
    print("registered:", ", ".join(outcome.registered))
    for name, subjects in outcome.to_look_at.items():
        print(f"to look at: {name}, like {', '.join(subjects)}")
    for name, why in outcome.unusable.items():
        print(f"unusable: {name}, {why}")
    return outcome


if __name__ == "__main__":
    with LocalInstallation() as made:
        main(made, Path(sys.argv[1]))
