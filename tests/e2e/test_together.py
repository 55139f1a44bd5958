"""Many verifications at once, by real daemons: right answers, each noted by itself."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np

from tests.e2e.world import World, near, unit
from veilmatch.client.async_client import AsyncClient
from veilmatch.server.keyholder.audit.check import entries_of

RNG = np.random.default_rng(808)
COUNT = 24


async def verified(world: World, faces: np.ndarray, claimed: list[int]) -> list[bool | BaseException]:
    """Ask for all at once: whether each face is the subject that it claims to be."""
    async with AsyncClient(world.settings()) as client:
        found = await asyncio.gather(
            *(
                client.verify_embedding(f"together-{i}", face, model="toy")
                for face, i in zip(faces, claimed, strict=True)
            ),
            return_exceptions=True,
        )
    return [one if isinstance(one, BaseException) else one.decision for one in found]


def test_many_at_once_are_answered_right_and_noted_one_by_one(world: World) -> None:
    people = unit(RNG, 4, 128)
    with world.client() as client:
        for i, person in enumerate(people):
            client.enrol_embedding(f"together-{i}", person, model="toy")
        try:
            before = sessions(world)
            faces = np.array([near(RNG, people[i % 4], 0.02) for i in range(COUNT)])
            claimed = [(i + i // 4 % 2) % 4 for i in range(COUNT)]
            found = asyncio.run(verified(world, faces, claimed))
            assert found == [i % 4 == claimed[i] for i in range(COUNT)]
            new = sessions(world) - before
            # A slow pair is given up for another, which notes it by an id of its own; the first may have noted half.
            assert max(new.values()) == 2, "no id is used again"
            assert sum(noted == 2 for noted in new.values()) >= COUNT, "each at both, by an id of its own"
        finally:
            for i in range(4):
                client.erase(f"together-{i}")


def sessions(world: World) -> Counter[str]:
    """Ids of the verifications that key holders have noted."""
    return Counter(
        str(entry.fields["session"])
        for party in "abc"
        for entry in entries_of(world.folder(f"keyholder-{party}") / "data")
        if entry.event == "session" and entry.fields["operation"] == "verify"
    )
