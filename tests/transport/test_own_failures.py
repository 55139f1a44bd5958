"""What a server fails in by itself: it names itself and the pairs that do without it; what it does not, does not."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

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
    WrongClockError,
)
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.server.ground import own_failures as own_failures_module
from veilmatch.server.ground.own_failures import ALERT_S, Alerts, Self, alert, named, own_failures

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


def test_a_server_whose_clock_is_wrong_says_so_of_itself_and_one_that_finds_a_request_late_does_not() -> None:
    error = leaving(WrongClockError("540 s ago"))
    assert (error.party, error.alternatives) == ("keyholder-b", ("ac",))
    late = leaving(RequestExpiredError("30 ms ago", party="keyholder-b"))
    assert (late.party, late.alternatives) == ("keyholder-b", ())


@pytest.mark.parametrize(
    "kind", [IntegrityError, StorageError, KeyFileError, VeilmatchError, WrongClockError, RequestExpiredError]
)
def test_what_another_server_says_is_no_failure_of_this_one(kind: type[VeilmatchError]) -> None:
    with capture_logs() as logged:
        error = leaving(kind("no", said_by=("keyholder-a",)))
    assert (error.party, error.alternatives, logged) == (None, (), [])


def test_alerts_of_one_kind_are_logged_once_an_hour_with_the_number_of_those_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [5.0]
    monkeypatch.setattr(own_failures_module, "_alerts", Alerts(lambda: now[0]))
    full, failed = StorageError("full"), ValueError("secret")
    with capture_logs() as logged:
        for _ in range(3):
            leaving(StorageError("full"))
            leaving(failed)
        leaving(full, MATCHER)
        now[0] += ALERT_S - 1
        leaving(StorageError("full"))
        now[0] += 1
        leaving(StorageError("full"))
        leaving(StorageError("read-only"))
        leaving(StorageError("full"))
        now[0] += ALERT_S
        leaving(StorageError("full"))
    assert [(entry["reason"], entry.get("left_out")) for entry in logged] == [
        ("full", None), ("keyholder-b failed on this request", None), ("full", None),
        ("full", "3"), ("read-only", None), ("full", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "named_there"), [(StorageError, "keyholder-b"), (InvalidInputError, None)])
def test_an_alert_from_the_background_names_the_server_for_what_is_its_own(
    kind: type[VeilmatchError], named_there: str | None
) -> None:
    with capture_logs() as lines:
        alert(kind("what is caught up cannot be kept"), ME)
        alert(kind("what is caught up cannot be kept", party="keyholder-a"), ME)
    assert [line.get("failed") for line in lines] == [named_there, "keyholder-a"]


def test_however_many_kinds_of_alerts_there_are_few_are_remembered() -> None:
    alerts = Alerts()
    for number in range(1000):
        assert alerts.due("storage", number) == 0
    assert len(alerts._kinds) <= 256


def test_what_a_callee_does_not_say_of_itself_its_caller_says() -> None:
    assert named(IntegrityError("failed"), ME).party == "keyholder-b"
    assert named(ProtocolError("failed"), ME).party is None


@pytest.mark.parametrize("kind", [IntegrityError, StorageError])
def test_what_a_server_says_of_itself_offers_who_does_without_it_where_there_is_anybody(
    kind: type[VeilmatchError],
) -> None:
    """A damaged record names its matcher where it is found; pairs are not known there."""
    for pairs, offered in ((PAIRS, ("bc",)), (("ab",), ())):
        with pytest.raises(kind) as caught, own_failures(Self("matcher-a", ("bc",), pairs)):
            raise kind("a record is damaged", party="matcher-a")
        assert (caught.value.party, caught.value.alternatives) == ("matcher-a", offered)
