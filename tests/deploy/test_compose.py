"""The compose file: it is one, and each port, folder, peer and health check is what the daemons have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.configured import DAEMONS, DEPLOYED, configured_in, port_of
from veilmatch.client.config import DeviceSettings
from veilmatch.server.config import MatcherSettings
from veilmatch.server.installation.plan import METRICS_PORTS, PORTS, Plan, device_fields, folder_of
from veilmatch.server.installation.toml import to_toml

FILE = DEPLOYED / "containers" / "compose.yaml"
#: schema/compose-spec.json of github.com/compose-spec/compose-spec (Apache-2.0), commit 170098ba07d9, 2026-06-23.
SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
COMPOSED: dict[str, Any] = yaml.safe_load(FILE.read_text())
#: What runs all the time, and what is run now and then.
SERVICES: dict[str, dict[str, Any]] = {n: s for n, s in COMPOSED["services"].items() if "profiles" not in s}
RETAIN: dict[str, Any] = COMPOSED["services"]["retain"]


def test_it_is_a_compose_file() -> None:
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    validator.validate(COMPOSED)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"matcher-a": {"port": []}}})


def test_it_has_every_daemon() -> None:
    assert sorted(SERVICES) == sorted(DAEMONS) == sorted(PORTS)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_ports_and_peers_are_those_of_the_daemons(daemon: str, tmp_path: Path) -> None:
    service = SERVICES[daemon]
    settings = configured_in(tmp_path, daemon, service["environment"])
    kind = daemon.split("-")[0]
    assert port_of(settings.listen) == Plan().base_port + PORTS[daemon]
    assert settings.metrics is not None
    assert settings.metrics.listen == f"127.0.0.1:{Plan().base_port + METRICS_PORTS[daemon]}"
    reached = {f"{kind}-{letter}": address for letter, address in settings.peers.items()}
    if isinstance(settings, MatcherSettings):
        reached[f"keyholder-{settings.party}"] = settings.key_holder
    assert len(reached) == (3 if kind == "matcher" else 2)
    for other, address in reached.items():
        assert address == f"{other}:{port_of(SERVICES[other]['environment']['VEILMATCH_LISTEN'])}"
        assert set(service["networks"]) & set(SERVICES[other]["networks"]), f"{daemon} and {other} have no network"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_no_daemon_shares_a_network_with_one_that_it_has_nothing_to_do_with(daemon: str) -> None:
    kind, _, party = daemon.partition("-")
    for other in set(DAEMONS) - {daemon}:
        met = set(SERVICES[daemon]["networks"]) & set(SERVICES[other]["networks"])
        assert bool(met) == (other.startswith(kind) or other.endswith(party)), (other, met)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_health_folder_and_what_is_published(daemon: str, tmp_path: Path) -> None:
    service = SERVICES[daemon]
    settings = configured_in(tmp_path, daemon, service["environment"])
    (address,) = re.findall(r"http://([^/]+)/readyz'", service["healthcheck"]["test"][-1])
    assert settings.metrics is not None
    assert address == settings.metrics.listen
    (volume,) = service["volumes"]
    assert volume.split("}/")[1] == f"{folder_of(daemon)}:/var/lib/veilmatch"
    kind = daemon.split("-")[0]
    assert service["command"] == [kind, "--config", f"{kind}.toml"]
    port = port_of(settings.listen)
    # Devices reach matchers; whoever reaches a key holder is a daemon.
    assert service.get("ports") == ([f"127.0.0.1:{port}:{port}"] if kind == "matcher" else None)
    is_outside = [name for name in service["networks"] if not (COMPOSED["networks"][name] or {}).get("internal")]
    assert is_outside == (["devices"] if kind == "matcher" else [])
    assert str(settings.passphrase_file) == "/run/secrets/passphrase"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_container_may_nothing_that_a_daemon_does_not_need(daemon: str) -> None:
    service = SERVICES[daemon]
    assert service["user"] == "10001:10001"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "devices", "pid", "ipc", "network_mode"} & set(service)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 0
    assert service["memswap_limit"] == service["mem_limit"]


def test_what_erases_what_is_due_reaches_matchers_and_has_no_secret_of_theirs(tmp_path: Path) -> None:
    assert RETAIN["profiles"] == ["retain"] and RETAIN["secrets"] == [] and RETAIN["restart"] == "no"
    assert RETAIN["command"] == ["retain", "--config", "device.toml"]
    (volume,) = RETAIN["volumes"]
    assert volume.endswith("/reaper:/var/lib/veilmatch:ro")
    config = tmp_path / "device.toml"
    addresses = {party: f"127.0.0.1:{Plan().base_port}" for party in "abc"}
    config.write_text(to_toml(device_fields("reaper", addresses, "reaper.cert", 0.4)))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in RETAIN["environment"].items():
            patched.setenv(name, value)
        addresses = DeviceSettings.load(config).matchers
    for party, address in addresses.items():
        assert address == f"matcher-{party}:{port_of(SERVICES[f'matcher-{party}']['environment']['VEILMATCH_LISTEN'])}"
        assert set(RETAIN["networks"]) & set(SERVICES[f"matcher-{party}"]["networks"])
    for name in ("user", "read_only", "cap_drop", "security_opt"):
        assert RETAIN[name] == SERVICES["matcher-a"][name]
