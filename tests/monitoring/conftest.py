from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.world import EVERYBODY, World, running
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import load_daemon

TOY = ParameterSet(modulus_bits=1024)
#: One sample: its name, and its labels in order.
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation of two devices whose daemons are scraped."""
    with running(tmp_path_factory.mktemp("monitored") / "installation", TOY, 2) as made:
        yield made


def page(world: World, party: str, path: str = "/metrics") -> str:
    settings = load_daemon(world.parties.config(party))
    assert settings.metrics is not None
    with urllib.request.urlopen(f"http://{settings.metrics.listen}{path}", timeout=10) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


def scraped(world: World, party: str) -> dict[Sample, float]:
    """What a daemon's metrics say, by name and labels."""
    families = text_string_to_metric_families(page(world, party))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def number(found: dict[Sample, float], name: str, **labels: str) -> float:
    """The same; 0 where nothing has been counted yet."""
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def everywhere(world: World) -> dict[str, dict[Sample, float]]:
    return {party: scraped(world, party) for party in EVERYBODY}
