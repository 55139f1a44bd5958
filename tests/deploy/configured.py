"""What a daemon would run with: a new installation's configuration, and the environment that a deployment adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import Plan, key_holder_fields, matcher_fields
from veilmatch.server.installation.toml import to_toml

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy"
DAEMONS = [f"{kind}-{party}" for kind in ("matcher", "keyholder") for party in "abc"]

Settings = MatcherSettings | KeyHolderSettings
#: Of a daemon's name and an environment.
Configured = Callable[[str, Mapping[str, str]], Settings]


def configured_in(folder: Path, daemon: str, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a daemon whose folder a ceremony has made, in an environment.

    As the daemon reads them: a variable that is no field raises ConfigurationError.
    """
    kind, _, letter = daemon.partition("-")
    (party,) = (one for one in PARTIES if one == letter)
    fields = matcher_fields(party, Plan()) if kind == "matcher" else key_holder_fields(party, Plan())
    path = folder / f"{kind}.toml"
    path.write_text(to_toml(fields))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return MatcherSettings.load(path) if kind == "matcher" else KeyHolderSettings.load(path)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
