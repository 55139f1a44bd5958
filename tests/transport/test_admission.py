"""A refused request leaves nothing behind: its nonce is not used up, and the right request is still served."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.transport.signed import (
    DEVICE,
    KEYS,
    NOW_MS,
    NOW_S,
    OTHER_DEVICE,
    SALT,
    STRANGER,
    SUBJECT,
    body,
    checker,
    signed,
)
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import (
    BudgetExceededError,
    InvalidInputError,
    KeyMismatchError,
    PartyRefusedError,
    RequestExpiredError,
    RequestReplayedError,
    RequestSignatureError,
    UnknownGalleryError,
    VeilmatchError,
)
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.matcher.admission import Admission, Admitted
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.budgets import Budget, Budgets
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.replay import ReplayLog

NONCE = secrets.token_bytes(NONCE_BYTES)
MAIN = cast(Gallery, object())


class CallOf:
    """The context of a call by this device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._device.encode()]}


@pytest.fixture
def replays(tmp_path: Path) -> Iterator[ReplayLog]:
    log = ReplayLog(tmp_path, lambda: NOW_S)
    yield log
    log.close()


def admission(replays: ReplayLog, folder: Path, *limits: Budget) -> Admission:
    budgets = Budgets(folder, list(limits), "matcher-a", now=lambda: NOW_S)
    return Admission(checker(), replays, budgets, {"main": MAIN})


async def admit(replays: ReplayLog, request: pb.SignedRequest, caller: str = DEVICE) -> Admitted:
    with TemporaryDirectory() as folder:
        passing = admission(replays, Path(folder))
        return await passing.admit(request, cast(Context, CallOf(caller)), "verify", "candidates")


def right(**changes: Any) -> pb.SignedRequest:
    return signed(body(nonce=NONCE, **changes))


WRONG: dict[str, tuple[type[VeilmatchError], pb.SignedRequest, str]] = {
    "signature": (RequestSignatureError, signed(body(nonce=NONCE), signature=bytes(64)), DEVICE),
    "key": (RequestSignatureError, signed(body(nonce=NONCE), STRANGER), DEVICE),
    "device": (RequestSignatureError, right(device="kiosk-3"), "kiosk-3"),
    "another device's request": (PartyRefusedError, right(), OTHER_DEVICE),
    "another device's name": (RequestSignatureError, right(device=OTHER_DEVICE), OTHER_DEVICE),
    "expired": (RequestExpiredError, right(issued_at_ms=NOW_MS - 1000, expires_at_ms=NOW_MS - 1), DEVICE),
    "lives too long": (RequestExpiredError, right(expires_at_ms=NOW_MS + 10**7), DEVICE),
    "key id": (KeyMismatchError, right(key_id=bytes(16)), DEVICE),
    "parameter set": (KeyMismatchError, right(parameter_set="d128-s60-c23-n3072"), DEVICE),
    "gallery": (UnknownGalleryError, right(gallery="other"), DEVICE),
    "long gallery": (UnknownGalleryError, right(gallery="x" * 10_000), DEVICE),
    "operation": (InvalidInputError, signed(body("enrol", nonce=NONCE)), DEVICE),
    "threshold": (InvalidInputError, right(threshold=0), DEVICE),
    "pair": (InvalidInputError, right(pair="aa"), DEVICE),
    "no model": (InvalidInputError, right(model=""), DEVICE),
    "long model": (InvalidInputError, right(model="x" * 65), DEVICE),
    "subject": (RequestSignatureError, signed(body(nonce=NONCE), subject="bob"), DEVICE),
    "no subject": (InvalidInputError, signed(body(nonce=NONCE), subject=""), DEVICE),
    "salt": (RequestSignatureError, signed(body(nonce=NONCE), subject_salt=SALT[::-1]), DEVICE),
    "body": (InvalidInputError, pb.SignedRequest(body=b"\xff"), DEVICE),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_refused_request_does_not_use_up_its_nonce(wrong: str, replays: ReplayLog) -> None:
    expected, request, caller = WRONG[wrong]
    for _ in range(2):
        with pytest.raises(expected) as caught:
            await admit(replays, request, caller)
        assert type(caught.value) is expected
        assert len(str(caught.value)) < 300
    await admit(replays, right())


async def test_a_verification_of_a_subject_whose_budget_is_used_up_does_not_use_up_its_nonce(
    replays: ReplayLog, tmp_path: Path
) -> None:
    class Listing:
        def require(self, _subject: str) -> None:
            pass

    gallery = cast(Gallery, SimpleNamespace(name="main", index=Listing()))
    limited = admission(replays, tmp_path, Budget("subject", "requests", "day", 2))
    call = cast(Context, CallOf(DEVICE))
    for _ in range(2):
        await limited.admit(signed(body()), call, "verify")
        await limited.count(SUBJECT, gallery)
    for _ in range(2):
        with pytest.raises(BudgetExceededError) as caught:
            await limited.admit(right(), call, "verify")
        assert (caught.value.limit, SUBJECT in f"{caught.value}") == (2, False)
    await limited.admit(signed(body("candidates")), call, "candidates")
    assert (await admit(replays, right())).checked.nonce == NONCE


async def test_a_right_request_is_admitted_once(replays: ReplayLog) -> None:
    admitted = await admit(replays, right())
    assert (admitted.checked.nonce, admitted.gallery, admitted.model) == (NONCE, MAIN, "embedding")
    with pytest.raises(RequestReplayedError):
        await admit(replays, right())


async def test_a_nonce_is_not_served_in_another_request_either(replays: ReplayLog) -> None:
    await admit(replays, right())
    another = signed(body("candidates", nonce=NONCE, device=OTHER_DEVICE), KEYS[OTHER_DEVICE])
    with pytest.raises(RequestReplayedError):
        await admit(replays, another, OTHER_DEVICE)


async def test_a_retry_with_a_fresh_nonce_is_served(replays: ReplayLog) -> None:
    for _ in range(2):
        assert (await admit(replays, signed(body()))).checked.device == DEVICE


async def test_the_refusal_names_no_subject(replays: ReplayLog) -> None:
    with pytest.raises(RequestSignatureError) as caught:
        await admit(replays, signed(body(), subject=f"{SUBJECT} byron"))
    assert SUBJECT not in f"{caught.value} {caught.value.fields()}"
