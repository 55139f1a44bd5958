"""An audit log that is deleted while its key holder runs: that one serves nothing more, another pair does."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import running, unit
from veilmatch.crypto.errors import AuditLogError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.keyholder.audit.check import compare

TOY = ParameterSet(modulus_bits=1024)
FACE = unit(np.random.default_rng(2), 1, TOY.dimension)[0]


def test_a_deleted_audit_log_costs_its_key_holder_and_nobody_else(tmp_path: Path) -> None:
    with running(tmp_path / "installation", TOY) as world:
        audit = world.directory / folder_of("keyholder-a") / "data" / "audit"
        with world.client() as client:
            client.enrol_embedding("ann", FACE, model="toy")
            (log,) = audit.iterdir()
            away = log.rename(world.directory / "away")
            assert client.verify_embedding("ann", FACE, model="toy"), "the pair without this key holder serves"
            with world.client(pairs=["ab"]) as bound, pytest.raises(AuditLogError, match="not in its place") as caught:
                bound.verify_embedding("ann", FACE, model="toy")
            assert (caught.value.party, caught.value.alternatives) == ("keyholder-a", ("bc",))
            lines = [json.loads(line) for line in world.log("keyholder-a").splitlines() if line.startswith("{")]
            assert [line["level"] for line in lines if line["event"] == "alert"] == ["error"]
            assert list(audit.iterdir()) == []
            away.rename(log)
            with world.client(pairs=["ab"]) as bound:
                assert bound.verify_embedding("ann", FACE, model="toy")
            log.unlink()
            with world.client(pairs=["ab"]) as bound, pytest.raises(AuditLogError):
                bound.verify_embedding("ann", FACE, model="toy")
            os.kill(world.parties.pid("keyholder-a"), signal.SIGHUP)
            ends = time.monotonic() + 20
            while not log.exists():
                assert time.monotonic() < ends
                time.sleep(0.05)
            with world.client(pairs=["ab"]) as bound:
                assert bound.verify_embedding("ann", FACE, model="toy")
            other = world.directory / folder_of("keyholder-b") / "data" / "audit"
            _, _, compared = compare(audit, other)
            assert compared.agree and compared.common >= 3, "not one entry was lost"
