"""Where metrics may be listened for, and under which guard."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from veilmatch.server.monitoring.settings import MetricsSettings, MetricsTls, TracesSettings

TLS = MetricsTls(authority=Path("ca.pem"), certificate=Path("tls.pem"), key=Path("tls-key.pem"))


@pytest.mark.parametrize("listen", ["127.0.0.1:9", "127.8.0.1:9", "[::1]:9", "localhost:9"])
def test_this_machine_alone_needs_no_guard(listen: str) -> None:
    assert MetricsSettings(listen=listen).port == 9


@pytest.mark.parametrize("listen", ["0.0.0.0:9", "10.0.0.1:9", "[::]:9", "metrics.example:9"])
def test_others_need_one(listen: str) -> None:
    with pytest.raises(ValidationError, match="token_file, or tls and clients: anybody could read them"):
        MetricsSettings(listen=listen)
    assert MetricsSettings(listen=listen, token_file=Path("token"))
    assert MetricsSettings(listen=listen, tls=TLS, clients=["prometheus"])


def test_tls_without_names_would_let_in_everybody_of_that_authority() -> None:
    with pytest.raises(ValidationError, match="belong together"):
        MetricsSettings(listen="10.0.0.1:9", tls=TLS)
    with pytest.raises(ValidationError, match="belong together"):
        MetricsSettings(listen="10.0.0.1:9", token_file=Path("token"), clients=["prometheus"])


def test_traces_go_to_an_address_of_http() -> None:
    assert TracesSettings().endpoint is None
    with pytest.raises(ValidationError):
        TracesSettings(endpoint="collector:4317")
