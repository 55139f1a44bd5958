from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from veilmatch.client.models import install_models, install_photos, orl_photo


@pytest.fixture(scope="session")
def orl() -> Callable[[int, int], Path]:
    """Path of an AT&T/ORL photo: orl(person 1..40, photo 1..10). Installs models and photos if they are missing."""
    install_models()
    install_photos()
    return orl_photo


@pytest.fixture(autouse=True)
def about_no_request() -> Iterator[None]:
    """A test that checks a request in its own context leaves the id of that request there."""
    from veilmatch.server.ground import request_id

    token = request_id._current.set(None)
    yield
    request_id._current.reset(token)


@pytest.fixture(autouse=True)
def no_alert_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has had an alert about is not left out in the next one."""
    from veilmatch.server.ground import own_failures

    monkeypatch.setattr(own_failures, "_alerts", own_failures.Alerts())
