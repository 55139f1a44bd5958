"""The comparison with peers: what is missing is never a number, and what was not measured says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from benchmarks.peers import chart, paillier_libraries, plain, report, runs, tenseal_expert, tenseal_users, veilmatch
from benchmarks.peers.rows import Cost, Row, Sizes, measured, on_line
from benchmarks.peers.shared import measuring
from benchmarks.peers.work import gallery, probe
from veilmatch.client.client import Client
from veilmatch.client.evaluation.figures.curves import svg
from veilmatch.crypto.errors import ParameterError
from veilmatch.server.supervisor import Supervisor

SMALL = Sizes((10, 20, 1_000), 20, 60.0)


@pytest.fixture
def without_tenseal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tenseal"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tenseal", None)


def test_a_missing_peer_is_reported_as_missing_and_has_no_figures(
    without_tenseal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cells(dimension: int, sizes: Sizes, quick: bool) -> Iterator[runs.Cell]:
        yield [plain.PEER], lambda: plain.rows(dimension, SMALL)
        yield [tenseal_users.PEER], lambda: tenseal_users.rows(dimension, SMALL)
        yield [tenseal_expert.PEER], lambda: tenseal_expert.rows(dimension, SMALL)

    monkeypatch.setattr(runs, "cells", cells)
    figures = runs.run(quick=True)
    names = [tenseal_users.PEER.name, tenseal_expert.PEER.name]
    assert figures["missing"] == [{"peer": name, "install": "tenseal"} for name in names]
    assert {row["peer"] for row in figures["rows"]} == set(figures["peers"]) == {plain.PEER.name}
    assert figures["bars"] == []


def test_only_the_package_of_a_peer_may_be_missing() -> None:
    def broken() -> Iterator[Row]:
        import no_such_module_of_anybody  # noqa: F401

        yield Row("", 1, 1, 2.0, 2.0, None, 1, 1)

    for peer in (plain.PEER, tenseal_users.PEER):
        with pytest.raises(ModuleNotFoundError):
            runs.attempt([peer], broken, {})


def test_other_faults_of_a_peer_are_not_taken_for_a_missing_one() -> None:
    def failing() -> Iterator[Row]:
        raise ParameterError("wrong")
        yield

    with pytest.raises(ParameterError):
        runs.attempt([tenseal_users.PEER], failing, {})


def test_the_document_of_a_run_has_its_fields_and_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = runs.veilmatch.peer("candidates", runs.backends()[0])

    def cells(dimension: int, sizes: Sizes, quick: bool) -> Iterator[runs.Cell]:
        yield [plain.PEER], lambda: plain.rows(dimension, SMALL)
        yield [own], lambda: [Row(own.name, dimension, n, 0.01, 0.01, None, 1, 1) for n in SMALL.identities]
        yield (
            [tenseal_expert.PEER],
            lambda: [
                Row(tenseal_expert.PEER.name, dimension, n, 0.005, 0.1, None, 2e6, 2e3, 1e-4) for n in SMALL.identities
            ],
        )

    monkeypatch.setattr(runs, "cells", cells)
    figures = json.loads(json.dumps(runs.run(quick=True)))
    assert set(figures) == {"cpu", "cores", "quick", "box_s", "peers", "rows", "missing", "bars"}
    for row in figures["rows"]:
        assert row["cpu_s_per_identity"] == row["cpu_s"] / row["identities"] > 0
        assert (row["extrapolated"] is None) == (row["identities"] <= 20 or row["peer"] != plain.PEER.name)
    assert [bar["identities"] for bar in figures["bars"]] == list(SMALL.identities)
    for bar in figures["bars"]:
        assert (bar["peer"], bar["ratio"], bar["met"]) == (tenseal_expert.PEER.name, 0.5, False)
    for peer in figures["peers"].values():
        assert {"name", "operation", "probe", "template", "score_to", "security_bits"} <= set(peer)
    report.show(figures)
    printed = capsys.readouterr().out
    assert "NO" in printed and " x" in printed and "2.0 MB" in printed


def test_secret_shares_are_a_row_of_every_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for quick in (True, False):
        for dimension in (128, 512):
            assert [measuring.PEER] in [peers for peers, _ in runs.cells(dimension, SMALL, quick)]
    monkeypatch.setattr(runs, "QUICK", SMALL)
    figures = json.loads(json.dumps(runs.run(quick=True, only=("secret", "numpy"))))
    assert [row["peer"] for row in figures["rows"]] == [plain.PEER.name] * 3 + [measuring.PEER.name] * 3
    assert [row["rounds"] for row in figures["rows"]] == [None] * 3 + [7] * 3
    report.show(figures)
    printed = capsys.readouterr().out
    assert "two servers together" in printed and "servers send" in printed


def test_only_the_peers_asked_for_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def noted(name: str) -> list[Row]:
        measured.append(name)
        return []

    def cells(dimension: int, sizes: Sizes, quick: bool) -> Iterator[runs.Cell]:
        for peer in (plain.PEER, tenseal_users.PEER, tenseal_expert.PEER):
            yield [peer], partial(noted, peer.name)

    monkeypatch.setattr(runs, "cells", cells)
    runs.run(quick=True, only=("expert", "numpy"))
    assert measured == [plain.PEER.name, tenseal_expert.PEER.name]
    runs.run(quick=True)
    assert measured[2:] == [plain.PEER.name, tenseal_users.PEER.name, tenseal_expert.PEER.name]


def test_the_chart_has_a_panel_for_each_dimension_and_marks_what_was_not_measured() -> None:
    rows = [
        Row(name, dimension, n, n * 2e-6, 1.0, None if n < 50 else "x, from 10", 1, 1).as_json()
        for dimension in (128, 512)
        for name in ("Veilmatch candidates", "numpy")
        for n in (10, 100)
    ]
    figure = chart.draw({"rows": rows})
    assert [axes.get_title() for axes in figure.axes] == ["D = 128", "D = 512"]
    for axes in figure.axes:
        assert [list(line.get_xdata()) for line in axes.lines] == [[10, 100], [100]] * 2
        assert list(axes.lines[0].get_ydata()) == pytest.approx([2.0, 2.0])
    text = svg(figure)
    for words in ("Veilmatch candidates", "numpy", "hollow: extrapolated", "[µs]"):
        assert words in text
    assert not chart.draw({"rows": []}).axes


@pytest.mark.parametrize("operation", veilmatch.OPERATIONS)
def test_veilmatch_is_asked_as_its_client_wants_it(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_autospec(Client, instance=True)
    client.candidates_embedding.return_value = SimpleNamespace(subjects=("p0",), probe_bytes=5)
    client.identify_embedding.return_value = SimpleNamespace(subject="p0", probe_bytes=5)
    monkeypatch.setattr(veilmatch, "wait_until_idle", lambda parties: None)
    monkeypatch.setattr(veilmatch, "_cpu_s", lambda parties: 0.0)
    cost, sent = veilmatch._query(client, create_autospec(Supervisor, instance=True), operation, 128)
    assert sent == 5 and cost.wall_s > 0


def test_a_run_leaves_the_process_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    os = runs.os
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(runs, "cells", lambda *arguments: iter(()))
    runs.run(quick=True)
    assert os.sched_getaffinity(0) == before


def test_sizes_beyond_the_time_box_are_extrapolated_and_say_from_what() -> None:
    asked = []

    def ask(n: int) -> Cost:
        asked.append(n)
        return Cost(5.0 + n, 2.0 * n)

    found = list(measured(ask, Sizes((10, 100, 1_000, 10_000), 10_000, 200.0)))
    assert asked == [10, 100]
    assert [how for _, _, how in found] == [None, None, "x, from 10 and 100", "x, from 10 and 100"]
    assert found[-1][1] == Cost(10_005.0, 20_000.0)


def test_one_measurement_extends_through_the_origin() -> None:
    assert on_line([(2, Cost(4.0, 6.0))], 10) == Cost(20.0, 30.0)


def test_ciphertexts_made_quickly_are_those_of_phe() -> None:
    paillier = pytest.importorskip("phe").paillier
    public, private = paillier.generate_paillier_keypair(n_length=512)
    values = [0, 1, public.n - 1, 12345]
    made = paillier_libraries.encrypt_quickly(values, public.n)
    assert [private.raw_decrypt(c) for c in made] == values
    assert len(set(made)) == len(made)


def test_packed_scores_are_those_of_plain_numbers() -> None:
    pytest.importorskip("tenseal", reason="an optional peer, not installed for development")
    q = probe(128)
    for identities, baby in ((2_100, 16), (100, 128)):  # two blocks with giant steps, and none
        vectors = gallery(128, identities)
        packed = tenseal_expert.PackedGallery(vectors, baby)
        assert np.abs(packed.scores(q, identities) - vectors @ q).max() < 5e-3
        assert len(packed.scores(q, 30)) == 30
