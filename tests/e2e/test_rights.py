"""Devices with fewer rights, over real processes: refused by every server, nothing changes, and revoked at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, running, unit, veilmatch
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import DeviceRightsError, DuplicateTokenError, RequestSignatureError, UnknownSubjectError
from veilmatch.crypto.parameters import ParameterSet

ADA, BOB = unit(np.random.default_rng(97), 2, 128)


def issue(world: World, name: str, *options: str) -> Client:
    done = veilmatch("device", "issue", str(world.directory), name, *options, "--json")
    assert done.returncode == 0, done.stderr
    config = Path(json.loads(done.stdout)["directory"]) / "device.toml"
    return Client(DeviceSettings.load(config))


def test_a_device_does_what_two_organisations_let_it_do_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path / "installation", ParameterSet(modulus_bits=1024)) as world, world.client() as everything:
        everything.enrol_embedding("ada", ADA, model="toy")
        before = everything.subjects()
        with issue(world, "door", "--right", "verify") as door:
            assert (
                door.verify_embedding("ada", ADA, model="toy").decision
                and not door.verify_embedding("ada", BOB, model="toy").decision
            )
            for refused in (
                lambda: door.enrol_embedding("bob", BOB, model="toy"),
                lambda: door.candidates_embedding(ADA, model="toy"),
                lambda: door.identify_embedding(ADA, model="toy"),
                lambda: door.erase("ada"),
                lambda: door.subjects(),
                lambda: door.enrol_many_embeddings([("bob", BOB)], model="toy"),
            ):
                with pytest.raises(DeviceRightsError):
                    refused()
            config = world.directory / "door" / "device.toml"
            done = veilmatch("erase", "ada", "--config", str(config), "--json")
            assert done.returncode == 4 and json.loads(done.stdout)["error"]["code"] == "device_rights", done.stdout
            assert everything.subjects() == before
            # No restart: what is in the folders counts from the next request on.
            assert veilmatch("device", "remove", "door", "--installation", str(world.directory)).returncode == 0
            with pytest.raises(RequestSignatureError):
                door.verify_embedding("ada", ADA, model="toy")
        # A device that may enrol takes back what it enrolled itself, by its token, and nothing else.
        with issue(world, "desk", "--right", "enrol") as desk:
            everything.enrol_embedding("bob", BOB, model="toy", token=bytes(16))
            desk.enrol_embedding("bob", BOB, model="toy", token=b"desk's own token")
            for token, error in ((bytes(16), UnknownSubjectError), (b"none's own token", UnknownSubjectError)):
                with pytest.raises(error):
                    desk.take_back("bob", token)
            with pytest.raises(DeviceRightsError):
                desk.erase("bob")
            # A token belongs to its device: another one is told nothing of what was done under it.
            with pytest.raises(DuplicateTokenError):
                desk.enrol_embedding("bob", BOB, model="toy", token=bytes(16))
            desk.take_back("bob", b"desk's own token")
            assert {s.subject: s.templates for s in everything.subjects()} == {"ada": 1, "bob": 1}
            assert everything.verify_embedding("bob", BOB, model="toy")
            everything.erase("bob")
        with issue(world, "elsewhere", "--gallery", "staff") as elsewhere, pytest.raises(DeviceRightsError):
            elsewhere.subjects()
        assert everything.subjects() == before
