"""A key that no machine has ever had: three real processes make it, one of them is killed, and an installation of
three authorities answers as plain integers do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.ceremony.three import prepared
from tests.e2e.test_query import check_exactness
from tests.e2e.world import ENVIRONMENT, running, veilmatch
from tests.installation.making import PARAMETERS, PASSPHRASE
from tests.nursery import nursery
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony.settings import CeremonySettings


@dataclass
class Joining:
    """`veilmatch ceremony join` of one organisation."""

    process: subprocess.Popen[bytes]
    out: IO[bytes]
    shown: IO[bytes]

    @staticmethod
    def begun(config: Path) -> Joining:
        out, shown = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  # both outlive this
        environment = os.environ | ENVIRONMENT | {"VEILMATCH_PASSPHRASE": PASSPHRASE}
        words = ["ceremony", "join", str(config), "--json"]
        return Joining(nursery().fork(words, environment, out, shown, stdin=subprocess.DEVNULL), out, shown)  # type: ignore[arg-type]

    def said(self) -> list[dict[str, object]]:
        self.shown.seek(0)
        return [json.loads(line) for line in self.shown.read().splitlines() if line.startswith(b"{")]

    def reached(self, step: str) -> bool:
        return any(line.get("step") == step for line in self.said())

    def ended(self) -> tuple[int, dict[str, object]]:
        status = self.process.wait(120)
        self.out.seek(0)
        return status, json.loads(self.out.read())


def test_three_processes_make_a_key_after_one_was_killed_in_the_middle(tmp_path: Path) -> None:
    configs = prepared(tmp_path, patience_s=30.0)
    joining = {party: Joining.begun(config) for party, config in configs.items()}
    while not joining["b"].reached("large candidates, batch 1"):
        assert joining["b"].process.poll() is None, joining["b"].said()
        signal.sigtimedwait([], 0.05)
    os.kill(joining["b"].process.pid, signal.SIGKILL)
    for party in ("a", "c"):
        status, document = joining[party].ended()
        error = document["error"]
        assert status == 6 and error["party"] == "keyholder-b", document  # type: ignore[index]
    assert joining["b"].process.wait(60) == -signal.SIGKILL
    left = {party: sorted(path.name for path in config.parent.iterdir()) for party, config in configs.items()}
    kept_before = ["ceremony.toml", "keys", "organisation-a.json", "organisation-b.json", "organisation-c.json"]
    assert all(names == kept_before for names in left.values())

    joining = {party: Joining.begun(config) for party, config in configs.items()}
    made: dict[Party, dict[str, object]] = {}
    for party in PARTIES:
        status, made[party] = joining[party].ended()
        assert status == 0, (made[party], joining[party].said())
    assert len({one["key_id"] for one in made.values()}) == len({one["transcript"] for one in made.values()}) == 1
    assert all(one["parameter_set"] == PARAMETERS.name and one["unconfirmed"] == [] for one in made.values())
    for config in configs.values():
        settings = CeremonySettings.load(config)
        assert settings.installation.is_dir() and not settings.pending.exists()
    # Nobody's secret is in what anybody has said.
    assert PASSPHRASE.encode() not in b"".join(one.shown.read() for one in joining.values() if not one.shown.seek(0))


def test_an_installation_of_three_authorities_answers_as_plain_integers_do(tmp_path: Path) -> None:
    with running(tmp_path / "installation", PARAMETERS, 1, "--jointly") as world, world.client() as client:
        check_exactness(client, world.parameters, people=5, queries=2)
        document = json.loads(veilmatch("authority", "status", "--installation", str(world.directory), "--json").stdout)
        assert {one["authorities"] for one in document["held"]} == {3} and len(document["authorities"]) == 1
