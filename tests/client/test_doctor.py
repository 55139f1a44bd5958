"""`veilmatch doctor` says what runs here and why."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from veilmatch.client.commands import doctor as module
from veilmatch.client.commands._application import build_app
from veilmatch.crypto.rings import choice


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build_app(), ["doctor", *arguments])
    return result.exit_code, result.stdout


def test_it_names_the_backend_that_queries_use() -> None:
    status, output = doctor("--json")
    found = json.loads(output)
    assert status == 0 and found["problem"] is None
    assert found["backend"] == choice.choose().backend == found["backends"][0]
    assert (found["native_kernel"], found["reason"]) == (choice.kernel_is_built(), choice.choose().reason)
    assert found["parts"] == {"device": True, "server": True, "models": True}
    assert found["backend"] in doctor()[1]


@pytest.mark.parametrize("backend", choice.available())
def test_the_environment_chooses(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, backend)
    found = json.loads(doctor("--json")[1])
    assert (found["backend"], found["reason"]) == (backend, f"{choice.VARIABLE} says so")


def test_a_backend_that_does_not_exist_is_the_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "abacus")
    status, output = doctor("--json")
    found = json.loads(output)
    assert status == 3 and found["backend"] is None
    assert "abacus" in found["problem"] and "gmpy2" in found["problem"]
    assert doctor()[0] == 3


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "kernel_is_built", lambda: False)
    monkeypatch.setattr(module, "is_installed", lambda bundle: False)
    output = " ".join(doctor()[1].split())
    for advice in ("pip install 'veilmatch[device]'", "install a C compiler", "veilmatch models install"):
        assert advice in output
