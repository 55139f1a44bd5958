"""A device that knows its certificate refuses at once what every server would refuse; else the servers' error comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.liveness.check import LivenessCheck
from veilmatch.client.liveness.settings import LivenessSettings
from veilmatch.client.wire.signing import DeviceKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    DeviceRightsError,
    LivenessDemandedError,
    LowThresholdError,
    VeilmatchError,
)
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, Statement
from veilmatch.crypto.liveness import function_id
from veilmatch.crypto.versions import UNSAID

from .conftest import PARAMETERS, FakeCapture, face
from .fakes import FakeMatchers, body_of
from .test_recipient import BANK, seal

LOWEST = 0.45


class NoCapture(FakeCapture):
    """Nobody is photographed for a request that will be refused."""

    def embed_photo(self, source: Any) -> Any:
        raise AssertionError("a photo was taken")


@pytest.fixture
def statement(settings: DeviceSettings, signing_handle: DeviceKey) -> Statement:
    t = PARAMETERS.threshold(LOWEST)
    return Statement(
        installation=PublicFile.decode(settings.public_key.read_bytes()).installation, device="kiosk-1",
        public_key=signing_handle.public_bytes(), rights=("candidates", "verify"), galleries=("staff",),
        lowest=(("candidates", t), ("verify", t)), not_before_s=1, not_after_s=2, serial=bytes(16),
    )  # fmt: skip


def knowing(settings: DeviceSettings, said: Statement, signers: str = "ab") -> DeviceSettings:
    """The settings of a device that has this certificate. Whose signatures they are is for the servers."""
    made = DeviceCertificate(said)
    for party in signers:
        made = made.with_signature(party, bytes(64))  # type: ignore[arg-type]
    path = settings.public_key.parent / "kiosk-1.cert"
    path.write_bytes(made.encode())
    return settings.model_copy(update={"certificate": path})


CALLS: dict[str, Callable[[AsyncClient, float | None], Any]] = {
    "verify": lambda c, t: c.verify("alice", "door.jpg", threshold=t),
    "verify_embedding": lambda c, t: c.verify_embedding("alice", face(1), model="toy", threshold=t),
    "candidates": lambda c, t: c.candidates("door.jpg", threshold=t),
    "candidates_embedding": lambda c, t: c.candidates_embedding(face(1), model="toy", threshold=t),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_threshold_below_the_lowest_is_refused_before_anything_is_captured_or_sent(
    settings: DeviceSettings, statement: Statement, fakes: FakeMatchers, call: str
) -> None:
    known = knowing(settings, statement)
    for asked in (known, known.model_copy(update={"threshold": 0.4})):
        async with AsyncClient(asked, matchers=fakes.all, capture=NoCapture()) as client:
            with pytest.raises(LowThresholdError, match=r"kiosk-1\.cert") as caught:
                await CALLS[call](client, 0.4 if asked is known else None)
    assert (caught.value.got, caught.value.expected) == ("160 (cosine 0.4)", "at least 180 (cosine 0.45)")
    assert fakes.a.requests == fakes.b.requests == []


@pytest.mark.parametrize("call", CALLS)
async def test_the_lowest_threshold_itself_and_the_default_above_it_are_asked_with(
    settings: DeviceSettings, statement: Statement, fakes: FakeMatchers, call: str
) -> None:
    async with AsyncClient(knowing(settings, statement), matchers=fakes.all, capture=FakeCapture()) as client:
        await CALLS[call](client, LOWEST)
        await CALLS[call](client, None)
    assert [body_of(request).threshold for request in fakes.a.requests] == [180, 200]


async def test_an_operation_without_the_right_is_refused_at_once_too(
    settings: DeviceSettings, statement: Statement, fakes: FakeMatchers
) -> None:
    async with AsyncClient(knowing(settings, statement), matchers=fakes.all, capture=NoCapture()) as client:
        for ask in (lambda: client.identify("door.jpg"), lambda: client.identify_embedding(face(1), model="toy")):
            with pytest.raises(DeviceRightsError) as caught:
                await ask()
            assert (type(caught.value), caught.value.expected) == (DeviceRightsError, "identify")
    assert fakes.a.requests == []


@pytest.mark.parametrize("call", CALLS)
async def test_a_device_that_may_ask_for_a_recipient_only_refuses_to_ask_for_itself(
    settings: DeviceSettings, statement: Statement, fakes: FakeMatchers, call: str
) -> None:
    known = knowing(settings, replace(statement, recipient_only=True))
    async with AsyncClient(known, matchers=fakes.all, capture=NoCapture()) as client:
        with pytest.raises(DeviceRightsError, match=r"kiosk-1\.cert.*for a recipient only"):
            await CALLS[call](client, None)
        assert fakes.a.requests == fakes.b.requests == []
        seal(fakes)
        await client.for_recipient(BANK).verify_embedding("alice", face(1), model="toy")
        with pytest.raises(LowThresholdError):
            await client.for_recipient(BANK).verify_embedding("alice", face(1), model="toy", threshold=0.1)
    assert [body_of(request).recipient for request in fakes.a.requests] == [BANK.statement.id]


@pytest.mark.parametrize("detectors", [("*",), (function_id("my.pad:check").hex(),)])
async def test_a_device_that_has_to_check_liveness_refuses_to_ask_without(
    settings: DeviceSettings,
    statement: Statement,
    fakes: FakeMatchers,
    detectors: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    known = knowing(settings, replace(statement, liveness=detectors))
    for asked in (None, {"operations": ["known"]}, {"function": "another.pad:check"}):
        if asked is not None and "function" in asked and detectors == ("*",):
            continue
        section = None if asked is None else {"threshold": 0.5, "function": "my.pad:check"} | asked
        liveness = None if section is None else LivenessSettings.model_validate(section)
        lacking = known.model_copy(update={"liveness": liveness})
        async with AsyncClient(lacking, matchers=fakes.all, capture=NoCapture()) as client:
            for call in ("verify", "candidates"):
                with pytest.raises(LivenessDemandedError, match=r"kiosk-1\.cert.*demands"):
                    await CALLS[call](client, None)
    assert fakes.a.requests == fakes.b.requests == []
    # With it, the verdict is in the request whatever the third matcher speaks: the two may serve nothing else.
    monkeypatch.setattr(LivenessCheck, "is_live", lambda self, shot: True)
    Path("door.jpg").write_text("a photo")
    fakes.c.hello = UNSAID
    has = known.model_copy(update={"liveness": LivenessSettings(threshold=0.5, function="my.pad:check")})
    async with AsyncClient(has, matchers=fakes.all, capture=FakeCapture()) as client:
        await CALLS["verify"](client, None)
    assert body_of(fakes.a.requests[-1]).liveness.detector == function_id("my.pad:check")


@pytest.mark.parametrize("signers", ["", "a"])
async def test_a_request_that_is_still_to_be_signed_says_nothing(
    settings: DeviceSettings, statement: Statement, fakes: FakeMatchers, signers: str
) -> None:
    known = knowing(settings, statement, signers)
    async with AsyncClient(known, matchers=fakes.all, capture=FakeCapture()) as client:
        await client.verify_embedding("alice", face(1), model="toy", threshold=0.1)
    assert len(fakes.a.requests) == 1


async def test_without_a_certificate_the_refusal_of_the_servers_comes_through(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    refused = LowThresholdError("not so low", got="40 (cosine 0.1)", expected="at least 180 (cosine 0.45)")

    def refuse(kind: str, request: Any) -> None:
        raise refused

    fakes.a.before = fakes.b.before = refuse
    async with AsyncClient(settings, matchers=fakes.all) as client:
        with pytest.raises(LowThresholdError) as caught:
            await client.verify_embedding("alice", face(1), model="toy", threshold=0.1)
    assert caught.value.fields() == refused.fields()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"device": "kiosk-2"}, "another device"),
        ({"installation": bytes(16)}, "another installation"),
        ({"public_key": bytes(32)}, "another signing key"),
        ({"lowest": (("candidates", 1), ("verify", PARAMETERS.threshold_max + 1))}, "above all scores"),
    ],
)
def test_the_certificate_of_somebody_else_is_refused(
    settings: DeviceSettings, statement: Statement, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(DeviceCertificateError, match=why):
        AsyncClient(knowing(settings, replace(statement, **changes)))


def without_file(path: Path) -> None:
    path.unlink()


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff")


def old(path: Path) -> None:
    fields = json.loads(path.read_text()) | {"format": "veilmatch device certificate 1"}
    del fields["lowest_thresholds"]
    path.write_text(json.dumps(fields, indent=1) + "\n")


@pytest.mark.parametrize(
    ("spoil", "expected", "why"),
    [
        (without_file, ConfigurationError, "cannot be read"),
        (garbage, DeviceCertificateError, "not a device certificate"),
        (old, DeviceCertificateError, "request and sign a new one"),
    ],
)
def test_a_file_that_is_no_certificate_is_named(
    settings: DeviceSettings,
    statement: Statement,
    spoil: Callable[[Path], None],
    expected: type[VeilmatchError],
    why: str,
) -> None:
    known = knowing(settings, statement)
    assert known.certificate is not None
    spoil(known.certificate)
    with pytest.raises(expected, match=why) as caught:
        AsyncClient(known)
    assert "kiosk-1.cert" in str(caught.value)
