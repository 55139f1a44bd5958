"""What a server fails in by itself: it names itself and the pairs that do without it; what it does not, does not."""

from __future__ import annotations

import pytest

from veilmatch.crypto.errors import (
    AuditLogError,
    BudgetExceededError,
    DealtStockError,
    IntegrityError,
    InvalidInputError,
    KeyFileError,
    KeySafetyError,
    ProtocolError,
    RequestExpiredError,
    RequestReplayedError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.server.transport.own_failures import Self, named, own_failures

ME = Self("keyholder-b", ("ac",))
MATCHER = Self("matcher-a")


def leaving(error: Exception, server: Self = ME) -> VeilmatchError:
    with pytest.raises(VeilmatchError) as caught, own_failures(server):
        raise error
    return caught.value


@pytest.mark.parametrize("kind", [IntegrityError, StorageError, KeyFileError, VeilmatchError])
def test_an_own_failure_names_the_server_and_who_does_without_it(
    kind: type[VeilmatchError], capsys: pytest.CaptureFixture[str]
) -> None:
    error = leaving(kind("a stored block was altered"))
    assert (type(error), error.party, error.alternatives) == (kind, "keyholder-b", ("ac",))
    assert capsys.readouterr().out.count("alert") == 1


@pytest.mark.parametrize(
    "kind",
    [InvalidInputError, RequestReplayedError, BudgetExceededError, ProtocolError, KeySafetyError, DealtStockError],
)
def test_an_error_of_the_request_or_of_another_party_is_left_as_it_is(kind: type[VeilmatchError]) -> None:
    error = leaving(kind("no"))
    assert (type(error), error.party, error.alternatives) == (kind, None, ())


@pytest.mark.parametrize("kind", [IntegrityError, StorageError, UnavailableError, AuditLogError])
def test_whoever_was_named_stays_named(kind: type[VeilmatchError]) -> None:
    error = leaving(kind("no", party="keyholder-a", alternatives=("bc",)))
    assert (error.party, error.alternatives) == ("keyholder-a", ("bc",))


@pytest.mark.parametrize("error", [ValueError("secret"), OSError(28, "secret"), ZeroDivisionError("secret")])
def test_anything_unforeseen_names_the_server_and_says_its_kind_alone(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    found = leaving(error)
    assert (type(found), found.party, found.alternatives) == (IntegrityError, "keyholder-b", ("ac",))
    assert found.got == type(error).__name__ and "secret" not in f"{found} {capsys.readouterr().out}"


def test_a_key_holder_to_which_its_matcher_brought_a_request_that_is_expired_here_has_the_wrong_clock() -> None:
    error = leaving(RequestExpiredError("expired by the clock of keyholder-b", party="keyholder-b"))
    assert (error.party, error.alternatives) == ("keyholder-b", ("ac",))
    first = leaving(RequestExpiredError("expired by the clock of matcher-a", party="matcher-a"), MATCHER)
    assert (first.party, first.alternatives) == ("matcher-a", ())


def test_what_a_callee_does_not_say_of_itself_its_caller_says() -> None:
    assert named(IntegrityError("failed"), ME).party == "keyholder-b"
    assert named(ProtocolError("failed"), ME).party is None
