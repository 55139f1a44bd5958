"""What the status of a call stands for: failed handshakes above all, which no waiting mends."""

from __future__ import annotations

import json

import grpc
import pytest

from veilmatch.client.wire.statuses import ERROR_METADATA_KEY, error_of_status, sent_error
from veilmatch.crypto.errors import (
    HandshakeError,
    KeySafetyError,
    ServerDeviationError,
    UnavailableError,
    VeilmatchError,
)

WRONG_CERTIFICATE = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:7001: Ssl handshake failed"
    " (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"
)
ENDED_MEANWHILE = "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed: Socket closed"


def unavailable(details: str) -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details=details)


@pytest.mark.parametrize("known", [False, True])
def test_certificates_that_do_not_go_together_are_named(known: bool) -> None:
    error = error_of_status(unavailable(WRONG_CERTIFICATE), "matcher-a", known=known)
    assert isinstance(error, HandshakeError) and error.party == "matcher-a"
    assert "check certificates" in str(error.available)


def test_a_handshake_with_a_stranger_that_is_cut_off_is_about_certificates() -> None:
    assert isinstance(error_of_status(unavailable(ENDED_MEANWHILE), "matcher-a", known=False), HandshakeError)


def test_a_matcher_that_was_there_and_ends_during_a_handshake_can_be_waited_for() -> None:
    error = error_of_status(unavailable(ENDED_MEANWHILE), "matcher-a", known=True)
    assert type(error) is UnavailableError and "lost" in str(error.available)


# -- whose word it is ----------------------------------------------------------------------------------------


def sent(fields: object) -> VeilmatchError:
    metadata = grpc.aio.Metadata((ERROR_METADATA_KEY, json.dumps(fields).encode()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), metadata)
    found = sent_error(error, "matcher-a")
    assert found is not None
    return found


@pytest.mark.parametrize("claimed", [None, "matcher-b", "keyholder-b", 7])
@pytest.mark.parametrize("kind", [UnavailableError, KeySafetyError])
def test_an_error_that_was_sent_is_the_word_of_the_matcher_that_sent_it(
    kind: type[VeilmatchError], claimed: object
) -> None:
    assert sent(kind("no", party="keyholder-c").fields() | {"said_by": claimed}).said_by[-1] == "matcher-a"


@pytest.mark.parametrize("kind", [KeySafetyError, ServerDeviationError])
def test_an_accusation_says_who_accuses(kind: type[VeilmatchError]) -> None:
    error = sent(kind("opened other values", party="keyholder-c").fields())
    assert type(error) is kind and error.party == "keyholder-c"
    assert str(error) == error.fields()["message"] == "matcher-a says: opened other values"
    assert str(sent(UnavailableError("is down").fields())) == "is down"


def test_what_the_device_finds_is_nobodys_word() -> None:
    assert error_of_status(unavailable(ENDED_MEANWHILE), "matcher-a", known=True).said_by == ()
