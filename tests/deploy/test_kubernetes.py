"""The Kubernetes manifests of each organisation: rendered, valid, with the ports, paths and rights of the daemons."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.configured import DEPLOYED, Settings, configured_in, port_of
from veilmatch.common.secret_file import read_secret
from veilmatch.crypto.errors import (
    BudgetExceededError,
    ConfigurationError,
    DeviceRightsError,
    KeyFileError,
    KeyMismatchError,
    OverloadedError,
    UnavailableError,
)
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.config import MatcherSettings
from veilmatch.server.installation.passphrase import read_passphrase
from veilmatch.server.installation.plan import METRICS_PORTS, PORTS, Plan

MANIFESTS = DEPLOYED / "kubernetes"
#: The Kubernetes whose schemas are asked; what is used is the same since 1.29.
VERSION = "1.33"
USER = 10001
KINDS = ("matcher", "keyholder")
BOTH = [(party, kind) for party in PARTIES for kind in KINDS]

RENDERER = next(
    (words for words in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(words[0]) is not None), None
)
with_kustomize = pytest.mark.skipif(RENDERER is None, reason="neither kustomize nor kubectl is installed")
Document = Mapping[str, Any]


@cache
def rendered(party: str) -> list[dict[str, Any]]:
    """All that `kubectl apply -k` would send for one organisation."""
    assert RENDERER is not None
    folder = MANIFESTS / f"organisation-{party}"
    done = subprocess.run([*RENDERER, str(folder)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def one(party: str, kind: str, of: str) -> Document:
    (found,) = [
        document
        for document in rendered(party)
        if document["kind"] == of and document["metadata"].get("namespace") == f"veilmatch-{kind}"
    ]
    return found


def pod(party: str, kind: str) -> Document:
    return one(party, kind, "StatefulSet")["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def configured(party: str, kind: str, folder: Path) -> Settings:
    (container,) = pod(party, kind)["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    return configured_in(folder, f"{kind}-{party}", environment)


@with_kustomize
def test_every_document_is_valid() -> None:
    for party in PARTIES:
        assert len(rendered(party)) == 11
    # Once what is the same at all three.
    documents = [yaml.safe_load(text) for text in {yaml.dump(d) for party in PARTIES for d in rendered(party)}]
    for document in documents:
        kubernetes_validate.validate(document, VERSION, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one("a", "matcher", "Service") | {"spec": {"nothing": 1}}, VERSION, strict=True)


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_ports_are_those_of_the_daemons(party: str, kind: str, tmp_path: Path) -> None:
    settings, daemon = configured(party, kind, tmp_path), f"{kind}-{party}"
    port, metrics = Plan().base_port + PORTS[daemon], Plan().base_port + METRICS_PORTS[daemon]
    assert settings.metrics is not None
    assert (settings.listen, settings.metrics.listen) == (f"0.0.0.0:{port}", f"0.0.0.0:{metrics}")
    (container,) = pod(party, kind)["containers"]
    assert container["args"] == [kind, "--config", f"{kind}.toml"]
    assert container["ports"] == [
        {"name": "grpc", "containerPort": port}, {"name": "metrics", "containerPort": metrics},
    ]  # fmt: skip
    (offered,) = one(party, kind, "Service")["spec"]["ports"]
    assert (offered["port"], offered["targetPort"]) == (port, "grpc")


@with_kustomize
@pytest.mark.parametrize("party", PARTIES)
def test_a_matcher_reaches_its_key_holder(party: str, tmp_path: Path) -> None:
    settings = configured(party, "matcher", tmp_path)
    service = one(party, "keyholder", "Service")
    assert isinstance(settings, MatcherSettings)
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert settings.key_holder == f"{name}:{service['spec']['ports'][0]['port']}"


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_the_network_lets_through_what_the_daemons_do_and_nothing_else(party: str, kind: str, tmp_path: Path) -> None:
    settings = configured(party, kind, tmp_path)
    policy = one(party, kind, "NetworkPolicy")["spec"]
    assert policy["podSelector"] == {}  # all pods of the namespace
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    out = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    wanted = [port_of(address) for address in settings.peers.values()]
    if isinstance(settings, MatcherSettings):
        wanted.append(port_of(settings.key_holder))
    assert sorted(out) == sorted([53, 53, *wanted])
    # No rule without an end: one with neither ports nor addresses would open everything.
    for rule in (*policy["egress"], *policy["ingress"]):
        assert rule["ports"]
        assert rule.get("to") or rule.get("from")
    callers = [
        next(iter(source["namespaceSelector"]["matchLabels"].values()))
        if "namespaceSelector" in source
        else "addresses"
        for rule in policy["ingress"]
        if rule["ports"] == [{"port": "grpc"}]
        for source in rule["from"]
    ]
    assert callers == (["addresses"] if kind == "matcher" else ["addresses", "veilmatch-matcher"])
    assert one(party, kind, "Service")["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_a_pod_may_nothing_that_a_daemon_does_not_need(party: str, kind: str) -> None:
    found = pod(party, kind)
    assert found["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(found)
    rights = found["securityContext"]
    assert (rights["runAsNonRoot"], rights["runAsUser"], rights["fsGroup"]) == (True, USER, USER)
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    # Otherwise each start would give the group a right to all key files, which are refused then.
    assert rights["fsGroupChangePolicy"] == "OnRootMismatch"
    for container in (*found["containers"], *found["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]
    assert one(party, kind, "StatefulSet")["spec"]["replicas"] == 1
    spaces = [d["metadata"] for d in rendered(party) if d["kind"] == "Namespace"]
    assert {space["labels"]["pod-security.kubernetes.io/enforce"] for space in spaces} == {"restricted"}


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_every_path_that_a_daemon_reads_or_writes_is_mounted(party: str, kind: str, tmp_path: Path) -> None:
    settings, found = configured(party, kind, tmp_path), pod(party, kind)
    (container,), volumes = found["containers"], {volume["name"]: volume for volume in found["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/var/lib/veilmatch"]["name"] == "folder"
    assert settings.metrics is not None
    for secret in (settings.passphrase_file, settings.metrics.token_file):
        assert secret is not None
        assert mounts[str(secret.parent)]["name"] == "private"
        assert f"/run/secret/{secret.name}" in found["initContainers"][0]["args"][0]
    # In memory: what is mounted from the Secret is for its group, and what is on a disk stays there.
    assert volumes["private"]["emptyDir"]["medium"] == "Memory"
    assert "secret" not in {mount["name"] for mount in container["volumeMounts"]}


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_probes_ask_what_the_listener_answers(party: str, kind: str) -> None:
    (container,) = pod(party, kind)["containers"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {get["port"] for get in asked.values()} == {"metrics"}
    assert [get["path"] for get in asked.values()] == ["/livez", "/livez", "/readyz"]
    # A daemon whose peers are missing is not ready, and has to be reached by them all the same.
    assert one(party, kind, "Service")["spec"]["publishNotReadyAddresses"] is True


@with_kustomize
@pytest.mark.parametrize(("party", "kind"), BOTH)
def test_nobody_evicts_a_daemon_unasked(party: str, kind: str) -> None:
    budget = one(party, kind, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 0
    labels = one(party, kind, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    for selector in (budget["selector"]["matchLabels"], one(party, kind, "Service")["spec"]["selector"]):
        assert selector.items() <= labels.items()


@with_kustomize
@pytest.mark.parametrize("party", PARTIES)
def test_a_key_holder_has_one_volume_and_no_snapshot(party: str) -> None:
    hard = one(party, "keyholder", "ResourceQuota")["spec"]["hard"]
    assert hard == {"persistentvolumeclaims": "1", "count/volumesnapshots.snapshot.storage.k8s.io": "0"}
    (claim,) = one(party, "keyholder", "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert claim["metadata"]["labels"]["velero.io/exclude-from-backup"] == "true"


def test_every_file_is_named_by_the_kustomization_beside_it() -> None:
    for kustomization in MANIFESTS.glob("*/kustomization.yaml"):
        named = {
            (kustomization.parent / name).resolve() for name in yaml.safe_load(kustomization.read_text())["resources"]
        }
        assert all(path.exists() for path in named), kustomization
        beside = {path for path in kustomization.parent.resolve().glob("*.yaml") if path.name != kustomization.name}
        assert beside == {path for path in named if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_init_container_leaves_secrets_that_the_daemon_takes(kind: str, tmp_path: Path) -> None:
    document = yaml.safe_load((MANIFESTS / kind / "statefulset.yaml").read_text())
    (prepare,) = document["spec"]["template"]["spec"]["initContainers"]
    folder, secret, private = (tmp_path / name for name in ("folder", "secret", "private"))
    for path in (folder, secret, private):
        path.mkdir()
    (folder / ".complete").touch()
    for name in ("passphrase", "metrics.token"):
        (secret / name).write_text("a word that is long enough")
        (secret / name).chmod(0o440)  # as Kubernetes mounts it for a user that is not root
    script = prepare["args"][0].replace("/run/secret/", f"{secret}/").replace("/run/veilmatch/", f"{private}/")
    for _ in range(2):  # a pod runs it again when its machine starts again
        subprocess.run([*prepare["command"], script], cwd=folder, check=True)
        assert read_passphrase(private / "passphrase") == "a word that is long enough"
        assert (private / "metrics.token").stat().st_mode & 0o777 == 0o400
    with pytest.raises(KeyFileError):
        read_passphrase(secret / "passphrase")


# -- what erases what is due ---------------------------------------------------------------------------------


def retained() -> dict[str, dict[str, Any]]:
    """All that `kubectl apply -k` would send for it, by kind."""
    assert RENDERER is not None
    done = subprocess.run([*RENDERER, str(MANIFESTS / "retain")], check=True, capture_output=True, text=True)
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}


@with_kustomize
def test_what_is_due_is_erased_every_night_by_a_job_that_may_little() -> None:
    documents = retained()
    for document in documents.values():
        kubernetes_validate.validate(document, VERSION, strict=True)
    assert {d["metadata"].get("namespace", "veilmatch-retain") for d in documents.values()} == {"veilmatch-retain"}
    job = documents["CronJob"]["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("0 3 * * *", "Forbid")
    (rule,) = job["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    waited_for = {error.exit_status for error in (UnavailableError, BudgetExceededError, OverloadedError)}
    looked_at = {error.exit_status for error in (ConfigurationError, DeviceRightsError, KeyMismatchError, KeyFileError)}
    assert looked_at <= set(rule["onExitCodes"]["values"]) and not waited_for & set(rule["onExitCodes"]["values"])
    unit = (DEPLOYED / "systemd" / "veilmatch-retain.service").read_text()
    assert f"\nRestartPreventExitStatus={' '.join(map(str, rule['onExitCodes']['values']))}\n" in unit
    found = job["jobTemplate"]["spec"]["template"]["spec"]
    assert found["automountServiceAccountToken"] is False and found["securityContext"]["runAsUser"] == USER
    for container in (*found["containers"], *found["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in policy
    matchers = {Plan().base_port + PORTS[f"matcher-{party}"] for party in PARTIES}
    assert {port["port"] for port in policy["egress"][0]["ports"]} == matchers


def test_its_init_container_leaves_a_folder_that_the_command_takes(tmp_path: Path) -> None:
    document = yaml.safe_load((MANIFESTS / "retain" / "cronjob.yaml").read_text())
    spec = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    ((prepare,), (container,)) = spec["initContainers"], spec["containers"]
    secret, private = tmp_path / "secret", tmp_path / "private"
    private.mkdir()
    secret.mkdir()
    (secret / "signing.key").write_text("a key")
    (secret / "signing.key").chmod(0o440)
    script = prepare["args"][0].replace("/run/secret/", f"{secret}/").replace("/run/veilmatch/", f"{private}/")
    subprocess.run([*prepare["command"], script], check=True)
    assert read_secret(private / "signing.key", "the key") == b"a key"
    assert container["args"] == ["retain", "--config", "/run/veilmatch/device.toml"]
    with pytest.raises(KeyFileError):
        read_secret(secret / "signing.key", "the key")
