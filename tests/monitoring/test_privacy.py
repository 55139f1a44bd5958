"""What metrics tell: nothing of whom a request is from or about, and nothing of how it was decided."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, World
from tests.monitoring.conftest import TOY, Sample, everywhere, page
from tests.monitoring.test_scraped import eventually
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings

#: Names that stand in no word of a metric.
SUBJECTS = ("zqxalice", "zqxbob")
rng = np.random.default_rng(11)
FACES = [one / np.linalg.norm(one) for one in rng.standard_normal((3, TOY.dimension))]
#: What goes on by itself, and times.
BY_ITSELF = (
    "process_", "veilmatch_peer_clock", "veilmatch_disk_free", "veilmatch_worker_busy", "veilmatch_calls_total",
    "veilmatch_audit_last", "veilmatch_stock_", "veilmatch_calls_in_progress", "veilmatch_gallery_behind",
    "veilmatch_peer_up", "veilmatch_pair_available", "veilmatch_pairs_available", "veilmatch_pairs_refilled",
    "veilmatch_connections", "veilmatch_ready",
)  # fmt: skip


def counters(world: World) -> dict[str, dict[Sample, float]]:
    """Everything that only requests move; of durations how many there are."""

    def is_counted(name: str) -> bool:
        timed = name.endswith(("_bucket", "_sum"))
        return not timed and not name.startswith(BY_ITSELF)

    def of_requests(sample: Sample) -> bool:
        return is_counted(sample[0]) and dict(sample[1]).get("of") != "stock"

    return {
        party: {sample: number for sample, number in found.items() if of_requests(sample)}
        for party, found in everywhere(world).items()
    }


def moved(world: World, client: Client, face: np.ndarray, expected: bool) -> dict[str, dict[Sample, float]]:
    """What one verification by this face moves."""
    before = counters(world)
    assert client.verify_embedding(SUBJECTS[0], face, model="toy").decision is expected

    def difference() -> dict[str, dict[Sample, float]]:
        after = counters(world)
        return {
            party: {s: n - before[party].get(s, 0.0) for s, n in after[party].items() if n != before[party].get(s, 0.0)}
            for party in EVERYBODY
        }

    # Each page is a second old at most, and a key holder counts when its matcher has read the answer.
    served = ("veilmatch_requests_total", (("code", "ok"), ("operation", "verify")))
    found = eventually(difference, lambda found: all(served in found[p] for p in EVERYBODY if p[-1] in "ab"))
    time.sleep(1.2)
    return difference() if found else found


@pytest.fixture(scope="module")
def client(world: World):  # type: ignore[no-untyped-def]
    # One pair, so that the same servers are asked each time.
    with world.client(pairs=["ab"]) as client:
        for subject, face in zip(SUBJECTS, FACES, strict=False):
            client.enrol_embedding(subject, face, model="toy")
        client.verify_embedding(SUBJECTS[0], FACES[0], model="toy")
        yield client


def test_a_match_and_none_move_the_same(world: World, client: Client) -> None:
    time.sleep(1.5)
    accepted = moved(world, client, FACES[0], expected=True)
    refused = moved(world, client, FACES[1], expected=False)
    assert accepted == refused
    # It is no comparison of nothing: both were counted, at four servers.
    for party in EVERYBODY:
        assert bool(accepted[party]) is (party[-1] in "ab")


def test_no_metric_names_a_subject_or_a_device(world: World, client: Client) -> None:
    client.identify_embedding(FACES[0], model="toy")
    client.candidates_embedding(FACES[2], model="toy")
    client.subjects()
    client.erase(SUBJECTS[1])
    time.sleep(1.2)
    other = DeviceSettings.load(world.directory / "device-2" / "device.toml").device
    for party in EVERYBODY:
        text = page(world, party).lower()
        for name in (*SUBJECTS, "zqx", world.settings().device, other, "device-"):
            assert name.lower() not in text, (party, name)


def test_labels_are_few_whatever_is_asked(world: World, client: Client) -> None:
    """A caller can make no series: labels are names of this code, of pairs and of galleries that are configured."""
    allowed = {
        "operation", "code", "stage", "method", "scope", "measure", "of", "pair", "kind", "named", "peer", "role",
        "lane", "state", "gallery", "called", "organisation",
        "party", "version", "backend", "parameters", "python", "le",
    }  # fmt: skip
    for party in EVERYBODY:
        for name, labels in everywhere(world)[party]:
            assert {key for key, _ in labels} <= allowed, name


def test_logs_of_daemons_that_are_scraped_say_nothing_of_scrapes(world: World) -> None:
    for party in EVERYBODY:
        assert "/metrics" not in world.log(party)
        assert isinstance(world.folder(party), Path)
