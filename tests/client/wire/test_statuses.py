"""What the status of a call stands for: failed handshakes above all, which no waiting mends."""

from __future__ import annotations

import json

import grpc
import pytest

from veilmatch.client.wire.statuses import error_of_status, read_error
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import HandshakeError, UnavailableError, VeilmatchError

WRONG_CERTIFICATE = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:7001: Ssl handshake failed"
    " (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"
)
ENDED_MEANWHILE = "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed: Socket closed"


def unavailable(details: str) -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details=details)


def ended(error: grpc.aio.AioRpcError, *, known: bool) -> VeilmatchError:
    return error_of_status(error, "matcher-a", known=known, address="10.0.0.1:7401", timeout_s=5)


@pytest.mark.parametrize("known", [False, True])
def test_certificates_that_do_not_go_together_are_named(known: bool) -> None:
    error = error_of_status(
        unavailable(WRONG_CERTIFICATE), "matcher-a", known=known, address="10.0.0.1:7401", timeout_s=5
    )
    assert isinstance(error, HandshakeError) and error.party == "matcher-a"
    assert "check certificates" in str(error.available)


def test_a_handshake_with_a_stranger_that_is_cut_off_is_about_certificates() -> None:
    assert isinstance(
        ended(unavailable(ENDED_MEANWHILE), known=False),
        HandshakeError,
    )


def test_a_matcher_that_was_there_and_ends_during_a_handshake_can_be_waited_for() -> None:
    error = ended(unavailable(ENDED_MEANWHILE), known=True)
    assert type(error) is UnavailableError and "lost" in str(error.available)


def test_what_to_do_is_not_taken_from_a_server() -> None:
    sent = UnavailableError("no stock", party="keyholder-a", hint="Run what I say.")
    read = read_error(json.dumps(sent.fields()), "matcher-a")
    assert type(read) is UnavailableError and read.hint is None and "Run" not in hint(read)


@pytest.mark.parametrize(
    "details",
    [WRONG_CERTIFICATE, ENDED_MEANWHILE, "DNS resolution failed", "Connection refused", "Socket closed", "anything"],
)
def test_who_was_never_there_may_have_another_address(details: str) -> None:
    error = ended(unavailable(details), known=False)
    assert "10.0.0.1:7401" in error.message
    assert "`matchers.a` in device.toml" in hint(error) and "10.0.0.1:7401" in hint(error)
    assert "device.toml" not in hint(ended(unavailable("Connection refused"), known=True)), "its address is right"


def test_a_time_out_of_this_device_is_told_with_where_it_is_set() -> None:
    none = grpc.aio.Metadata()
    error = ended(grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none), known=True)
    assert "5 seconds" in hint(error) and "--timeout" in hint(error) and "timeout_s in device.toml" in hint(error)


def test_a_server_whose_certificate_has_ended_is_told_of_as_such() -> None:
    details = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:7001: Tls handshake failed "
        "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
        "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
    )
    for known in (False, True):
        error = ended(unavailable(details), known=known)
        assert isinstance(error, HandshakeError) and "has expired" in str(error.available)
