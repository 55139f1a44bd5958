"""A certificate demands a check of liveness: each of the four daemons of a pair refuses alone what comes without.

Real processes. As in test_lowest_thresholds.py the other three are made to deviate by a certificate of the same
device that demands nothing, so whoever drops the demand does it for itself alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_lowest_thresholds import four, signed
from tests.e2e.world import EVERYBODY, World, device, running, unit, veilmatch
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.liveness.settings import LivenessSettings
from veilmatch.client.liveness.shot import Shot
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.client.wire.transport import open_matchers
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import LivenessDemandedError, PresentationAttackError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.liveness import MAX_AGE_S, Verdict, function_id
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2, request_pb2
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)
ADA = unit(np.random.default_rng(61), 1, 128)[0]
FUNCTION = "doors_own_pad:check"
DETECTOR, OTHER = function_id(FUNCTION), function_id("somebody.elses:check")


@dataclass
class Door:
    """A device that may only verify, with a certificate that demands one detector and one that demands nothing."""

    world: World
    demanding: bytes
    free: bytes
    model: str

    def settings(self, **changes: object) -> DeviceSettings:
        path = self.world.directory / "door" / "device.toml"
        return DeviceSettings.load(path).model_copy(update={"certificate": None} | changes)

    def demanded_by(self, *parties: str) -> None:
        for party in EVERYBODY:
            made = self.demanding if party in parties else self.free
            (self.world.directory / folder_of(party) / "devices" / "door.cert").write_bytes(made)

    def refusals(self) -> dict[str, int]:
        return {party: self.world.log(party).count('"liveness_demanded"') for party in EVERYBODY}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, orl: Callable[[int, int], Path]) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("liveness") / "installation", TOY) as world, world.client() as everything:
        everything.enrol_embedding("ada", ADA, model=CapturePipeline.default().model_id)
        issued = veilmatch("device", "issue", str(world.directory), "door", "--right", "verify", "--json")
        assert issued.returncode == 0, issued.stderr
        free = signed(world)
        yield Door(world, signed(world, "--detector", FUNCTION), free, CapturePipeline.default().model_id)


async def outcomes(door: Door, pair: Pair, *verdicts: Verdict | None) -> list[object]:
    """What both matchers of the pair answer to a verification that says this of liveness: to both, or to each."""
    settings = door.settings()
    public_key = PublicFile.decode(settings.public_key.read_bytes()).public_key
    signer = RequestSigner(DeviceKey.from_file(settings.signing_key), "door", "main", public_key, 60.0)
    probe = Encryptor(public_key).lanes(quantise(ADA, TOY))
    requests = [
        signer.sign(
            Draft(request_pb2.OPERATION_VERIFY, probe, TOY.threshold(0.45), "ada", model=door.model, liveness=verdict),
            pair,
        )
        for verdict in verdicts
    ]
    opened = open_matchers(settings)
    try:
        calls = [
            asyncio.ensure_future(opened[party].match(matcher_pb2.MatchRequest(request=request), 20.0))  # type: ignore[index]
            for party, request in zip(pair, requests if len(requests) == 2 else requests * 2, strict=True)
        ]
        # Whoever has not refused may wait for the other one for long, as a device would not.
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        for call in waiting:
            call.cancel()
        return [call.exception() or call.result() for call in calls if call in done]
    finally:
        for matcher in opened.values():
            await matcher.close()


def ask(door: Door, pair: Pair, *verdicts: Verdict | None) -> list[object]:
    return asyncio.run(outcomes(door, pair, *verdicts))


def checked(detector: bytes = DETECTOR, age_s: float = 1) -> Verdict:
    return Verdict(detector, int((time.time() - age_s) * 1000))


def served(answers: list[object]) -> bool:
    return len(answers) == 2 and all(isinstance(answer, matcher_pb2.MatchReply) for answer in answers)


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
def test_each_of_the_four_daemons_refuses_though_the_other_three_would_serve(door: Door, pair: Pair) -> None:
    door.demanded_by()
    assert served(ask(door, pair, None)), "nobody demands anything"
    for party in four(pair):
        door.demanded_by(party)
        for lacking in (None, checked(OTHER), checked(age_s=MAX_AGE_S + 30))[: 3 if pair == "ab" else 1]:
            before = door.refusals()
            answers = ask(door, pair, lacking)
            assert any(isinstance(answer, LivenessDemandedError) for answer in answers), answers
            assert not any(isinstance(answer, matcher_pb2.MatchReply) for answer in answers)
            refusing = {other for other, count in door.refusals().items() if count > before[other]}
            assert party in refusing and refusing <= {party, *(f"matcher-{one}" for one in pair)}
        assert served(ask(door, pair, checked()))


@pytest.mark.parametrize("place", [0, 1])
def test_a_verdict_for_one_matcher_alone_is_no_verdict(door: Door, place: int) -> None:
    door.demanded_by(*EVERYBODY)
    verdicts: list[Verdict | None] = [checked(), checked()]
    verdicts[place] = None
    answers = ask(door, "ab", *verdicts)
    assert any(isinstance(answer, LivenessDemandedError) for answer in answers), answers
    assert all(isinstance(answer, VeilmatchError) for answer in answers), answers


def test_a_device_that_has_to_say_live_does_not_enrol_unless_known_without(door: Door) -> None:
    """It would learn by that who is known. By itself it sees it in its certificate; else by each server."""
    config = device(door.world, "desk", "--right=enrol", "--right=known", "--detector", FUNCTION)
    settings = DeviceSettings.load(config)
    with door.world.client() as everything:
        before = everything.subjects()
        for certificate in (settings.certificate, None):
            with (
                Client(settings.model_copy(update={"certificate": certificate})) as desk,
                pytest.raises(LivenessDemandedError),
            ):
                desk.enrol_embedding("eve", -ADA, model=door.model, unless_known=True, threshold=0.45)
        with Client(settings) as desk:
            assert not desk.enrol_embedding("eve", -ADA, model=door.model).repeated, "which compares nothing"
        everything.erase("eve")
        assert everything.subjects() == before


def test_a_device_with_a_detector_goes_in_and_one_without_does_not_ask(
    door: Door, orl: Callable[[int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is real but the detector, which takes one photo for live and the other for an attack."""
    door.demanded_by(*EVERYBODY)
    (tmp_path / f"{FUNCTION.split(':')[0]}.py").write_text(
        "def check(images, box):\n    return float('infrared' in images)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    photo = orl(1, 1)
    certificate = door.world.directory / "door" / "door.cert"
    certificate.write_bytes(door.demanding)
    live = LivenessSettings(threshold=0.5, function=FUNCTION, images=("colour", "infrared"))
    attacked = live.model_copy(update={"images": ("colour",)})
    with door.world.client() as everything:
        everything.enrol("bob", photo, accept_any=True)
    with Client(door.settings(certificate=certificate, liveness=live)) as client:
        assert client.verify("bob", Shot(photo, infrared=photo)).decision
    with (
        Client(door.settings(certificate=certificate, liveness=attacked)) as client,
        pytest.raises(PresentationAttackError),
    ):
        client.verify("bob", photo)
    for certificate_known in (certificate, None):
        with (
            Client(door.settings(certificate=certificate_known)) as client,
            pytest.raises(LivenessDemandedError, match="demands"),
        ):
            client.verify("bob", photo)
