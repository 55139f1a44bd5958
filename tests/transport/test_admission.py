"""A refused request leaves nothing behind: its nonce is not used up, and the right request is still served."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
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
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.matcher.admission import Admission, Admitted
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.channels import Context

NONCE = secrets.token_bytes(NONCE_BYTES)


class Listing:
    """An index in which everybody is but `nobody`."""

    def require(self, subject: str) -> None:
        if subject == "nobody":
            raise UnknownSubjectError("not here")


MAIN = cast(Gallery, SimpleNamespace(name="main", index=Listing()))


class CallOf:
    """The context of a call by this device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._device.encode()]}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path, [Budget("subject", "requests", "day", 2)], "matcher-a", now=lambda: NOW_S)
    yield made
    made.close()


async def begin(ledger: Ledger, request: pb.SignedRequest, caller: str = DEVICE) -> tuple[Admission, Admitted]:
    admission = Admission(checker(), ledger, {"main": MAIN}, ("ab", "ac"))
    return admission, await admission.admit(request, cast(Context, CallOf(caller)), "verify", "candidates")


async def admit(ledger: Ledger, request: pb.SignedRequest, caller: str = DEVICE) -> Admitted:
    """Take a request through all of admission: a verification is counted as well."""
    admission, admitted = await begin(ledger, request, caller)
    if admitted.checked.operation == "verify":
        await admission.count(admitted, request.subject)
    return admitted


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
    "pair of others": (PartyRefusedError, right(pair="bc"), DEVICE),
    "no model": (InvalidInputError, right(model=""), DEVICE),
    "long model": (InvalidInputError, right(model="x" * 65), DEVICE),
    "subject": (RequestSignatureError, signed(body(nonce=NONCE), subject="bob"), DEVICE),
    "no subject": (InvalidInputError, signed(body(nonce=NONCE), subject=""), DEVICE),
    "salt": (RequestSignatureError, signed(body(nonce=NONCE), subject_salt=SALT[::-1]), DEVICE),
    "body": (InvalidInputError, pb.SignedRequest(body=b"\xff"), DEVICE),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_refused_request_does_not_use_up_its_nonce(wrong: str, ledger: Ledger) -> None:
    expected, request, caller = WRONG[wrong]
    for _ in range(2):
        with pytest.raises(expected) as caught:
            await admit(ledger, request, caller)
        assert type(caught.value) is expected
        assert len(str(caught.value)) < 300
    await admit(ledger, right())


async def test_a_verification_of_a_subject_whose_budget_is_used_up_does_not_use_up_its_nonce(ledger: Ledger) -> None:
    for _ in range(2):
        await admit(ledger, signed(body()))
    for _ in range(2):
        with pytest.raises(BudgetExceededError) as caught:
            await begin(ledger, right())
        assert (caught.value.limit, caught.value.party, SUBJECT in f"{caught.value}") == (2, "matcher-a", False)
    await admit(ledger, signed(body("candidates", nonce=NONCE)))


async def test_a_verification_is_counted_with_its_nonce_or_neither_is_noted(ledger: Ledger) -> None:
    requests = [signed(body()) for _ in range(3)]
    begun = [await begin(ledger, request) for request in requests]
    for admission, admitted in begun[:2]:
        await admission.count(admitted, SUBJECT)
    # The third one passed the look while there was room.
    with pytest.raises(BudgetExceededError):
        await begun[2][0].count(begun[2][1], SUBJECT)
    for request, (_, admitted) in zip(requests, begun, strict=True):
        nonce, expires_at_ms = admitted.checked.nonce, admitted.checked.expires_at_ms
        if request is requests[2]:
            ledger.look_at(Entry(nonce, expires_at_ms))
        else:
            with pytest.raises(RequestReplayedError):
                ledger.look_at(Entry(nonce, expires_at_ms))


async def test_a_verification_of_nobody_who_is_here_costs_no_budget_and_is_made_once(ledger: Ledger) -> None:
    admission, admitted = await begin(ledger, right())
    with pytest.raises(UnknownSubjectError):
        await admission.count(admitted, "nobody")
    with pytest.raises(RequestReplayedError):
        await admission.count(admitted, "nobody")
    for _ in range(2):
        await admit(ledger, signed(body()))


async def test_of_one_verification_twice_at_once_one_is_counted(ledger: Ledger) -> None:
    (one, first), (other, second) = await begin(ledger, right()), await begin(ledger, right())
    found = await asyncio.gather(one.count(first, SUBJECT), other.count(second, SUBJECT), return_exceptions=True)
    assert [type(error) for error in found] == [type(None), RequestReplayedError]
    await admit(ledger, signed(body()))


async def test_a_right_request_is_admitted_once(ledger: Ledger) -> None:
    admitted = await admit(ledger, right())
    assert (admitted.checked.nonce, admitted.gallery, admitted.model) == (NONCE, MAIN, "embedding")
    with pytest.raises(RequestReplayedError):
        await admit(ledger, right())


async def test_a_nonce_is_not_served_in_another_request_either(ledger: Ledger) -> None:
    await admit(ledger, right())
    another = signed(body("candidates", nonce=NONCE, device=OTHER_DEVICE), KEYS[OTHER_DEVICE])
    with pytest.raises(RequestReplayedError):
        await admit(ledger, another, OTHER_DEVICE)


async def test_a_retry_with_a_fresh_nonce_is_served(ledger: Ledger) -> None:
    for _ in range(2):
        assert (await admit(ledger, signed(body()))).checked.device == DEVICE


async def test_the_refusal_names_no_subject(ledger: Ledger) -> None:
    with pytest.raises(RequestSignatureError) as caught:
        await admit(ledger, signed(body(), subject=f"{SUBJECT} byron"))
    assert SUBJECT not in f"{caught.value} {caught.value.fields()}"
