"""A device asks below the lowest threshold of its certificate: each of the four daemons of a pair refuses alone.

Real processes. What a daemon goes by is the file in its own folder, so the other three are made to deviate by an older
certificate of the same device that allows everything, and that two organisations have signed as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, World, running, unit, veilmatch
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.client.wire.transport import open_matchers
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import DeviceRightsError, LowThresholdError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2, request_pb2
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)
ADA = unit(np.random.default_rng(61), 1, 128)[0]
LOWEST, BELOW = 0.45, 0.30


@dataclass
class Door:
    """A device that may only verify, with a bounded certificate and an older one without a bound, both signed."""

    world: World
    bounded: bytes
    free: bytes

    @property
    def folder(self) -> Path:
        return self.world.directory / "door"

    def settings(self, **changes: object) -> DeviceSettings:
        return DeviceSettings.load(self.folder / "device.toml").model_copy(update=changes)

    def hostile(self, pair: Pair) -> Client:
        """An SDK that does not look at its own certificate."""
        return Client(self.settings(certificate=None, pairs=[pair]))

    def bound_at(self, *parties: str) -> None:
        """Let these daemons go by the bounded certificate, and all others by the one without a bound."""
        for party in EVERYBODY:
            made = self.bounded if party in parties else self.free
            (self.world.directory / folder_of(party) / "devices" / "door.cert").write_bytes(made)

    def refusals(self, party: str) -> int:
        return self.world.log(party).count('"low_threshold"')


def signed(world: World, *lowest: str) -> bytes:
    """Have a certificate of the door signed by two organisations, as they would."""
    folder = str(world.directory / "door")
    asked = veilmatch("device", "request", "door", "--folder", folder, "--right", "verify", *lowest, "--json")
    assert asked.returncode == 0, asked.stderr
    file = json.loads(asked.stdout)["file"]
    for party in ("b", "c"):
        config = str(world.directory / folder_of(f"keyholder-{party}") / "keyholder.toml")
        assert veilmatch("device", "certify", file, "--config", config).returncode == 0
    return Path(file).read_bytes()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("lowest") / "installation", TOY) as world, world.client() as everything:
        everything.enrol_embedding("ada", ADA, model="toy")
        issued = veilmatch(
            "device",
            "issue",
            str(world.directory),
            "door",
            "--right",
            "verify",
            "--lowest",
            f"verify={LOWEST}",
            "--json",
        )
        assert issued.returncode == 0, issued.stderr
        free = signed(world, "--lowest", "0")
        yield Door(world, signed(world, "--lowest", f"verify={LOWEST}"), free)


def four(pair: Pair) -> list[str]:
    return [f"{kind}-{party}" for kind in ("matcher", "keyholder") for party in pair]


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
def test_each_of_the_four_daemons_refuses_though_the_other_three_would_serve(door: Door, pair: Pair) -> None:
    with door.hostile(pair) as client:
        door.bound_at()
        assert client.verify_embedding("ada", ADA, model="toy", threshold=BELOW).decision, (
            "nobody has a bound to refuse by"
        )
        for party in four(pair):
            door.bound_at(party)
            before = {other: door.refusals(other) for other in EVERYBODY}
            with pytest.raises(LowThresholdError, match="verify") as caught:
                client.verify_embedding("ada", ADA, model="toy", threshold=BELOW)
            assert (caught.value.got, caught.value.expected) == (
                f"{TOY.threshold(BELOW)} (cosine {BELOW})", f"at least {TOY.threshold(LOWEST)} (cosine {LOWEST})",
            )  # fmt: skip
            refusing = {other for other in EVERYBODY if door.refusals(other) > before[other]}
            # A matcher passes on what its key holder refuses; nobody else finds anything to refuse.
            assert party in refusing and len(refusing - {party, *(f"matcher-{one}" for one in pair)}) == 0
            assert client.verify_embedding("ada", ADA, model="toy", threshold=LOWEST).decision


@pytest.mark.parametrize("low", [0, 1])
def test_a_low_threshold_at_one_matcher_alone_is_refused_there(door: Door, low: int) -> None:
    """The device signs two requests for one question, and brings the low one to one side only."""
    door.bound_at(*EVERYBODY)
    outcomes = asyncio.run(ask_unequally(door, low))
    assert isinstance(outcomes[low], LowThresholdError) and isinstance(outcomes[1 - low], VeilmatchError), outcomes


def test_an_organisation_that_lets_the_device_ask_low_finds_nobody_to_serve_it_with(door: Door) -> None:
    door.bound_at("matcher-b", "keyholder-b")
    outcomes = asyncio.run(ask_unequally(door, 0))
    assert all(isinstance(outcome, VeilmatchError) for outcome in outcomes), outcomes


async def ask_unequally(door: Door, low: int) -> list[object]:
    settings = door.settings()
    public_key = PublicFile.decode(settings.public_key.read_bytes()).public_key
    signer = RequestSigner(DeviceKey.from_file(settings.signing_key), "door", "main", public_key, 60.0)
    probe = Encryptor(public_key).lanes(quantise(ADA, TOY))
    cosines = [BELOW if party == low else LOWEST for party in (0, 1)]
    drafts = [
        Draft(request_pb2.OPERATION_VERIFY, probe, TOY.threshold(cosine), "ada", model="toy") for cosine in cosines
    ]
    opened = open_matchers(settings)
    matchers = [opened["a"], opened["b"]]
    calls = [
        matcher.match(matcher_pb2.MatchRequest(request=signer.sign(draft, "ab")), 20.0)
        for matcher, draft in zip(matchers, drafts, strict=True)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for matcher in opened.values():
        await matcher.close()
    return list(outcomes)


def test_the_device_itself_says_so_at_once(door: Door) -> None:
    door.bound_at(*EVERYBODY)
    before = {party: door.world.log(party) for party in EVERYBODY}
    with Client(door.settings()) as client:
        with pytest.raises(LowThresholdError, match=r"door\.cert"):
            client.verify_embedding("ada", ADA, model="toy", threshold=BELOW)
        with pytest.raises(DeviceRightsError, match="right"):
            client.identify_embedding(ADA, model="toy")
        assert {party: door.world.log(party) for party in EVERYBODY} == before, "no daemon was asked"
        # What the folder was made with is allowed: the default threshold is not below the bound.
        assert client.verify_embedding("ada", ADA, model="toy").decision
    config = str(door.folder / "device.toml")
    done = veilmatch("verify", "ada", "photo.jpg", "--config", config, "--threshold", str(BELOW), "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (4, "low_threshold") and "higher threshold" in error["hint"]
