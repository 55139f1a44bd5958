"""How far the rotation of a gallery has come, and what its next step is. Pure: no I/O, no ciphertexts.

The gallery under the new key is filled by mutations of kind "rotate", whose results say which template of the old
gallery went where. Folding them in order gives a `Progress`; comparing it with what the old gallery holds now gives
the next `Step`. So nothing else needs to be kept, and a rotation goes on where it stopped, also if the old gallery
was changed meanwhile. Both matchers compute the same from the same two galleries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Templates that one step converts: bounded, so that queries are answered between steps.
STEP_TEMPLATES = 32

#: A template of the old gallery for ever: pack, slot, number of the mutation that added it.
Source = tuple[int, int, int]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Convert:
    """Bring these templates under the new key."""

    sources: Sequence[Source]


@dataclass(frozen=True, slots=True)
class Empty:
    """Empty this pack of the new gallery: it holds a template that was erased from the old one meanwhile.

    Nobody can take one column out under the new key yet, so the others of the pack are converted again.
    """

    pack: int


@dataclass(frozen=True, slots=True)
class Close:
    """Everything is converted: close the old gallery to changes."""


Step = Convert | Empty | Close


@dataclass
class Progress:
    """Where each converted template went."""

    sequence: int = 0
    places: dict[Source, Place] = field(default_factory=dict)

    def fold(self, sequence: int, result: str) -> None:
        """Take in the result of mutation number `sequence`, of kind "rotate"; in order, each once."""
        done = json.loads(result)
        for pack, slot, added_in, new_pack, new_slot in done.get("converted", ()):
            self.places[pack, slot, added_in] = (new_pack, new_slot)
        if (emptied := done.get("emptied")) is not None:
            self.places = {source: place for source, place in self.places.items() if place[0] != emptied}
        self.sequence = sequence

    def next_step(self, sources: Sequence[Source]) -> Step:
        """Return what to do next. sources: the templates that the old gallery holds now, in order."""
        present = set(sources)
        gone = [place[0] for source, place in self.places.items() if source not in present]
        if gone:
            return Empty(min(gone))
        waiting = [source for source in sources if source not in self.places]
        return Convert(waiting[:STEP_TEMPLATES]) if waiting else Close()


def converted_result(sources: Sequence[Source], places: Sequence[Place]) -> str:
    """Return the result of a mutation that converted sources[i] to places[i]."""
    converted = [[*source, *place] for source, place in zip(sources, places, strict=True)]
    return json.dumps({"templates": len(places), "converted": converted})


def emptied_result(pack: int) -> str:
    """Return the result of a mutation that emptied a pack."""
    return json.dumps({"templates": 0, "emptied": pack})
