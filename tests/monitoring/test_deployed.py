"""Alarms and dashboard: their metrics exist, every metric is on the dashboard, and every alarm has its runbook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from veilmatch.client.commands.canary import _write
from veilmatch.client.operations.canary import Run
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.monitoring import meters
from veilmatch.server.monitoring.readings import GAUGES, PREFIX

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "prometheus"
RULES, DASHBOARD = DEPLOYED / "veilmatch.rules.yml", DEPLOYED / "veilmatch.dashboard.json"
RUNBOOKS, PAGE = ROOT / "docs" / "runbooks.md", ROOT / "docs" / "monitoring.md"
METRIC = re.compile(r"\b(?:veilmatch|process)_\w+")
DAY_S = 86400


def existing(tmp_path: Path) -> set[str]:
    """All names that a daemon or the canary gives."""
    found = {PREFIX + name for name in GAUGES}
    for family in meters.REGISTRY.collect():
        found |= {sample.name for sample in family.samples}
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        found |= {family.name + end for end in ends}
    _write(tmp_path / "canary.prom", [Run("ab", 0.1)])
    return found | set(METRIC.findall((tmp_path / "canary.prom").read_text()))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alarms() -> dict[str, dict[str, Any]]:
    """Each alarm by its name."""
    return {rule["alert"]: rule for rule in rules()}


def expressions() -> list[str]:
    """What alarms and dashboard ask."""
    return [*(rule["expr"] for rule in rules()), *queries()]


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it: the one of this machine, or that `make promtool` has put beside Python. CI has to have one."""
    program = shutil.which("promtool") or shutil.which("promtool", path=Path(sys.executable).parent)
    if program is None and not os.environ.get("CI"):
        pytest.skip("no promtool on this machine: make promtool")
    assert program is not None, "CI has to have promtool: make promtool"
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_every_metric_of_alarms_and_dashboard_exists(tmp_path: Path) -> None:
    names = existing(tmp_path)
    for expression in expressions():
        assert (asked := set(METRIC.findall(expression))) <= names, asked - names


def test_every_metric_is_on_the_dashboard_and_explained(tmp_path: Path) -> None:
    ours = {re.sub("_(total|bucket|count|sum)$", "", name) for name in existing(tmp_path) if name.startswith(PREFIX)}
    shown = {re.sub("_(total|bucket|count|sum)$", "", name) for text in queries() for name in METRIC.findall(text)}
    assert ours - shown == set()
    explained = {re.sub("_(total|bucket|count|sum)$", "", name) for name in METRIC.findall(PAGE.read_text())}
    assert ours - explained == set()


def test_every_alarm_has_its_runbook() -> None:
    sections = {
        title.lower(): body
        for title, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.M | re.S)
    }
    assert len(alarms()) > 30
    for name, rule in alarms().items():
        (anchor,) = re.findall(r"^docs/runbooks\.md#(\w+)$", rule["annotations"]["runbook"])
        assert anchor == name.lower()
        assert "What to do" in sections[anchor], name
    assert set(sections) <= {name.lower() for name in alarms()}


def test_every_code_that_an_alarm_looks_for_is_one() -> None:
    def codes(kind: type[VeilmatchError]) -> set[str]:
        return {kind.code}.union(*(codes(one) for one in kind.__subclasses__()))

    for expression in expressions():
        for found in re.findall(r'code=~?"([^"]+)"', expression):
            assert set(found.split("|")) <= codes(VeilmatchError) | {"ok"}


def test_the_rules_are_alarms_with_a_name_of_their_own_and_all_that_one_needs() -> None:
    document = yaml.safe_load(RULES.read_text())
    assert set(document) == {"groups"}
    groups = [group["name"] for group in document["groups"]]
    assert len(groups) == len(set(groups)) and all(set(group) == {"name", "rules"} for group in document["groups"])
    assert len(rules()) == len(alarms())
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert re.fullmatch(r"Veilmatch[A-Z]\w+", rule["alert"])
        assert re.fullmatch(r"\d+[mhd]", rule["for"]), rule
        assert set(rule["labels"]) == {"severity"} and rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "runbook"} and all(rule["annotations"].values())


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0 and f"SUCCESS: {len(alarms())} rules found" in done.stdout, done.stdout + done.stderr
    broken = tmp_path / "broken.yml"
    broken.write_text(
        RULES.read_text().replace("max(veilmatch_pairs_available) == 0", "max(veilmatch_pairs_available == 0")
    )
    assert promtool("check", "rules", broken).returncode != 0


@pytest.mark.parametrize(
    ("left_days", "fired"),
    [(61, []), (59, ["Ends"]), (8, ["Ends"]), (6, ["Ends", "EndsSoon"]), (-1, ["Ends", "EndsSoon"])],
)
def test_certificates_are_warned_of_from_the_day_on_from_which_logs_do(
    left_days: int, fired: list[str], tmp_path: Path
) -> None:
    """By Prometheus itself, two hours after it began, at time 0."""
    labels = {"instance": "matcher-a", "role": "revocation list"}
    said = {
        name: [
            {"exp_labels": labels | {"severity": rule["labels"]["severity"]}, "exp_annotations": {
                key: text.replace("{{ $labels.instance }}", "matcher-a").replace("{{ $labels.role }}", labels["role"])
                for key, text in rule["annotations"].items()
            }}
        ] if name.removeprefix("VeilmatchCertificate") in fired else []
        for name, rule in alarms().items() if name.startswith("VeilmatchCertificate")
    }  # fmt: skip
    assert len(said) == 2
    series = 'veilmatch_certificate_expiry_timestamp_seconds{instance="matcher-a",role="revocation list"}'
    trial = {
        "interval": "1m",
        "input_series": [{"series": series, "values": f"{left_days * DAY_S + 7200}x180"}],
        "alert_rule_test": [
            {"eval_time": "2h", "alertname": name, "exp_alerts": alerts} for name, alerts in said.items()
        ],
    }
    file = tmp_path / "trial.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [trial]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
