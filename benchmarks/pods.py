"""The pods of deploy/kubernetes without a cluster: users, mounts, modes, rights and commands as kubelet gives them.

Of benchmarks/images.py. What is rendered is read, and run container by container: volumes are folders with the owner
and mode that kubelet makes for `fsGroup`, the passphrase comes from a Secret's mount through the init container, and
the folder of the ceremony is copied as docs/deploying.md says. All pods share this machine's network: there is no
Service and no NetworkPolicy.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from containers import USER, engine, open_files, written

from veilmatch.server.installation.plan import METRICS_PORTS, Plan, folder_of

MANIFESTS = Path(__file__).parents[1] / "deploy" / "kubernetes"
Document = dict[str, Any]


@contextmanager
def pods(image: str, installation: Path, passphrase: Path, scratch: Path) -> Iterator[dict[str, str]]:
    """Run both pods of each organisation in the body; gives the container of each daemon. scratch: in memory."""
    names: dict[str, str] = {}
    token = secrets.token_urlsafe(24)
    try:
        for party in "abc":
            for kind, pod in _rendered(party).items():
                daemon = f"{kind}-{party}"
                names[daemon] = f"veilmatch-pod-{daemon}"
                home = scratch / daemon
                _volumes(home, passphrase.read_text(), token)
                _prepared(image, pod, names[daemon] + "-folder", home, installation / folder_of(daemon))
                _run(image, pod, pod["containers"][0], names[daemon], home)
        for daemon in names:
            _scraped(Plan().base_port + METRICS_PORTS[daemon], token)
        yield names
    finally:
        engine(
            "rm", "--force", "--ignore", "--time", "0", *names.values(), *(f"{name}-folder" for name in names.values())
        )


def _scraped(port: int, token: str) -> None:
    """Ask as kubelet and Prometheus do. SystemExit unless probes are answered without the token and metrics with it."""
    url, found = f"http://127.0.0.1:{port}", dict[str, int]()
    for path, headers in (("/livez", {}), ("/metrics", {}), ("/metrics?", {"Authorization": f"Bearer {token}"})):
        deadline = time.monotonic() + 120
        while path not in found:
            try:
                with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=10) as answer:
                    found[path] = answer.status
            except urllib.error.HTTPError as error:
                found[path] = error.code
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    if found != {"/livez": 200, "/metrics": 401, "/metrics?": 200}:
        raise SystemExit(f"port {port} answers probes and scrapes otherwise: {found}")


def _rendered(party: str) -> dict[str, Document]:
    """Return the pod of each daemon of an organisation, matcher or keyholder, as `kubectl apply -k` would send it."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / f"organisation-{party}")], check=True, capture_output=True, text=True
    )
    sets = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "StatefulSet"]
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in sets}


def _volumes(home: Path, passphrase: str, token: str) -> None:
    """Make the volumes of a pod, as kubelet does for one with a group."""
    for name, mode in (("folder", 0o2775), ("private", 0o2777), ("tmp", 0o2777), ("secret", 0o755)):
        (home / name).mkdir(parents=True)
        os.chown(home / name, 0, USER)
        (home / name).chmod(mode)
    for name, text in (("passphrase", passphrase), ("metrics.token", token)):
        one = home / "secret" / name
        one.write_text(text)
        os.chown(one, 0, USER)
        one.chmod(0o440)


def _prepared(image: str, pod: Document, name: str, home: Path, folder: Path) -> None:
    """Run the init container, and copy the daemon's folder into it meanwhile, as `kubectl cp` does: by tar."""
    (container,) = pod["initContainers"]
    _run(image, pod, container, name, home)
    there = "/var/lib/veilmatch"
    # Folders by themselves only if there is nothing in them.
    named = [one for one in folder.rglob("*") if one.is_file() or not any(one.iterdir())]
    words = ["tar", "cf", "-", "--no-recursion", "-C", folder, *(one.relative_to(folder) for one in named)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["podman", "exec", "--interactive", name, "tar", "xmf", "-", "-C", there],
            stdin=packed.stdout, check=True,
        )  # fmt: skip
    engine("exec", name, "touch", f"{there}/.complete")
    if status := int(engine("wait", name)):
        raise SystemExit(f"{name} ended with {status}: {written(name)}")
    engine("rm", name)


def _run(image: str, pod: Document, container: Document, name: str, home: Path) -> None:
    """Start a container of a pod."""
    of_pod, own = pod["securityContext"], container["securityContext"]
    words = [
        "--detach", f"--name={name}", "--network=host", f"--user={of_pod['runAsUser']}:{of_pod['runAsGroup']}",
        # Without the folders in memory that podman adds and Kubernetes does not.
        f"--read-only={str(own['readOnlyRootFilesystem']).lower()}", "--read-only-tmpfs=false",
        *(f"--cap-drop={capability}" for capability in own["capabilities"]["drop"]),
        *([] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
        f"--memory={container['resources']['limits']['memory'].removesuffix('i').lower()}",
        f"--ulimit=nofile={open_files()}:{open_files()}", "--ulimit=nproc=4096:4096",
        # The name of a Service of the other namespace.
        "--add-host=keyholder.veilmatch-keyholder:127.0.0.1",
    ]  # fmt: skip
    for variable in container.get("env", ()):
        words.append(f"--env={variable['name']}={variable['value']}")
    for mount in container["volumeMounts"]:
        options = ":ro" if mount.get("readOnly") else ""
        words.append(f"--volume={home / mount['name']}:{mount['mountPath']}{options}")
    if command := container.get("command"):
        words.append(f"--entrypoint={json.dumps(command)}")
    engine("run", *words, image, *container["args"])
