"""The main job over real processes: what the device learns equals what plain integers say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.e2e.world import World, integers, near, running, unit, veilmatch
from veilmatch.client.client import Client
from veilmatch.crypto.errors import DuplicateTokenError, InvalidInputError, ModelMismatchError, UnknownSubjectError
from veilmatch.crypto.pair.request import MAX_TEMPLATES
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet


def check_exactness(client: Client, parameters: ParameterSet, people: int, queries: int) -> None:
    """Enrol, verify and search random people; every decision has to equal the plaintext one."""
    rng = np.random.default_rng(people)
    gallery = unit(rng, people, parameters.dimension)
    names = [f"p{i}" for i in range(people)]
    client.enrol_embedding(names[0], gallery[0], model="toy")
    client.enrol_many_embeddings(list(zip(names[1:], gallery[1:], strict=True)), model="toy")
    templates = integers(gallery, parameters)
    t = parameters.threshold(0.40)
    for i in range(queries):
        probe = near(rng, gallery[i % people], [0.3, 2.1, 2.3][i % 3])
        scores = templates @ integers(probe, parameters)[0]
        claimed = i % people if i % 2 else (i + 1) % people
        assert client.verify_embedding(names[claimed], probe, model="toy").decision == bool(scores[claimed] >= t)
        found = client.candidates_embedding(probe, model="toy")
        assert found.subjects == tuple(n for n, s in zip(names, scores, strict=True) if s >= t)
        assert found.compared == people


def test_decisions_equal_the_plaintext_ones_with_a_toy_key(world: World) -> None:
    with world.client(gallery="main") as client:
        check_exactness(client, world.parameters, people=90, queries=8)
        for entry in client.subjects():
            client.erase(entry.subject)
        assert client.subjects() == []
        assert client.candidates_embedding(np.ones(128), model="toy").compared == 0


@pytest.mark.parametrize("parameters", [DEFAULT, D512], ids=lambda p: p.name)
def test_decisions_equal_the_plaintext_ones_at_full_size(tmp_path, parameters) -> None:  # type: ignore[no-untyped-def]
    with running(tmp_path / "installation", parameters) as world, world.client(timeout_s=60.0) as client:
        check_exactness(client, parameters, people=4, queries=3)
        probe = client.verify_embedding("p1", np.ones(parameters.dimension), model="toy")
        assert probe.probe_bytes <= (3000 if parameters == DEFAULT else 8000)


def test_scores_at_the_threshold_and_one_below_are_told_apart(world: World) -> None:
    rng = np.random.default_rng(7)
    template = unit(rng, 1, world.parameters.dimension)[0]
    other = near(rng, template, 1.0)
    score = int(integers(template, world.parameters)[0] @ integers(other, world.parameters)[0])
    with world.client() as client:
        client.enrol_embedding("edge", template, model="toy")
        square = world.parameters.scale**2
        for t, expected in ((score, True), (score + 1, False), (score - 1, True)):
            assert (
                client.verify_embedding("edge", other, model="toy", threshold=(t - 0.5) / square).decision is expected
            )
            assert bool(client.candidates_embedding(other, model="toy", threshold=(t - 0.5) / square)) is expected
        client.erase("edge")


def test_any_of_several_templates_of_a_subject_is_enough(world: World) -> None:
    rng = np.random.default_rng(11)
    faces = unit(rng, 5, world.parameters.dimension)
    with world.client() as client:
        client.enrol_embedding("many", *faces[:4], model="toy")
        client.enrol_embedding("one", faces[4], model="toy")
        for face in faces[:4]:
            assert client.verify_embedding("many", face, model="toy")
            assert client.candidates_embedding(face, model="toy").subjects == ("many",)
        assert not client.verify_embedding("many", faces[4], model="toy")
        assert {(s.subject, s.templates) for s in client.subjects()} == {("many", 4), ("one", 1)}
        assert client.erase("many").templates == 4
        with pytest.raises(UnknownSubjectError):
            client.verify_embedding("many", faces[0], model="toy")
        assert client.candidates_embedding(faces[0], model="toy").subjects == ()
        client.erase("one")


def test_verifications_are_exact_at_every_edge_whoever_made_the_records(world: World) -> None:
    """Random faces, and some of few coordinates that are clipped, against one subject's enrolled and bulk templates.

    At its best score, one below and one above.
    """
    rng = np.random.default_rng(18)
    p = world.parameters
    few = np.zeros((4, p.dimension))
    for row, places in zip(few, (range(6), range(6), range(3, 9), range(60, 66)), strict=True):
        row[list(places)] = rng.choice([-1.0, 1.0], 6)
    few[1] = -few[0]
    faces = np.concatenate([unit(rng, 4, p.dimension), few / 6**0.5])
    templates = integers(faces, p)
    assert (np.abs(templates[4:]).max(axis=1) == p.clip).all() and (templates[4] @ templates[4]) < p.scale**2
    probes = [*faces, *(near(rng, face, 0.9) for face in faces), *unit(rng, 2, p.dimension)]
    with world.client() as client:
        client.enrol_embedding("mixed", *faces[::2], model="toy")
        client.enrol_many_embeddings([("mixed", face) for face in faces[1::2]], model="toy")
        for probe in probes:
            best = int((templates @ integers(probe, p)[0]).max())
            for t in {max(1, min(best + more, p.threshold_max)) for more in (-1, 0, 1)}:
                found = client.verify_embedding("mixed", probe, model="toy", threshold=(t - 0.5) / p.scale**2)
                assert found.decision == (best >= t)
        assert client.erase("mixed").templates == 8


def test_a_subject_with_more_templates_than_a_verification_compares_is_refused_by_name_of_the_limit(
    world: World,
) -> None:
    rng = np.random.default_rng(19)
    faces = unit(rng, MAX_TEMPLATES + 1, world.parameters.dimension)
    with world.client(timeout_s=60.0) as client:
        client.enrol_many_embeddings([("crowd", face) for face in faces[:-1]], model="toy")
        assert client.verify_embedding("crowd", faces[-2], model="toy")
        assert not client.verify_embedding("crowd", faces[-1], model="toy")
        client.enrol_embedding("crowd", faces[-1], model="toy")
        with pytest.raises(InvalidInputError, match="more templates") as caught:
            client.verify_embedding("crowd", faces[-1], model="toy")
        assert (caught.value.got, caught.value.expected) == (str(MAX_TEMPLATES + 1), f"<= {MAX_TEMPLATES}")
        assert client.candidates_embedding(faces[-1], model="toy").subjects == ("crowd",)
        assert client.erase("crowd").templates == MAX_TEMPLATES + 1


def test_an_erased_template_is_gone_from_its_pack_and_its_slot_is_used_again(world: World) -> None:
    rng = np.random.default_rng(12)
    faces = unit(rng, 3, world.parameters.dimension)
    with world.client() as client:
        client.enrol_embedding("first", faces[0], model="toy")
        client.enrol_embedding("second", faces[1], model="toy")
        client.erase("first")
        client.enrol_embedding("third", faces[2], model="toy")
        assert client.candidates_embedding(faces[0], model="toy").subjects == ()
        assert client.candidates_embedding(faces[2], model="toy").subjects == ("third",)
        assert client.candidates_embedding(faces[1], model="toy").subjects == ("second",)
        for name in ("second", "third"):
            client.erase(name)


def test_a_repeated_mutation_with_its_token_is_done_once(world: World) -> None:
    rng = np.random.default_rng(13)
    face = unit(rng, 1, world.parameters.dimension)[0]
    token = b"0123456789abcdef"
    with world.client() as client:
        first = client.enrol_embedding("again", face, model="toy", token=token)
        second = client.enrol_embedding("again", face, model="toy", token=token)
        assert first.sequence == second.sequence
        assert [(s.subject, s.templates) for s in client.subjects()] == [("again", 1)]
        with pytest.raises(DuplicateTokenError):
            client.enrol_embedding("another", face, model="toy", token=token)
        erasure = b"fedcba9876543210"
        assert client.erase("again", token=erasure).templates == 1
        assert client.erase("again", token=erasure).templates == 1


def test_embeddings_of_another_model_are_refused_and_change_nothing(world: World) -> None:
    faces = unit(np.random.default_rng(16), 3, world.parameters.dimension)
    with world.client() as client:
        first = client.enrol_embedding("ada", faces[0], model="model-1")
        for refused in (
            lambda: client.enrol_embedding("bob", faces[1], model="model-2"),
            lambda: client.enrol_many_embeddings({"bob": faces[1]}, model="model-2"),
            lambda: client.verify_embedding("ada", faces[0], model="model-2"),
            lambda: client.candidates_embedding(faces[0], model="model-2"),
            lambda: client.verify_embedding("ada", faces[0], model="toy"),
        ):
            with pytest.raises(ModelMismatchError) as caught:
                refused()
            assert (caught.value.got, caught.value.expected) in (("model-2", "model-1"), ("toy", "model-1"))
        assert client.verify_embedding("ada", faces[0], model="model-1")
        assert client.candidates_embedding(faces[0], model="model-1").sequence == first.sequence
        assert [entry.subject for entry in client.subjects()] == ["ada"]
        client.erase("ada")
        client.enrol_embedding("bob", faces[1], model="model-2")
        assert client.verify_embedding("bob", faces[1], model="model-2")
        client.erase("bob")


def test_the_model_of_a_gallery_outlives_a_restart(world: World) -> None:
    face = unit(np.random.default_rng(17), 1, world.parameters.dimension)[0]
    with world.client() as client:
        client.enrol_embedding("ada", face, model="model-1")
        for matcher in ("matcher-a", "matcher-b"):
            world.parties.stop(matcher)
        world.restart()
    with world.client() as client:
        with pytest.raises(ModelMismatchError):
            client.verify_embedding("ada", face, model="toy")
        assert client.verify_embedding("ada", face, model="model-1")
        client.erase("ada")


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
def test_any_two_of_the_three_key_holders_can_serve(world: World, pair: str) -> None:
    rng = np.random.default_rng(14)
    faces = unit(rng, 2, world.parameters.dimension)
    with world.client(pairs=[pair]) as client:
        client.enrol_embedding("x", faces[0], model="toy")
        assert client.verify_embedding("x", faces[0], model="toy").pair == pair
        assert not client.verify_embedding("x", faces[1], model="toy")
        client.erase("x")


def test_many_queries_and_changes_at_once_stay_exact(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(15)
    faces = unit(rng, 6, world.parameters.dimension)
    with world.client(timeout_s=60.0) as client, ThreadPoolExecutor(8) as threads:
        client.enrol_embedding("base", faces[0], model="toy")
        changes = [threads.submit(client.enrol_embedding, f"c{i}", faces[i], model="toy") for i in range(1, 6)]
        queries = [threads.submit(client.verify_embedding, "base", faces[i % 6], model="toy") for i in range(18)]
        assert [bool(q.result()) for q in queries] == [i % 6 == 0 for i in range(18)]
        assert sorted(c.result().sequence for c in changes) == list(
            range(min(c.result().sequence for c in changes), min(c.result().sequence for c in changes) + 5)
        )
        for i in range(6):
            assert client.candidates_embedding(faces[i], model="toy").subjects == (f"c{i}" if i else "base",)
        for entry in client.subjects():
            client.erase(entry.subject)


def test_the_command_line_answers_with_exit_statuses_and_json(world: World, orl) -> None:  # type: ignore[no-untyped-def]
    config = ["--config", str(world.device_config), "--json"]
    enrolled = veilmatch("enrol", *config, "ada", str(orl(1, 1)), str(orl(1, 2)))
    assert enrolled.returncode == 0, enrolled.stderr
    right = veilmatch("verify", *config, "ada", str(orl(1, 5)))
    assert (right.returncode, json.loads(right.stdout)["match"]) == (0, True)
    wrong = veilmatch("verify", *config, "ada", str(orl(2, 5)))
    assert (wrong.returncode, json.loads(wrong.stdout)["match"]) == (1, False)
    found = veilmatch("candidates", *config, str(orl(1, 9)))
    assert (found.returncode, json.loads(found.stdout)["subjects"]) == (0, ["ada"])
    assert veilmatch("candidates", *config, str(orl(3, 9))).returncode == 1
    assert [s["subject"] for s in json.loads(veilmatch("subjects", *config).stdout)["subjects"]] == ["ada"]
    unknown = veilmatch("verify", *config, "nobody", str(orl(1, 5)))
    assert (unknown.returncode, json.loads(unknown.stdout)["error"]["code"]) == (3, "unknown_subject")
    assert veilmatch("erase", *config, "ada").returncode == 0
