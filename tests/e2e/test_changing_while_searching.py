"""Searches and changes at the same time, over real processes: every answer is about one state, and says which."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.e2e.world import World, near, unit
from veilmatch.client.results import Candidates


def test_answers_are_about_one_state_each_while_the_gallery_changes(world: World) -> None:
    rng = np.random.default_rng(41)
    crowd = unit(rng, 60, world.parameters.dimension)
    face = unit(rng, 1, world.parameters.dimension)[0]
    names = [f"crowd-{i}" for i in range(len(crowd))]
    stop, answers = threading.Event(), list[Candidates]()

    def search() -> None:
        with world.client(timeout_s=60.0) as client:
            while not stop.is_set():
                answers.append(client.candidates_embedding(face, model="toy"))

    with world.client(timeout_s=60.0) as client:
        client.enrol_many_embeddings(list(zip(names, crowd, strict=True)), model="toy")
        before = client.candidates_embedding(face, model="toy")
        #: By the number of the change: who looks like the face from then on, and how many templates there are.
        present: dict[int, tuple[frozenset[str], int]] = {before.sequence: (frozenset(before.subjects), len(crowd))}
        here = set(before.subjects)
        with ThreadPoolExecutor(3) as searching:
            running = [searching.submit(search) for _ in range(3)]
            try:
                for i in range(8):
                    done = client.enrol_embedding(f"alike-{i}", near(rng, face, 0.1), model="toy")
                    here.add(f"alike-{i}")
                    present[done.sequence] = frozenset(here), len(crowd) + len(here)
                    if i % 2:
                        gone = client.erase(f"alike-{i - 1}")
                        here.remove(f"alike-{i - 1}")
                        present[gone.sequence] = frozenset(here), len(crowd) + len(here)
            finally:
                stop.set()
            for one in running:
                one.result()
        assert here == {f"alike-{i}" for i in (1, 3, 5, 7)}
        assert len({answer.sequence for answer in answers}) > 1, "no search came between two changes"
        for answer in answers:
            assert (frozenset(answer.subjects), answer.compared) == present[answer.sequence]
        for entry in client.subjects():
            client.erase(entry.subject)
