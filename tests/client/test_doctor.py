"""`veilmatch doctor` says what runs here and why, what does not, and what to do about it."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from tests.client.fakes import FakeMatchers
from tests.transport.parties import authority
from veilmatch import DeviceSettings
from veilmatch.client.commands import doctor as module
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.commands.base.servers import Servers
from veilmatch.client.models import install_models
from veilmatch.client.wire.transport import Matcher
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.rings import choice
from veilmatch.server.installation.certifying.certifier import Certifier, Grant, certified

LIBRARIES = ("onnxruntime", "PIL", "onnx", "sqlalchemy", "alembic", "grpc_health", "prometheus_client")


@pytest.fixture(autouse=True, scope="module")
def models() -> None:
    install_models()


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def take_away(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build_app("doctor"), ["doctor", *arguments])
    return result.exit_code, result.stdout


def found(*arguments: str) -> tuple[int, dict[str, Any]]:
    status, output = doctor(*arguments, "--json")
    return status, json.loads(output)


def test_it_names_the_backend_that_queries_use() -> None:
    status, answer = found()
    assert status == 0 and answer["problems"] == []
    assert answer["backend"] == choice.choose().backend == answer["backends"][0]
    assert (answer["native_kernel"], answer["reason"]) == (choice.kernel_is_built(), choice.choose().reason)
    assert answer["roles"] == ["device", "server"]
    assert answer["extras"].items() >= {"device": True, "server": True, "models": True}.items()
    assert answer["backend"] in doctor()[1]


@pytest.mark.parametrize("backend", choice.available())
def test_the_environment_chooses(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, backend)
    answer = found()[1]
    assert (answer["backend"], answer["reason"]) == (backend, f"{choice.VARIABLE} says so")


def test_a_backend_that_does_not_exist_is_a_problem_of_every_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "abacus")
    for role in module.Role:
        status, answer = found("--for", role)
        assert status == 3 and answer["backend"] is None
        (problem,) = answer["problems"]
        assert "abacus" in problem["finding"] and "gmpy2" in problem["advice"]
    assert doctor()[0] == 3


def test_where_nothing_is_installed_it_says_what_to_install_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, *LIBRARIES)
    monkeypatch.setattr(module, "kernel_is_built", lambda: False)
    status, output = doctor()
    text = " ".join(output.split())
    assert status == 3
    for advice in ("pip install 'veilmatch[device]'", "pip install 'veilmatch[server]'", "install a C compiler"):
        assert advice in text
    assert found("--for", "embeddings")[0] == 0


@pytest.mark.parametrize(
    ("role", "library", "advice"),
    [
        ("device", "onnxruntime", "pip install 'veilmatch[device]'"),
        ("device", "PIL", "pip install 'veilmatch[device]'"),
        ("server", "sqlalchemy", "pip install 'veilmatch[server]'"),
        ("server", "grpc_health", "pip install 'veilmatch[server]'"),
    ],
)
def test_half_an_extra_is_a_problem(role: str, library: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, library)
    for arguments in ((), ("--for", role)):
        status, answer = found(*arguments)
        assert (status, [problem["advice"] for problem in answer["problems"]]) == (3, [advice])


def test_a_server_needs_nothing_of_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    take_away(monkeypatch, "onnxruntime", "PIL", "onnx")
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "empty"))
    status, answer = found()
    assert (status, answer["roles"], answer["problems"]) == (0, ["server"], [])


def test_missing_models_are_a_problem_of_a_device_with_the_extra_to_install_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "empty"))
    status, answer = found("--for", "device")
    assert (status, answer["problems"][0]["advice"]) == (3, "veilmatch models install")
    take_away(monkeypatch, "onnx")
    answer = found("--for", "device")[1]
    assert answer["problems"][0]["advice"] == "pip install 'veilmatch[models]', then veilmatch models install"
    assert found("--for", "server")[0] == 0


@pytest.mark.parametrize(
    ("name", "role"), [("device.toml", "device"), ("matcher.toml", "server"), ("keyholder.toml", "server")]
)
def test_a_configuration_in_the_folder_says_what_the_machine_is_for(
    name: str, role: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch, *LIBRARIES)
    (empty_folder / name).touch()
    monkeypatch.setattr(module, "servers_of", lambda configuration: Servers({}, {"ab": True}))
    status, answer = found()
    assert (status, answer["roles"]) == (3, [role])
    assert answer["problems"][0]["advice"] == f"pip install 'veilmatch[{role}]'"


def test_a_library_that_is_installed_and_does_not_load_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "sqlalchemy"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "sqlalchemy"]:
        monkeypatch.delitem(sys.modules, name)
    status, answer = found("--for", "server")
    assert status == 3 and "libgomp.so.1" in answer["problems"][0]["finding"]


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> Any:
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "VEILMATCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    status, answer = found("--for", "device")
    assert (status, answer["cache"]) == (3, None)
    assert answer["problems"][0]["advice"] == "VEILMATCH_CACHE set to a folder"
    assert "set VEILMATCH_CACHE" in doctor()[1]
    assert found("--for", "server")[0] == 0


# -- the servers of a device -------------------------------------------------------------------------------


@pytest.fixture
def device(settings: DeviceSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """A folder with a device.toml; who of its matchers gives a sign of life."""
    alive = {"a": True, "b": True, "c": True}

    def opened(chosen: DeviceSettings) -> dict[str, Matcher]:
        fakes = FakeMatchers()
        for party, lives in alive.items():
            matcher = getattr(fakes, party)
            matcher.lives = lives
        return {party: matcher for party, matcher in fakes.all.items() if party in chosen.matchers}

    monkeypatch.setattr("veilmatch.client.wire.transport.open_matchers", opened)
    monkeypatch.setattr("veilmatch.client.commands.base.servers.SIGN_S", 0.1)
    monkeypatch.chdir(tmp_path)
    yield alive


@pytest.mark.parametrize("silent", ["", "a", "c"])
def test_it_names_three_matchers_and_the_pairs_that_they_make(device: dict[str, bool], silent: str) -> None:
    device.update(dict.fromkeys(silent, False))
    status, answer = found("--for", "embeddings")
    assert (status, answer["matchers"]) == (0, device)
    assert answer["pairs"] == {pair: silent == "" or silent not in pair for pair in ("ab", "ac", "bc")}
    lines = {line.split("  ")[0].strip(): line for line in doctor("--for", "embeddings")[1].splitlines()}
    for party, answers in device.items():
        assert ("answers" if answers else "no sign of life") in lines[f"matcher {party}"]
    assert {"": "ab, ac, bc", "a": "bc", "c": "ab"}[silent] in lines["pairs whose matchers answer"]


def test_a_device_that_no_pair_can_serve_has_a_problem(device: dict[str, bool]) -> None:
    device.update(a=False, b=False)
    status, answer = found("--for", "embeddings")
    assert status == 3
    (problem,) = answer["problems"]
    assert problem["part"] == "servers" and "matcher-a, matcher-b" in problem["finding"]
    assert "[matchers]" in problem["advice"]


def test_two_matchers_are_two(device: dict[str, bool], tmp_path: Path) -> None:
    toml = (tmp_path / "device.toml").read_text()
    (tmp_path / "device.toml").write_text(toml.replace('c = "localhost:3"', ""))
    answer = found("--for", "embeddings")[1]
    assert answer["matchers"] == {"a": True, "b": True, "c": None} and answer["pairs"] == {"ab": True}


def test_it_says_until_when_the_certificates_of_the_device_count(
    device: dict[str, bool], settings: DeviceSettings, device_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    def certify(days: int, name: str = "kiosk-1", organisations: str = "ab") -> float:
        public = read_public_file(settings.public_key)
        now = datetime.datetime.now(datetime.UTC)
        request = Grant(days=days).request(public, name, device_key.public_key().public_bytes_raw(), now)
        made = certified(request, [Certifier.fresh(party) for party in PARTIES if party in organisations])
        (tmp_path / "kiosk-1.cert").write_bytes(made.encode())
        return made.statement.not_after_s

    own, _ = authority(0).issue("kiosk-1", is_server=False, validity=datetime.timedelta(days=30))
    settings.tls.certificate.write_bytes(own)
    toml = (tmp_path / "device.toml").read_text()
    (tmp_path / "device.toml").write_text('certificate = "kiosk-1.cert"\n' + toml)
    end_s = certify(200)
    status, answer = found("--for", "embeddings")
    assert (status, [one["of"] for one in answer["certificates"]]) == (0, ["TLS certificate", "certificate of rights"])
    assert answer["certificates"][1]["not_after"] == end_s
    lines = {line.split("  ")[0].strip(): line for line in doctor("--for", "embeddings")[1].splitlines()}
    assert "RENEW IT" in lines["TLS certificate"] and "RENEW IT" not in lines["certificate of rights"]
    for spoil, words in (
        (lambda: certify(200, organisations="b"), "not signed by two"),
        (lambda: certify(200, "kiosk-2"), "another device"),
    ):
        spoil()
        status, answer = found("--for", "embeddings")
        (problem,) = answer["problems"]
        assert (status, problem["part"]) == (3, "certificate") and words in problem["finding"]


def test_a_server_asks_nobody(device: dict[str, bool]) -> None:
    answer = found("--for", "server")[1]
    assert (answer["matchers"], answer["pairs"]) == (None, None)
