"""A real Ray cluster on this machine: nodes that are started and killed, with certificates and a token."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from veilmatch.common.settings import TlsSettings
from veilmatch.server.config import ClusterSettings

START_S = 90.0


class Nodes:
    """The nodes of one cluster. authenticated, encrypted: whether Ray's protection is on."""

    def __init__(self, folder: Path, *, authenticated: bool = True, encrypted: bool = True) -> None:
        self.folder, self._encrypted = folder, encrypted
        self._host, self._port = own_address(), free_port()
        write_certificates(folder, self._host)
        token = folder / "token"
        token.touch(0o600)
        token.write_text("a token of the tests, and of nothing else")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token" if authenticated else "disabled",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USE_TLS": "1" if encrypted else "0",
            "RAY_TLS_SERVER_CERT": str(folder / "node.pem"),
            "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
            "RAY_TLS_CA_CERT": str(folder / "ca.pem"),
            # A node whose connection ends is dead, and not only after some minutes.
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "1000",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def settings(self, **more: float) -> ClusterSettings:
        tls = TlsSettings(
            authority=self.folder / "ca.pem", certificate=self.folder / "node.pem", key=self.folder / "node.key"
        )
        fields = {"shards": 2, "cpus": 1, "wait_s": 20.0} | more
        address, token = f"{self._host}:{self._port}", self.folder / "token"
        return ClusterSettings(address=address, token_file=token, tls=tls, **fields)  # type: ignore[arg-type]

    def start_head(self, cpus: int = 1) -> None:
        self._start(
            "--head", f"--port={self._port}", f"--ray-client-server-port={free_port()}", "--include-dashboard=false",
            f"--temp-dir={self.folder}", cpus=cpus,
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline and self.processes[0].poll() is None, self.output()
            time.sleep(0.1)

    def start_node(self, cpus: int = 1) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self._host}:{self._port}", cpus=cpus)

    def output(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """End all processes of a node at once, as a power cut does."""
        family = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()
        self.processes.remove(node)

    def close(self) -> None:
        for node in reversed(list(self.processes)):
            if node.poll() is None:
                self.kill(node)

    def _start(self, *arguments: str, cpus: int) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments]
        command += [f"--node-ip-address={self._host}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        with (self.folder / f"{len(self.processes)}.log").open("ab") as log:
            node = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(node)
        return node

    def _answers(self) -> bool:
        credentials = None
        if self._encrypted:
            parts = [(self.folder / name).read_bytes() for name in ("ca.pem", "node.key", "node.pem")]
            credentials = grpc.ssl_channel_credentials(*parts)
        target = f"{self._host}:{self._port}"
        channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
        with channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                return False
        return True


@contextmanager
def nodes(*, authenticated: bool = True, encrypted: bool = True) -> Iterator[Nodes]:
    # Not the folder of the test: Ray's sockets lie in it, and their names may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="vm-"))
    found = Nodes(folder, authenticated=authenticated, encrypted=encrypted)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


def own_address() -> str:
    """The address that Ray takes for that of this machine; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def write_certificates(folder: Path, host: str) -> None:
    authority, node = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [ipaddress.ip_address(address) for address in {host, "127.0.0.1"}]
    of_node = x509.SubjectAlternativeName([x509.DNSName("localhost"), *map(x509.IPAddress, names)])
    signed = {"ca": _certificate("ca", authority, authority), "node": _certificate("node", node, authority, of_node)}
    for name, certificate in signed.items():
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key = node.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "node.key").touch(0o600)
    (folder / "node.key").write_bytes(key)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(names is None, None), critical=True)
    )
    return (builder.add_extension(names, critical=False) if names else builder).sign(by, hashes.SHA256())
